"""Requests are refused with Docker's words. Each row is one sentence that a client may show or search."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from teul.errors import InvalidParameter, NotImplementedHere
from teul.model.document import render
from teul.model.exec import ExecConfig
from teul.services.containers.request.check import check_exec, check_name
from teul.services.host import LimitSupport
from unit.services.containers.cases import HOST, V1_HOST, check

MIB = 1 << 20
_ENDPOINT = "invalid config for network bridge: invalid endpoint settings:\n"


def _host(**host_config: Any) -> dict[str, Any]:
    return {"HostConfig": host_config}


_INVALID: list[tuple[dict[str, Any], str]] = [
    ({"WorkingDir": "srv"}, "the working directory 'srv' is invalid, it needs to be an absolute path"),
    ({"StopSignal": "SIGFOO"}, "invalid signal: SIGFOO"),
    ({"StopSignal": "0"}, "invalid signal: 0"),
    ({"Env": ["=x"]}, "invalid environment variable: =x"),
    ({"Env": [""]}, "invalid environment variable: "),
    ({"Healthcheck": {"Interval": 999_999}}, "Interval in Healthcheck cannot be less than 1ms"),
    ({"Healthcheck": {"Timeout": -1}}, "Timeout in Healthcheck cannot be less than 1ms"),
    ({"Healthcheck": {"StartPeriod": 5}}, "StartPeriod in Healthcheck cannot be less than 1ms"),
    ({"Healthcheck": {"StartInterval": 5}}, "StartInterval in Healthcheck cannot be less than 1ms"),
    ({"Healthcheck": {"Retries": -1}}, "Retries in Healthcheck cannot be negative"),
    ({"Labels": {"io.teul.restart-unhealthy": "yes"}}, 'label io.teul.restart-unhealthy must be "true" or "false", not "yes"'),
    (_host(AutoRemove=True, RestartPolicy={"Name": "always"}), "can't create 'AutoRemove' container with restart policy"),
    (
        _host(RestartPolicy={"Name": "sometimes"}),
        "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ),
    (
        _host(RestartPolicy={"Name": "always", "MaximumRetryCount": 1}),
        "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    ),
    (
        _host(RestartPolicy={"Name": "no", "MaximumRetryCount": -1}),
        "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative",
    ),
    (
        _host(RestartPolicy={"Name": "on-failure", "MaximumRetryCount": -1}),
        "invalid restart policy: maximum retry count cannot be negative",
    ),
    (_host(ExtraHosts=["nowhere"]), 'bad format for add-host: "nowhere"'),
    (_host(ExtraHosts=["db:10.0.0"]), 'invalid IP address in add-host: "10.0.0"'),
    (_host(Dns=["resolver"]), "bad nameserver address resolver"),
    (_host(CapAdd=["FLY"]), 'invalid CapAdd: unknown capability: "CAP_FLY"'),
    (_host(CapDrop=["CAP_FLY"]), 'invalid CapDrop: unknown capability: "CAP_FLY"'),
    (_host(Isolation="hyperv"), "invalid isolation (hyperv): linux only supports 'default'"),
    (_host(Annotations={"": "x"}), "invalid Annotations: the empty string is not permitted as an annotation key"),
    (_host(Ulimits=[{"Name": "as", "Soft": 1, "Hard": 1}]), "invalid ulimit type: as"),
    (
        _host(Ulimits=[{"Name": "nofile", "Soft": 2, "Hard": 1}]),
        "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
    ),
    (
        _host(Ulimits=[{"Name": "nofile", "Soft": -1, "Hard": 5}]),
        "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 5",
    ),
    (_host(DeviceCgroupRules=["c 1:3 x"]), "invalid device cgroup rule format: 'c 1:3 x'"),
    (_host(DeviceCgroupRules=["c 1:3 rwm\n"]), "invalid device cgroup rule format: 'c 1:3 rwm\n'"),
    (_host(SecurityOpt=["seccomp"]), 'invalid --security-opt 1: "seccomp"'),
    (_host(SecurityOpt=["magic=1"]), 'invalid --security-opt 2: "magic=1"'),
    (_host(SecurityOpt=["no-new-privileges=maybe"]), 'invalid --security-opt 2: "no-new-privileges=maybe"'),
    (_host(Sysctls={"kernel.panic": "1"}), 'sysctl "kernel.panic" is not in a separate kernel namespace'),
    (_host(Sysctls={"vm/swappiness": "1"}), 'sysctl "vm/swappiness" is not in a separate kernel namespace'),
    (_host(Sysctls={"net.core.somaxconn": "1"}, NetworkMode="host"), 'sysctl "net.core.somaxconn" not allowed in host network namespace'),
    (
        _host(Sysctls={"net.core.somaxconn": "1"}, NetworkMode="container:x"),
        'sysctl "net.core.somaxconn" not allowed in host network namespace',
    ),
    (_host(Sysctls={"kernel.shmmax": "1"}, IpcMode="host"), 'sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace'),
    (_host(Sysctls={"kernel.hostname": "x"}), 'sysctl "kernel.hostname" is conflicting with OCI config "hostname"'),
    (_host(Sysctls={"kernel.domainname": "x"}, UTSMode="host"), 'sysctl "kernel.domainname" is not in a separate kernel namespace'),
    (_host(LogConfig={"Type": "fluentd"}), 'error looking up logging plugin fluentd: plugin "fluentd" not found'),
    (_host(LogConfig={"Config": {"colour": "red"}}), "unknown log opt 'colour' for json-file log driver"),
    (_host(LogConfig={"Config": {"mode": "lossy"}}), "logger: logging mode not supported: lossy"),
    (
        _host(LogConfig={"Config": {"max-buffer-size": "1m"}}),
        "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
    ),
    (_host(LogConfig={"Config": {"max-size": "many"}}), "invalid size: 'many'"),
    (_host(LogConfig={"Config": {"max-size": "0"}}), "max-size must be a positive number"),
    (_host(LogConfig={"Config": {"max-file": "0"}}), "max-file cannot be less than 1"),
    (_host(IpcMode="ours"), "invalid IPC mode: ours"),
    (_host(PidMode="container:"), "invalid PID mode: container:"),
    (_host(PidMode="private"), "invalid PID mode: private"),
    (_host(ShmSize=-1), "SHM size can not be less than 0"),
    (_host(UTSMode="private"), "invalid UTS mode: private"),
    (_host(UsernsMode="keep-id"), "invalid USER mode: keep-id"),
    (_host(CgroupnsMode="shared"), "invalid cgroup namespace mode: shared"),
    (_host(OomScoreAdj=1001), "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
    (_host(Runtime="crun"), "unknown or invalid runtime name: crun"),
    # memory
    (_host(Memory=4 * MIB), "Minimum memory limit allowed is 6MB"),
    (_host(Memory=-5), "Minimum memory limit allowed is 6MB"),
    (_host(Memory=64 * MIB, MemorySwap=32 * MIB), "Minimum memoryswap limit should be larger than memory limit, see usage"),
    (_host(MemorySwap=32 * MIB), "You should always set the Memory limit when using Memoryswap limit, see usage"),
    (_host(MemorySwappiness=101), "Invalid value: 101, valid memory swappiness range is 0-100"),
    (_host(MemoryReservation=MIB), "Minimum memory reservation allowed is 6MB"),
    (
        _host(Memory=16 * MIB, MemoryReservation=32 * MIB),
        "Minimum memory limit can not be less than memory reservation limit, see usage",
    ),
    # cpu
    (_host(NanoCpus=1, CpuPeriod=1), "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
    (_host(NanoCpus=1, CpuQuota=1), "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
    (_host(NanoCpus=5_000_000_000), "range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"),
    (_host(NanoCpus=-1), "range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"),
    (_host(CpuPeriod=999), "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
    (_host(CpuQuota=999), "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
    (_host(CpuShares=-1), "invalid CPU shares (-1): value must be a positive integer"),
    (_host(CpuRealtimePeriod=1), "kernel does not support CPU real-time scheduler"),
    (_host(CpuRealtimePeriod=5, CpuRealtimeRuntime=6), "cpu real-time runtime cannot be higher than cpu real-time period"),
    (_host(CpuRealtimeRuntime=1_000_001), "cpu real-time runtime cannot be higher than cpu real-time period"),
    (_host(CpusetCpus="0-9"), "Requested CPUs are not available - requested 0-9, available: 0-3"),
    (_host(CpusetCpus="a"), "Invalid value a for cpuset cpus: invalid format: a"),
    (_host(CpusetCpus="3-1"), "Invalid value 3-1 for cpuset cpus: invalid format: 3-1"),
    (_host(CpusetCpus="0-99999999"), "Invalid value 0-99999999 for cpuset cpus: value of out range, maximum is 8192"),
    (_host(CpusetMems="1"), "Requested memory nodes are not available - requested 1, available: 0"),
    # block I/O
    (_host(BlkioWeight=5), "Range of blkio weight is from 10 to 1000"),
    (_host(IOMaximumIOps=5), "invalid option: QoS maximum IOPs configuration is not supported on linux"),
    (_host(IOMaximumBandwidth=5), "invalid option: QoS maximum bandwidth configuration is not supported on linux"),
    # network
    (_host(NetworkMode="container:"), "invalid network mode: invalid container format container:<name|id>"),
    (_host(NetworkMode="container"), "invalid network mode: invalid container format container:<name|id>"),
    ({"Hostname": "h", **_host(NetworkMode="container:x")}, "conflicting options: hostname and the network mode"),
    (_host(NetworkMode="container:x", Dns=["1.1.1.1"]), "conflicting options: dns and the network mode"),
    (_host(NetworkMode="container:x", ExtraHosts=["a:1.1.1.1"]), "conflicting options: custom host-to-IP mapping and the network mode"),
    (
        _host(NetworkMode="container:x", PublishAllPorts=True),
        "conflicting options: port publishing and the container type network mode",
    ),
    (
        {"ExposedPorts": {"80/tcp": {}}, **_host(NetworkMode="container:x")},
        "conflicting options: port exposing and the container type network mode",
    ),
    (
        _host(NetworkMode="container:x", Links=["a:b"]),
        "conflicting options: container type network can't be used with links. This would result in undefined behavior",
    ),
    (
        _host(NetworkMode="host", Links=["a:b"]),
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    ),
    ({"Hostname": "h", **_host(UTSMode="host")}, "conflicting options: hostname and the UTS mode"),
    (_host(PortBindings={"http": None}), 'invalid port specification: "http"'),
    (_host(PortBindings={"80/tcp": [{"HostPort": "9-8"}]}), 'invalid port specification: "9-8"'),
    (_host(PortBindings={"80/tcp": [{"HostPort": "70000"}]}), 'invalid port specification: "70000"'),
    (
        {"NetworkingConfig": {"EndpointsConfig": {"bridge": None}}},
        "invalid config for network bridge: EndpointsConfig is nil",
    ),
    (
        {"NetworkingConfig": {"EndpointsConfig": {"bridge": {"IPAMConfig": {"IPv4Address": "10.0.0.2"}}}}},
        _ENDPOINT + "user-specified IP address is supported on user-defined networks only",
    ),
    (
        {"NetworkingConfig": {"EndpointsConfig": {"default": {"Aliases": ["db"]}}}},
        _ENDPOINT + "network-scoped aliases are only supported for user-defined networks",
    ),
    (
        {"NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": "aa:bb"}}}},
        "invalid config for network bridge: invalid MAC address aa:bb",
    ),
    (
        {"NetworkingConfig": {"EndpointsConfig": {"bridge": {"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.a=1"}}}}},
        _ENDPOINT + "unrecognised network interface sysctl 'net.ipv4.conf.a=1'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', "
        "'X' must be 'ipv4', 'ipv6' or 'mpls'",
    ),
    (
        {"MacAddress": "02:42:ac:11:00:02", "NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": "02:42:ac:11:00:03"}}}},
        "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
    ),
    # mounts
    (
        _host(Mounts=[{"Type": "tmpfs", "Target": "/t", "BindOptions": {}}]),
        'BindOptions must not be specified on mount type "tmpfs"',
    ),
    (_host(Tmpfs={"/": ""}), "invalid specification: destination can't be '/'"),
    (_host(Tmpfs={"run": ""}), "invalid mount path: 'run' mount path must be absolute"),
    (_host(Tmpfs={"/run": "size=1m,colour=red"}), 'invalid tmpfs option ["colour" "red"]'),
    (_host(Binds=["/a:/t", "/b:/t"]), "Duplicate mount point: /t"),
    (_host(Binds=["/a:/t"], Mounts=[{"Type": "tmpfs", "Target": "/t/"}]), "Duplicate mount point: /t/"),
]


@pytest.mark.parametrize(("body", "message"), _INVALID, ids=[message[:70] for _, message in _INVALID])
def test_a_wrong_request_is_refused_in_dockers_words(body: dict[str, Any], message: str) -> None:
    host = replace(V1_HOST, limits=replace(V1_HOST.limits, cpu_realtime="CpuRealtimeRuntime" in body.get("HostConfig", {})))
    with pytest.raises(InvalidParameter) as caught:
        check(body, host=host)
    assert caught.value.message == message


_NOT_YET: list[tuple[dict[str, Any], str]] = [
    (
        _host(DeviceRequests=[{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]),
        'could not select device driver "" with capabilities: [[gpu]]',
    ),
    (_host(StorageOpt={"size": "1G"}), "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"),
]


@pytest.mark.parametrize(("body", "message"), _NOT_YET, ids=[message[:70] for _, message in _NOT_YET])
def test_what_cannot_be_honoured_yet_is_said(body: dict[str, Any], message: str) -> None:
    with pytest.raises(NotImplementedHere) as caught:
        check(body)
    assert caught.value.message == message


_WARNINGS: list[tuple[str, dict[str, Any], str, str, Any]] = [
    ("memory", {"Memory": 64 * MIB}, "memory limit capabilities or the cgroup is not mounted. Limitation discarded.", "Memory", 0),
    ("swap", {"Memory": 64 * MIB}, "swap limit capabilities or the cgroup is not mounted. Memory limited without swap.", "MemorySwap", -1),
    (
        "memory_swappiness",
        {"MemorySwappiness": 5},
        "memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
        "MemorySwappiness",
        None,
    ),
    (
        "memory_reservation",
        {"MemoryReservation": 64 * MIB},
        "memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
        "MemoryReservation",
        0,
    ),
    ("oom_kill_disable", {"OomKillDisable": True}, "OomKillDisable. OomKillDisable discarded.", "OomKillDisable", None),
    ("pids", {"PidsLimit": 5}, "PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.", "PidsLimit", None),
    ("cpu_shares", {"CpuShares": 5}, "CPU shares or the cgroup is not mounted. Shares discarded.", "CpuShares", 0),
    ("cpu_quota", {"CpuQuota": 5000}, "CPU CFS scheduler. CPU period/quota discarded.", "CpuQuota", 0),
    ("cpuset", {"CpusetCpus": "0"}, "cpuset or the cgroup is not mounted. Cpuset discarded.", "CpusetCpus", ""),
    ("blkio_weight", {"BlkioWeight": 50}, "Block I/O weight or the cgroup is not mounted. Weight discarded.", "BlkioWeight", 0),
    (
        "blkio_weight_device",
        {"BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 50}]},
        "Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
        "BlkioWeightDevice",
        [],
    ),
    (
        "blkio_throttle",
        {"BlkioDeviceWriteIOps": [{"Path": "/dev/sda", "Rate": 50}]},
        "IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.",
        "BlkioDeviceWriteIOps",
        [],
    ),
]


@pytest.mark.parametrize(("missing", "host_config", "warning", "field", "left"), _WARNINGS, ids=[row[0] for row in _WARNINGS])
def test_a_limit_the_host_lacks_is_dropped_with_a_warning(
    missing: str, host_config: dict[str, Any], warning: str, field: str, left: Any
) -> None:
    host = replace(V1_HOST, limits=replace(LimitSupport(), **{missing: False}))
    checked = check(_host(**host_config), host=host)
    assert checked.warnings == [f"Your kernel does not support {warning}"]
    assert render(checked.host_config)[field] == left


def test_other_warnings() -> None:
    assert check(_host(OomKillDisable=True), host=V1_HOST).warnings == [
        "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources."
    ]
    assert check(_host(CpuPercent=50)).warnings == ["linux does not support CPU percent. Percent discarded."]
    assert check({"MacAddress": "02:42:ac:11:00:02"}).warnings == [
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
    ]
    for test in ([], ["NONE"], ["CMD", "true"], ["CMD-SHELL", "true"]):
        assert check({"Healthcheck": {"Test": test}}).warnings == []
    assert check({"Healthcheck": {"Test": ["ASK", "x"]}}).warnings == [
        "Unknown healthcheck type 'ASK' (expected 'CMD', 'CMD-SHELL' or 'NONE'): the container will have no health status."
    ]


def test_published_ports_mean_nothing_on_the_hosts_network() -> None:
    assert check(_host(NetworkMode="host", PortBindings={"80/tcp": [{"HostPort": "80"}]})).warnings == [
        "Published ports are discarded when using host network mode"
    ]


def test_the_request_itself_is_not_changed() -> None:
    body = {"WorkingDir": "/a//b", "MacAddress": "02:42:ac:11:00:02", **_host(PidsLimit=-1, CpuPercent=5)}
    first = check(body)
    assert first.config.working_dir == "/a/b"
    assert first.host_config.pids_limit is None
    assert check(body).config.working_dir == "/a/b"


def test_default_is_the_bridge_network() -> None:
    checked = check({"MacAddress": "02:42:ac:11:00:02", "NetworkingConfig": {"EndpointsConfig": {"default": {"GwPriority": 1}}}})
    assert checked.host_config.network_mode == "bridge"
    assert checked.networking is not None
    endpoints = checked.networking.endpoints_config or {}
    endpoint = endpoints["bridge"]
    assert endpoint is not None
    assert (endpoint.mac_address, endpoint.gw_priority) == ("02:42:ac:11:00:02", 1)
    assert checked.config.mac_address == ""


def test_a_bind_that_must_exist_must_exist() -> None:
    mount = {"Type": "bind", "Source": "/gone", "Target": "/t"}
    with pytest.raises(InvalidParameter) as caught:
        check(_host(Mounts=[mount]), exists=False)
    assert caught.value.message == 'invalid mount config for type "bind": bind source path does not exist: /gone'
    check(_host(Mounts=[mount | {"BindOptions": {"CreateMountpoint": True}}], Binds=["/gone:/b"]), exists=False)


def test_a_capability_the_engine_does_not_have_is_refused() -> None:
    host = replace(HOST, capabilities=("CAP_CHOWN",))
    with pytest.raises(InvalidParameter) as caught:
        check(_host(CapAdd=["sys_resource"]), host=host)
    assert caught.value.message == (
        'invalid CapAdd: capability not supported by your kernel or not available in the current environment: "CAP_SYS_RESOURCE"'
    )


@pytest.mark.parametrize("name", ["web", "/web", "a.b-c_d", "0x"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name.lstrip("/")


@pytest.mark.parametrize("name", ["a", "-web", "//web", "we b", "web\n", "ünï", ""])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidParameter, match=re.escape(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")):
        check_name(name)


def test_exec_needs_a_command_and_an_absolute_directory() -> None:
    with pytest.raises(InvalidParameter, match=r"^No exec command specified$"):
        check_exec(ExecConfig())
    with pytest.raises(InvalidParameter, match=r"^Cwd must be an absolute path$"):
        check_exec(ExecConfig(cmd=["ls"], working_dir="tmp"))
    check_exec(ExecConfig(cmd=["ls"], working_dir="/tmp"))
