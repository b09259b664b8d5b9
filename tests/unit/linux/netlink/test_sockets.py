"""sock_diag's bytes: what asks for IPv6 sockets, and what is read from the answers."""

from __future__ import annotations

import socket
import struct

from teul.linux.netlink import messages, sockets


def answer(address: str, port: int, *, only: int | None) -> bytes:
    """As linux/inet_diag.h has it: 72 bytes, and attributes."""
    body = struct.pack("=BBBB", socket.AF_INET6, 10, 0, 0) + struct.pack("!HH", port, 0) + socket.inet_pton(socket.AF_INET6, address)
    body += bytes(72 - len(body))
    return body if only is None else body + struct.pack("=HHB3x", 5, 11, only)


def test_the_request_is_these_bytes() -> None:
    expected = "480000001400010301000000000000000a0600000004000000" + "00" * 47
    assert messages.encode(sockets.request(socket.IPPROTO_TCP, 10), 1).hex() == expected


def test_answers_are_read() -> None:
    bodies = [answer("::", 80, only=0), answer("::", 81, only=1), answer("::1", 82, only=1), answer("::", 83, only=None)]
    assert sockets.collect(iter(bodies)) == {("::", 80): False, ("::", 81): True, ("::1", 82): True, ("::", 83): False}


def test_of_several_at_one_place_the_one_that_takes_more_counts() -> None:
    for order in ((0, 1), (1, 0)):
        assert sockets.collect(answer("::", 80, only=only) for only in order) == {("::", 80): False}
