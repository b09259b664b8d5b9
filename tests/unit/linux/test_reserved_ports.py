"""Ports that are kept, and let in whoever comes, or not; on this machine's loopback."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from teul.linux import reserved_ports


@pytest.fixture
def kept() -> Iterator[socket.socket]:
    # kernel: a port that was not asked for by number is lost when the socket listens no more.
    for port in range(23000, 24000):
        with reserved_ports.open_socket(4, "tcp") as made:
            try:
                reserved_ports.bind(made, "127.0.0.1", port)
            except OSError:
                continue
            yield made
            return
    raise AssertionError("no port is free")


@contextlib.contextmanager
def taken(port: int) -> Iterator[None]:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


def test_a_tcp_port_lets_in_and_refuses_again_and_is_nobody_elses_meanwhile(kept: socket.socket) -> None:
    place = kept.getsockname()
    for _ in range(2):
        for _ in range(2):
            reserved_ports.admit(kept)
        with socket.create_connection(place, timeout=5) as client:
            accepted, _address = kept.accept()
            accepted.close()  # first: what is left of it is on this side
            assert client.recv(1) == b""
        with pytest.raises(OSError, match="in use"), taken(place[1]):
            pass
        for _ in range(2):
            reserved_ports.refuse(kept)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place, timeout=5)
        with pytest.raises(OSError, match="in use"), taken(place[1]):
            pass


def test_what_is_left_of_connections_hinders_nobody(kept: socket.socket) -> None:
    reserved_ports.admit(kept)
    place = kept.getsockname()
    with socket.create_connection(place, timeout=5) as client:
        accepted, _address = kept.accept()
        accepted.close()
        client.recv(1)
    kept.close()
    with taken(place[1]):
        pass


def test_who_has_the_socket_does_not_wait_in_it(kept: socket.socket) -> None:
    reserved_ports.admit(kept)
    with pytest.raises(BlockingIOError):
        kept.accept()


def test_a_udp_port_takes_what_comes_or_drops_it() -> None:
    with reserved_ports.open_socket(4, "udp") as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        reserved_ports.bind(made, "127.0.0.1", 0)
        client.connect(made.getsockname())
        client.send(b"dropped")
        for _ in range(2):
            reserved_ports.admit(made)
        client.send(b"taken")
        assert made.recv(64) == b"taken"
        for _ in range(2):
            reserved_ports.refuse(made)
        client.send(b"dropped")
        with pytest.raises(BlockingIOError):
            made.recv(64)
