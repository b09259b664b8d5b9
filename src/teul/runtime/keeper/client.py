"""A connection to a monitor, and what waits for it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from teul.runtime.keeper.outbox import Outbox
from teul.wire import monitor as wire

if TYPE_CHECKING:
    from teul.runtime.messages import Wants

_HOLD_BYTES = 32 << 20  # an outbox can hold more, for what is read at the process's end


class Client:
    """One connection from the engine: its control connection, or an attachment that it made for a client of its own."""

    __slots__ = ("control", "moved", "outbox", "reader", "socket", "stderr", "stdin", "stdout")

    def __init__(self, connection: socket.socket, spill_directory: str) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.reader = wire.FrameReader()
        self.outbox = Outbox(spill_directory)
        self.control = self.stdin = self.stdout = self.stderr = False
        self.moved = True  # has taken something of what waits since it was last looked at

    @property
    def is_far_behind(self) -> bool:
        """More waits than should: no more of the process's output is to be read."""
        return self.outbox.waiting_bytes >= _HOLD_BYTES

    @property
    def keeps_up(self) -> bool:
        """It has taken the better part of what may wait."""
        return self.outbox.waiting_bytes < _HOLD_BYTES // 2

    def hello(self, wants: Wants) -> None:
        self.control = bool(wants.get("control"))
        self.stdin, self.stdout, self.stderr = bool(wants.get("stdin")), bool(wants.get("stdout")), bool(wants.get("stderr"))

    def send(self, data: bytes) -> None:
        """Send, or keep for later. Raises `OSError` when the peer is gone."""
        if not self.outbox:
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        self.outbox.put(data)

    def flush(self) -> None:
        """Send what waits, as far as the peer takes it."""
        while data := self.outbox.peek():
            try:
                self.outbox.drop(self.socket.send(data))
            except BlockingIOError:
                return
            self.moved = True
