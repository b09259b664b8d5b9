"""Attach and exec over raw connections: nothing lost, nobody cut, nothing kept without bound."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections.abc import Awaitable
from typing import Any

import aiohttp
import pytest

from teul.errors import Conflict
from teul.model.container import Container
from teul.model.log import LogEntry
from teul.wire.stdcopy import Demultiplexer, frame
from unit.api.fake_services import NOW_NS, RUNNING, FakeAttachment, make_container
from unit.api.served_api import Api, until

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
ATTACH = "stream=1&stdin=1&stdout=1&stderr=1"


def head(path: str, headers: str = UPGRADE, body: bytes = b"") -> bytes:
    length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"POST {path} HTTP/1.1\r\nHost: docker\r\n{headers}{length}\r\n".encode() + body


async def read_head(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(2):
        return (await reader.readuntil(b"\r\n\r\n")).decode()


async def read_all(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        return await reader.read()


def interactive(api: Api, *, tty: bool = False, stdin_once: bool = True) -> tuple[Container, FakeAttachment]:
    """A container that takes input, and its process."""
    container = api.services.containers.add(make_container())
    container.config.open_stdin = True
    container.config.stdin_once = stdin_once
    container.config.tty = tty
    attachment = api.services.containers.attachments[container.id] = FakeAttachment(terminal=tty, stdin_once=stdin_once)
    return container, attachment


async def soon(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, 5)


async def test_an_upgrade_is_answered_in_dockerds_words(api: Api) -> None:
    _, attachment = interactive(api)
    reader, writer = await api.connect()
    writer.write(head(f"/v1.51/containers/box/attach?{ATTACH}"))
    assert await read_head(reader) == (
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    )
    attachment.feed((1, b"out\n"), (2, b"err\n"))
    attachment.end()
    assert Demultiplexer().feed(await read_all(reader)) == [(1, b"out\n"), (2, b"err\n")]
    assert attachment.closed.is_set()
    writer.close()


async def test_without_an_upgrade_the_stream_follows_a_plain_answer(api: Api) -> None:
    _, attachment = interactive(api)
    reader, writer = await api.connect()
    writer.write(head(f"/containers/box/attach?{ATTACH}", headers=""))
    assert await read_head(reader) == "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
    attachment.feed((1, b"out\n"))
    attachment.end()
    assert await read_all(reader) == frame(1, b"out\n")
    writer.close()


@pytest.mark.parametrize(("path", "tty"), [("/v1.41/containers/box/attach", False), ("/v1.51/containers/box/attach", True)])
async def test_old_clients_and_terminals_are_told_raw(api: Api, path: str, tty: bool) -> None:
    _, attachment = interactive(api, tty=tty)
    reader, writer = await api.connect()
    writer.write(head(f"{path}?{ATTACH}"))
    assert "Content-Type: application/vnd.docker.raw-stream\r\n" in await read_head(reader)
    attachment.feed((1, b"out"))
    attachment.end()
    assert await read_all(reader) == (b"out" if tty else frame(1, b"out"))
    writer.close()


@pytest.mark.parametrize("headers", [UPGRADE, ""])
@pytest.mark.parametrize("step", [1, 7, 10_000])
async def test_bytes_sent_behind_the_request_are_not_lost(api: Api, headers: str, step: int) -> None:
    """Whether they come in the request's packet or its head comes byte by byte."""
    _, attachment = interactive(api)
    reader, writer = await api.connect()
    wire = head(f"/containers/box/attach?{ATTACH}", headers) + b"early\n"
    for at in range(0, len(wire), step):
        writer.write(wire[at : at + step])
        await asyncio.sleep(0)
    await read_head(reader)
    writer.write(b"late\n")
    writer.write_eof()
    await soon(attachment.stdin_closed.wait())
    assert bytes(attachment.stdin) == b"early\nlate\n"
    attachment.end()
    await read_all(reader)
    writer.close()


@pytest.mark.parametrize("headers", [UPGRADE, ""])
async def test_bytes_behind_a_request_with_a_body_are_not_lost(api: Api, headers: str) -> None:
    identifier = await make_exec(api, AttachStdin=True)
    attachment = api.services.execs.attachments[identifier]
    reader, writer = await api.connect()
    body = json.dumps({"Detach": False, "Tty": False}).encode()
    wire = head(f"/v1.51/exec/{identifier}/start", headers, body) + b"early"
    writer.write(wire[: -len(body)])
    await asyncio.sleep(0.01)
    writer.write(wire[-len(body) :])
    await read_head(reader)
    writer.write_eof()
    await soon(attachment.stdin_closed.wait())
    assert bytes(attachment.stdin) == b"early"
    attachment.end()
    await read_all(reader)
    writer.close()


