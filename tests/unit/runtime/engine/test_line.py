"""The engine's line to its keeper, with a test at the other end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from typing import cast

import pytest

from teul.linux.seqpacket import receive_message, send_message
from teul.runtime.engine import line as module
from teul.runtime.engine.line import KeeperLine
from teul.runtime.messages import HERE, STAYING, Request

REQUEST = cast("Request", {"launch": {"directory": "x" * 1000}})


class Far:
    """The keeper's end."""

    def __init__(self) -> None:
        self.near, self.socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.line = KeeperLine(cast("subprocess.Popen[bytes]", None), self.near)

    def read(self) -> object:
        received = receive_message(self.socket)
        assert received is not None
        return received[0]


@pytest.fixture
async def far() -> AsyncIterator[Far]:
    far = Far()
    yield far
    far.line.close()
    far.socket.close()


async def some_turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_busy_keeper_is_waited_for_by_event(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests keep their order, and nothing is tried again before there is room."""
    tries = 0

    def send(*arguments: object) -> None:
        nonlocal tries
        tries += 1
        send_message(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "send_message", send)
    requests = [cast("Request", {"launch": {"id": str(number), "directory": "x" * 1000}}) for number in range(30)]
    sending = [asyncio.ensure_future(far.line.send(request, [])) for request in requests]
    await some_turns()
    assert 0 < sum(task.done() for task in sending) < 30
    before = tries
    await some_turns()
    assert tries == before
    read = []
    for _ in requests:
        read.append(far.read())
        await some_turns()
    assert read == requests
    assert all(task.done() for task in sending)


async def test_whoever_gives_up_waiting_leaves_the_others_their_turn(far: Far) -> None:
    sending = [asyncio.ensure_future(far.line.send(REQUEST, [])) for _ in range(30)]
    await some_turns()
    first_waiting = next(task for task in sending if not task.done())
    first_waiting.cancel()
    await some_turns()
    for _ in range(29):
        assert far.read() == REQUEST
        await some_turns()
    assert [task.cancelled() for task in sending].count(True) == 1
    assert all(task.done() for task in sending)


async def test_what_waits_when_the_line_is_closed_finds_that_out(far: Far) -> None:
    sending = [asyncio.ensure_future(far.line.send(REQUEST, [])) for _ in range(30)]
    await some_turns()
    asking = asyncio.ensure_future(far.line.ask())
    await some_turns()
    far.line.close()
    results = await asyncio.gather(*sending, asking, return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[29], OSError)
    assert isinstance(results[30], OSError)


async def test_any_word_is_an_answer(far: Far) -> None:
    asking = [asyncio.ensure_future(far.line.ask()) for _ in range(2)]
    await some_turns()
    assert not any(task.done() for task in asking)
    assert far.read() == {"question": "are you there"}
    far.socket.send(HERE)
    await some_turns()
    assert all(task.done() for task in asking)
    again = asyncio.ensure_future(far.line.ask())
    await some_turns()
    assert not again.done()
    far.socket.close()
    await some_turns()
    assert again.done()
    await far.line.ask()  # who is gone has nothing more to say


async def test_a_keeper_that_stays_says_so(far: Far) -> None:
    """After answers that nobody waited for."""
    far.socket.send(HERE)
    parting = asyncio.ensure_future(far.line.part())
    await some_turns()
    assert not parting.done()
    far.socket.send(STAYING)
    await some_turns()
    assert parting.done()
