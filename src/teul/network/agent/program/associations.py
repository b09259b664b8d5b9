"""Datagrams to a published port, passed on to its container, and its answers to whoever sent them.

Each sender has a socket of its own towards the container, which so tells them apart, until nothing has passed either way for a while.
docker: cmd/docker-proxy/udp_proxy_linux.go, with the same 90 seconds. Unlike there, the number of senders has a bound, and where the host
has several addresses answers come from the one that was sent to.
"""

from __future__ import annotations

import socket
import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from teul.linux.loop import READ, Loop

if TYPE_CHECKING:
    from teul.network.agent.program.connections import Target
    from teul.network.agent.program.deadlines import Deadlines

IDLE_SECONDS = 90.0
MAX_ASSOCIATIONS = 1024  # of one port
_DATAGRAMS_IN_A_TURN = 16  # then it is others' turn
_DATAGRAM_BYTES = 65535
_MSG_DONTWAIT = int(socket.MSG_DONTWAIT)
_IP_PKTINFO = 8  # linux/in.h
_PKTINFO4 = struct.Struct("=i4s4s")  # linux/in.h, struct in_pktinfo
_PKTINFO6 = struct.Struct("=16si")  # linux/ipv6.h, struct in6_pktinfo
_ANCILLARY_BYTES = socket.CMSG_SPACE(_PKTINFO6.size)

Ancillary = tuple[tuple[int, int, bytes], ...]


class Association:
    """One sender, as seen from one address of the host, and the socket by which the container knows it."""

    def __init__(self, relay: Associations, client: Any, own: Ancillary, target: Target) -> None:
        """`own` says which address of the host the sender knows. Raises `OSError`."""
        self._relay = relay
        self._client = client
        self._own = own
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(target)
        except BaseException:
            self._socket.close()
            raise
        relay.loop.watch(self._socket.fileno(), READ, self._answer)
        relay.idle.set(self)

    @property
    def key(self) -> tuple[Any, Ancillary]:
        """What tells this sender from others."""
        return self._client, self._own

    def send(self, datagram: bytes) -> None:
        """Pass on what the sender sent. What does not get through is lost, as datagrams may be."""
        self._relay.idle.set(self)
        try:
            self._socket.send(datagram, _MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self.close()  # nobody takes it there: the next one begins anew

    def close(self) -> None:
        """Forget the sender. Idempotent."""
        if self._socket.fileno() < 0:
            return
        self._relay.idle.remove(self)
        self._relay.loop.forget(self._socket.fileno())
        self._socket.close()
        self._relay.forget(self)

    def _answer(self, _events: int) -> None:
        for _ in range(_DATAGRAMS_IN_A_TURN):
            try:
                datagram = self._socket.recv(_DATAGRAM_BYTES, _MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            self._relay.idle.set(self)
            self._relay.answer(datagram, self._own, self._client)


class Associations:
    """All senders to one port. The one that was silent longest makes room for a new one."""

    def __init__(self, loop: Loop, outside: socket.socket, target: Target, *, idle: Deadlines[Association]) -> None:
        """`outside` is the port's socket, which stays the caller's. Raises `OSError`."""
        self.loop = loop
        self.idle = idle
        self._outside = outside
        self._target = target
        self._known: OrderedDict[tuple[Any, Ancillary], Association] = OrderedDict()
        if outside.family == socket.AF_INET6:
            outside.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            outside.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def receive(self, _events: int) -> None:
        """Pass on some of what has come to the port."""
        for _ in range(_DATAGRAMS_IN_A_TURN):
            try:
                datagram, ancillary, _flags, client = self._outside.recvmsg(_DATAGRAM_BYTES, _ANCILLARY_BYTES, _MSG_DONTWAIT)
            except OSError:
                return  # nothing is there (or not any more, with a wrong checksum)
            self._pass_on(datagram, client, tuple(own for each in ancillary for own in _own_address(*each)))

    def answer(self, datagram: bytes, own: Ancillary, client: Any) -> None:
        """Say what the container says, from the address that the sender knows."""
        try:
            self._outside.sendmsg([datagram], own, _MSG_DONTWAIT, client)
        except OSError:
            return  # a datagram may get lost

    def forget(self, association: Association) -> None:
        """It is closed."""
        self._known.pop(association.key, None)

    def close(self) -> None:
        """Forget all senders."""
        for association in list(self._known.values()):
            association.close()

    def _pass_on(self, datagram: bytes, client: Any, own: Ancillary) -> None:
        key = client, own
        association = self._known.get(key)
        if association is None:
            if len(self._known) >= MAX_ASSOCIATIONS:
                next(iter(self._known.values())).close()
            try:
                association = self._known[key] = Association(self, client, own, self._target)
            except OSError:
                return  # no way there, or no descriptor left: lost
        self._known.move_to_end(key)
        association.send(datagram)


def _own_address(level: int, kind: int, data: bytes) -> list[tuple[int, int, bytes]]:
    """What has the kernel answer from the address that a datagram was sent to, of what it says with that."""
    if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
        _index, local, _destination = _PKTINFO4.unpack(data)
        return [(level, kind, _PKTINFO4.pack(0, local, bytes(4)))]
    if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
        address, index = _PKTINFO6.unpack(data)
        # A link-local address is one of this interface's only.
        return [(level, kind, _PKTINFO6.pack(address, index if address[:2] == b"\xfe\x80" else 0))]
    return []
