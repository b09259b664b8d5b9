"""The processes of a cgroup: joining, listing, freezing and killing them, and what the OOM killer did."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Generator, Iterator

from teul.linux.cgroups import files
from teul.linux.cgroups.layout import Layout
from teul.linux.cgroups.planning import Plan
from teul.linux.cgroups.steps import carry_out, pauses

_KILL_ROUNDS = 50
_LONGEST_PAUSE_SECONDS = 0.01
# How much of a cgroup one step deals with: a container may have made any number of cgroups and processes in it.
_STEP_CGROUPS = 32
_STEP_PROCESSES = 256
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
    return carry_out(_listing_processes(plan))


def _listing_processes(plan: Plan) -> Generator[float, None, list[int]]:
    pids: set[int] = set()
    for count, directory in enumerate(_subtree(_process_directory(plan)), start=1):
        if count % _STEP_CGROUPS == 0:
            yield 0.0
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
    carry_out(freezing(plan, timeout_seconds=timeout_seconds))


def freezing(plan: Plan, *, timeout_seconds: float) -> Generator[float, None, None]:
    """`freeze` in steps (see `teul.linux.cgroups.steps`)."""
    tries = pauses(timeout_seconds, longest_seconds=_LONGEST_PAUSE_SECONDS)
    while not _try_to_freeze(plan):
        pause_seconds = next(tries, None)
        if pause_seconds is None:
            thaw(plan)
            raise TimeoutError(errno.ETIMEDOUT, f"timed out waiting for `{plan['path']}` to freeze")
        yield pause_seconds


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
    carry_out(_thawing_tree(plan))


def _thawing_tree(plan: Plan) -> Generator[float, None, None]:
    if plan["freezer_file"] is not None:
        directory, name = os.path.split(plan["freezer_file"])
        for count, each in enumerate(_subtree(directory), start=1):
            _write_if_there(f"{each}/{name}", "THAWED")
            if count % _STEP_CGROUPS == 0:
                yield 0.0
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
    carry_out(killing(plan))


def killing(plan: Plan) -> Generator[float, None, None]:
    """`kill` in steps (see `teul.linux.cgroups.steps`)."""
    if plan["unified_directory"] is not None:
        try:
            files.write(f"{plan['unified_directory']}/cgroup.kill", "1")  # kernel: since 5.14
        except OSError as error:
            if error.errno not in _GONE:
                raise
            if not os.path.exists(plan["unified_directory"]):
                return
        else:
            yield from _thawing_tree(plan)
            return
    yield from _killing_frozen(plan)


def oom_kills(plan: Plan) -> int:
    """How many processes of the cgroup and of those below it the OOM killer has killed; 0 without a memory controller."""
    return carry_out(counting_oom_kills(plan))


def counting_oom_kills(plan: Plan) -> Generator[float, None, int]:
    """`oom_kills` in steps (see `teul.linux.cgroups.steps`)."""
    file = plan["oom_file"]
    if file is None:
        return 0
    directory, name = os.path.split(file)
    kills = 0
    try:
        if directory == plan["unified_directory"]:
            return files.keyed(files.read(file), "oom_kill")  # counts those below too
        for count, each in enumerate(_subtree(directory), start=1):
            kills += files.keyed(files.read(f"{each}/{name}"), "oom_kill")
            if count % _STEP_CGROUPS == 0:
                yield 0.0
    except FileNotFoundError:
        if os.path.exists(directory):
            return 0  # the memory controller is not enabled for the cgroup
        raise
    return kills


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


def _try_to_freeze(plan: Plan) -> bool:
    """Ask for it, and see whether all stand still. To be asked again until they do."""
    directory = plan["unified_directory"]
    if directory is not None:
        files.write(f"{directory}/cgroup.freeze", "1")
        return bool(files.keyed(files.read(f"{directory}/cgroup.events"), "frozen"))
    file = _freezer(plan)
    # kernel: a process that forks at the wrong moment leaves the state at FREEZING; writing again catches it.
    files.write(file, "FROZEN")
    return files.read(file).strip() == "FROZEN"


def _freezer(plan: Plan) -> str:
    if plan["freezer_file"] is None:
        raise OSError(errno.ENOENT, f"cannot freeze `{plan['path']}`: this host has no `freezer` cgroup controller")
    return plan["freezer_file"]


def _killing_frozen(plan: Plan) -> Generator[float, None, None]:
    """Signal every process that is listed while none can fork, until a round finds none that was not signalled before."""
    directory = _process_directory(plan)
    signalled: set[int] = set()
    for _ in range(_KILL_ROUNDS):
        if not os.path.exists(directory):
            return
        yield from _holding_still(plan)
        new = [pid for pid in (yield from _listing_processes(plan)) if pid not in signalled]
        for count, pid in enumerate(new, start=1):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            if count % _STEP_PROCESSES == 0:
                yield 0.0
        signalled.update(new)
        yield from _thawing_tree(plan)
        if not new:
            return
    raise OSError(errno.EBUSY, f"processes of `{plan['path']}` fork faster than they can be killed")


def _holding_still(plan: Plan) -> Generator[float, None, None]:
    try:
        yield from freezing(plan, timeout_seconds=0.5)
    except TimeoutError:
        return  # a process in uninterruptible sleep holds the rest up; signalling running processes only takes more rounds
    except OSError as error:
        if error.errno not in _GONE:
            raise
