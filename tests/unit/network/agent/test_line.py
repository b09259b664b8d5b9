"""What an engine takes for an answer of its agent's: whoever is at the other end, it is not harmed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from teul.linux.seqpacket import send_message
from teul.network.agent.line import AgentLine, LineLost


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


async def test_answers_come_in_the_order_of_the_orders(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    line = AgentLine(ours, on_loss=lambda: None)
    asked = [asyncio.ensure_future(line.ask({"order": "list"})) for _ in range(2)]
    await asyncio.sleep(0)
    send_message(theirs, {"containers": ["a"], "networks": []}, [])
    send_message(theirs, {"error": "Refused: no"}, [])
    assert await asked[0] == {"containers": ["a"], "networks": []}
    assert await asked[1] == {"error": "Refused: no"}
    line.close()


@pytest.mark.parametrize(
    "message",
    [[], "text", 7, None, {"error": 7}, {"containers": "a"}, {"containers": [["a"]]}, {"networks": {"a": "b"}}, {"relays": 7}],
    ids=str,
)
async def test_what_is_no_answer_ends_the_line(ends: tuple[socket.socket, socket.socket], message: Any) -> None:
    ours, theirs = ends
    lost: list[bool] = []
    line = AgentLine(ours, on_loss=lambda: lost.append(True))
    asked = asyncio.ensure_future(line.ask({"order": "list"}))
    await asyncio.sleep(0)
    theirs.send(json.dumps(message).encode())
    with pytest.raises(LineLost):
        await asked
    assert lost == [True]
    assert not line.is_open


async def test_what_nobody_asked_for_ends_the_line_and_its_descriptors_are_closed(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    lost = asyncio.Event()
    AgentLine(ours, on_loss=lost.set)
    reading, writing = os.pipe()
    send_message(theirs, {"containers": []}, [writing])
    os.close(writing)
    async with asyncio.timeout(5):
        await lost.wait()
    assert os.read(reading, 1) == b"", "nobody has the other end any more"
    os.close(reading)


@pytest.mark.parametrize("wanted", [True, False])
async def test_descriptors_are_for_who_asks_for_them_and_closed_for_who_does_not(
    ends: tuple[socket.socket, socket.socket], wanted: bool
) -> None:
    ours, theirs = ends
    line = AgentLine(ours, on_loss=lambda: None)
    order: Any = {"order": "relay socket", "id": "tcp/80/::"}
    asked = asyncio.ensure_future(line.ask_for_descriptors(order) if wanted else line.ask(order))
    await asyncio.sleep(0)
    reading, writing = os.pipe()
    send_message(theirs, {"relays": ["tcp/80/::"]}, [writing])
    os.close(writing)
    answer = await asked
    if wanted:
        assert isinstance(answer, tuple)
        [received] = answer[1]
        os.write(received, b"!")
        os.close(received)
        assert os.read(reading, 1) == b"!"
    assert os.read(reading, 1) == b"", "nobody has the other end any more"
    os.close(reading)
    line.close()


async def test_descriptors_for_who_has_gone_are_closed(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    line = AgentLine(ours, on_loss=lambda: None)
    asked = asyncio.ensure_future(line.ask_for_descriptors({"order": "relay socket", "id": "tcp/80/::"}))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    send_message(theirs, {"relays": []}, [writing])
    os.close(writing)
    for _ in range(3):
        await asyncio.sleep(0)
    assert os.read(reading, 1) == b""
    os.close(reading)
    line.close()


RESOLVED = {"resolved": "example.org", "number": 3, "container": "c", "addresses": [["192.0.2.1", 60]]}


async def test_what_was_resolved_is_heard_among_answers(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    heard: list[Any] = []
    line = AgentLine(ours, on_loss=lambda: None, on_resolved=lambda _line, told: heard.append(told))
    asked = asyncio.ensure_future(line.ask({"order": "report", "id": "c"}))
    await asyncio.sleep(0)
    send_message(theirs, RESOLVED, [])
    send_message(theirs, {"names": {"example.org": {"192.0.2.1": 60}}, "refused": {"evil.org": 2}}, [])
    assert (await asked)["refused"] == {"evil.org": 2}
    assert heard == [RESOLVED]
    line.close()


@pytest.mark.parametrize(
    "message",
    [
        *(
            {**RESOLVED, **wrong}
            for wrong in ({"resolved": 7}, {"resolved": "x" * 256}, {"number": "3"}, {"number": True}, {"container": None})
        ),
        *(
            {**RESOLVED, "addresses": wrong}
            for wrong in ("x", [7], [["192.0.2.1"]], [["192.0.2.1", "60"]], [[1, 60]], [["192.0.2.1", 60]] * 65)
        ),
        {**RESOLVED, "more": 1},
        {"resolved": "example.org"},
        {"names": []},
        {"names": {"a": {"192.0.2.1": "60"}}},
        {"refused": {"a": -1}},
    ],
    ids=lambda message: str(message)[:60],
)
async def test_what_is_neither_ends_the_line(ends: tuple[socket.socket, socket.socket], message: Any) -> None:
    ours, theirs = ends
    lost = asyncio.Event()
    AgentLine(ours, on_loss=lost.set, on_resolved=lambda _line, _told: pytest.fail("heard"))
    theirs.send(json.dumps(message).encode())
    async with asyncio.timeout(5):
        await lost.wait()
