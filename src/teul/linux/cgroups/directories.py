"""Creating, limiting and removing a cgroup from its plan."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Sequence

from teul.linux import bpf
from teul.linux.cgroups import files
from teul.linux.cgroups.layout import Layout
from teul.linux.cgroups.planning import Plan, plan
from teul.linux.cgroups.steps import carry_out, pauses
from teul.linux.cgroups.v1 import FAIL, SKIP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EVACUATION_ROUNDS = 10
_LONGEST_PAUSE_SECONDS = 0.02


def create(plan: Plan) -> None:
    """Make the cgroup's directories and set its limits; nothing is left of the cgroup when that fails.

    A directory of this name that is still there (its processes gone) is replaced, so that no old limit survives; a directory with
    processes is EBUSY. A limit that cannot be set is an `OSError` with the file and the value.
    """
    made = []
    try:
        for directory in plan["directories"]:
            if directory == plan["unified_directory"] and plan["controllers"]:
                _enable_down_to(plan, directory)
            _make(directory)
            made.append(directory)
            if directory == plan["cpuset_directory"]:
                _fill_cpuset(directory)
        _write_limits(plan["writes"])
        if plan["device_rules"] is not None and plan["unified_directory"] is not None:
            _filter_devices(plan["unified_directory"], plan["device_rules"])
    except OSError as error:
        try:
            carry_out(_removing_all(made, timeout_seconds=0.1))  # not directories that stood there before: they may be a living cgroup's
        except OSError as second:
            error.add_note(f"and the unfinished cgroup is left behind: {second}")
        raise


def update(layout: Layout, existing: Plan, resources: dict[str, Any]) -> None:
    """Set `resources` on the living cgroup of plan `existing`: limits that they name are written, others stay; devices stay too.

    With `memory.checkBeforeUpdate`, a limit below present usage is EBUSY instead of an OOM kill. When a limit cannot be set, those
    already written are put back before the `OSError` is raised; only single devices that had no limit keep the new one.
    """
    change = plan(layout, existing["path"], {key: value for key, value in resources.items() if key != "devices"})
    memory = resources.get("memory") or {}
    if memory.get("checkBeforeUpdate"):
        _check_usage(change, memory.get("limit") or 0)
    if change["unified_directory"] is not None and change["required_controllers"]:
        _enable_down_to(change, change["unified_directory"])
    former = _present_values(change["writes"])
    try:
        _write_limits(change["writes"])
    except OSError as error:
        try:
            _write_limits(former)
        except OSError as second:
            error.add_note(f"and the former limits could not all be put back: {second}")
        raise


def _present_values(writes: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Writes that undo `writes`, last first."""
    former: dict[str, list[list[Any]]] = {}
    for file, _, if_absent in writes:
        target = file if isinstance(if_absent, str) or os.path.exists(file) else if_absent[0]
        try:
            lines = files.read(target).splitlines()
        except FileNotFoundError:
            continue  # nothing will be written to it either, or the write fails
        # Files with a line per device take one line at a time; an empty file (a v1 cpuset's can be) has nothing to put back.
        former[target] = [[target, line, FAIL] for line in lines if line]
    return [write for undo in reversed(former.values()) for write in undo]


def remove(plan: Plan, *, timeout_seconds: float = 2.0) -> None:
    """Remove the cgroup's directories and all cgroups in them. Idempotent.

    The kernel needs a moment after the last process died; EBUSY is raised when the kernel is not done after `timeout_seconds`.
    """
    carry_out(removing(plan, timeout_seconds=timeout_seconds))


def removing(plan: Plan, *, timeout_seconds: float) -> Generator[float, None, None]:
    """`remove` in steps (see `teul.linux.cgroups.steps`)."""
    yield from _removing_all(plan["directories"], timeout_seconds=timeout_seconds)


def prune(layout: Layout, cgroups_path: str) -> None:
    """Remove the cgroup `cgroups_path` (a parent such as "/teul") from every hierarchy where neither processes nor cgroups are in it."""
    for directory in plan(layout, cgroups_path)["directories"]:
        try:
            os.rmdir(directory)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY}:
                raise