async def test_everything_sent_at_once_with_the_end_of_input(api: Api) -> None:
    """`printf … | nc -N`: the client's side is closed before the request has been looked at."""
    _, attachment = interactive(api)
    reader, writer = await api.connect()
    writer.write(head(f"/containers/box/attach?{ATTACH}", "") + b"all\n")
    writer.write_eof()
    await soon(attachment.stdin_closed.wait())
    attachment.feed((1, b"answer"))
    attachment.end()
    await read_head(reader)
    assert await read_all(reader) == frame(1, b"answer")
    assert bytes(attachment.stdin) == b"all\n"
    writer.close()


async def test_output_waits_until_the_answer_was_read(api: Api) -> None:
    """docker-py loses what its HTTP library reads ahead of the socket it is going to take over."""
    _, attachment = interactive(api)
    attachment.feed((1, b"at once"))
    attachment.end()
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, api.socket_path)
    await loop.sock_sendall(client, head(f"/containers/box/attach?{ATTACH}"))
    await until(lambda: any(call[0] == "attach" for call in api.services.containers.calls))
    await asyncio.sleep(0.02)
    assert (await loop.sock_recv(client, 65536)).endswith(b"\r\n\r\n")
    assert await loop.sock_recv(client, 65536) == frame(1, b"at once")
    client.close()


async def test_the_end_of_input_does_not_end_the_output(api: Api) -> None:
    _, attachment = interactive(api)
    reader, writer = await api.connect()
    writer.write(head(f"/containers/box/attach?{ATTACH}"))
    await read_head(reader)
    writer.write_eof()
    await soon(attachment.stdin_closed.wait())
    attachment.feed((1, b"still here"))
    attachment.end()
    assert await read_all(reader) == frame(1, b"still here")
    writer.close()


async def test_where_stdin_stays_open_the_end_of_input_ends_the_session(api: Api) -> None:
    """docker: `echo x | docker attach` leaves a container that was not made for one client only."""
    _, attachment = interactive(api, stdin_once=False)
    reader, writer = await api.connect()
    writer.write(head(f"/containers/box/attach?{ATTACH}"))
    await read_head(reader)
    writer.write(b"x")
    writer.write_eof()
    assert await read_all(reader) == b""
    assert bytes(attachment.stdin) == b"x"
    assert not attachment.stdin_closed.is_set()
    assert attachment.closed.is_set()
    writer.close()


async def test_input_nobody_asked_for_is_dropped(api: Api) -> None:
    _, attachment = interactive(api)
    reader, writer = await api.connect()
    writer.write(head("/containers/box/attach?stream=1&stdout=1"))
    await read_head(reader)
    writer.write(b"ignored")
    writer.write_eof()
    attachment.feed((1, b"out"))
    attachment.end()
    assert await read_all(reader) == frame(1, b"out")
    assert not attachment.stdin
    assert ("attach", "box", False, True, False) in api.services.containers.calls
    writer.close()


async def test_a_process_that_closed_its_input_goes_on_talking(api: Api) -> None:
    _, attachment = interactive(api)
    attachment.refuses_input = True
    reader, writer = await api.connect()
    writer.write(head(f"/containers/box/attach?{ATTACH}"))
    await read_head(reader)
    writer.write(b"x" * 200_000)
    await writer.drain()
    attachment.feed((1, b"out"))
    attachment.end()
    assert await read_all(reader) == frame(1, b"out")
    writer.close()


