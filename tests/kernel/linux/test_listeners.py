"""Who listens, from the kernel's lists and by sock_diag."""

from __future__ import annotations

import socket

from kernel.netns import isolated
from support.needs import needs
from teul.linux.listeners import Listener, list_listeners

pytestmark = needs("root")


@isolated
def test_listeners_are_listed_with_what_they_take() -> None:
    places = ((socket.AF_INET, "0.0.0.0", 0), (socket.AF_INET, "127.0.0.1", 0), (socket.AF_INET6, "::", 0), (socket.AF_INET6, "::", 1))
    made: list[socket.socket] = []
    expected: set[Listener] = set()
    for kind, protocol in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
        for family, address, only in places:
            each = socket.socket(family, kind)
            made.append(each)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            each.bind((address, 0))
            if kind == socket.SOCK_STREAM:
                each.listen()
            takes = not only if family == socket.AF_INET6 else None
            expected.add(Listener(protocol, address, each.getsockname()[1], takes))
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))  # and does not listen
    assert set(list_listeners()) == expected
    for each in (*made, bound):
        each.close()
    assert list_listeners() == []
