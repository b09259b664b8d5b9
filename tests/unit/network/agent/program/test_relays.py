"""Relays, turn by turn: connections and datagrams over this machine's loopback, with a pipe in the place of a process."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from teul.linux.loop import Loop
from teul.network.agent.program import associations, relays
from teul.network.agent.program.associations import Association, Associations
from teul.network.agent.program.deadlines import Deadlines
from teul.network.agent.program.relays import Relay, Switchboard, parse_target

T = TypeVar("T")

LARGE_BYTES = 16 << 20


def fail(_owner: object, error: Exception) -> None:
    raise error


class World:
    """The host's end of one port, and its container's, which listens at another port of the same loopback."""

    def __init__(self, kind: socket.SocketKind) -> None:
        self.loop = Loop(fail)
        self.kind = kind
        self.closed: list[Relay] = []
        self.outside, self.inside = self._bound(), self._bound()
        self.process_fd, self.life_fd = os.pipe()
        self.sockets = [self.outside, self.inside]
        self.relay = self._relay()

    def _relay(self) -> Relay:
        target = self.inside.getsockname()
        return Relay(Switchboard(self.loop), target, (self.process_fd, self.outside.fileno()), on_close=self.closed.append)

    def _bound(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, self.kind)
        made.bind(("127.0.0.1", 0))
        if self.kind == socket.SOCK_STREAM:
            made.listen(64)
        made.setblocking(False)
        return made

    def client(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, self.kind)
        self.sockets.append(made)
        made.connect(self.outside.getsockname())
        made.setblocking(False)
        return made

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A client, and its connection as the container has it."""
        client = self.client()
        return client, self.accept()

    def accept(self) -> socket.socket:
        made, _address = self.until(self.inside.accept)
        made.setblocking(False)
        self.sockets.append(made)
        return made

    def until(self, work: Callable[[], T]) -> T:
        """What `work` returns as soon as it need not wait."""
        while True:
            try:
                return work()
            except BlockingIOError:
                self.turn()

    def turn(self) -> None:
        """One turn, which ends at once where nothing is ready."""
        self.loop.call_later(0, lambda: None)
        self.loop.turn()

    def close(self) -> None:
        self.relay.close()
        for each in self.sockets:
            each.close()
        os.close(self.process_fd)
        if self.life_fd >= 0:
            os.close(self.life_fd)


@pytest.fixture
def streams() -> Iterator[World]:
    made = World(socket.SOCK_STREAM)
    yield made
    made.close()


@pytest.fixture
def datagrams() -> Iterator[World]:
    made = World(socket.SOCK_DGRAM)
    yield made
    made.close()


def test_each_end_may_say_its_last_first(streams: World) -> None:
    for is_client_first in (True, False):
        first, second = streams.pair() if is_client_first else streams.pair()[::-1]
        first.send(b"question")
        first.shutdown(socket.SHUT_WR)
        assert streams.until(lambda second=second: second.recv(64)) == b"question"  # type: ignore[misc]
        assert streams.until(lambda second=second: second.recv(64)) == b""  # type: ignore[misc]
        for _ in range(3):
            second.send(b"answer")
            assert streams.until(lambda first=first: first.recv(64)) == b"answer"  # type: ignore[misc]
        second.close()
        assert streams.until(lambda first=first: first.recv(64)) == b""  # type: ignore[misc]


def test_who_is_not_read_waits_and_the_loop_with_them(streams: World) -> None:
    """Also where they have hung up by then, of which epoll would tell again and again."""
    client, program = streams.pair()
    said = os.urandom(LARGE_BYTES)
    left = memoryview(said)
    for _ in range(1000):
        try:
            left = left[client.send(left) :]
        except BlockingIOError:
            streams.turn()
    assert left, "there is no end to what is kept"
    program.shutdown(socket.SHUT_WR)
    for _ in range(10):
        streams.turn()
    ready: list[bool] = []
    streams.loop.call_later(0.05, ready.append, True)
    turns = 0
    while not ready:
        streams.loop.turn()
        turns += 1
    assert turns < 5
    heard = bytearray()
    while len(heard) < len(said):
        if left:
            try:
                left = left[client.send(left) :]
            except BlockingIOError:
                streams.turn()
        try:
            heard += program.recv(1 << 20)
        except BlockingIOError:
            streams.turn()
    assert heard == said
    client.close()
    assert streams.until(lambda: program.recv(64)) == b""