def children(layout: Layout, cgroups_path: str) -> set[str]:
    """The names of the cgroups right below `cgroups_path`, in whatever hierarchy they are."""
    names: set[str] = set()
    for directory in plan(layout, cgroups_path)["directories"]:
        try:
            with os.scandir(directory) as entries:
                names.update(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            continue
    return names


def _removing_all(directories: Sequence[str], *, timeout_seconds: float) -> Generator[float, None, None]:
    tries = pauses(timeout_seconds, longest_seconds=_LONGEST_PAUSE_SECONDS)
    pending = list(reversed(directories))
    while True:
        for directory in list(pending):
            if (yield from _trying_to_remove(directory)):
                pending.remove(directory)
        if not pending:
            return
        pause_seconds = next(tries, None)
        if pause_seconds is None:
            raise OSError(errno.EBUSY, f"rmdir `{pending[0]}`: the cgroup still has processes")
        yield pause_seconds


def _make(directory: str) -> None:
    try:
        os.mkdir(directory)
    except FileNotFoundError:
        # The recursion ends at the hierarchy's mount point, which exists. Another engine's process may be making the same parents.
        _make_parent(os.path.dirname(directory))
        os.mkdir(directory)
    except FileExistsError:
        if not carry_out(_trying_to_remove(directory)):
            raise OSError(errno.EBUSY, f"mkdir `{directory}`: a cgroup of this name still has processes") from None
        os.mkdir(directory)


def _make_parent(directory: str) -> None:
    try:
        os.mkdir(directory)
    except FileNotFoundError:
        _make_parent(os.path.dirname(directory))
        _make_parent(directory)
    except FileExistsError:
        return


def _trying_to_remove(directory: str) -> Generator[float, None, bool]:
    """Remove the cgroup and the cgroups below it, each of those in a step of its own; False while the kernel says EBUSY."""
    return _rmdir(directory) or ((yield from _trying_to_remove_children(directory)) and _rmdir(directory))


def _rmdir(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _trying_to_remove_children(directory: str) -> Generator[float, None, bool]:
    """Remove the cgroups below `directory`; False where one stays, and where there is none, so that the directory itself is busy."""
    try:
        with os.scandir(directory) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return True
    removed = bool(children)
    for child in children:
        removed = (yield from _trying_to_remove(child)) and removed
        yield 0.0
    return removed


def _fill_cpuset(directory: str) -> None:
    """kernel: a v1 cpuset starts with no cpus and no memory nodes, and takes no process until it has some."""
    parent = os.path.dirname(directory)
    for name in ("cpuset.cpus", "cpuset.mems"):
        value = files.read(f"{parent}/{name}").strip()
        if not value:
            _fill_cpuset(parent)  # ends at the hierarchy's root, which always has all cpus and nodes
            value = files.read(f"{parent}/{name}").strip()
        files.write(f"{directory}/{name}", value)


def _enable_down_to(plan: Plan, directory: str) -> None:
    """Enable the plan's v2 controllers for `directory`: in every cgroup from the mount point down to its parent, each made if need be."""
    wanted, required = plan["controllers"], plan["required_controllers"]
    mount = directory.removesuffix(plan["path"])
    if not _lacking(os.path.dirname(directory), wanted):
        return
    ancestor = mount
    for part in ("", *plan["path"].split("/")[1:-1]):
        if part:
            ancestor = f"{ancestor}/{part}"
            _make_parent(ancestor)
        _enable(ancestor, _lacking(ancestor, wanted), required, is_top=ancestor == mount)


def _lacking(directory: str, wanted: Sequence[str]) -> list[str]:
    try:
        enabled = files.read(f"{directory}/cgroup.subtree_control").split()
    except FileNotFoundError:
        return list(wanted)
    return [name for name in wanted if name not in enabled]


def _enable(directory: str, controllers: Sequence[str], required: Sequence[str], *, is_top: bool) -> None:
    if not controllers:
        return
    try:
        files.write(f"{directory}/cgroup.subtree_control", " ".join(f"+{name}" for name in controllers))
    except OSError as error:
        if error.errno == errno.EBUSY and is_top and os.path.exists(f"{directory}/cgroup.type"):
            # In a container with its own cgroup namespace the root of the hierarchy is an ordinary cgroup (only those have cgroup.type)
            # with processes in it, this one among them, and may not share out controllers. The processes move to a leaf, as in dind.
            _evacuate(directory)
            _enable(directory, controllers, required, is_top=False)
        elif len(controllers) > 1:
            for name in controllers:  # a controller that cannot be had here must not keep the others off
                _enable(directory, [name], required, is_top=is_top)
        elif controllers[0] in required:
            raise
        # else: no limit asks for this controller


def _evacuate(directory: str) -> None:
    leaf = f"{directory}/init"
    _make_parent(leaf)
    for _ in range(_EVACUATION_ROUNDS):  # processes fork meanwhile
        pids = files.read(f"{directory}/cgroup.procs").split()
        if not pids:
            return
        for pid in pids:
            if pid == "0":
                continue  # 0 is a process of another pid namespace; written back, 0 would mean this process
            try:
                files.write(f"{leaf}/cgroup.procs", pid)
            except ProcessLookupError:
                continue
    raise OSError(errno.EBUSY, f"cannot share out controllers in `{directory}`: it keeps having processes of its own")


def _write_limits(writes: Sequence[Sequence[Any]]) -> None:
    """Write in order, but put off what the kernel calls invalid: memory and memsw, quota, period and burst limit one another, so which of
    them must come first depends on the old values. A value that is invalid once the others are set is really so.
    """
    put_off = []
    for write in writes:
        try:
            _write_limit(write)
        except OSError as error:
            if error.errno != errno.EINVAL or len(writes) == 1:
                raise
            put_off.append(write)
    for write in put_off:
        _write_limit(write)


def _write_limit(write: Sequence[Any]) -> None:
    file, value, if_absent = write
    try:
        files.write(file, value)
    except FileNotFoundError:
        if if_absent == SKIP:
            return
        if if_absent == FAIL:
            raise
        files.write(*if_absent)
    except OSError as error:
        if error.errno == errno.EBUSY and file.endswith("/memory.limit_in_bytes"):
            usage = files.read(file.replace("limit_in_bytes", "usage_in_bytes")).strip()
            peak = files.read(file.replace("limit_in_bytes", "max_usage_in_bytes")).strip()
            text = f"unable to set memory limit to {value} (current usage: {usage}, peak usage: {peak})"
            raise OSError(errno.EBUSY, text) from None
        raise


def _check_usage(change: Plan, limit: int) -> None:
    if limit <= 0 or change["oom_file"] is None:
        return
    directory = os.path.dirname(change["oom_file"])
    is_v2 = directory == change["unified_directory"]
    usage = int(files.read(f"{directory}/{'memory.current' if is_v2 else 'memory.usage_in_bytes'}"))
    if limit < usage:
        raise OSError(errno.EBUSY, f"unable to set memory limit to {limit} (current usage: {usage})")


def _filter_devices(directory: str, rules: Sequence[bpf.DeviceRule]) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        bpf.attach_device_program(fd, bpf.device_program(rules))
    finally:
        os.close(fd)
