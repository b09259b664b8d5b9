"""Which IPv6 sockets take no IPv4, which /proc does not tell (sock_diag(7)). stdlib only."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from teul.linux.netlink import messages

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, include/net/tcp_states.h
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_INET_DIAG_SKV6ONLY = 11
_TCP_CLOSE, _TCP_LISTEN = 7, 10
_PROTOCOLS = {"tcp": (socket.IPPROTO_TCP, _TCP_LISTEN), "udp": (socket.IPPROTO_UDP, _TCP_CLOSE)}

_REQUEST = struct.Struct("=BBBBI48x")  # family, protocol, extensions, -, states; and the socket, for any
_MESSAGE = struct.Struct("=BBBB2s2s16s16s32x")  # family, state, timer, -, ports, addresses; what follows is not read
_RECEIVE_BYTES = 64 * 1024


def list_ipv6_only(protocol: str) -> dict[tuple[str, int], bool] | None:
    """Of the IPv6 sockets that listen (of UDP: that take from anybody), by address and port, whether they take IPv6 only.

    Of several at one place one that takes more counts. In the caller's network namespace; None where the kernel does not tell. Blocks.
    Raises `OSError`.
    """
    number, state = _PROTOCOLS[protocol]
    try:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:  # a kernel without it
            return None
        raise
    with netlink:
        netlink.send(messages.encode(request(number, state), 1))
        try:
            return collect(_bodies(netlink))
        except OSError as error:
            if error.errno == errno.ENOENT:  # no module for this protocol
                return None
            raise


def request(protocol: int, state: int) -> messages.Message:
    """Ask for all IPv6 sockets of a protocol that are in a state."""
    return _SOCK_DIAG_BY_FAMILY, messages.NLM_F_DUMP, _REQUEST.pack(socket.AF_INET6, protocol, 0, 0, 1 << state)


def collect(bodies: Iterator[bytes]) -> dict[tuple[str, int], bool]:
    """The answers to `request`, as `list_ipv6_only` returns them."""
    found: dict[tuple[str, int], bool] = {}
    for body in bodies:
        _family, _state, _timer, _, port, _peer_port, address, _peer = _MESSAGE.unpack_from(body)
        is_only = messages.parse_attributes(body, _MESSAGE.size).get(_INET_DIAG_SKV6ONLY) == b"\1"
        place = socket.inet_ntop(socket.AF_INET6, address), int.from_bytes(port, "big")
        found[place] = is_only and found.get(place, True)
    return found


def _bodies(netlink: socket.socket) -> Iterator[bytes]:
    while True:
        for reply in messages.iter_replies(netlink.recv(_RECEIVE_BYTES)):
            if reply.kind in (messages.NLMSG_DONE, messages.NLMSG_ERROR):
                number, _ = messages.parse_error(reply)
                if number:
                    raise OSError(number, f"SOCK_DIAG_BY_FAMILY: {os.strerror(number)}")
                return
            yield reply.body
