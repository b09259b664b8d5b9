"""The keeper's event loop."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from teul.linux.loop import READ, Loop


def fail(_owner: object, error: Exception) -> None:
    raise error


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_calls_that_plan_their_next_try_leave_others_their_turn(line: tuple[socket.socket, socket.socket]) -> None:
    """By the time that the last of them has tried, the first is due again: who has something to say is heard all the same."""
    near, far = line
    now = 0.0
    loop = Loop(fail, clock=lambda: now)
    heard: list[bytes] = []
    tries = 0

    def try_again() -> None:
        nonlocal tries, now
        tries += 1
        assert tries < 1000, "the loop does nothing else"
        now += 1.0  # a try takes longer than the pause after it
        loop.call_later(0.5, try_again)

    for _ in range(3):
        loop.call_later(0.0, try_again)
    loop.watch(near.fileno(), READ, lambda _events: heard.append(near.recv(1)))
    for turn in range(1, 4):
        far.send(b"x")
        loop.turn()
        assert len(heard) == turn
    assert tries > 3


def test_calls_that_are_due_are_made_in_order() -> None:
    now = 0.0
    loop = Loop(fail, clock=lambda: now)
    made: list[str] = []
    for delay, name in ((2.0, "third"), (1.0, "first"), (1.0, "second"), (9.0, "not yet")):
        loop.call_later(delay, made.append, name)
    now = 2.0
    loop.turn()
    assert made == ["first", "second", "third"]