@pytest.mark.parametrize("who", ["client", "program"])
def test_a_reset_is_passed_on(streams: World, who: str) -> None:
    client, program = streams.pair()
    ending, other = (client, program) if who == "client" else (program, client)
    ending.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    ending.close()
    with pytest.raises(ConnectionResetError):
        streams.until(lambda: other.recv(64))


def test_where_nobody_listens_the_client_is_reset(streams: World) -> None:
    streams.inside.close()
    client = streams.client()
    with pytest.raises(ConnectionResetError):
        streams.until(lambda: client.recv(64))


@pytest.mark.parametrize("bound", ["MAX_CONNECTIONS", "MAX_ALL_CONNECTIONS"])
def test_more_connections_than_may_be_wait(streams: World, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(relays, bound, 2)
    monkeypatch.setattr(relays, "_ACCEPT_PAUSE_SECONDS", 0.01)
    pairs = [streams.pair() for _ in range(2)]
    third = streams.client()
    third.send(b"third")
    for _ in range(20):
        streams.turn()
    with pytest.raises(BlockingIOError):
        streams.inside.accept()
    for each in pairs[0]:
        each.close()
    program = streams.accept()
    assert streams.until(lambda: program.recv(64)) == b"third"


@pytest.mark.parametrize("how", ["process", "order"])
def test_a_relay_ends_with_its_connections(streams: World, how: str) -> None:
    client, program = streams.pair()
    if how == "process":
        os.close(streams.life_fd)
        streams.life_fd = -1
    else:
        streams.relay.close()
    for each in (client, program):
        with pytest.raises(ConnectionResetError):
            streams.until(lambda each=each: each.recv(64))  # type: ignore[misc]
    assert streams.closed == [streams.relay]


def test_senders_are_told_apart_and_the_one_that_was_silent_longest_makes_room(datagrams: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(associations, "MAX_ASSOCIATIONS", 2)
    clients = [datagrams.client() for _ in range(3)]

    def place_of(client: socket.socket) -> object:
        client.send(b"?")
        datagram, place = datagrams.until(lambda: datagrams.inside.recvfrom(64))
        datagrams.inside.sendto(b"!", place)
        assert (datagram, datagrams.until(lambda: client.recv(64))) == (b"?", b"!")
        return place

    first, second = place_of(clients[0]), place_of(clients[1])
    assert place_of(clients[0]) == first != second
    place_of(clients[2])
    assert place_of(clients[0]) == first
    assert place_of(clients[1]) != second, "it was forgotten meanwhile"


def test_senders_are_forgotten_when_they_have_been_silent(datagrams: World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
        outside.bind(("127.0.0.1", 0))
        idle = Deadlines(datagrams.loop, 0.01, Association.close)
        made = Associations(datagrams.loop, outside, datagrams.inside.getsockname(), idle=idle)
        datagrams.loop.watch(outside.fileno(), 1, made.receive)
        client = datagrams.client()
        client.connect(outside.getsockname())
        client.send(b"?")
        _datagram, place = datagrams.until(lambda: datagrams.inside.recvfrom(64))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:

            def is_forgotten() -> bool:
                try:
                    probe.bind(place)
                except OSError:
                    raise BlockingIOError from None
                return True

            assert datagrams.until(is_forgotten)
        datagrams.loop.forget(outside.fileno())
        made.close()


def test_a_container_that_takes_nothing_loses_datagrams_and_nothing_else(datagrams: World) -> None:
    place = datagrams.inside.getsockname()
    datagrams.inside.close()
    client = datagrams.client()
    for _ in range(3):
        client.send(b"lost")
        for _ in range(5):
            datagrams.turn()
    datagrams.inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.sockets.append(datagrams.inside)
    datagrams.inside.bind(place)
    datagrams.inside.setblocking(False)
    client.send(b"heard")
    assert datagrams.until(lambda: datagrams.inside.recv(64)) == b"heard"


@pytest.mark.parametrize(("address", "port"), [("nowhere", 80), ("127.0.0.1", 0), ("::1", 65536), ("", 80)])
def test_what_is_no_target_is_refused(address: str, port: int) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_target(address, port)