async def test_a_line_to_the_process_that_fails_ends_the_session(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not read is no failure, and is the attachment's to tell; nothing else is passed over in silence."""
    _, attachment = interactive(api)

    async def fail(_data: bytes) -> None:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    monkeypatch.setattr(attachment, "write", fail)
    reader, writer = await api.connect()
    writer.write(head(f"/containers/box/attach?{ATTACH}"))
    await read_head(reader)
    writer.write(b"input")
    assert await read_all(reader) == b""
    async with asyncio.timeout(10):
        await attachment.closed.wait()
    writer.close()


async def test_a_client_that_vanishes_ends_the_session(api: Api) -> None:
    """Also one whose input had ended before: the socket tells the difference."""
    for half_closed_first in (False, True):
        _, attachment = interactive(api)
        reader, writer = await api.connect()
        writer.write(head(f"/containers/box/attach?{ATTACH}"))
        await read_head(reader)
        if half_closed_first:
            writer.write_eof()
            await soon(attachment.stdin_closed.wait())
            await asyncio.sleep(0.02)
            assert not attachment.closed.is_set()
        writer.close()
        await soon(attachment.closed.wait())


async def test_input_that_breaks_off_is_not_taken_for_complete(api: Api) -> None:
    """The connection is lost without the client having ended its side."""
    _, attachment = interactive(api)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, api.socket_path)
        await loop.sock_sendall(connection, head(f"/containers/box/attach?{ATTACH}") + b"half a scr")
        # What comes and is not read makes the end of this socket a reset, not an end of file (unix(7)).
        assert await soon(loop.sock_recv(connection, 5)) == b"HTTP/"
        await until(lambda: bytes(attachment.stdin) == b"half a scr")
    await soon(attachment.closed.wait())
    assert (attachment.input_cut, attachment.stdin_closed.is_set()) == (True, False)


async def test_input_whose_end_the_process_has_not_reached_is_not_complete(api: Api) -> None:
    """The client has sent all and gone; what it sent is lost here with the client."""
    _, attachment = interactive(api)
    attachment.room.clear()
    reader, writer = await api.connect()
    writer.write(head(f"/containers/box/attach?{ATTACH}") + b"all of it")
    await read_head(reader)
    writer.write(b"and more")
    writer.close()
    await soon(attachment.closed.wait())
    assert (attachment.input_cut, attachment.stdin_closed.is_set()) == (True, False)


async def test_a_slow_client_holds_up_the_output_and_gets_all_of_it(api: Api) -> None:
    _, attachment = interactive(api)
    reader, writer = await api.connect()
    writer.write(head(f"/containers/box/attach?{ATTACH}"))
    await read_head(reader)
    chunk, count = b"x" * 32_000, 100
    attachment.feed(*[(1, chunk)] * count)
    attachment.end()
    await asyncio.sleep(0.05)
    # Kernel buffers, our high-water mark, the reader's own buffer: far below what was fed.
    assert attachment.output.qsize() > count // 2
    assert len(await read_all(reader)) == count * (8 + len(chunk))
    writer.close()


async def test_a_slow_process_holds_up_the_client(api: Api) -> None:
    _, attachment = interactive(api)
    attachment.room.clear()
    reader, writer = await api.connect()
    writer.write(head(f"/containers/box/attach?{ATTACH}"))
    await read_head(reader)
    writer.transport.set_write_buffer_limits(high=1)
    data = bytes(range(256)) * 20_000
    writer.write(data)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(writer.drain(), 0.1)
    attachment.room.set()
    await asyncio.wait_for(writer.drain(), 5)
    writer.write_eof()
    await soon(attachment.stdin_closed.wait())
    assert bytes(attachment.stdin) == data
    attachment.end()
    await read_all(reader)
    writer.close()


async def test_input_that_nobody_read_does_not_cost_the_last_output(api: Api) -> None:
    """A socket that is closed with unread bytes in it resets the connection."""
    _, attachment = interactive(api)
    attachment.room.clear()
    reader, writer = await api.connect()
    writer.write(head(f"/containers/box/attach?{ATTACH}"))
    await read_head(reader)
    writer.write(b"z" * 3_000_000)
    await asyncio.sleep(0.05)
    attachment.feed((1, b"last words"))
    attachment.end()
    assert await read_all(reader) == frame(1, b"last words")
    writer.close()


async def test_early_bytes_are_held_back_only_so_far(api: Api) -> None:
    """A client that floods us before we have answered waits in its own write."""
    gate = asyncio.Event()
    real = api.services.containers.attach

    async def slow_attach(*args: Any, **options: Any) -> FakeAttachment:
        await gate.wait()
        return await real(*args, **options)

    api.services.containers.attach = slow_attach  # type: ignore[method-assign]
    _, attachment = interactive(api)
    reader, writer = await api.connect()
    writer.transport.set_write_buffer_limits(high=1)
    data = b"y" * 3_000_000
    writer.write(head(f"/containers/box/attach?{ATTACH}") + data)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(writer.drain(), 0.1)
    gate.set()
    await read_head(reader)
    await asyncio.wait_for(writer.drain(), 5)
    writer.write_eof()
    await soon(attachment.stdin_closed.wait())
    assert bytes(attachment.stdin) == data
    attachment.end()
    await read_all(reader)
    writer.close()


