"""What the agent tells the engine of names that policies allow, and when the container is told."""

from __future__ import annotations

import pytest

from teul.linux.loop import Loop
from teul.network.agent.messages import Resolved
from teul.network.agent.program.reports import MAX_PENDING, Known, Reports

ADDRESSES = [("192.0.2.1", 300)]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def loop() -> Loop:
    def fail(_owner: object, error: Exception) -> None:
        raise error

    return Loop(fail)


def test_an_answer_waits_for_the_engine_and_is_known_then(loop: Loop) -> None:
    reports, known = Reports(loop), Known()
    sent: list[Resolved] = []
    done: list[bool] = []
    reports.attend(sent.append)
    reports.tell("c", "example.org", [("192.0.2.1", 5), ("192.0.2.2", 10**9)], known, done.append)
    assert sent == [{"resolved": "example.org", "number": 1, "container": "c", "addresses": [("192.0.2.1", 30), ("192.0.2.2", 86400)]}]
    assert done == []
    reports.finish(7, is_allowed=True)
    reports.finish(1, is_allowed=True)
    reports.finish(1, is_allowed=False)
    assert done == [True]
    assert set(known.names()["example.org"]) == {"192.0.2.1", "192.0.2.2"}


def test_what_the_engine_does_not_allow_is_not_known(loop: Loop) -> None:
    reports, known = Reports(loop), Known()
    done: list[bool] = []
    reports.attend(lambda _message: None)
    reports.tell("c", "example.org", ADDRESSES, known, done.append)
    reports.finish(1, is_allowed=False)
    assert (done, known.names()) == ([False], {})


def test_without_an_engine_what_is_allowed_yet_is_told_and_the_rest_waits_for_the_next_engine(loop: Loop) -> None:
    reports, clock = Reports(loop), Clock()
    done: list[bool] = []
    known = Known(clock=clock)
    known.note("example.org", ADDRESSES)
    reports.tell("c", "example.org", ADDRESSES, known, done.append)
    assert done == [True]
    clock.now = 301
    reports.tell("c", "example.org", ADDRESSES, known, done.append)
    assert done == [True]
    sent: list[Resolved] = []
    reports.attend(sent.append)
    assert [each["number"] for each in sent] == [1]
    reports.attend(None)
    reports.finish(1, is_allowed=True)
    assert done == [True, True]


def test_without_an_engine_an_answer_is_a_failure_in_the_end(loop: Loop) -> None:
    reports = Reports(loop, wait_seconds=0.0)
    done: list[bool] = []
    reports.tell("c", "example.org", ADDRESSES, Known(), done.append)
    while not done:
        loop.turn()
    assert done == [False]


def test_so_many_wait_and_no_more(loop: Loop) -> None:
    reports = Reports(loop)
    done: list[bool] = []
    for _ in range(MAX_PENDING):
        reports.tell("c", "example.org", ADDRESSES, Known(), lambda _is_allowed: None)
    reports.tell("c", "example.org", ADDRESSES, Known(), done.append)
    assert done == [False]


def test_names_are_remembered_up_to_a_bound_and_counted() -> None:
    clock = Clock()
    known = Known(clock=clock)
    for number in range(600):
        known.note(f"n{number}.org", ADDRESSES)
        known.refuse(f"n{number}.org")
    known.refuse("n599.org")
    assert len(known.names()) == len(known.refused()) == 512
    assert known.refused()["n599.org"] == 2
    assert "n0.org" not in known.names()
    clock.now = 1000
    assert known.names()["n599.org"] == {"192.0.2.1": 0}, "it is over, and may still be in use"
    known.note("many.org", [(f"192.0.{number // 256}.{number % 256}", 60) for number in range(600)])
    assert len(known.names()["many.org"]) == 512
