"""One program's TCP connection to its container's resolver: queries and answers with their lengths before them (RFC 1035, 4.2.2)."""

from __future__ import annotations

import socket
from collections.abc import Callable

from teul.linux.loop import HANGUP, READ, WRITE, Loop
from teul.network.agent.program.deadlines import Deadlines
from teul.network.agent.program.packets import MAX_QUERY_BYTES

IDLE_SECONDS = 8.0  # docker: as its DNS library has it
_MAX_WAITING = 16  # queries of a connection whose answers are yet to come
_MAX_UNREAD_BYTES = 256 * 1024
_RECEIVE_BYTES = 16 * 1024
_MSG_DONTWAIT = int(socket.MSG_DONTWAIT)

Reply = Callable[[bytes], None]


class StreamClient:
    """Reads queries, gives each to `handle`, and writes the answers in the order in which they come (RFC 7766, 6.2.1.1).

    `handle` answers each query once, at any time; with nothing where nothing is to be said. A connection ends with its client, with that,
    or when it has had no query for `IDLE_SECONDS`: a program that sends its query byte by byte holds it no longer than one that is silent.
    """

    def __init__(
        self,
        loop: Loop,
        connection: socket.socket,
        *,
        deadlines: Deadlines[StreamClient],
        handle: Callable[[bytes, Reply], None],
        on_close: Callable[[StreamClient], None],
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._deadlines = deadlines
        self._handle = handle
        self._on_close = on_close
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._waiting = 0
        self._taking = False
        self._ended = False  # the client says nothing more, and may still listen
        self._closed = False
        loop.watch(connection.fileno(), READ, self._ready)
        deadlines.set(self)

    def expire(self) -> None:
        """Its time is over; a client that waits for answers is not idle."""
        if self._waiting:
            self._deadlines.set(self)
        else:
            self.close()

    def close(self) -> None:
        """End the connection. Answers that come later go nowhere."""
        if self._closed:
            return
        self._closed = True
        self._deadlines.remove(self)
        self._loop.forget(self._connection.fileno())
        self._connection.close()
        self._on_close(self)

    def _ready(self, events: int) -> None:
        try:
            if events & WRITE:
                self._flush()
            if events & (READ | HANGUP) and not self._closed:
                self._receive()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()

    def _receive(self) -> None:
        if self._ended:  # the client is gone altogether
            self.close()
            return
        data = self._connection.recv(_RECEIVE_BYTES, _MSG_DONTWAIT)
        self._incoming += data
        self._ended = not data
        self._take_queries()

    def _take_queries(self) -> None:
        self._taking = True
        while not self._closed and self._waiting < _MAX_WAITING and len(self._incoming) >= 2:
            size = int.from_bytes(self._incoming[:2], "big")
            if size > MAX_QUERY_BYTES:
                self.close()
                break
            if len(self._incoming) < 2 + size:
                break
            packet = bytes(self._incoming[2 : 2 + size])
            del self._incoming[: 2 + size]
            self._deadlines.set(self)
            self._waiting += 1
            self._handle(packet, self._answer)
        self._taking = False
        self._watch()

    def _answer(self, packet: bytes) -> None:
        self._waiting -= 1
        if self._closed:
            return
        if not packet:
            self.close()
            return
        self._outgoing += len(packet).to_bytes(2, "big") + packet
        self._deadlines.set(self)
        try:
            self._flush()
        except BlockingIOError:
            if len(self._outgoing) > _MAX_UNREAD_BYTES:
                self.close()
        except OSError:
            self.close()
        if not self._taking:
            self._take_queries()

    def _flush(self) -> None:
        while self._outgoing:
            del self._outgoing[: self._connection.send(self._outgoing, _MSG_DONTWAIT)]
        self._watch()

    def _watch(self) -> None:
        if self._closed:
            return
        if self._ended and not self._waiting and not self._outgoing:
            self.close()
            return
        reading = READ if self._waiting < _MAX_WAITING and not self._ended else 0
        self._loop.change(self._connection.fileno(), reading | (WRITE if self._outgoing else 0))
