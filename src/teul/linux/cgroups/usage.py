"""What a cgroup uses: the counters of its controllers, in one form whichever version counts them.

The parsers are pure. `read_usage` reads a dozen small files and takes well under a millisecond; a file that this kernel does not have
counts as nothing used, a cgroup that is gone is `FileNotFoundError`.
"""

from __future__ import annotations

import errno
import os

from teul.linux.cgroups import files
from teul.linux.cgroups.layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    IoEntry = tuple[int, int, str, int]  # major, minor, operation, value

    class CpuUsage(TypedDict):
        """Times in nanoseconds. `percpu_ns` is None where the kernel does not tell."""

        total_ns: int
        user_ns: int
        system_ns: int
        percpu_ns: list[int] | None
        periods: int
        throttled_periods: int
        throttled_ns: int

    class MemoryUsage(TypedDict):
        """Bytes. `limit_bytes` is None for no limit; `peak_bytes` None where it is not counted; `stats` are the kernel's own names."""

        version: int
        usage_bytes: int
        peak_bytes: int | None
        limit_bytes: int | None
        failures: int
        stats: dict[str, int]

    class IoUsage(TypedDict):
        """Per device and operation. `operations` is None where they are not counted by operation."""

        version: int
        io_bytes: list[IoEntry]
        operations: list[IoEntry] | None

    class PidsUsage(TypedDict):
        """Tasks. `limit` is None for no limit."""

        version: int
        current: int
        limit: int | None

    class CgroupUsage(TypedDict):
        """What a cgroup uses; None for what no controller of this host counts."""

        cpu: CpuUsage | None
        memory: MemoryUsage | None
        io: IoUsage | None
        pids: PidsUsage | None

else:
    CgroupUsage = CpuUsage = MemoryUsage = IoUsage = PidsUsage = dict
    IoEntry = tuple

_TICK_NS = 10_000_000  # USER_HZ is 100 wherever Linux runs
_UNLIMITED_V1 = 0x7FFFFFFFFFFFF000  # PAGE_COUNTER_MAX in bytes, for pages of 4096; larger pages round it down further


def read_usage(layout: Layout, path: str) -> CgroupUsage:
    """The counters of cgroup `path` ("/teul/<id>"). Each controller is read in the hierarchy that holds it. Raises `OSError`."""
    unified = f"{layout.unified}{path}" if layout.unified is not None else None
    directories = {name: mount + path for name, mount in layout.v1.items()}
    anywhere = next(iter(directories.values()), unified)
    if anywhere is None or not os.path.exists(anywhere):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), anywhere or path)
    held = layout.unified_controllers

    def in_unified(controller: str) -> str | None:
        return unified if controller in held else None

    return {
        "cpu": _read_cpu(directories, unified),
        "memory": _read_memory(directories.get("memory"), in_unified("memory")),
        "io": _read_io(directories.get("blkio"), in_unified("io")),
        "pids": _read_pids(directories.get("pids"), in_unified("pids")),
    }


def read_system_cpu() -> tuple[int, int]:
    """The time that all processors of the host have had, in nanoseconds, and how many of them are online."""
    return parse_system_cpu(files.read("/proc/stat"))


# -- pure


def parse_system_cpu(text: str) -> tuple[int, int]:
    """/proc/stat: the sum of the first seven fields (guest time is in user time already), and the number of processors."""
    total_ns = online = 0
    for line in text.splitlines():
        name, *fields = line.split()
        if not name.startswith("cpu"):
            break
        if name == "cpu":
            total_ns = sum(int(field) for field in fields[:7]) * _TICK_NS
        else:
            online += 1
    return total_ns, online


def parse_flat(text: str) -> dict[str, int]:
    """A flat keyed file: cpu.stat, memory.stat, memory.events."""
    numbers: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.lstrip("-").isdigit():
            numbers[name] = int(value)
    return numbers


def parse_io_v1(text: str) -> list[IoEntry]:
    """blkio's `8:0 Read 4096` lines. The total over all devices, which names none, is left out."""
    entries: list[IoEntry] = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3 and ":" in fields[0]:
            major, _, minor = fields[0].partition(":")
            entries.append((int(major), int(minor), fields[1], int(fields[2])))
    return entries


def parse_io_v2(text: str) -> list[IoEntry]:
    """io.stat's `8:0 rbytes=4096 wbytes=0 …` lines, as one reading and one writing entry for each device."""
    entries: list[IoEntry] = []
    for line in text.splitlines():
        device, *pairs = line.split()
        major, colon, minor = device.partition(":")
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        if colon and values:  # kernel: a device that has done nothing may stand there alone
            entries.append((int(major), int(minor), "read", int(values.get("rbytes", 0))))
            entries.append((int(major), int(minor), "write", int(values.get("wbytes", 0))))
    return entries


