"""OCI `linux.resources` in the words of cgroup v2: each function turns one section into writes. Pure.

OCI speaks v1; what v2 has no word for (swappiness, disableOOMKiller, realtime, network) is not applied, as in runc. Writes are as in
`v1`; `if_absent` may also be a second `[file, value]` to write instead.
"""

from __future__ import annotations

import errno
import math

from teul.linux.cgroups.v1 import FAIL, SKIP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Section = dict[str, Any]

Write = tuple[str, str, "str | list[str]"]

_DEFAULT_PERIOD_US = 100_000  # Documentation/admin-guide/cgroup-v2.rst, cpu.max


def memory(section: Section) -> list[Write]:
    """limit, reservation, and swap, which v2 counts by itself where OCI means memory and swap together."""
    limit, reservation = section.get("limit") or 0, section.get("reservation") or 0
    writes: list[Write] = []
    swap = swap_limit(section.get("swap") or 0, limit)
    if swap is not None:
        writes.append(("memory.swap.max", _or_max(swap), SKIP))  # absent when swap is not accounted
    if limit:
        writes.append(("memory.max", _or_max(limit), FAIL))
    if reservation:
        writes.append(("memory.low", _or_max(reservation), FAIL))
    return writes


def swap_limit(memory_and_swap: int, limit: int) -> int | None:
    """The v2 swap limit for OCI's memory+swap: None when none was asked, -1 for no limit.

    Unlimited memory with swap unset means unlimited swap; with swap set, that value is taken as it is (runc does both).
    """
    if memory_and_swap == 0:
        return -1 if limit == -1 else None
    if memory_and_swap == -1 or limit == -1:
        return memory_and_swap
    if limit == 0:
        raise OSError(errno.EINVAL, "unable to set swap limit without memory limit")
    if limit < 0:
        raise OSError(errno.EINVAL, f"invalid memory value: {limit}")
    if memory_and_swap < limit:
        raise OSError(errno.EINVAL, "memory+swap limit should be >= memory limit")
    return memory_and_swap - limit


def cpu(section: Section) -> list[Write]:
    """shares (as a weight), quota, period, burst, idle."""
    quota, period = section.get("quota") or 0, section.get("period") or 0
    writes: list[Write] = []
    if section.get("idle") is not None:
        writes.append(("cpu.idle", str(section["idle"]), FAIL))
    if section.get("shares"):
        writes.append(("cpu.weight", str(cpu_weight(section["shares"])), FAIL))
    if quota or period:
        writes.append(("cpu.max", f"{quota if quota > 0 else 'max'} {period or _DEFAULT_PERIOD_US}", FAIL))
    if section.get("burst") is not None:
        writes.append(("cpu.max.burst", str(section["burst"]), FAIL))
    return writes


def cpu_weight(shares: int) -> int:
    """The v2 weight for v1 shares: a curve through the minima (2, 1), the defaults (1024, 100) and the maxima (262144, 10000).

    crun 1.23 and runc 1.4 use the same curve; the straight line of older versions made 39 of the default.
    """
    if shares <= 2:
        return 1
    if shares >= 1 << 18:
        return 10_000
    power = math.log2(shares)
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def cpuset(section: Section) -> list[Write]:
    """cpus and mems, in the kernel's list notation."""
    return [(f"cpuset.{key}", section[key], FAIL) for key in ("cpus", "mems") if section.get(key)]


def pids(section: Section) -> list[Write]:
    """limit; a negative one is no limit."""
    limit = section.get("limit") or 0
    return [("pids.max", str(limit) if limit > 0 else "max", FAIL)] if limit else []


def block_io(section: Section) -> list[Write]:
    """Weights for the BFQ scheduler, or for io.cost where BFQ is not built in; throttles as keys of io.max."""
    writes: list[Write] = []
    if section.get("weight"):
        weight = section["weight"]
        writes.append(("io.bfq.weight", str(weight), ["io.weight", f"default {io_weight(weight)}"]))
    for device in section.get("weightDevice") or ():
        if device.get("weight"):
            number, weight = f"{device['major']}:{device['minor']}", device["weight"]
            writes.append(("io.bfq.weight", f"{number} {weight}", ["io.weight", f"{number} {io_weight(weight)}"]))
    for key, word in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        devices = section.get(key) or ()
        writes += [("io.max", f"{device['major']}:{device['minor']} {word}={device['rate'] or 'max'}", FAIL) for device in devices]
    return writes


def io_weight(weight: int) -> int:
    """io.weight's 1 to 10000 for OCI's 10 to 1000."""
    return 1 + (weight - 10) * 9999 // 990


def huge_pages(section: list[Section]) -> list[Write]:
    """A limit per page size, on use and, where the kernel counts those (since 5.7), on reservations too."""
    writes: list[Write] = []
    for entry in section:
        prefix = f"hugetlb.{entry['pageSize']}"
        writes.append((f"{prefix}.max", str(entry["limit"]), FAIL))
        writes.append((f"{prefix}.rsvd.max", str(entry["limit"]), SKIP))
    return writes


def _or_max(value: int) -> str:
    return "max" if value == -1 else str(value)
