"""Attach and logs: what goes on while a container runs."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote_plus

from aiohttp import WSMsgType, web

from teul.api.http import query
from teul.api.http.context import api_version, services
from teul.api.http.errors import describe
from teul.api.http.hijack import MULTIPLEXED, RAW, Duplex, Hijacked, hijack
from teul.api.http.streaming import first_of, started_stream, while_connected
from teul.errors import InvalidParameter, TeulError
from teul.model.container import Container
from teul.model.log import LogEntry, LogQuery
from teul.model.number import parse_int64
from teul.services.events import container_event
from teul.wire import stdcopy
from teul.wire.detach_keys import DetachKeys, parse_detach_keys

# How much of a log is put together before it is sent.
_BATCH_BYTES = 64 * 1024


class Attachment(Protocol):
    """The streams of a process, as the services hand them out: iterate for (stream, data), write for its input."""

    terminal: bool

    def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]: ...
    async def write(self, data: bytes) -> None: ...
    async def close_stdin(self) -> None: ...
    def cut_input(self) -> None: ...
    async def close(self) -> None: ...


class Ending(enum.Enum):
    """Why a session over an attachment ended."""

    OUTPUT_ENDED = enum.auto()
    DETACHED = enum.auto()
    INPUT_ENDED = enum.auto()
    CLIENT_GONE = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """`multiplexed`: output in stdcopy frames. `stdin`: pass on what the client sends; when the client ends its side, `close_stdin` closes
    the process's stdin (and the session goes on), otherwise the session ends. `detach_keys` are only looked for on a terminal.
    """

    multiplexed: bool
    stdin: bool
    close_stdin: bool
    detach_keys: bytes | None


async def attach(request: web.Request) -> web.StreamResponse:
    """Hijack: the container's input and output from now on, with `logs=1` what it wrote before, too."""
    try:
        plan = _plan_attach(request)
        before_ns = time.time_ns()
        attachment = await plan.open(request)
    except TeulError as error:
        return _plain_error(error)
    try:
        multiplexed = not plan.container.config.tty
        stream = hijack(request, content_type=MULTIPLEXED if multiplexed and api_version(request) >= (1, 42) else RAW)
        await _serve_attach(request, plan, stream, attachment, before_ns, multiplexed=multiplexed)
    finally:
        if attachment is not None:
            await attachment.close()
    return Hijacked()


async def attach_websocket(request: web.Request) -> web.StreamResponse:
    """As `attach`, but over a websocket: both output streams in one, never in frames."""
    plan = _plan_attach(request)
    before_ns = time.time_ns()
    attachment = await plan.open(request)
    try:
        # docker: no subprotocol is chosen. Pages of others do not get here (api/http/origin.py).
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await _serve_attach(request, plan, _WebSocketStream(socket), attachment, before_ns, multiplexed=False)
    finally:
        if attachment is not None:
            await attachment.close()
    return socket


async def logs(request: web.Request) -> web.StreamResponse:
    """What the container has written, and with `follow=1` what it goes on to write."""
    log_query = _log_query(request)
    container = services(request).containers.get(request.match_info["name"])
    entries = await services(request).containers.logs(container.id, log_query)
    multiplexed = not container.config.tty
    content_type = MULTIPLEXED if multiplexed and api_version(request) >= (1, 42) else RAW
    render_entry = _entry_renderer(
        multiplexed=multiplexed, timestamps=query.boolean(request, "timestamps"), details=query.boolean(request, "details")
    )
    response = await started_stream(request, content_type=content_type)
    async with while_connected(request):
        await _send_entries(entries, render_entry, response.write)
        await response.write_eof()
    return response


ROUTES = (
    ("POST", "/containers/{name:.+}/attach", attach),
    ("GET", "/containers/{name:.+}/attach/ws", attach_websocket),
    ("GET", "/containers/{name:.+}/logs", logs),
)


