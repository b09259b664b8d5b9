"""The keeper's children: which monitor has which, which are about to leave, and when an ended one may be reaped.

All that have ended must be reaped soon: a zombie in a container's pid namespace keeps the namespace's first process from ending.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from teul.linux import process

if TYPE_CHECKING:
    from teul.linux.loop import Loop
    from teul.runtime.keeper.monitor import Monitor

# How long a starter may take to tell of a process that it has started and that has ended already. It takes microseconds.
_UNTOLD_SECONDS = 1.0


class Children:
    """Of one keeper. `starting` is how many starters are at work."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._by_pid: dict[int, Monitor] = {}
        self._leaving: set[int] = set()  # end soon, and nobody needs their status
        self._untold: set[int] = set()  # had ended when we last looked, and nobody has told of them
        self._look_is_due = False
        self.starting = 0

    def know(self, monitor: Monitor, pid: int) -> None:
        """The process `pid` is this monitor's, which is to have its status."""
        monitor.pid = pid
        self._by_pid[pid] = monitor

    def monitor_of(self, pid: int) -> Monitor | None:
        return self._by_pid.get(pid)

    def disown(self, pid: int) -> Monitor | None:
        """Whose the process was until now. Without a status that somebody has taken, it is to be reaped by `let_go`."""
        return self._by_pid.pop(pid, None)

    def expect_end(self, pid: int) -> None:
        """The process will end by itself."""
        self._leaving.add(pid)

    def let_go(self, pid: int) -> None:
        """Reap a process whose status nobody needs: now, or when it has ended."""
        self._leaving.add(pid)
        try:
            ended, _status = _status_of(pid)
        except ChildProcessError:
            ended = pid
        if ended:
            self._leaving.discard(pid)

    def reap(self) -> None:
        """Reap all that have ended; while a starter is at work, those of which nobody has told a little later.

        One of those may be the process that the starter has just started, and which its pid must still name when the starter tells of
        it. But a starter may be at work for as long as a container is paused.
        """
        for pid in list(self._leaving):
            self.let_go(pid)
        if self.starting:
            self._plan_look()
            return
        self._untold.clear()
        while True:
            try:
                pid, status = _status_of(-1)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._leaving.discard(pid)
            if pid in self._by_pid:
                self._by_pid[pid].status = status

    def _plan_look(self) -> None:
        if not self._look_is_due:
            self._look_is_due = True
            self._loop.call_later(_UNTOLD_SECONDS, self._look)

    def _look(self) -> None:
        self._look_is_due = False
        if not self.starting:
            return  # all were reaped when that came to be so
        every = process.children_of(os.getpid())
        if not every:  # not so while a starter is at work: no descriptor was free to find out
            self._plan_look()
            return
        ended = {pid for pid in every if pid not in self._by_pid and pid not in self._leaving and _has_ended(pid)}
        for pid in ended & self._untold:
            self.let_go(pid)
        self._untold = ended - self._untold
        if self._untold:
            self._plan_look()


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _status_of(pid: int) -> tuple[int, int]:
    """waitpid(2), without waiting, for an end.

    A child that has asked to be traced by its parent is reported when it stops for a signal, too, and would wait for its tracer for ever.
    """
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if not found or not os.WIFSTOPPED(status):
            return found, status
        try:
            process.stop_tracing(found, os.WSTOPSIG(status))
        except ProcessLookupError:
            continue  # killed meanwhile: its end comes next
