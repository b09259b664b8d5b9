"""The processes of a cgroup: joining, listing, freezing and killing them, and what the OOM killer did."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Iterator

from teul.linux.cgroups import files
from teul.linux.cgroups.layout import Layout
from teul.linux.cgroups.planning import Plan

_KILL_ROUNDS = 50
# kernel: what a file of a cgroup says that is being removed: ENODEV if it was open by then.
_GONE = frozenset({errno.ENOENT, errno.ENODEV})


def join(plan: Plan, *, unified: bool = True) -> None:
    """Move the calling thread, which must be its process's only one, into the cgroup.

    `unified` False leaves out the v2 hierarchy, for a process that was born there (CLONE_INTO_CGROUP): entering it by writing waits
    10 to 20 ms for a lock of the kernel, as v1's cgroup.procs does; v1's `tasks` does not.
    """
    for file in plan["join"]:
        files.write(file, "0")
    if unified and plan["unified_directory"] is not None:
        files.write(f"{plan['unified_directory']}/cgroup.procs", "0")


def leave(layout: Layout) -> list[OSError]:
    """Move the calling thread, which must be its process's only one, to the top of every hierarchy; returns what was refused.

    kernel: the top of a v2 hierarchy that a cgroup namespace shows is an ordinary cgroup, and takes no processes (EBUSY) when its
    controllers were handed to those below.
    """
    # The v2 hierarchy last, and only if need be: entering it by writing waits for a lock of the kernel, as `join` says.
    wanted = [f"{hierarchy}/tasks" for hierarchy in layout.hierarchies]
    if layout.unified is not None and "0::/" not in files.read("/proc/self/cgroup").splitlines():
        wanted.append(f"{layout.unified}/cgroup.procs")
    failures = []
    for file in wanted:
        try:
            files.write(file, "0")
        except OSError as error:
            failures.append(error)
    return failures


def processes(plan: Plan) -> list[int]:
    """The pids of all processes in the cgroup and in cgroups below it, as this process's pid namespace numbers them."""
    pids: set[int] = set()
    for directory in _subtree(_process_directory(plan)):
        try:
            text = files.read(f"{directory}/cgroup.procs")
        except OSError as error:
            # The cgroup is gone meanwhile, or threaded: then its processes are listed in the domain above it.
            if error.errno not in {errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP}:
                raise
            continue
        pids.update(int(line) for line in text.split())
    return sorted(pids)


def freeze(plan: Plan, *, timeout_seconds: float = 10.0) -> None:
    """Stop all processes of the cgroup and wait until they stand still. On `TimeoutError` they run on.

    A frozen process can be killed where the unified hierarchy froze it; with v1's freezer, `thaw` must follow the signal.
    """
    deadline = time.monotonic() + timeout_seconds
    try:
        if plan["unified_directory"] is not None:
            _freeze_unified(plan["unified_directory"], deadline)
        else:
            _freeze_v1(_freezer(plan), deadline)
    except TimeoutError:
        thaw(plan)
        raise


def thaw(plan: Plan) -> None:
    """Let all processes of the cgroup run again. Idempotent."""
    if plan["unified_directory"] is not None:
        files.write(f"{plan['unified_directory']}/cgroup.freeze", "0")
    else:
        files.write(_freezer(plan), "THAWED")


def thaw_tree(plan: Plan) -> None:
    """Let all processes of the cgroup and of those below it run again, whoever froze them and by whichever hierarchy. Idempotent.

    kernel: what v1's freezer holds, also in a cgroup that the container made for itself, does not die of SIGKILL before it is thawed.
    """
    if plan["freezer_file"] is not None:
        directory, name = os.path.split(plan["freezer_file"])
        for each in _subtree(directory):
            _write_if_there(f"{each}/{name}", "THAWED")
    if plan["unified_directory"] is not None:
        _write_if_there(f"{plan['unified_directory']}/cgroup.freeze", "0")


def is_frozen(plan: Plan) -> bool:
    """Whether the cgroup was frozen, by `freeze` or as `freeze` does it. Raises FileNotFoundError when it is gone."""
    if plan["unified_directory"] is not None:
        return files.read(f"{plan['unified_directory']}/cgroup.freeze").strip() == "1"
    # Not freezer.state: that one also tells of a frozen cgroup above.
    return files.read(f"{os.path.dirname(_freezer(plan))}/freezer.self_freezing").strip() == "1"


