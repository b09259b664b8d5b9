"""Facts about processes, read from /proc. A process may vanish at any moment: then there is no fact, not an error."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def all_pids() -> list[int]:
    return sorted(int(name) for name in os.listdir(PROC) if name.isdigit())


def is_alive(pid: int) -> bool:
    """A zombie counts as dead: it runs nothing and holds nothing."""
    state = _stat(pid)
    return state is not None and state[0] not in {"Z", "X"}


def command_line(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def parent_of(pid: int) -> int | None:
    state = _stat(pid)
    return int(state[1]) if state else None


def started_at(pid: int) -> int | None:
    """Start time in clock ticks since boot: tells a process from a later one with the same pid."""
    state = _stat(pid)
    return int(state[19]) if state else None


def children_of(pid: int) -> list[int]:
    """Direct children, oldest first."""
    children = [(started_at(other), other) for other in all_pids() if parent_of(other) == pid]
    return [other for when, other in sorted((when, other) for when, other in children if when is not None)]


def descendants_of(pid: int) -> list[int]:
    parents = {other: parent_of(other) for other in all_pids()}
    found: list[int] = []
    queue = [pid]
    while queue:
        current = queue.pop()
        below = [other for other, parent in parents.items() if parent == current]
        found += below
        queue += below
    return sorted(found)


def mentioning(text: str) -> list[int]:
    """Processes whose command line contains `text`, never this process."""
    return [pid for pid in all_pids() if pid != os.getpid() and text in command_line(pid)]


def belonging_to(directory: str) -> list[int]:
    """Processes whose command line or environment mentions `directory`: a forked helper may have given itself another title."""
    found = set(mentioning(directory))
    for pid in all_pids():
        try:
            environment = (PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        if directory.encode() in environment and pid != os.getpid() and is_alive(pid):
            found.add(pid)
    return sorted(found)


def namespace_of(pid: int, kind: str) -> str | None:
    try:
        return os.readlink(PROC / str(pid) / "ns" / kind)
    except OSError:
        return None


def proportional_set_bytes(pid: int) -> int:
    """PSS: memory of the process with shared pages divided by the number of their sharers."""
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)


def end(pids: Iterable[int], *, timeout_seconds: float = 5.0) -> None:
    """SIGKILL each and wait until it runs no more."""
    remaining = {pid: started_at(pid) for pid in pids}
    for pid in remaining:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline and any(is_alive(pid) and started_at(pid) == since for pid, since in remaining.items()):
        time.sleep(0.02)


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on; the name before them may hold spaces and brackets."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()
