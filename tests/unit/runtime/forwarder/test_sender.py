"""Lines on their way to a server that comes and goes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from teul.runtime.forwarder import sender
from teul.runtime.forwarder.connection import NoServer
from teul.runtime.forwarder.sender import Sender


class Server:
    """Gives out connections as long as it is up."""

    def __init__(self) -> None:
        self.is_up = True
        self.attempts = 0
        self.seconds = 0.0  # that an attempt takes
        self.now = 100.0
        self.connections: list[socket.socket] = []

    def connect(self, _server: object) -> socket.socket:
        self.attempts += 1
        self.now += self.seconds
        if not self.is_up:
            raise NoServer("dial tcp there: connect: connection refused")
        ours, theirs = socket.socketpair()
        self.connections.append(theirs)
        return ours

    def received(self) -> bytes:
        return b"".join(connection.recv(65536) for connection in self.connections)

    def close(self) -> None:
        while self.connections:
            self.connections.pop().close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setattr(sender, "connect", server.connect)
    monkeypatch.setattr("teul.runtime.forwarder.sender.time.monotonic", lambda: server.now)
    yield server
    server.close()


def new_sender(told: list[str]) -> Sender:
    place = {"network": "tcp", "address": "there", "host": "", "port": "", "tls": None}
    plan: Any = {"id": "i", "server": place, "buffer_bytes": None, "format": "", "facility": 3, "tag": "t", "hostname": "h", "fields": {}}
    return Sender(plan, told.append)


def test_a_line_is_tried_again_when_the_server_has_gone(server: Server) -> None:
    told: list[str] = []
    lines = new_sender(told)
    lines.send(1, 0, b"one", partial=False)
    server.close()
    lines.send(1, 0, b"two", partial=False)
    lines.send(1, 0, b"", partial=False)
    assert server.received().endswith(b": two\n"), "an empty line is not sent"
    assert (server.attempts, told) == (2, [])
    lines.close()


def test_lost_lines_are_told_of_once_and_counted(server: Server) -> None:
    told: list[str] = []
    lines = new_sender(told)
    server.is_up = False
    for text in (b"one", b"two"):
        lines.send(1, 0, text, partial=False)
    server.is_up = True
    lines.send(1, 0, b"three", partial=False)
    assert server.received().endswith(b": three\n")
    assert told == [
        "lines of its log are lost: dial tcp there: connect: connection refused",
        "its log goes on; 2 lines were lost",
    ]
    lines.close()


def test_a_server_that_does_not_answer_is_not_waited_for_with_every_line(server: Server) -> None:
    """A program that waits for its log would else take ten seconds for each line."""
    lines = new_sender([])
    server.is_up, server.seconds = False, 10.0
    for _ in range(5):
        lines.send(1, 0, b"lost", partial=False)
    assert server.attempts == 1
    server.now += 10.0
    lines.send(1, 0, b"lost", partial=False)
    assert server.attempts == 2
