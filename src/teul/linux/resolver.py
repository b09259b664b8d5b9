"""The two sockets at which a container's DNS queries arrive, made inside the container's network namespace. stdlib only."""

from __future__ import annotations

import contextlib
import socket
from typing import NamedTuple

from teul.linux.netlink import links, nfnetlink

ADDRESS = "127.0.0.11"  # docker: where programs in a container on a user-defined network find their DNS server
_BACKLOG = 64


class ResolverSockets(NamedTuple):
    """Descriptors of a bound UDP and a listening TCP socket; both keep their network namespace alive. The holder closes them."""

    udp_fd: int
    tcp_fd: int


def open_resolver_sockets() -> ResolverSockets:
    """Make the sockets in the caller's network namespace, and lead what is sent to port 53 of 127.0.0.11 to them.

    They have ports that the kernel chose, since a program of the container's may want port 53 of every address for itself. Made again,
    the new pair takes the place of the one before. Blocking: a millisecond, ten where there was a pair before. Loopback is brought up.
    Raises `OSError`; then no query is led elsewhere than before. Needs CAP_NET_ADMIN over the namespace.
    """
    # kernel: in a namespace whose loopback was never up the address counts as a broadcast, and answers would have another source.
    links.set_loopback_up()
    with contextlib.ExitStack() as stack:
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        tcp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        for each in (udp, tcp):
            each.bind((ADDRESS, 0))
        tcp.listen(_BACKLOG)
        nfnetlink.lead_queries(ADDRESS, udp_port=udp.getsockname()[1], tcp_port=tcp.getsockname()[1])
        return ResolverSockets(udp.detach(), tcp.detach())