async def run_session(duplex: Duplex, attachment: Attachment, options: SessionOptions) -> Ending:
    """Carry bytes both ways until the output ends, the user detaches, or the client goes. Closes neither end.

    security: where the end of the client's input is the end of the process's, the process is told of it only if the client said so and all
    that it sent was passed on. Half a script that runs as if it were whole is worse than one that waits (`Attachment.cut_input`).
    docker: dockerd closes the process's input however the client's ends.
    """
    ending = Ending.CLIENT_GONE
    complete = not options.stdin

    async def send_output() -> None:
        nonlocal ending
        async for stream, data in attachment:
            await duplex.write(stdcopy.frame(stream, data) if options.multiplexed else data)
        ending = Ending.OUTPUT_ENDED

    async def receive_input() -> None:
        nonlocal ending, complete
        if await _pass_input(duplex, attachment, options):
            ending = Ending.DETACHED
            return
        complete = True
        if options.stdin and not options.close_stdin:
            ending = Ending.INPUT_ENDED
            return
        if options.stdin:
            await attachment.close_stdin()
        await duplex.wait_lost()

    try:
        await first_of(send_output(), receive_input(), duplex.wait_lost())
    except ConnectionError:
        return Ending.CLIENT_GONE
    finally:
        if ending is Ending.CLIENT_GONE and not complete:  # or the engine leaves, and this session with it
            attachment.cut_input()
    return ending


async def _pass_input(duplex: Duplex, attachment: Attachment, options: SessionOptions) -> bool:
    """Pass on what the client sends, to its end; returns whether the end was a user's detaching."""
    keys = DetachKeys(options.detach_keys) if options.detach_keys and attachment.terminal else None
    while data := await duplex.read():
        if not options.stdin:
            continue
        passed = keys.feed(data) if keys else data
        if passed:
            await attachment.write(passed)  # drops what a process does not read any more, whose output still counts
        if keys and keys.detached:
            return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class _AttachPlan:
    """What an attach request asks for, checked."""

    container: Container
    stdin: bool
    stdout: bool
    stderr: bool
    logs: bool
    stream: bool
    detach_keys: bytes

    async def open(self, request: web.Request) -> Attachment | None:
        if not self.stream:
            return None
        reference = request.match_info["name"]  # what the client is told of, if it cannot be
        return await services(request).containers.attach(reference, stdin=self.stdin, stdout=self.stdout, stderr=self.stderr)


def _plain_error(error: TeulError) -> web.Response:
    """docker: a request to attach is refused in plain text (postContainersAttach)."""
    status, message = describe(error)
    return web.Response(status=status, body=f"{message}\r\n".encode(), content_type=RAW)


def _plan_attach(request: web.Request) -> _AttachPlan:
    container = services(request).containers.get(request.match_info["name"])
    return _AttachPlan(
        container=container,
        # docker: input goes nowhere in a container that was made without --interactive.
        stdin=query.boolean(request, "stdin") and container.config.open_stdin,
        stdout=query.boolean(request, "stdout"),
        stderr=query.boolean(request, "stderr"),
        logs=query.boolean(request, "logs"),
        stream=query.boolean(request, "stream"),
        detach_keys=parse_detach_keys(query.text(request, "detachKeys")),
    )


async def _serve_attach(
    request: web.Request, plan: _AttachPlan, duplex: Duplex, attachment: Attachment | None, before_ns: int, *, multiplexed: bool
) -> None:
    """Everything after the head of the answer. Closes both the attachment and the client's stream."""
    try:
        if plan.logs:
            past = LogQuery(stdout=plan.stdout, stderr=plan.stderr, until_ns=before_ns)
            entries = await services(request).containers.logs(plan.container.id, past)
            await _send_entries(entries, _entry_renderer(multiplexed=multiplexed, timestamps=False, details=False), duplex.write)
        if attachment is not None:
            config = plan.container.config
            options = SessionOptions(
                multiplexed=multiplexed,
                stdin=plan.stdin,
                close_stdin=config.stdin_once and not config.tty,
                detach_keys=plan.detach_keys,
            )
            ending = await run_session(duplex, attachment, options)
            await attachment.close()
            if ending is Ending.DETACHED:
                services(request).events.publish(container_event(plan.container, "detach"))
    finally:
        await duplex.close()


