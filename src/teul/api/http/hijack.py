"""Raw connections: what attach and exec speak once the request is answered.

`hijack` answers the request in dockerd's words and takes the connection over. Flow control goes both ways: what the client sends
is read only as fast as it is used, and `write` waits while the client is slow, so neither side can fill the engine's memory.
The client ending its side closes the process's stdin, not the connection. A client that is gone without having ended its side has ended
nothing: its input broke off.
Source: moby daemon/server/router/container (postContainersAttach, postContainerExecStart).
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import sys
import time
from collections.abc import Mapping
from typing import Protocol

from aiohttp import web

from teul.api.http.connection import EARLY_BYTES, Connection, Taken

# How long the first output waits for a client that has not read the head of the answer yet.
_HEAD_SECONDS = 0.1
_HEAD_POLL_SECONDS = 0.001

# asm-generic/ioctls.h, unix(7): on a unix socket, the bytes sent that the peer has not read.
SIOCOUTQ = 0x5411

# How long a client may take to notice that the engine has finished before the connection is cut.
_LINGER_SECONDS = 5.0


class Duplex(Protocol):
    """A stream of bytes in both directions. Its two kinds are `RawStream` and the websocket of attach/ws."""

    async def read(self) -> bytes:
        """What the client sent next; b"" once it has ended its side. Raises ConnectionError when it is gone without having done so."""

    async def write(self, data: bytes) -> None:
        """Send, waiting while the client is slow. Raises ConnectionError when it is gone."""

    async def wait_lost(self) -> None:
        """Return when the connection is broken; a client that merely ended its side is not gone."""

    async def close(self) -> None:
        """Send what is pending, end the engine's side, give the client a moment to see that, and cut the connection."""


class RawStream(asyncio.Protocol):
    """The `Duplex` over a connection that was taken from HTTP."""

    def __init__(self, taken: Taken) -> None:
        self._transport = taken.transport
        self._tell_server = taken.on_lost
        self._received = bytearray(taken.early)
        self._ended = taken.ended
        self._cut = False
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        if taken.can_write:
            self._writable.set()
        self._lost = asyncio.Event()
        self._hang_up_watch: select.epoll | None = None
        self._head_read = False
        self._transport.set_protocol(self)
        if self._ended:
            self._watch_hang_up()
        else:
            self._transport.resume_reading()

    async def read(self) -> bytes:
        while not self._received and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self._received)
        self._received.clear()
        if not data and self._cut:
            raise ConnectionResetError("the client went away")
        if not self._ended and not self._lost.is_set():
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        if not self._head_read:
            await self._wait_for_head_read()
        self._transport.write(data)
        await self._writable.wait()
        if self._lost.is_set():
            raise ConnectionResetError("the client went away")

    async def wait_lost(self) -> None:
        await self._lost.wait()

    def send_head(self, head: bytes) -> None:
        """Send the answer to the request; it is small, nobody needs to wait."""
        self._transport.write(head)

    async def close(self) -> None:
        try:
            if not self._lost.is_set() and self._transport.can_write_eof():
                # Write side first: closing a socket with unread bytes resets the connection, and the client may lose the last output.
                self._transport.write_eof()
                await self._wait_for_end()
        finally:
            # What is still to be sent to a slow client goes out before asyncio really closes.
            self._transport.close()
            self._stop_watching()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= EARLY_BYTES:
            self._transport.pause_reading()
        self._arrived.set()

    def eof_received(self) -> bool:
        self._ended = True
        self._arrived.set()
        self._watch_hang_up()
        return True

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        self._cut = not self._ended
        self._ended = True
        self._lost.set()
        self._arrived.set()
        self._writable.set()
        self._tell_server(exc)

    async def _wait_for_head_read(self) -> None:
        """Let the client read the head of the answer before the first output comes.

        docker: clients that take the socket out of an HTTP library (docker-py) lose what the library has read ahead. dockerd is slow
        enough for them, this engine is not. Over TCP there is no telling what the client has read.
        """
        self._head_read = True
        connection = self._transport.get_extra_info("socket")
        if connection.family != socket.AF_UNIX:
            return
        deadline = time.monotonic() + _HEAD_SECONDS
        while not self._lost.is_set() and _unread_bytes(connection.fileno()) and time.monotonic() < deadline:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(_HEAD_POLL_SECONDS)

    async def _wait_for_end(self) -> None:
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self.read():
                    pass
        except (TimeoutError, ConnectionError):
            return

    def _watch_hang_up(self) -> None:
        """After the client has ended its sending side, asyncio no longer looks at the socket: notice here when the client is gone.

        Only a unix socket can tell; over TCP the next write does.
        """
        fd = self._transport.get_extra_info("socket").fileno()
        if self._hang_up_watch is not None or fd < 0:
            return
        watch = select.epoll()
        watch.register(fd, 0)  # EPOLLHUP and EPOLLERR are always reported
        self._hang_up_watch = watch
        asyncio.get_running_loop().add_reader(watch.fileno(), self._hung_up)

    def _hung_up(self) -> None:
        self._stop_watching()
        self._transport.abort()

    def _stop_watching(self) -> None:
        watch, self._hang_up_watch = self._hang_up_watch, None
        if watch is not None:
            asyncio.get_running_loop().remove_reader(watch.fileno())
            watch.close()


def _unread_bytes(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, SIOCOUTQ, bytes(4)), sys.byteorder)


class Hijacked(web.StreamResponse):
    """What a handler returns when it has taken the connection over: for aiohttp the response is complete."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is sent."""

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        """Nothing is sent."""


def hijack(request: web.Request, *, content_type: str, headers: Mapping[str, str] | None = None) -> RawStream:
    """Answer `request` and return the raw stream that follows. `content_type` only counts for a client that asked to upgrade.

    Raises ConnectionResetError if the client is gone, TypeError if the server's connections cannot be hijacked.
    """
    connection = request.protocol
    if not isinstance(connection, Connection):
        raise TypeError("serve this application with teul.api.http.connection.Runner: its connections are hijacked")
    stream = RawStream(connection.take_over())
    if "Upgrade" in request.headers:
        head = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n"
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    stream.send_head(f"{head}{extra}\r\n".encode("latin-1"))
    return stream


RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
