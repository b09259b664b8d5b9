"""Deadlines of many things, with one timer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from teul.linux.loop import Loop
from teul.network.agent.program.deadlines import Deadlines


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class LoopWithoutTime(Loop):
    """Keeps what is to be called later, for the test to call."""

    def __init__(self) -> None:
        super().__init__(lambda _owner, error: pytest.fail(str(error)))
        self.later: list[tuple[float, Callable[..., None]]] = []

    def call_later(self, delay_seconds: float, method: Callable[..., None], *arguments: object) -> None:
        self.later.append((delay_seconds, method))


@pytest.fixture
def loop() -> LoopWithoutTime:
    return LoopWithoutTime()


def test_what_is_not_removed_in_time_expires_in_order(loop: LoopWithoutTime) -> None:
    clock, expired = Clock(), list[str]()
    deadlines = Deadlines(loop, 4.0, expired.append, clock=clock)
    for name in ("first", "second", "third", "fourth"):
        deadlines.set(name)
        clock.now += 1.0
    deadlines.remove("second")
    deadlines.set("first")  # once more, at 104
    assert len(loop.later) == 1
    clock.now = 106.5
    loop.later.pop()[1]()
    assert expired == ["third"]
    [(delay, look)] = loop.later
    assert delay == pytest.approx(0.5)
    loop.later.clear()
    clock.now = 108.5
    look()
    assert expired == ["third", "fourth", "first"]
    assert loop.later == []


def test_what_expires_may_be_given_time_again(loop: LoopWithoutTime) -> None:
    clock, expired = Clock(), list[str]()

    def expire(name: str) -> None:
        expired.append(name)
        deadlines.set(name)

    deadlines = Deadlines(loop, 4.0, expire, clock=clock)
    deadlines.set("again")
    for _ in range(3):
        clock.now += 5.0
        loop.later.pop()[1]()
    assert expired == ["again"] * 3
    assert len(loop.later) == 1


def test_nothing_that_was_removed_is_kept(loop: LoopWithoutTime) -> None:
    deadlines = Deadlines(loop, 4.0, list[int]().append, clock=Clock())
    for number in range(1000):
        deadlines.set(number)
        deadlines.remove(number)
    deadlines.remove(5)
    assert len(deadlines._due) == 0
    assert len(loop.later) == 1