async def test_detach_keys_leave_a_terminal(api: Api) -> None:
    _, attachment = interactive(api, tty=True)
    reader, writer = await api.connect()
    with api.services.events.subscribe() as events:
        writer.write(head(f"/containers/box/attach?{ATTACH}&detachKeys=ctrl-a,d"))
        await read_head(reader)
        writer.write(b"ls\r\x01d")
        assert await read_all(reader) == b""
        assert bytes(attachment.stdin) == b"ls\r"
        assert attachment.closed.is_set()
        assert (await anext(events)).action == "detach"
    writer.close()


async def test_without_a_terminal_the_keys_are_data(api: Api) -> None:
    _, attachment = interactive(api)
    reader, writer = await api.connect()
    writer.write(head(f"/containers/box/attach?{ATTACH}") + b"\x10\x11")
    await until(lambda: attachment.stdin)
    assert bytes(attachment.stdin) == b"\x10\x11"
    attachment.end()
    await read_all(reader)
    writer.close()


async def test_logs_come_before_the_stream(api: Api) -> None:
    _, attachment = interactive(api)
    api.services.containers.entries = [LogEntry(1, NOW_NS, b"past\n")]
    reader, writer = await api.connect()
    writer.write(head(f"/containers/box/attach?{ATTACH}&logs=1"))
    await read_head(reader)
    attachment.feed((1, b"present\n"))
    attachment.end()
    assert await read_all(reader) == frame(1, b"past\n") + frame(1, b"present\n")
    assert not api.services.containers.log_queries[0].follow
    writer.close()


