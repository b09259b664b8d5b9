"""Who waits for packets in a network namespace, from the kernel's lists of sockets below /proc (proc_net_tcp.rst)."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from teul.linux.netlink.sockets import list_ipv6_only

# include/net/tcp_states.h: a UDP socket that takes from anybody is "closed".
_LISTENING = {"tcp": "0A", "udp": "07"}
_LISTS = (("tcp", 4, "tcp"), ("tcp", 6, "tcp6"), ("udp", 4, "udp"), ("udp", 6, "udp6"))


class Listener(NamedTuple):
    """A socket that takes what comes for its port. `address` is 0.0.0.0 or :: where it takes what comes for any.

    `takes_ipv4`, of one on ::, whether it takes what comes for any IPv4 address, too; None where the kernel does not tell.
    """

    protocol: str
    address: str
    port: int
    takes_ipv4: bool | None = None


def list_listeners() -> list[Listener]:
    """TCP and UDP of the calling thread's network namespace. A kernel without IPv6 has no lists of it. Blocks. Raises `OSError`."""
    found: list[Listener] = []
    for protocol, version, name in _LISTS:
        try:
            with open(f"/proc/thread-self/net/{name}", encoding="ascii") as file:
                listed = parse(file.read(), protocol, version)
        except FileNotFoundError:
            if version == 4:
                raise
            continue
        only = list_ipv6_only(protocol) if any(each.address == "::" for each in listed) else None
        found += [each._replace(takes_ipv4=_takes_ipv4(each, only)) for each in listed]
    return found


def _takes_ipv4(listener: Listener, only: dict[tuple[str, int], bool] | None) -> bool | None:
    if listener.address != "::" or only is None:
        return None
    is_only = only.get((listener.address, listener.port))
    return None if is_only is None else not is_only


def parse(text: str, protocol: str, version: int) -> list[Listener]:
    """The sockets of one such list that listen. Raises ValueError for what is none."""
    found: list[Listener] = []
    for line in text.splitlines()[1:]:
        _number, local, _remote, state, *_ = line.split()
        if state == _LISTENING[protocol]:
            address, _, port = local.partition(":")
            found.append(Listener(protocol, _address(address, version), int(port, 16)))
    return found


def _address(text: str, version: int) -> str:
    # kernel: each word of the address as a number, in the machine's own order of bytes.
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if version == 4 else socket.AF_INET6, packed)
