"""When the keeper's children are reaped: real processes, and a clock that the test sets."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from teul.linux.loop import Loop
from teul.runtime.keeper.children import Children


def _raise(_owner: object, error: Exception) -> None:
    raise error


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.loop = Loop(_raise, clock=lambda: self.now)

    def let_pass(self, seconds: float) -> None:
        self.now += seconds
        self.loop.call_later(0.0, lambda: None)  # a loop with nothing to do would wait for ever
        self.loop.turn()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fork() -> Iterator[Callable[[], int]]:
    """Forks a process that waits to be killed."""
    made: list[int] = []

    def run() -> int:
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(1)
        made.append(pid)
        return pid

    yield run
    for pid in made:
        if _is_there(pid):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _is_there(pid: int) -> bool:
    """Whether it has not been reaped."""
    return os.path.exists(f"/proc/{pid}")


def end(pid: int) -> None:
    """Kill it, and return when it can be reaped."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_process_that_nobody_has_told_of_is_reaped_though_a_starter_is_at_work(clock: Clock, fork: Callable[[], int]) -> None:
    """A start can take as long as its container is paused; an exec that was killed half-way keeps another container from ending meanwhile."""
    children = Children(clock.loop)
    children.starting = 1
    stray, alive = fork(), fork()
    end(stray)
    children.reap()
    assert _is_there(stray), "its starter may be about to tell of it"
    clock.let_pass(1.0)
    assert _is_there(stray), "it is only known now that it has ended"
    late = fork()
    end(late)
    children.reap()
    clock.let_pass(1.0)
    assert not _is_there(stray)
    assert _is_there(late)
    clock.let_pass(1.0)
    clock.let_pass(1.0)
    assert not _is_there(late)
    assert _is_there(alive)


def test_everything_is_reaped_at_once_when_no_starter_is_at_work(clock: Clock, fork: Callable[[], int]) -> None:
    children = Children(clock.loop)
    processes = [fork(), fork()]
    for pid in processes:
        end(pid)
    children.reap()
    assert not any(map(_is_there, processes))


def test_a_process_that_is_about_to_leave_is_reaped_whatever_is_at_work(clock: Clock, fork: Callable[[], int]) -> None:
    children = Children(clock.loop)
    children.starting = 1
    leaving = fork()
    children.let_go(leaving)
    assert _is_there(leaving)
    end(leaving)
    children.reap()
    assert not _is_there(leaving)
