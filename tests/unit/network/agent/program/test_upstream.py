"""Where upstream servers are."""

from __future__ import annotations

import socket

import pytest

from teul.network.agent.program.upstream import parse_server


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("192.0.2.1", (socket.AF_INET, ("192.0.2.1", 53))),
        ("192.0.2.1:5353", (socket.AF_INET, ("192.0.2.1", 5353))),
        ("2001:db8::1", (socket.AF_INET6, ("2001:db8::1", 53, 0, 0))),
        ("[2001:db8::1]", (socket.AF_INET6, ("2001:db8::1", 53, 0, 0))),
        ("[2001:db8::1]:5353", (socket.AF_INET6, ("2001:db8::1", 5353, 0, 0))),
        ("fe80::1%3", (socket.AF_INET6, ("fe80::1", 53, 0, 3))),
        ("[fe80::1%3]:54", (socket.AF_INET6, ("fe80::1", 54, 0, 3))),
    ],
)
def test_a_server_is_an_address_and_maybe_a_port(server: str, address: tuple[int, tuple[object, ...]]) -> None:
    assert parse_server(server) == address


@pytest.mark.parametrize("server", ["", "example.org", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "[::1]:x", "fe80::1%eth0"])
def test_anything_else_is_none(server: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - all of them are of the standard library
        parse_server(server)