def _log_query(request: web.Request) -> LogQuery:
    stdout, stderr = query.boolean(request, "stdout"), query.boolean(request, "stderr")
    if not stdout and not stderr:
        raise InvalidParameter("must specify at least one of 'stdout' or 'stderr'")
    tail = query.text(request, "tail")
    return LogQuery(
        stdout=stdout,
        stderr=stderr,
        follow=query.boolean(request, "follow"),
        since_ns=query.timestamp_ns(request, "since") or None,
        until_ns=query.timestamp_ns(request, "until") or None,
        tail=_lines(tail),
    )


def _lines(tail: str) -> int | None:
    """How many lines of a log, None for all. docker: whatever is no number of lines means all of them."""
    try:
        count = parse_int64(tail)
    except ValueError:
        return None
    return count if count >= 0 else None


def _entry_renderer(*, multiplexed: bool, timestamps: bool, details: bool) -> Callable[[LogEntry], bytes]:
    def render_entry(entry: LogEntry) -> bytes:
        line = entry.data
        if details:
            attributes = sorted((entry.attrs or {}).items())
            line = ",".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in attributes).encode() + b" " + line
        if timestamps:
            line = fixed_time(entry.time_ns).encode() + b" " + line
        return stdcopy.frame(entry.stream, line) if multiplexed else line

    return render_entry


def fixed_time(time_ns: int) -> str:
    """RFC 3339 with all nine digits, so that the lines of a log align."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09}Z"


async def _send_entries(
    entries: AsyncIterator[LogEntry], render_entry: Callable[[LogEntry], bytes], write: Callable[[bytes], Awaitable[None]]
) -> None:
    """Send a log: in large pieces while it is read from the file, line by line once it comes from the running process.

    One side collects without waiting for the client as long as there is room, the other sends what has been collected; so a write
    happens when the log has nothing more to give at once, or `_BATCH_BYTES` are together.
    """
    batch = bytearray()
    arrived, room = asyncio.Event(), asyncio.Event()
    ended = False

    async def collect() -> None:
        nonlocal ended
        try:
            async for entry in entries:
                batch.extend(render_entry(entry))
                arrived.set()
                if len(batch) >= _BATCH_BYTES:
                    room.clear()
                    await room.wait()
        except Exception as error:  # noqa: BLE001 - boundary: the answer has begun, so the client is told in band
            _, message = describe(error)
            batch.extend(render_entry(LogEntry(stdcopy.SYSTEM_ERROR, time.time_ns(), f"Error grabbing logs: {message}\n".encode())))
        ended = True
        arrived.set()
        await asyncio.get_running_loop().create_future()  # the sender ends this

    async def send() -> None:
        while not (ended and not batch):
            await arrived.wait()
            arrived.clear()
            data = bytes(batch)
            batch.clear()
            room.set()
            if data:
                await write(data)

    await first_of(collect(), send())


class _WebSocketStream:
    """The `Duplex` over a websocket."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._lost = asyncio.Event()

    async def read(self) -> bytes:
        while not self._lost.is_set():
            message = await self._socket.receive()
            if message.type is WSMsgType.BINARY and message.data:
                return bytes(message.data)
            if message.type is WSMsgType.TEXT and message.data:
                return str(message.data).encode()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                # A websocket has no half close: the end of the client's side is the end of the client.
                self._lost.set()
                if message.type is not WSMsgType.CLOSE:
                    raise ConnectionResetError("the client went away")
        return b""

    async def write(self, data: bytes) -> None:
        await self._socket.send_bytes(data)

    async def wait_lost(self) -> None:
        await self._lost.wait()

    async def close(self) -> None:
        await self._socket.close()
