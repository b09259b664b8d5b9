"""From OCI `linux.resources` to a plan: what to create, write and join. Pure: it reads nothing but its arguments."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from teul.linux.cgroups import devices, v1, v2
from teul.linux.cgroups.layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    from teul.linux.bpf import DeviceRule

    class Plan(TypedDict):
        """A cgroup as data, JSON all through. Paths are absolute."""

        path: str  # below each mount point, "/teul/<id>"
        directories: list[str]  # the cgroup's own, one per hierarchy, the unified one last
        cpuset_directory: str | None  # the v1 directory that takes no process until it has its parent's cpus and mems
        unified_directory: str | None  # for CLONE_INTO_CGROUP
        join: list[str]  # v1 files to which a process writes "0"
        controllers: list[str]  # v2 controllers to enable on the way down, as far as possible
        required_controllers: list[str]  # those without which a limit cannot be set
        writes: list[list[Any]]  # [file, value, if_absent], in order; see v1.Write and v2.Write
        device_rules: list[DeviceRule] | None  # for the v2 filter; v1 rules stand in `writes`
        oom_file: str | None  # where the kernel counts OOM kills
        freezer_file: str | None  # v1; where there is a unified directory, its cgroup.freeze is used instead

    Renderer = Callable[[Any], list[v1.Write]] | Callable[[Any], list[v2.Write]]
else:
    Plan = dict

# Section of OCI resources, v1 controller, its renderer, v2 controller, its renderer.
_SUBSYSTEMS: tuple[tuple[str, str, Renderer, str | None, Renderer | None], ...] = (
    ("memory", "memory", v1.memory, "memory", v2.memory),
    ("cpu", "cpuset", v1.cpuset, "cpuset", v2.cpuset),
    ("cpu", "cpu", v1.cpu, "cpu", v2.cpu),
    ("pids", "pids", v1.pids, "pids", v2.pids),
    ("blockIO", "blkio", v1.block_io, "io", v2.block_io),
    ("hugepageLimits", "hugetlb", v1.huge_pages, "hugetlb", v2.huge_pages),
    ("rdma", "rdma", v1.rdma, "rdma", v1.rdma),
    ("network", "net_cls", v1.net_classifier, None, None),
    ("network", "net_prio", v1.net_priorities, None, None),
)


def plan(layout: Layout, cgroups_path: str, resources: dict[str, Any] | None = None) -> Plan:
    """The plan for cgroup `cgroups_path` (absolute, like "/teul/<id>") with the limits in `resources`.

    Only what was asked is written. A limit that no hierarchy of this host can hold is ENOENT, one that contradicts itself EINVAL.
    """
    path = _checked(cgroups_path)
    resources = resources or {}
    v1_directories = {mount: mount + path for mount in layout.hierarchies}
    unified = layout.unified + path if layout.unified is not None else None
    writes: list[list[Any]] = []
    required: list[str] = []
    for directory, controller, section_writes in _limits(layout, path, resources):
        writes += [[f"{directory}/{file}", value, _absolute(directory, if_absent)] for file, value, if_absent in section_writes]
        if controller:
            required.append(controller)
    writes += _unified_writes(layout, unified, resources.get("unified") or {}, required)
    rules = devices.parse_rules(resources.get("devices") or [])
    if "devices" in layout.v1 and rules:
        writes += [[f"{layout.v1['devices'] + path}/{file}", value, v1.FAIL] for file, value in devices.v1_writes(rules)]
    elif rules and unified is None and not devices.is_allow_all(rules):
        raise _no_controller("device rules", "devices")
    return {
        "path": path,
        "directories": [*v1_directories.values(), *([unified] if unified else [])],
        "cpuset_directory": layout.v1["cpuset"] + path if "cpuset" in layout.v1 else None,
        "unified_directory": unified,
        "join": [f"{directory}/tasks" for directory in v1_directories.values()],
        # On a hybrid host the unified hierarchy is for freezing and killing; its stray controllers are turned on only when needed.
        "controllers": sorted(layout.unified_controllers) if layout.mode == "v2" else sorted(set(required)),
        "required_controllers": sorted(set(required)),
        "writes": writes,
        "device_rules": _filter_rules(layout, rules),
        "oom_file": _oom_file(layout, path),
        "freezer_file": f"{layout.v1['freezer'] + path}/freezer.state" if "freezer" in layout.v1 else None,
    }


def _limits(layout: Layout, path: str, resources: dict[str, Any]) -> Iterator[tuple[str, str | None, list[v1.Write] | list[v2.Write]]]:
    """For each section asked: the directory that holds it, the v2 controller it needs, and its writes."""
    for key, v1_controller, v1_render, v2_controller, v2_render in _SUBSYSTEMS:
        section = resources.get(key)
        if not section:
            continue
        if v1_controller in layout.v1:
            yield layout.v1[v1_controller] + path, None, v1_render(section)
            continue
        is_unified = layout.unified is not None and v2_controller in layout.unified_controllers
        render = v2_render if is_unified or layout.mode == "v2" else v1_render
        writes = render(section) if render is not None else []
        if writes and not is_unified:
            raise _no_controller(writes[0][0], v1_controller)
        if writes:
            yield f"{layout.unified}{path}", v2_controller, writes


def _unified_writes(layout: Layout, directory: str | None, wanted: dict[str, str], required: list[str]) -> list[list[Any]]:
    """`unified`: v2 files by name, written as they come. Adds the controllers they belong to to `required`."""
    writes = []
    for file, value in wanted.items():
        if "/" in file or "." not in file:
            raise OSError(errno.EINVAL, f"unified resource `{file}` must be a file name of the form CONTROLLER.PARAMETER")
        controller = file.partition(".")[0]
        if directory is None or (controller != "cgroup" and controller not in layout.unified_controllers):
            raise _no_controller(f"unified resource {file}", controller)
        if controller != "cgroup":
            required.append(controller)
        writes += [[f"{directory}/{file}", line, v1.FAIL] for line in value.split("\n") if line]
    return writes


def _filter_rules(layout: Layout, rules: list[DeviceRule]) -> list[DeviceRule] | None:
    if not rules or "devices" in layout.v1 or devices.is_allow_all(rules):
        return None
    return rules


def _oom_file(layout: Layout, path: str) -> str | None:
    if "memory" in layout.v1:
        return f"{layout.v1['memory'] + path}/memory.oom_control"
    if layout.unified is not None and "memory" in layout.unified_controllers:
        return f"{layout.unified + path}/memory.events"
    return None


def _absolute(directory: str, if_absent: str | list[str]) -> str | list[str]:
    return if_absent if isinstance(if_absent, str) else [f"{directory}/{if_absent[0]}", if_absent[1]]


def _checked(path: str) -> str:
    """security: the path comes from a document; no part of it may climb out of the hierarchy, and it may not name the root."""
    if not path.startswith("/") or any(part in {"", ".", ".."} for part in path[1:].split("/")):
        raise OSError(errno.EINVAL, f"invalid cgroup path `{path}`: it must be absolute and plain, such as /teul/<id>")
    return path


def _no_controller(what: str, controller: str) -> OSError:
    return OSError(errno.ENOENT, f"cannot set {what}: this host has no `{controller}` cgroup controller")
