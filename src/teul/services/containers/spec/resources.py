"""The `linux.resources`, device nodes and rlimits of an OCI spec. Pure.

docker: daemon/daemon_unix.go (getMemoryResources and its neighbours), daemon/oci_linux.go (WithDevices, withRlimits); runc
libcontainer/specconv (the nodes and rules that every container has).
"""

from __future__ import annotations

from typing import Any

from teul.errors import InvalidParameter
from teul.model.host_config import HostConfig, ThrottleDevice
from teul.oci.runtime_spec import Device, Rlimit
from teul.services.containers.request.security import parse_device_rule
from teul.services.containers.spec.devices import ContainerDevices, DeviceNode

# kernel: what it makes of other numbers without a word (kernel/sched/sched.h, MIN_SHARES and MAX_SHARES). docker: runc refuses those.
_SHARES = (2, 1 << 18)

_NANO_CPU_PERIOD_US = 100_000
_UNLIMITED = 2**64 - 1
_DEFAULT_NODES = tuple(
    DeviceNode(path=path, kind="c", major=major, minor=minor, mode=0o666, uid=0, gid=0, access="rwm")
    for path, major, minor in (
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    )
)


def build_resources(host_config: HostConfig, devices: ContainerDevices) -> dict[str, Any]:
    """The limits, with only those sections that say something, and `devices`, which always does. Raises InvalidParameter."""
    sections = {
        "memory": build_memory(host_config),
        "cpu": build_cpu(host_config),
        "pids": build_pids(host_config),
        "blockIO": _block_io(host_config, devices),
    }
    resources: dict[str, Any] = {"devices": _device_rules(host_config, devices)}
    return resources | {name: section for name, section in sections.items() if section}


def build_devices(devices: ContainerDevices) -> list[Device]:
    """The nodes to make in /dev: the six that every container has, then those asked for."""
    nodes = {node.path: node for node in _DEFAULT_NODES}
    for node in devices.nodes:
        nodes.setdefault(node.path, node)
    return [
        {
            "path": node.path,
            "type": node.kind,
            "major": node.major,
            "minor": node.minor,
            "fileMode": node.mode,
            "uid": node.uid,
            "gid": node.gid,
        }
        for node in nodes.values()
    ]


def build_rlimits(host_config: HostConfig) -> list[Rlimit]:
    """Ulimits as rlimits; unlimited is the largest 64-bit number, as in the OCI spec."""
    return [
        {"type": f"RLIMIT_{ulimit.name.upper()}", "hard": _rlimit(ulimit.hard), "soft": _rlimit(ulimit.soft)}
        for ulimit in host_config.ulimits or ()
    ]


def _rlimit(value: int) -> int:
    return _UNLIMITED if value < 0 else value


def build_memory(limits: HostConfig) -> dict[str, Any]:
    """The memory section; empty without limits."""
    memory: dict[str, Any] = {}
    if limits.memory > 0:
        memory["limit"] = limits.memory
    if limits.memory_reservation > 0:
        memory["reservation"] = limits.memory_reservation
    if limits.memory_swap > 0:
        memory["swap"] = limits.memory_swap
    if limits.memory_swappiness is not None:
        memory["swappiness"] = limits.memory_swappiness
    if limits.oom_kill_disable:
        memory["disableOOMKiller"] = True
    return memory


def build_cpu(limits: HostConfig) -> dict[str, Any]:
    """The cpu section; empty without limits. Raises InvalidParameter."""
    cpu: dict[str, Any] = {}
    if limits.cpu_shares < 0:
        raise InvalidParameter(f"invalid CPU shares ({limits.cpu_shares}): value must be a positive integer")
    if limits.nano_cpus > 0:
        cpu["period"] = _NANO_CPU_PERIOD_US
        cpu["quota"] = limits.nano_cpus * _NANO_CPU_PERIOD_US // 1_000_000_000
    named = (
        ("shares", _within(limits.cpu_shares, *_SHARES) if limits.cpu_shares else 0),
        ("cpus", limits.cpuset_cpus),
        ("mems", limits.cpuset_mems),
        ("period", limits.cpu_period),
        ("quota", limits.cpu_quota),
        ("realtimePeriod", limits.cpu_realtime_period),
        ("realtimeRuntime", limits.cpu_realtime_runtime),
    )
    return cpu | {name: value for name, value in named if value}


def _within(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def build_pids(limits: HostConfig) -> dict[str, Any]:
    """The pids section; empty when nothing was said."""
    if limits.pids_limit is None:
        return {}
    return {"limit": limits.pids_limit if limits.pids_limit > 0 else -1}


def _block_io(limits: HostConfig, devices: ContainerDevices) -> dict[str, Any]:
    block_io: dict[str, Any] = {}
    if limits.blkio_weight:
        block_io["weight"] = limits.blkio_weight
    if limits.blkio_weight_device:
        block_io["weightDevice"] = [_numbers(device.path, devices) | {"weight": device.weight} for device in limits.blkio_weight_device]
    throttles: tuple[tuple[str, list[ThrottleDevice] | None], ...] = (
        ("throttleReadBpsDevice", limits.blkio_device_read_bps),
        ("throttleWriteBpsDevice", limits.blkio_device_write_bps),
        ("throttleReadIOPSDevice", limits.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", limits.blkio_device_write_iops),
    )
    for name, throttled in throttles:
        if throttled:
            block_io[name] = [_numbers(device.path, devices) | {"rate": device.rate} for device in throttled]
    return block_io


def _numbers(path: str, devices: ContainerDevices) -> dict[str, Any]:
    major, minor = devices.numbers[path]
    return {"major": major, "minor": minor}


def _device_rules(host_config: HostConfig, devices: ContainerDevices) -> list[dict[str, Any]]:
    """A rule that forbids all devices, then those that allow some. Docker's list also forbids fuse (10:229), which nothing allowed."""
    if host_config.privileged:
        return [{"allow": True, "access": "rwm"}]
    # Nodes of any device may be made, but not opened.
    anything = [{"allow": True, "type": kind, "major": -1, "minor": -1, "access": "m"} for kind in ("c", "b")]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}, *anything]
    rules.extend(_node_rule(node) for node in _DEFAULT_NODES)
    # /dev/console, /dev/ptmx, and the terminals in /dev/pts.
    terminals = ((5, 1), (5, 2), (136, -1))
    rules.extend({"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"} for major, minor in terminals)
    rules.extend(_node_rule(node) for node in devices.nodes if node.kind != "p")
    rules.extend(parse_device_rule(rule) for rule in host_config.device_cgroup_rules or ())
    return rules


def _node_rule(node: DeviceNode) -> dict[str, Any]:
    return {"allow": True, "type": node.kind, "major": node.major, "minor": node.minor, "access": node.access}
