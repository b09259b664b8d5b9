"""One connection to a published port, passed on to its container: bytes both ways, and the end of each way by itself."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from teul.linux.loop import HANGUP, READ, WRITE, Loop

_CHUNK_BYTES = 64 * 1024
_MSG_DONTWAIT = int(socket.MSG_DONTWAIT)
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what is closed is reset
# There is one thread, and what is in here is either sent or copied before anything else is received.
_chunk = memoryview(bytearray(_CHUNK_BYTES))

Target = tuple[str, int]


class _Side:
    """One end: its socket, what waits to be written to it, and what the loop watches it for."""

    __slots__ = ("events", "has_ended", "is_told", "pending", "socket")

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.pending = b""
        self.has_ended = False  # it says nothing more, and may still listen
        self.is_told = False  # that the other end says nothing more
        self.events = 0


class Connection:
    """Passes on what either end says, to whichever end is slower: who is not read waits, for no more than a chunk is kept of each way.

    Where an end says its last, so it is said to the other, whose answers still come. Where an end fails, or the container cannot be
    reached, the other is reset. `on_close` is called once.
    """

    def __init__(self, loop: Loop, client: socket.socket, target: Target, *, on_close: Callable[[Connection], None]) -> None:
        """`client` is the connection's from now on; it is closed if this raises `OSError`, for there is no way to `target`."""
        self._loop = loop
        self._on_close = on_close
        self._near = _Side(client)
        self._is_closed = False
        self._is_connected = False
        try:
            self._far = _Side(_connecting(target))
        except BaseException:
            _reset(client)
            raise
        for end in (self._near, self._far):
            end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch(self._far, WRITE)

    def close(self) -> None:
        """Reset both ends, if there is anything left to say or to hear."""
        self._end(is_reset=True)

    def _ready(self, side: _Side, events: int) -> None:
        try:
            if not self._is_connected:
                self._connected()
                return
            if side.pending and events & (WRITE | HANGUP):
                side.pending = side.pending[side.socket.send(side.pending, _MSG_DONTWAIT) :]
            elif events & (READ | HANGUP):
                self._pass_on(side, self._far if side is self._near else self._near)
            self._go_on()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()

    def _connected(self) -> None:
        error = self._far.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.close()
            return
        self._is_connected = True
        self._go_on()

    @staticmethod
    def _pass_on(side: _Side, other: _Side) -> None:
        size = side.socket.recv_into(_chunk, _CHUNK_BYTES, _MSG_DONTWAIT)
        if not size:
            side.has_ended = True
            return
        try:
            sent = other.socket.send(_chunk[:size], _MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        other.pending = bytes(_chunk[sent:size])

    def _go_on(self) -> None:
        is_over = True
        for side, other in ((self._near, self._far), (self._far, self._near)):
            if not side.has_ended or other.pending:
                is_over = False
            elif not other.is_told:
                other.is_told = True
                other.socket.shutdown(socket.SHUT_WR)
        if is_over:
            self._end(is_reset=False)
            return
        for side, other in ((self._near, self._far), (self._far, self._near)):
            # Who is to wait is not watched at all: that it hung up would be told again and again.
            reading = READ if not side.has_ended and not other.pending else 0
            self._watch(side, reading | (WRITE if side.pending else 0))

    def _watch(self, side: _Side, events: int) -> None:
        if events == side.events:
            return
        fd = side.socket.fileno()
        if not events:
            self._loop.forget(fd)
        elif side.events:
            self._loop.change(fd, events)
        else:
            self._loop.watch(fd, events, self._ready, side)
        side.events = events

    def _end(self, *, is_reset: bool) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        for side in (self._near, self._far):
            self._loop.forget(side.socket.fileno())
            if is_reset:
                _reset(side.socket)
            else:
                side.socket.close()
        self._on_close(self)


def _connecting(target: Target) -> socket.socket:
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.connect(target)
    except BlockingIOError:
        pass
    except BaseException:
        made.close()
        raise
    return made


def _reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.close()
