"""One container's DNS server: its two sockets, which are in the container's network namespace, and what is done with what comes in."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from typing import TYPE_CHECKING

from teul.linux.loop import READ, Loop
from teul.network.agent.program.deadlines import Deadlines
from teul.network.agent.program.names import is_allowed
from teul.network.agent.program.packets import MAX_QUERY_BYTES, REFUSED, SERVFAIL, Query, address_records, answer, failure, read_query
from teul.network.agent.program.reports import Known, Reports
from teul.network.agent.program.streams import IDLE_SECONDS, Reply, StreamClient
from teul.network.agent.program.upstream import Exchange, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from teul.network.agent.messages import View
    from teul.network.agent.program.names import Names

MAX_PENDING = 256  # queries of one container that wait for upstream servers
MAX_CONNECTIONS = 64  # of one container
_DATAGRAMS_IN_A_TURN = 16  # then it is other containers' turn
_MAX_ADDRESSES = 64  # of an answer; the engine hears of no more
_ACCEPT_PAUSE_SECONDS = 0.5
_MSG_DONTWAIT = int(socket.MSG_DONTWAIT)


class Desk:
    """What all resolvers of an agent share."""

    def __init__(self, loop: Loop, *, names: Names, upstream: Upstream, reports: Reports) -> None:
        self.loop = loop
        self.names = names
        self.upstream = upstream
        self.reports = reports
        self.idle: Deadlines[StreamClient] = Deadlines(loop, IDLE_SECONDS, StreamClient.expire)


class Resolver:
    """Answers the queries of one container, until its first process ends or it is closed."""

    def __init__(
        self, desk: Desk, container_id: str, view: View, descriptors: Sequence[int], *, on_close: Callable[[Resolver], None]
    ) -> None:
        """`descriptors`: a pidfd of the first process, the UDP and the TCP socket. They stay the caller's. Raises `OSError`."""
        self.view = view
        self.known = Known()
        self._container_id = container_id
        self._desk = desk
        self._on_close = on_close
        self._clients: set[StreamClient] = set()
        self._exchanges: set[Exchange] = set()
        self._closed = False
        pidfd, udp_fd, tcp_fd = descriptors
        with contextlib.ExitStack() as stack:
            self._pidfd = os.dup(pidfd)
            stack.callback(os.close, self._pidfd)
            self._udp = stack.enter_context(socket.socket(fileno=os.dup(udp_fd)))
            self._tcp = stack.enter_context(socket.socket(fileno=os.dup(tcp_fd)))
            stack.pop_all()
        desk.loop.watch(self._pidfd, READ, self._process_ended)
        desk.loop.watch(self._udp.fileno(), READ, self._receive)
        desk.loop.watch(self._tcp.fileno(), READ, self._accept)

    def close(self) -> None:
        """Let go of the container's network namespace."""
        if self._closed:
            return
        self._closed = True
        for exchange in list(self._exchanges):
            exchange.cancel()
        for client in list(self._clients):
            client.close()
        for fd in (self._pidfd, self._udp.fileno(), self._tcp.fileno()):
            self._desk.loop.forget(fd)
        os.close(self._pidfd)
        self._udp.close()
        self._tcp.close()
        self._on_close(self)

    def _process_ended(self, _events: int) -> None:
        self.close()

    def _receive(self, _events: int) -> None:
        for _ in range(_DATAGRAMS_IN_A_TURN):
            try:
                packet, client = self._udp.recvfrom(MAX_QUERY_BYTES + 1, _MSG_DONTWAIT)
            except OSError:
                return  # nothing is there (or not any more, with a wrong checksum)
            self._handle(packet, functools.partial(self._send, client), by_udp=True)

    def _send(self, client: tuple[str, int], packet: bytes) -> None:
        if packet and not self._closed:
            try:
                self._udp.sendto(packet, _MSG_DONTWAIT, client)
            except OSError:
                return  # a datagram may get lost; the client asks again

    def _accept(self, _events: int) -> None:
        try:
            connection = self._tcp.accept()[0]
        except (BlockingIOError, ConnectionError):
            return  # the client has gone again
        except OSError:
            # The table of descriptors is full, or memory is: the next try must not come at once.
            self._desk.loop.change(self._tcp.fileno(), 0)
            self._desk.loop.call_later(_ACCEPT_PAUSE_SECONDS, self._accept_again)
            return
        if len(self._clients) >= MAX_CONNECTIONS:
            connection.close()
            return
        client = StreamClient(
            self._desk.loop, connection, deadlines=self._desk.idle, handle=self._handle_stream, on_close=self._clients.discard
        )
        self._clients.add(client)

    def _accept_again(self) -> None:
        if not self._closed:
            self._desk.loop.change(self._tcp.fileno(), READ)

    def _handle_stream(self, packet: bytes, reply: Reply) -> None:
        self._handle(packet, reply, by_udp=False)

    def _handle(self, packet: bytes, reply: Reply, *, by_udp: bool) -> None:
        query = read_query(packet)
        if query is None:
            reply(b"")
            return
        if isinstance(query, bytes):
            reply(query)
            return
        known = answer(query, self._desk.names, self.view, by_udp=by_udp)
        if known is not None:
            reply(known)
        elif not self.view["forwards"]:
            reply(failure(query, SERVFAIL))
        elif not is_allowed(self.view, query.name):
            self.known.refuse(query.name.lower())
            reply(failure(query, REFUSED))
        elif len(self._exchanges) >= MAX_PENDING:
            reply(failure(query, REFUSED))
        else:
            self._desk.upstream.ask(query, self.view["servers"], by_udp=by_udp, among=self._exchanges, done=self._telling(query, reply))

    def _telling(self, query: Query, reply: Reply) -> Reply:
        """`reply`, which under an egress policy waits until the container may reach the addresses that it is told."""
        if not self.view["allowed"]:
            return reply

        def hear(packet: bytes) -> None:
            addresses = address_records(query, packet)
            if addresses is None:
                reply(failure(query, SERVFAIL))
            elif not addresses:
                reply(packet)
            else:
                self._desk.reports.tell(
                    self._container_id,
                    query.name.lower(),
                    addresses[:_MAX_ADDRESSES],
                    self.known,
                    lambda is_allowed: reply(packet if is_allowed else failure(query, SERVFAIL)),
                )

        return hear