def parse_limit(text: str) -> int | None:
    """A limit's file: a number, or None for `max` and for v1's largest number, which mean no limit."""
    word = text.strip()
    if not word or word == "max":
        return None
    number = int(word)
    return None if number < 0 or number >= _UNLIMITED_V1 & ~0xFFFF else number


# -- per controller


def _read_cpu(v1: dict[str, str], unified: str | None) -> CpuUsage | None:
    if "cpuacct" not in v1:
        # kernel: a v2 cgroup counts its time without the cpu controller; the controller adds the periods.
        return _read_cpu_v2(unified) if unified is not None else None
    directory = v1["cpuacct"]
    ticks = parse_flat(_read(f"{directory}/cpuacct.stat"))
    stat = parse_flat(_read(f"{v1.get('cpu', directory)}/cpu.stat"))
    return {
        "total_ns": _number(f"{directory}/cpuacct.usage"),
        "user_ns": ticks.get("user", 0) * _TICK_NS,
        "system_ns": ticks.get("system", 0) * _TICK_NS,
        "percpu_ns": [int(word) for word in _read(f"{directory}/cpuacct.usage_percpu").split()],
        "periods": stat.get("nr_periods", 0),
        "throttled_periods": stat.get("nr_throttled", 0),
        "throttled_ns": stat.get("throttled_time", 0),
    }


def _read_cpu_v2(directory: str) -> CpuUsage:
    stat = parse_flat(_read(f"{directory}/cpu.stat"))
    return {
        "total_ns": stat.get("usage_usec", 0) * 1000,
        "user_ns": stat.get("user_usec", 0) * 1000,
        "system_ns": stat.get("system_usec", 0) * 1000,
        "percpu_ns": None,
        "periods": stat.get("nr_periods", 0),
        "throttled_periods": stat.get("nr_throttled", 0),
        "throttled_ns": stat.get("throttled_usec", 0) * 1000,
    }


def _read_memory(v1: str | None, unified: str | None) -> MemoryUsage | None:
    if v1 is not None:
        return {
            "version": 1,
            "usage_bytes": _number(f"{v1}/memory.usage_in_bytes"),
            "peak_bytes": _number(f"{v1}/memory.max_usage_in_bytes"),
            "limit_bytes": parse_limit(_read(f"{v1}/memory.limit_in_bytes")),
            "failures": _number(f"{v1}/memory.failcnt"),
            "stats": parse_flat(_read(f"{v1}/memory.stat")),
        }
    if unified is None:
        return None
    stats = parse_flat(_read(f"{unified}/memory.stat"))
    if not stats:
        return None  # the controller is not enabled for this cgroup
    return {
        "version": 2,
        "usage_bytes": _number(f"{unified}/memory.current"),
        "peak_bytes": None,
        "limit_bytes": parse_limit(_read(f"{unified}/memory.max")),
        "failures": parse_flat(_read(f"{unified}/memory.events")).get("oom", 0),
        "stats": stats,
    }


def _read_io(v1: str | None, unified: str | None) -> IoUsage | None:
    if v1 is not None:
        # CFQ's own counters left Linux with 5.0; the throttle layer counts for every scheduler.
        return {
            "version": 1,
            "io_bytes": parse_io_v1(_read(f"{v1}/blkio.throttle.io_service_bytes_recursive")),
            "operations": parse_io_v1(_read(f"{v1}/blkio.throttle.io_serviced_recursive")),
        }
    if unified is None:
        return None
    return {"version": 2, "io_bytes": parse_io_v2(_read(f"{unified}/io.stat")), "operations": None}


def _read_pids(v1: str | None, unified: str | None) -> PidsUsage | None:
    directory = v1 if v1 is not None else unified
    if directory is None:
        return None
    current = _read(f"{directory}/pids.current").strip()
    if not current:
        return None
    return {"version": 1 if v1 is not None else 2, "current": int(current), "limit": parse_limit(_read(f"{directory}/pids.max"))}


def _number(path: str) -> int:
    return int(_read(path).strip() or 0)


def _read(path: str) -> str:
    """The file's text; empty where there is no such file, or (kernel: ENODEV) the cgroup went while the file was open."""
    try:
        return files.read(path)
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP}:
            raise
        return ""
