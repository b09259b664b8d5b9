"""Entries of the kernel's table of connections are found by protocol and port, and forgotten."""

from __future__ import annotations

import contextlib
import socket

from kernel.netns import isolated
from support.needs import needs
from teul.linux import nftables
from teul.linux.netlink import conntrack

pytestmark = needs("root", "nft")


@isolated
def test_connections_to_a_port_are_forgotten_and_no_others() -> None:
    nftables.run("add table inet t\nadd chain inet t c { type filter hook output priority 0; }\nadd rule inet t c ct state new accept\n")
    with contextlib.ExitStack() as stack:
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for port in (53, 53, 54):
                sender = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                sender.sendto(b"?", (address, port))
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 53)))
        stack.enter_context(socket.create_connection(listener.getsockname()))
        assert conntrack.forget(socket.IPPROTO_UDP, [53, 55]) == 4
        assert conntrack.forget(socket.IPPROTO_UDP, [53]) == 0
        assert conntrack.forget(socket.IPPROTO_UDP, range(55, 99)) == 0, "many ports are looked for at once"
        assert conntrack.forget(socket.IPPROTO_UDP, range(54, 99)) == 2
        assert conntrack.forget(socket.IPPROTO_TCP, [53]) == 1