def _write_if_there(file: str, value: str) -> None:
    """Write to a file of a cgroup that may have just been removed."""
    try:
        files.write(file, value)
    except OSError as error:
        if error.errno not in _GONE:
            raise


def kill(plan: Plan) -> None:
    """Send SIGKILL to every process of the cgroup, those forked meanwhile included. Does not wait for their end. Idempotent."""
    if plan["unified_directory"] is not None:
        try:
            files.write(f"{plan['unified_directory']}/cgroup.kill", "1")  # kernel: since 5.14
        except OSError as error:
            if error.errno not in _GONE:
                raise
            if not os.path.exists(plan["unified_directory"]):
                return
        else:
            thaw_tree(plan)
            return
    _kill_frozen(plan)


def oom_kills(plan: Plan) -> int:
    """How many processes of the cgroup and of those below it the OOM killer has killed; 0 without a memory controller."""
    file = plan["oom_file"]
    if file is None:
        return 0
    directory, name = os.path.split(file)
    try:
        if directory == plan["unified_directory"]:
            return files.keyed(files.read(file), "oom_kill")  # counts those below too
        return sum(files.keyed(files.read(f"{each}/{name}"), "oom_kill") for each in _subtree(directory))
    except FileNotFoundError:
        if os.path.exists(directory):
            return 0  # the memory controller is not enabled for the cgroup
        raise


def _process_directory(plan: Plan) -> str:
    """The directory that lists the cgroup's processes. Any hierarchy lists all; v1's tools inside cannot leave the unified one."""
    if plan["unified_directory"] is not None:
        return plan["unified_directory"]
    if not plan["directories"]:
        raise OSError(errno.ENOENT, f"no cgroup hierarchy is mounted for `{plan['path']}`")
    return plan["directories"][0]


def _subtree(directory: str) -> Iterator[str]:
    """The cgroup and all below it, each before its children."""
    yield directory
    try:
        if os.stat(directory).st_nlink <= 2:  # cgroupfs counts subdirectories here: this spares reading 60 names
            return
        with os.scandir(directory) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for child in children:
        yield from _subtree(child)


def _freeze_unified(directory: str, deadline: float) -> None:
    files.write(f"{directory}/cgroup.freeze", "1")
    fd = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)  # raised at every change of the file since it was last read
        while not files.keyed(os.pread(fd, 4096, 0).decode(), "frozen"):
            left_seconds = deadline - time.monotonic()
            if left_seconds <= 0:
                raise TimeoutError(errno.ETIMEDOUT, f"timed out waiting for `{directory}` to freeze")
            poll.poll(left_seconds * 1000)
    finally:
        os.close(fd)


def _freeze_v1(file: str, deadline: float) -> None:
    pause_seconds = 0.0001
    while True:
        # kernel: a process that forks at the wrong moment leaves the state at FREEZING; writing again catches it.
        files.write(file, "FROZEN")
        if files.read(file).strip() == "FROZEN":
            return
        if time.monotonic() >= deadline:
            raise TimeoutError(errno.ETIMEDOUT, f"timed out waiting for `{file}` to become FROZEN")
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, 0.01)


def _freezer(plan: Plan) -> str:
    if plan["freezer_file"] is None:
        raise OSError(errno.ENOENT, f"cannot freeze `{plan['path']}`: this host has no `freezer` cgroup controller")
    return plan["freezer_file"]


def _kill_frozen(plan: Plan) -> None:
    """Signal every process that is listed while none can fork, until a round finds none that was not signalled before."""
    directory = _process_directory(plan)
    signalled: set[int] = set()
    for _ in range(_KILL_ROUNDS):
        if not os.path.exists(directory):
            return
        _hold_still(plan)
        new = [pid for pid in processes(plan) if pid not in signalled]
        for pid in new:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        signalled.update(new)
        thaw_tree(plan)
        if not new:
            return
    raise OSError(errno.EBUSY, f"processes of `{plan['path']}` fork faster than they can be killed")


def _hold_still(plan: Plan) -> None:
    try:
        freeze(plan, timeout_seconds=0.5)
    except TimeoutError:
        return  # a process in uninterruptible sleep holds the rest up; signalling running processes only takes more rounds
    except OSError as error:
        if error.errno not in _GONE:
            raise
