"""A container's record survives the database as it is."""

from __future__ import annotations

import json

from teul.model import lifecycle
from teul.model.config import ContainerConfig
from teul.model.container import Container, ContainerEndpoint
from teul.model.document import Empty
from teul.model.host_config import HostConfig, PortBinding, Ulimit
from teul.model.mount import Mount, MountPoint
from teul.model.network_config import EndpointSettings, NetworkingConfig


def _container() -> Container:
    return Container(
        id="ab" * 32,
        name="web",
        created_at_ns=1_700_000_000_000_000_001,
        image_id="sha256:" + "cd" * 32,
        image_reference="local/shell",
        path="sh",
        args=["-c", "true"],
        config=ContainerConfig(image="local/shell", env=["A=1"], exposed_ports={"80/tcp": Empty()}, stop_timeout=0),
        host_config=HostConfig(
            ulimits=[Ulimit(name="core", hard=-1)],
            port_bindings={"80/tcp": [PortBinding(host_port="8080")], "81/tcp": None},
            mounts=[Mount(type="tmpfs", target="/t")],
            console_size=(24, 80),
        ),
        networking=NetworkingConfig(endpoints_config={"bridge": EndpointSettings(gw_priority=2), "x": None}),
        state=lifecycle.started(lifecycle.ContainerState(), pid=5, now_ns=9),
        mounts=[MountPoint(type="tmpfs", destination="/t", rw=True)],
        endpoints={"bridge": ContainerEndpoint(network_name="bridge", network_id="n", endpoint_id="e", ipv4="172.17.0.2", ipv4_prefix=16)},
    )


def test_round_trip() -> None:
    container = _container()
    assert Container.decode(container.encode()) == container
    assert Container.decode(container.encode().decode()) == container


def test_the_configuration_is_stored_in_dockers_spelling() -> None:
    stored = json.loads(_container().encode())
    assert stored["config"]["Env"] == ["A=1"]
    assert stored["host_config"]["Ulimits"] == [{"Name": "core", "Hard": -1, "Soft": 0}]
    assert stored["state"]["status"] == "running"


def test_a_record_of_an_older_teul_gets_the_new_fields_defaults() -> None:
    stored = json.loads(_container().encode())
    for name in ("endpoints", "manually_stopped", "mounts", "networking"):
        del stored[name]
    del stored["host_config"]["Init"]
    container = Container.decode(json.dumps(stored))
    assert (container.endpoints, container.manually_stopped, container.mounts) == ({}, False, [])


def test_the_gateway_is_that_of_the_first_network_that_has_one() -> None:
    container = _container()
    inner, outer, last = (
        ContainerEndpoint(network_name=name, network_id="n", endpoint_id="e", ipv4="10.0.0.2", gateway=gateway)
        for name, gateway in (("inner", ""), ("outer", "10.0.0.1"), ("last", "10.1.0.1"))
    )
    container.endpoints = {"inner": inner, "outer": outer, "last": last}
    assert container.gateway_endpoint == outer
    container.endpoints = {"inner": inner}
    assert container.gateway_endpoint == inner
    container.endpoints = {}
    assert container.gateway_endpoint is None
