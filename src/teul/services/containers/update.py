"""`docker update` of a container's limits: judged, merged into the record's limits, and planned as a change of the cgroup. Pure.

docker: daemon/update.go, daemon/update_linux.go, daemon/container/container_unix.go (UpdateContainer). The sentences are dockerd's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from teul.errors import Conflict, NotImplementedHere
from teul.model.document import docker_name
from teul.model.host_config import HostConfig, Resources, RestartPolicy
from teul.services.containers.request.check import check_restart_policy
from teul.services.containers.request.resources import check_resources
from teul.services.containers.spec.resources import build_cpu, build_memory, build_pids
from teul.services.host import HostFacts

# The limits that a non-zero value of an update replaces.
_UPDATABLE = (
    "blkio_weight",
    "cpu_shares",
    "nano_cpus",
    "cpu_period",
    "cpu_quota",
    "cpuset_cpus",
    "cpuset_mems",
    "memory",
    "memory_swap",
    "memory_reservation",
    "cpu_realtime_period",
    "cpu_realtime_runtime",
    "pids_limit",
)
# docker: these are ignored in an update, where old and new clients send them along.
_WITHOUT_MEANING = frozenset({"kernel_memory", "kernel_memory_tcp", "cpu_count", "cpu_percent", "io_maximum_iops", "io_maximum_bandwidth"})


class UpdateContainer(msgspec.Struct, kw_only=True):
    """A request to change limits: zero, empty and None mean that a limit stays."""

    resources: Resources
    restart_policy: RestartPolicy


def check_update(request: UpdateContainer, host: HostFacts) -> tuple[HostConfig, list[str]]:
    """Judge the request by itself; the answer has the limits that this host can set, and warnings about the others.

    Raises InvalidParameter as for a new container, and NotImplementedHere for what only a new container can be given.
    """
    wanted = HostConfig(**{name: getattr(request.resources, name) for name in request.resources.__struct_fields__})
    wanted.restart_policy = request.restart_policy
    if wanted.pids_limit is not None and wanted.pids_limit <= 0:
        wanted.pids_limit = 0  # docker: both 0 and any negative number take the limit off
    check_restart_policy(wanted.restart_policy)
    warnings = check_resources(wanted, host, update=True)
    for name in Resources.__struct_fields__:
        value = getattr(wanted, name)
        is_said = value is not None if name == "memory_swappiness" else bool(value)
        if is_said and name not in _UPDATABLE and name not in _WITHOUT_MEANING:
            raise NotImplementedHere(f"{docker_name(name)} of an existing container cannot be updated")
    return wanted, warnings


def merge(present: HostConfig, wanted: HostConfig) -> HostConfig:
    """`present` with what `wanted` changes; neither argument is changed. Raises Conflict."""
    if wanted.nano_cpus > 0 and present.cpu_period > 0:
        raise Conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
    if wanted.nano_cpus > 0 and present.cpu_quota > 0:
        raise Conflict("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
    if wanted.cpu_period > 0 and present.nano_cpus > 0:
        raise Conflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
    if wanted.cpu_quota > 0 and present.nano_cpus > 0:
        raise Conflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
    # docker: no limit at all (0) and an unlimited one (-1) count as smaller, too.
    if wanted.memory and wanted.memory > present.memory_swap and wanted.memory_swap == 0:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        )
    changes: dict[str, Any] = {name: getattr(wanted, name) for name in _UPDATABLE if _says_something(wanted, name)}
    if wanted.restart_policy.name:
        if present.auto_remove and wanted.restart_policy.name != "no":
            raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        changes["restart_policy"] = wanted.restart_policy
    return msgspec.structs.replace(present, **changes)


def plan_change(merged: HostConfig, wanted: HostConfig) -> dict[str, Any]:
    """OCI `linux.resources` for the running cgroup: the sections that `wanted` speaks of, with `merged`'s values.

    What belongs together (memory and swap, quota and period) is set together: v2 has them in one file or counts one without the other.
    """
    resources: dict[str, Any] = {}
    if wanted.memory or wanted.memory_swap or wanted.memory_reservation:
        whole = build_memory(merged)
        names = ("limit", "swap") if wanted.memory or wanted.memory_swap else ()
        if wanted.memory_reservation:
            names = (*names, "reservation")
        resources["memory"] = {name: whole[name] for name in names if name in whole}
        if merged.memory_swap == -1 and "swap" in names:
            resources["memory"]["swap"] = -1
    whole = build_cpu(merged)
    asked = {
        "shares": wanted.cpu_shares,
        "cpus": wanted.cpuset_cpus,
        "mems": wanted.cpuset_mems,
        "period": wanted.cpu_period or wanted.cpu_quota or wanted.nano_cpus,
        "quota": wanted.cpu_period or wanted.cpu_quota or wanted.nano_cpus,
        "realtimePeriod": wanted.cpu_realtime_period,
        "realtimeRuntime": wanted.cpu_realtime_runtime,
    }
    resources["cpu"] = {name: whole[name] for name, said in asked.items() if said and name in whole}
    if wanted.pids_limit is not None:
        resources["pids"] = build_pids(merged)
    if wanted.blkio_weight:
        resources["blockIO"] = {"weight": merged.blkio_weight}
    return {name: section for name, section in resources.items() if section}


def _says_something(wanted: HostConfig, name: str) -> bool:
    value = getattr(wanted, name)
    return value is not None if name == "pids_limit" else bool(value)
