"""OCI `linux.resources` in the words of cgroup v1: each function turns one section into writes. Pure.

A write is `(file, value, if_absent)`: `if_absent` says what a missing file means: FAIL, or SKIP where the kernel may be
built without the feature and the limit is then moot. A number of 0 is "not asked", as in runc.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs 5 ms to import
    from typing import Any

    Section = dict[str, Any]

FAIL = "fail"
SKIP = "skip"

Write = tuple[str, str, str]

_MIN_SHARES, _MAX_SHARES = 2, 1 << 18  # kernel/sched/sched.h, MIN_SHARES and MAX_SHARES


def memory(section: Section) -> list[Write]:
    """limit, swap (v1 counts memory and swap together), reservation, swappiness, disableOOMKiller; `kernel` is gone from Linux."""
    limit, swap = section.get("limit") or 0, section.get("swap") or 0
    writes: list[Write] = []
    if limit:
        writes.append(("memory.limit_in_bytes", str(limit), FAIL))
    if swap:
        # Without swap accounting there is no such file, and memory alone is limited.
        writes.append(("memory.memsw.limit_in_bytes", str(swap), SKIP))
    elif limit == -1:
        writes.append(("memory.memsw.limit_in_bytes", "-1", SKIP))  # unlimited memory would still be held by an old memsw limit
    if section.get("reservation"):
        writes.append(("memory.soft_limit_in_bytes", str(section["reservation"]), FAIL))
    if section.get("disableOOMKiller"):
        writes.append(("memory.oom_control", "1", FAIL))
    swappiness = section.get("swappiness")
    if swappiness is not None and swappiness != -1:
        if not 0 <= swappiness <= 100:
            raise OSError(errno.EINVAL, f"invalid memory swappiness value: {swappiness} (valid range is 0-100)")
        writes.append(("memory.swappiness", str(swappiness), FAIL))
    return writes


def cpu(section: Section) -> list[Write]:
    """shares, quota, period, burst, realtime, idle."""
    shares = section.get("shares") or 0
    writes: list[Write] = []
    if section.get("idle") is not None:
        writes.append(("cpu.idle", str(section["idle"]), FAIL))
    if shares:
        # kernel: it clamps shares without a word; runc reads them back and refuses, with these sentences.
        if shares < _MIN_SHARES:
            raise OSError(errno.EINVAL, f"the minimum allowed cpu-shares is {_MIN_SHARES}")
        if shares > _MAX_SHARES:
            raise OSError(errno.EINVAL, f"the maximum allowed cpu-shares is {_MAX_SHARES}")
        writes.append(("cpu.shares", str(shares), FAIL))
    for key, file in (
        ("period", "cpu.cfs_period_us"),
        ("quota", "cpu.cfs_quota_us"),
        ("realtimePeriod", "cpu.rt_period_us"),
        ("realtimeRuntime", "cpu.rt_runtime_us"),
    ):
        if section.get(key):
            writes.append((file, str(section[key]), FAIL))
    if section.get("burst") is not None:
        writes.append(("cpu.cfs_burst_us", str(section["burst"]), SKIP))  # kernel: since 5.14
    return writes


def cpuset(section: Section) -> list[Write]:
    """cpus and mems, in the kernel's list notation."""
    return [(f"cpuset.{key}", section[key], FAIL) for key in ("cpus", "mems") if section.get(key)]


def pids(section: Section) -> list[Write]:
    """limit; a negative one is no limit."""
    limit = section.get("limit") or 0
    return [("pids.max", str(limit) if limit > 0 else "max", FAIL)] if limit else []


def block_io(section: Section) -> list[Write]:
    """weight (of the BFQ scheduler: CFQ and its blkio.weight left Linux with 5.0) and throttles."""
    writes: list[Write] = []
    if section.get("weight"):
        writes.append(("blkio.bfq.weight", str(section["weight"]), FAIL))
    weighed = [device for device in section.get("weightDevice") or () if device.get("weight")]
    writes += [("blkio.bfq.weight_device", f"{device['major']}:{device['minor']} {device['weight']}", FAIL) for device in weighed]
    for key, file in (
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
        ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
    ):
        writes += [(file, f"{device['major']}:{device['minor']} {device['rate']}", FAIL) for device in section.get(key) or ()]
    return writes


def huge_pages(section: list[Section]) -> list[Write]:
    """A limit per page size, on use and, where the kernel counts those (since 5.7), on reservations too."""
    writes: list[Write] = []
    for entry in section:
        prefix = f"hugetlb.{entry['pageSize']}"
        writes.append((f"{prefix}.limit_in_bytes", str(entry["limit"]), FAIL))
        writes.append((f"{prefix}.rsvd.limit_in_bytes", str(entry["limit"]), SKIP))
    return writes


def rdma(section: Section) -> list[Write]:
    """rdma.max is the same file in both versions."""
    writes: list[Write] = []
    for device, limits in section.items():
        words = [device]
        for key, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            if limits.get(key) is not None:
                words.append(f"{word}={limits[key]}")
        writes.append(("rdma.max", " ".join(words), FAIL))
    return writes


def net_classifier(section: Section) -> list[Write]:
    """network.classID."""
    return [("net_cls.classid", str(section["classID"]), FAIL)] if section.get("classID") else []


def net_priorities(section: Section) -> list[Write]:
    """network.priorities."""
    return [("net_prio.ifpriomap", f"{entry['name']} {entry['priority']}", FAIL) for entry in section.get("priorities") or ()]