async def test_logs_alone_end_by_themselves(api: Api) -> None:
    interactive(api)
    api.services.containers.entries = [LogEntry(2, NOW_NS, b"past\n")]
    reader, writer = await api.connect()
    writer.write(head("/containers/box/attach?logs=1&stderr=1"))
    await read_head(reader)
    assert await read_all(reader) == frame(2, b"past\n")
    assert all(call[0] != "attach" for call in api.services.containers.calls)
    writer.close()


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        (f"/containers/nosuch/attach?{ATTACH}", 404, "No such container: nosuch"),
        (f"/containers/box/attach?{ATTACH}&detachKeys=ctrl-zz", 400, "Invalid detach keys (ctrl-zz) provided"),
        ("/exec/nosuch/start", 404, "No such exec instance: nosuch"),
    ],
)
@pytest.mark.parametrize("headers", [UPGRADE, ""])
async def test_a_refused_request_is_answered_as_http_and_the_connection_goes_on(
    api: Api, path: str, status: int, message: str, headers: str
) -> None:
    interactive(api)
    reader, writer = await api.connect()
    # What came behind the refused request is the next request.
    writer.write(head(path, headers) + b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n")
    first = await read_head(reader)
    assert first.startswith(f"HTTP/1.1 {status} ")
    length = int(first.lower().split("content-length: ")[1].split("\r\n")[0])
    answer = await reader.readexactly(length)
    assert answer.decode() == f"{message}\r\n" if "/attach" in path else json.loads(answer) == {"message": message}
    assert (await read_head(reader)).startswith("HTTP/1.1 200 OK")
    assert await reader.readexactly(2) == b"OK"
    writer.close()


async def test_a_connection_is_taken_over_after_it_has_served_requests(api: Api) -> None:
    _, attachment = interactive(api)
    reader, writer = await api.connect()
    for _ in range(3):
        writer.write(b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n")
        await read_head(reader)
        await reader.readexactly(2)
    writer.write(head(f"/containers/box/attach?{ATTACH}", "") + b"early")
    await read_head(reader)
    await until(lambda: attachment.stdin)
    assert bytes(attachment.stdin) == b"early"
    attachment.end()
    await read_all(reader)
    writer.close()


async def test_a_body_that_looks_like_an_attach_is_a_body(api: Api) -> None:
    """Only where a request begins is it looked at."""
    reader, writer = await api.connect()
    body = head(f"/containers/box/attach?{ATTACH}") + b"rest"
    kind = "Content-Type: application/json\r\n"
    writer.write(f"POST /containers/create HTTP/1.1\r\nHost: docker\r\n{kind}Content-Length: {len(body)}\r\n\r\n".encode())
    await asyncio.sleep(0.01)
    writer.write(body)
    await asyncio.sleep(0.01)
    writer.write(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
    answer = await read_all(reader)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"invalid JSON" in answer
    assert answer.endswith(b"OK")
    assert not api.services.containers.calls
    writer.close()


async def make_exec(api: Api, **config: Any) -> str:
    """An exec in a running container of its own."""
    api.services.containers.add(make_container(state=RUNNING))
    _, document = await api.request("POST", "/v1.51/containers/box/exec", json={"Cmd": ["cat"], **config})
    return str(document["Id"])


async def start_exec(api: Api, identifier: str, **body: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    reader, writer = await api.connect()
    writer.write(head(f"/v1.51/exec/{identifier}/start", body=json.dumps(body).encode()))
    return reader, writer, await read_head(reader)


async def test_exec_streams(api: Api) -> None:
    identifier = await make_exec(api)
    attachment = api.services.execs.attachments[identifier]
    reader, writer, answer = await start_exec(api, identifier, Detach=False, Tty=False)
    assert answer.startswith("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n")
    assert "\r\nApi-Version: 1.51\r\n" in answer
    attachment.feed((1, b"out"), (2, b"err"))
    attachment.end()
    assert Demultiplexer().feed(await read_all(reader)) == [(1, b"out"), (2, b"err")]
    assert api.services.execs.calls == [("start", identifier, False, False)]
    writer.close()


async def test_exec_on_a_terminal_is_raw_and_gets_its_size(api: Api) -> None:
    identifier = await make_exec(api, Tty=True, AttachStdin=True)
    attachment = api.services.execs.attachments[identifier]
    reader, writer, answer = await start_exec(api, identifier, Tty=True, ConsoleSize=[24, 80])
    assert "Content-Type: application/vnd.docker.raw-stream\r\n" in answer
    attachment.feed((1, b"$ "))
    assert await reader.readexactly(2) == b"$ "
    assert api.services.execs.calls[1:] == [("resize", identifier, 24, 80)]
    attachment.end()
    assert await read_all(reader) == b""
    writer.close()


async def test_exec_that_cannot_start_says_so_in_its_output(api: Api) -> None:
    identifier = await make_exec(api)
    api.services.execs.failure = Conflict("container is paused")
    reader, writer, _ = await start_exec(api, identifier)
    assert await read_all(reader) == frame(1, b"container is paused\r\n")
    writer.close()


async def test_exec_detach_keys(api: Api) -> None:
    identifier = await make_exec(api, Tty=True, AttachStdin=True, DetachKeys="q")
    container = api.services.containers.get("box")
    with api.services.events.subscribe() as events:
        reader, writer, _ = await start_exec(api, identifier, Tty=True)
        writer.write(b"abcq")
        assert await read_all(reader) == b""
        event = await anext(events)
        assert (event.action, event.actor_id, event.attributes["execID"]) == ("exec_detach", container.id, identifier)
    assert bytes(api.services.execs.attachments[identifier].stdin) == b"abc"
    writer.close()


async def test_attach_over_a_websocket(api: Api) -> None:
    _, attachment = interactive(api)
    async with api.session.ws_connect(f"http://docker/containers/box/attach/ws?{ATTACH}") as socket:
        await socket.send_bytes(b"in")
        await socket.send_str("put")
        await until(lambda: bytes(attachment.stdin) == b"input")
        attachment.feed((1, b"out"), (2, b"err"))
        assert await socket.receive_bytes() == b"out"
        assert await socket.receive_bytes() == b"err"
        attachment.end()
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    assert attachment.closed.is_set()


async def test_a_websocket_that_closes_ends_the_session(api: Api) -> None:
    _, attachment = interactive(api)
    async with api.session.ws_connect(f"http://docker/containers/box/attach/ws?{ATTACH}"):
        pass
    await soon(attachment.closed.wait())
    assert (attachment.input_cut, attachment.stdin_closed.is_set()) == (False, True)


async def test_a_websocket_that_breaks_off_has_no_complete_input(api: Api) -> None:
    """A close frame is the end; the mere end of the connection is none."""
    _, attachment = interactive(api)
    websocket = await api.session.ws_connect(f"http://docker/containers/box/attach/ws?{ATTACH}")
    await websocket.send_bytes(b"half a scr")
    await until(lambda: bytes(attachment.stdin) == b"half a scr")
    websocket.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    await soon(attachment.closed.wait())
    assert (attachment.input_cut, attachment.stdin_closed.is_set()) == (True, False)
