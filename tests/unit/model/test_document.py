"""Docker's documents are read with Go's leniency and printed with Go's shapes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.errors import InvalidParameter
from teul.model.config import ContainerConfig, HealthConfig, decode_create_body
from teul.model.document import decode, decode_object, render
from teul.model.exec import ExecConfig, ExecStartConfig
from teul.model.host_config import DeviceRequest, HostConfig, PortBinding
from teul.model.mount import Mount, MountPoint
from teul.model.network_config import EndpointSettings, NetworkingConfig

# What dockerd 28 prints for a container made with `{"Image": "x", "Cmd": ["x"]}`, before it fills its defaults.
_EMPTY_CONFIG: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}
_EMPTY_HOST_CONFIG: dict[str, Any] = {
    "Binds": None,
    "ContainerIDFile": "",
    "LogConfig": {"Type": "", "Config": None},
    "NetworkMode": "",
    "PortBindings": None,
    "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
    "AutoRemove": False,
    "VolumeDriver": "",
    "VolumesFrom": None,
    "ConsoleSize": [0, 0],
    "CapAdd": None,
    "CapDrop": None,
    "CgroupnsMode": "",
    "Dns": None,
    "DnsOptions": None,
    "DnsSearch": None,
    "ExtraHosts": None,
    "GroupAdd": None,
    "IpcMode": "",
    "Cgroup": "",
    "Links": None,
    "OomScoreAdj": 0,
    "PidMode": "",
    "Privileged": False,
    "PublishAllPorts": False,
    "ReadonlyRootfs": False,
    "SecurityOpt": None,
    "UTSMode": "",
    "UsernsMode": "",
    "ShmSize": 0,
    "Isolation": "",
    "CpuShares": 0,
    "Memory": 0,
    "NanoCpus": 0,
    "CgroupParent": "",
    "BlkioWeight": 0,
    "BlkioWeightDevice": None,
    "BlkioDeviceReadBps": None,
    "BlkioDeviceWriteBps": None,
    "BlkioDeviceReadIOps": None,
    "BlkioDeviceWriteIOps": None,
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "Devices": None,
    "DeviceCgroupRules": None,
    "DeviceRequests": None,
    "MemoryReservation": 0,
    "MemorySwap": 0,
    "MemorySwappiness": None,
    "OomKillDisable": None,
    "PidsLimit": None,
    "Ulimits": None,
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
    "MaskedPaths": None,
    "ReadonlyPaths": None,
}


def test_nothing_becomes_dockers_zero_values_in_dockers_order() -> None:
    config, host_config, networking = decode_create_body(b'{"Image":""}')
    assert list(render(config).items()) == list(_EMPTY_CONFIG.items())
    assert list(render(host_config).items()) == list(_EMPTY_HOST_CONFIG.items())
    assert networking is None


def test_fields_that_docker_omits_are_printed_when_they_say_something() -> None:
    config = ContainerConfig(exposed_ports={}, shell=["sh"], stop_timeout=0, stop_signal="", healthcheck=HealthConfig(retries=3))
    rendered = render(config)
    assert rendered["Shell"] == ["sh"]
    assert rendered["StopTimeout"] == 0, "a pointer to zero is not nil"
    assert rendered["Healthcheck"] == {"Retries": 3}
    assert "ExposedPorts" not in rendered
    assert "StopSignal" not in rendered
    assert render(HostConfig(init=False))["Init"] is False
    assert list(render(HostConfig(mounts=[Mount()], init=True)))[-4:] == ["Mounts", "MaskedPaths", "ReadonlyPaths", "Init"]


def test_names_that_do_not_follow_the_rule() -> None:
    assert list(render(MountPoint(type="bind"))) == ["Type", "Source", "Destination", "Mode", "RW", "Propagation"]
    assert list(render(PortBinding())) == ["HostIp", "HostPort"]
    assert list(render(DeviceRequest())) == ["Driver", "Count", "DeviceIDs", "Capabilities", "Options"]
    assert list(render(EndpointSettings())) == [
        "IPAMConfig",
        "Links",
        "Aliases",
        "MacAddress",
        "DriverOpts",
        "GwPriority",
        "NetworkID",
        "EndpointID",
        "Gateway",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "DNSNames",
    ]


def test_a_command_may_be_one_string() -> None:
    config = decode(ContainerConfig, b'{"Cmd": "ls -l", "Entrypoint": "sh", "Shell": "sh"}')
    assert (config.cmd, config.entrypoint, config.shell) == (["ls -l"], ["sh"], ["sh"])
    assert decode(HostConfig, b'{"CapAdd": "ALL", "CapDrop": "MKNOD"}').cap_add == ["ALL"]
    with pytest.raises(InvalidParameter, match=r"^invalid JSON: "):
        decode(ContainerConfig, b'{"Env": "A=1"}')


def test_null_is_the_same_as_nothing() -> None:
    nulls = msgspec.json.encode(dict.fromkeys(_EMPTY_HOST_CONFIG))
    assert decode(HostConfig, nulls) == HostConfig()
    body = b'{"HostConfig": null, "NetworkingConfig": null, "Labels": null, "Tty": null}'
    assert decode_create_body(body) == (ContainerConfig(), HostConfig(), None)


def test_null_inside_a_map_keeps_its_key() -> None:
    config, host_config, networking = decode_create_body(
        b'{"ExposedPorts": {"80/tcp": null}, "Labels": {"a": null}, "HostConfig": {"PortBindings": {"80/tcp": null}},'
        b' "NetworkingConfig": {"EndpointsConfig": {"bridge": null}}}'
    )
    assert render(config)["ExposedPorts"] == {"80/tcp": {}}
    assert config.labels == {"a": ""}
    assert host_config.port_bindings == {"80/tcp": None}
    assert networking == NetworkingConfig(endpoints_config={"bridge": None})


def test_keys_match_whatever_their_case_and_others_are_ignored() -> None:
    config, host_config, _ = decode_create_body(b'{"image": "x", "TTY": true, "hostConfig": {"memory": 7, "Colour": 1}, "Extra": {}}')
    assert (config.image, config.tty, host_config.memory) == ("x", True, 7)


def test_the_last_of_a_name_wins_by_whatever_case_of_letters() -> None:
    assert decode(ContainerConfig, b'{"image": "a", "Image": "b"}').image == "b"
    assert decode(ContainerConfig, b'{"Image": "b", "image": "a"}').image == "a"


def test_what_docker_printed_is_read_back() -> None:
    host_config = HostConfig(binds=["/a:/b"], mounts=[Mount(type="tmpfs", target="/t")], console_size=(24, 80), init=True)
    rendered = render(host_config)
    assert decode(HostConfig, msgspec.json.encode(rendered)) == host_config


def test_exec_documents() -> None:
    config = decode(ExecConfig, b'{"Cmd": ["sh"], "ConsoleSize": [24, 80], "AttachStdin": true}')
    assert (config.cmd, config.console_size, config.attach_stdin) == (["sh"], (24, 80), True)
    assert decode(ExecStartConfig, b'{"Detach": true, "ConsoleSize": null}') == ExecStartConfig(detach=True)


@pytest.mark.parametrize("data", [b"", b"  ", b"[", b"[]", b'"x"', b'{"Tty": 1}', b'{"Tty": "yes"}', b'{"Env": [1]}', b"\xff"])
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid JSON: "):
        decode(ContainerConfig, data)


def test_an_empty_body_has_dockers_words() -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid JSON: got EOF while reading request body$"):
        decode_object(b"", ContainerConfig)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*_EMPTY_CONFIG, *_EMPTY_HOST_CONFIG, "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*_EMPTY_CONFIG, "HostConfig", "NetworkingConfig", "Mounts"]), _JSON, max_size=4))
def test_any_object_is_a_request_or_our_own_error(body: dict[str, Any]) -> None:
    try:
        config, host_config, _ = decode_create_body(msgspec.json.encode(body))
    except InvalidParameter:
        return
    render(config)
    render(host_config)
