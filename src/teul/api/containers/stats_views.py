"""How dockerd shows what a container uses: the document of stats, field for field and in its order.

Pure. docker: api/types/container/stats.go, daemon/stats_unix.go; the fields that Go leaves out when they are zero are left out here.
"""

from __future__ import annotations

from typing import Any

from teul.api.containers.views import render_time
from teul.services.containers.resources import CpuUsage, IoEntry, IoUsage, Measurement, MemoryUsage, PidsUsage, Sample

_UINT64_MAX = 2**64 - 1
_INTERFACE_FIELDS = tuple(f"{way}_{what}" for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped"))
_IO_FIELDS = (
    "io_service_bytes_recursive",
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)
# The counters of memory.stat that are told, by version of cgroups; a counter that this kernel does not have is told as 0.
_MEMORY_V1_OWN = (
    *("active_anon", "active_file", "cache", "dirty", "inactive_anon", "inactive_file", "mapped_file", "pgfault", "pgmajfault"),
    *("pgpgin", "pgpgout", "rss", "rss_huge", "unevictable", "writeback"),
)
_MEMORY_V1 = (*_MEMORY_V1_OWN, "hierarchical_memory_limit", "hierarchical_memsw_limit", *(f"total_{name}" for name in _MEMORY_V1_OWN))
_MEMORY_V2 = (
    *("active_anon", "active_file", "anon", "anon_thp", "file", "file_dirty", "file_mapped", "file_writeback", "inactive_anon"),
    *("inactive_file", "kernel_stack", "pgactivate", "pgdeactivate", "pgfault", "pglazyfree", "pglazyfreed", "pgmajfault", "pgrefill"),
    *("pgscan", "pgsteal", "shmem", "slab", "slab_reclaimable", "slab_unreclaimable", "sock", "thp_collapse_alloc", "thp_fault_alloc"),
    *("unevictable", "workingset_activate", "workingset_nodereclaim", "workingset_refault"),
)


def stats_document(sample: Sample) -> dict[str, Any]:
    """One sample. For a container that does not run it has the name, the id and nothing but zeros."""
    now, before = sample.now, sample.before
    usage = now.usage if now is not None else None
    document: dict[str, Any] = {
        "name": f"/{sample.container.name}",
        "id": sample.container.id,
        "read": render_time(now.read_at_ns if now is not None else 0),
        "preread": render_time(before.read_at_ns if before is not None else 0),
        "pids_stats": _pids(usage["pids"] if usage else None),
        "blkio_stats": _block_io(usage["io"] if usage else None),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(now),
        "precpu_stats": _cpu(before),
        "memory_stats": _memory(usage["memory"] if usage else None, now.memory_bytes if now is not None else 0),
    }
    if now is not None and now.interfaces:
        document["networks"] = {
            name: {field: counters[field] for field in _INTERFACE_FIELDS} for name, counters in sorted(now.interfaces.items())
        }
    return document


def _cpu(measurement: Measurement | None) -> dict[str, Any]:
    counted = measurement.usage["cpu"] if measurement is not None else None
    document: dict[str, Any] = {"cpu_usage": _cpu_usage(counted)}
    if measurement is not None:
        document |= _without_zeros({"system_cpu_usage": measurement.system_cpu_ns, "online_cpus": measurement.online_cpus})
    document["throttling_data"] = {
        "periods": counted["periods"] if counted else 0,
        "throttled_periods": counted["throttled_periods"] if counted else 0,
        "throttled_time": counted["throttled_ns"] if counted else 0,
    }
    return document


def _cpu_usage(counted: CpuUsage | None) -> dict[str, Any]:
    if counted is None:
        return {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}
    return {
        "total_usage": counted["total_ns"],
        **({"percpu_usage": counted["percpu_ns"]} if counted["percpu_ns"] else {}),
        "usage_in_kernelmode": counted["system_ns"],
        "usage_in_usermode": counted["user_ns"],
    }


def _memory(counted: MemoryUsage | None, host_bytes: int) -> dict[str, Any]:
    if counted is None:
        return {}
    names = _MEMORY_V1 if counted["version"] == 1 else _MEMORY_V2
    limit = counted["limit_bytes"]
    return _without_zeros(
        {
            "usage": counted["usage_bytes"],
            "max_usage": counted["peak_bytes"],
            "stats": {name: counted["stats"].get(name, 0) for name in sorted(names)},
            "failcnt": counted["failures"],
            # docker: without a limit, and with one beyond it, the host's memory is the limit.
            "limit": host_bytes if limit is None else min(limit, host_bytes),
        }
    )


def _block_io(counted: IoUsage | None) -> dict[str, Any]:
    if counted is None:
        return dict.fromkeys(_IO_FIELDS)
    if counted["version"] == 2:
        # docker: on v2 only the bytes are told, and null for no device.
        return dict.fromkeys(_IO_FIELDS) | {_IO_FIELDS[0]: _io_entries(counted["io_bytes"]) or None}
    return {name: [] for name in _IO_FIELDS} | {
        _IO_FIELDS[0]: _io_entries(counted["io_bytes"]),
        _IO_FIELDS[1]: _io_entries(counted["operations"] or []),
    }


def _io_entries(entries: list[IoEntry]) -> list[dict[str, Any]]:
    return [{"major": major, "minor": minor, "op": operation, "value": value} for major, minor, operation, value in entries]


def _pids(counted: PidsUsage | None) -> dict[str, Any]:
    if counted is None:
        return {}
    # docker: no limit is not told on v1, and the largest number on v2.
    unlimited = 0 if counted["version"] == 1 else _UINT64_MAX
    return _without_zeros({"current": counted["current"], "limit": unlimited if counted["limit"] is None else counted["limit"]})


def _without_zeros(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value}
