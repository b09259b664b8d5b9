"""Older clients."""

from __future__ import annotations

import pytest

from teul.api.http.versions import adapt_create
from teul.errors import InvalidParameter
from teul.model.config import ContainerConfig, HealthConfig
from teul.model.host_config import HostConfig
from teul.model.mount import BindOptions, Mount, TmpfsOptions, VolumeOptions
from teul.model.network_config import EndpointSettings, NetworkingConfig
from unit.api.fake_services import attached_endpoint, make_container
from unit.api.served_api import Api


def refusal(version: tuple[int, int], config: ContainerConfig, host_config: HostConfig, networking: NetworkingConfig) -> str:
    with pytest.raises(InvalidParameter) as caught:
        adapt_create(version, config, host_config, networking)
    return caught.value.message


def test_the_containers_mac_address_becomes_the_endpoints() -> None:
    for version, warnings in (((1, 43), 0), ((1, 44), 1)):
        networking = NetworkingConfig()
        told = adapt_create(version, ContainerConfig(mac_address="02:00:00:00:00:01"), HostConfig(), networking)
        assert networking.endpoints_config == {"bridge": EndpointSettings(mac_address="02:00:00:00:00:01")}
        assert len(told) == warnings


def test_two_different_mac_addresses_contradict_each_other() -> None:
    networking = NetworkingConfig(endpoints_config={"bridge": EndpointSettings(mac_address="02:00:00:00:00:02")})
    config = ContainerConfig(mac_address="02:00:00:00:00:01")
    assert "must match the endpoint-specific MAC address" in refusal((1, 44), config, HostConfig(), networking)


def test_a_mac_address_needs_a_network() -> None:
    config, host_config = ContainerConfig(mac_address="02:00:00:00:00:01"), HostConfig(network_mode="host")
    assert refusal((1, 43), config, host_config, NetworkingConfig()) == "conflicting options: mac-address and the network mode"


def test_before_1_44_there_is_one_network_and_no_start_interval() -> None:
    networking = NetworkingConfig(endpoints_config={"a": None, "b": None})
    assert refusal((1, 43), ContainerConfig(), HostConfig(), networking).endswith("multiple network endpoints: a, b")
    config = ContainerConfig(healthcheck=HealthConfig(start_interval=5))
    adapt_create((1, 43), config, HostConfig(), NetworkingConfig())
    assert config.healthcheck is not None
    assert config.healthcheck.start_interval == 0


def test_mount_options_of_another_type_are_refused_since_1_42() -> None:
    def host_config() -> HostConfig:
        return HostConfig(mounts=[Mount(type="tmpfs", target="/x", volume_options=VolumeOptions())], console_size=(3, 4))

    message = 'VolumeOptions must not be specified on mount type "tmpfs"'
    assert refusal((1, 42), ContainerConfig(), host_config(), NetworkingConfig()) == message
    old = host_config()
    adapt_create((1, 41), ContainerConfig(), old, NetworkingConfig())
    assert old.mounts is not None
    assert old.mounts[0].volume_options is None
    assert old.console_size == (0, 0)


def test_options_that_came_later_are_refused_or_ignored() -> None:
    subpath = HostConfig(mounts=[Mount(type="volume", volume_options=VolumeOptions(subpath="a"))])
    assert refusal((1, 44), ContainerConfig(), subpath, NetworkingConfig()) == "VolumeOptions.Subpath needs API v1.45 or newer"
    image = HostConfig(mounts=[Mount(type="image")])
    assert refusal((1, 47), ContainerConfig(), image, NetworkingConfig()) == 'Mount type "Image" needs API v1.48 or newer'
    force = HostConfig(mounts=[Mount(type="bind", bind_options=BindOptions(read_only_force_recursive=True))])
    assert refusal((1, 43), ContainerConfig(), force, NetworkingConfig()).endswith("needs API v1.44 or newer")
    annotated = HostConfig(annotations={"a": "b"})
    adapt_create((1, 42), ContainerConfig(), annotated, NetworkingConfig())
    assert annotated.annotations is None


def test_the_oldest_clients_share_their_ipc() -> None:
    host_config = HostConfig(mounts=[Mount(type="bind", bind_options=BindOptions(non_recursive=True), tmpfs_options=TmpfsOptions())])
    adapt_create((1, 39), ContainerConfig(), host_config, NetworkingConfig())
    assert host_config.mounts is not None
    mount = host_config.mounts[0]
    assert (host_config.ipc_mode, mount.tmpfs_options) == ("shareable", None)
    assert mount.bind_options == BindOptions()


def test_the_newest_request_is_left_alone() -> None:
    host_config = HostConfig(annotations={"a": "b"}, mounts=[Mount(type="bind", bind_options=BindOptions(non_recursive=True))])
    networking = NetworkingConfig(endpoints_config={"a": EndpointSettings(gw_priority=3), "b": None})
    assert adapt_create((1, 51), ContainerConfig(), host_config, networking) == []
    assert host_config == HostConfig(annotations={"a": "b"}, mounts=[Mount(type="bind", bind_options=BindOptions(non_recursive=True))])
    assert networking.endpoints_config == {"a": EndpointSettings(gw_priority=3), "b": None}


async def test_the_short_id_is_an_alias_for_old_clients(api: Api) -> None:
    container = api.services.containers.add(make_container(endpoints={"bridge": attached_endpoint()}))
    container.host_config.network_mode = "mine"
    container.endpoints = {"mine": type(attached_endpoint())(network_name="mine", network_id="n", endpoint_id="e")}
    container.host_config.annotations = {"k": "v"}
    for version, aliases in (("1.51", None), ("1.44", [container.id[:12], "box"])):
        _, document = await api.request("GET", f"/v{version}/containers/box/json")
        assert document["NetworkSettings"]["Networks"]["mine"]["Aliases"] == aliases
    for version, told in (("1.46", True), ("1.45", False)):
        _, (entry,) = await api.request("GET", f"/v{version}/containers/json?all=1")
        assert ("Annotations" in entry["HostConfig"]) is told
