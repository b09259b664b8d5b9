"""Queries to upstream servers: one after the other until one answers, from the network namespace that the agent itself is in, the host's.

docker: daemon/libnetwork/resolver.go, forwardExtDNS: three servers at most, four seconds each, the next one at once after a failure or a
refusal; a query that came by TCP goes on by TCP, one by UDP by UDP, and an answer that did not fit into a datagram is handed on as it is,
for the client to come back by TCP. Unlike Docker's, a query goes out under an id of its own from a socket of its own, and only the reply to
its question is believed: four thousand million guesses instead of none for whoever wants to pass a false one off.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence

from teul.linux.loop import HANGUP, READ, WRITE, Loop
from teul.network.agent.program.deadlines import Deadlines
from teul.network.agent.program.packets import (
    HEADER_BYTES,
    MAX_MESSAGE_BYTES,
    REFUSED,
    SERVFAIL,
    Query,
    failure,
    is_refusal,
    is_reply,
    with_id,
)

DNS_PORT = 53
MAX_SERVERS = 3
SERVER_SECONDS = 4.0
MAX_PENDING = 2048  # a descriptor each

Address = tuple[str, int] | tuple[str, int, int, int]


class Exchange:
    """One query on its way to the servers. Calls `done` once, with the answer, unless it is cancelled."""

    def __init__(
        self, upstream: Upstream, query: Query, servers: Sequence[str], *, by_udp: bool, among: set[Exchange], done: Callable[[bytes], None]
    ) -> None:
        self._upstream = upstream
        self._among = among
        self._query = query
        self._servers = list(servers[:MAX_SERVERS])
        self._by_udp = by_udp
        self._done = done
        self._socket: socket.socket | None = None
        self._number = 0
        self._outgoing = b""
        self._incoming = bytearray()

    def ask_next(self) -> None:
        """Ask the next server; without any left, answer with a failure."""
        self._close()
        while self._servers:
            try:
                self._ask(self._servers.pop(0))
            except (OSError, ValueError):  # no way there, no descriptor left, no address: the next server may have what it takes
                self._close()
            else:
                return
        self._finish(failure(self._query, SERVFAIL))

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        self._close()
        self._upstream.pending.discard(self)
        self._among.discard(self)

    def _ask(self, server: str) -> None:
        family, address = parse_server(server)
        self._number = int.from_bytes(os.urandom(2), "big")
        packet = with_id(self._query.packet, self._number)
        kind = socket.SOCK_DGRAM if self._by_udp else socket.SOCK_STREAM
        self._socket = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        self._incoming.clear()
        with contextlib.suppress(BlockingIOError):
            self._socket.connect(address)
        self._outgoing = packet if self._by_udp else len(packet).to_bytes(2, "big") + packet
        if self._by_udp:
            self._socket.send(packet)
        self._upstream.loop.watch(self._socket.fileno(), READ if self._by_udp else WRITE, self._ready)
        self._upstream.deadlines.set(self)

    def _ready(self, events: int) -> None:
        assert self._socket is not None
        try:
            if self._by_udp:
                self._take(self._socket.recv(MAX_MESSAGE_BYTES))
            elif events & (READ | HANGUP) and not self._outgoing:
                self._receive()
            else:
                self._transmit()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # nobody listens there, or not any more
            self.ask_next()

    def _transmit(self) -> None:
        assert self._socket is not None
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        self._outgoing = self._outgoing[self._socket.send(self._outgoing) :]
        if not self._outgoing:
            self._upstream.loop.change(self._socket.fileno(), READ)

    def _receive(self) -> None:
        assert self._socket is not None
        data = self._socket.recv(MAX_MESSAGE_BYTES)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        self._incoming += data
        size = int.from_bytes(self._incoming[:2], "big")
        if len(self._incoming) < max(2 + size, 2 + HEADER_BYTES):
            return
        if not self._take(bytes(self._incoming[2 : 2 + size])):
            raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))  # one connection, one answer: nothing is waited for behind another

    def _take(self, packet: bytes) -> bool:
        """Whether it was the reply."""
        if not is_reply(self._query, self._number, packet):
            return False
        if is_refusal(packet):
            self.ask_next()
        else:
            self._finish(with_id(packet, self._query.header.id))
        return True

    def _finish(self, packet: bytes) -> None:
        self.cancel()
        self._done(packet)

    def _close(self) -> None:
        self._upstream.deadlines.remove(self)
        self._incoming.clear()
        if self._socket is not None:
            self._upstream.loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None


class Upstream:
    """All queries that are on their way, of all containers."""

    def __init__(self, loop: Loop, *, server_seconds: float = SERVER_SECONDS) -> None:
        self.loop = loop
        self.deadlines: Deadlines[Exchange] = Deadlines(loop, server_seconds, Exchange.ask_next)
        self.pending: set[Exchange] = set()

    def ask(self, query: Query, servers: Sequence[str], *, by_udp: bool, among: set[Exchange], done: Callable[[bytes], None]) -> None:
        """Ask the servers in order; `done` gets the answer, be it a failure, maybe before this returns.

        Until then the exchange is `among` those of its asker, who can cancel it.
        """
        if len(self.pending) >= MAX_PENDING:
            done(failure(query, REFUSED))
            return
        exchange = Exchange(self, query, servers, by_udp=by_udp, among=among, done=done)
        self.pending.add(exchange)
        among.add(exchange)
        exchange.ask_next()


def parse_server(server: str) -> tuple[socket.AddressFamily, Address]:
    """The address to connect to of "192.0.2.1", "192.0.2.1:53", "2001:db8::1", "[2001:db8::1]:53"; a zone is an interface's number.

    Raises ValueError for anything else.
    """
    host, port = server, DNS_PORT
    if server.startswith("["):
        host, _, rest = server[1:].partition("]")
        port = int(rest.removeprefix(":")) if rest else DNS_PORT
    elif server.count(":") == 1:
        host, _, number = server.partition(":")
        port = int(number)
    if not 0 < port < 65536:
        raise ValueError(f"not a port: {port}")
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv4Address):
        return socket.AF_INET, (str(address), port)
    zone = int(address.scope_id) if address.scope_id else 0
    return socket.AF_INET6, (host.partition("%")[0], port, 0, zone)
