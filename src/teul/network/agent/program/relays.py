"""Published ports that no address translation leads to their containers: what comes to their sockets is passed on.

The sockets are made, bound and told to take what comes by the engine, which keeps copies; nobody in here may bind or listen. What becomes
of a relay's container ends it, by the pidfd that came along, whether there is an engine or not.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from typing import TYPE_CHECKING

from teul.linux.loop import READ, Loop
from teul.network.agent.program.associations import IDLE_SECONDS, Association, Associations
from teul.network.agent.program.connections import Connection, Target
from teul.network.agent.program.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_CONNECTIONS = 1024  # of one port; more wait in its backlog
MAX_ALL_CONNECTIONS = 4096
_ACCEPT_PAUSE_SECONDS = 0.5
_DESCRIPTORS = 2


class Switchboard:
    """What all relays of an agent share."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.idle: Deadlines[Association] = Deadlines(loop, IDLE_SECONDS, Association.close)
        self.connections = 0


class Relay:
    """One port on one address of the host, until the container's first process ends or it is closed."""

    def __init__(self, board: Switchboard, target: Target, descriptors: Sequence[int], *, on_close: Callable[[Relay], None]) -> None:
        """`descriptors`: a pidfd of the container's first process, and the port's socket. They stay the caller's.

        Raises `OSError`, `ValueError` for a wrong number of them.
        """
        if len(descriptors) != _DESCRIPTORS:
            raise ValueError(f"{len(descriptors)} descriptors for a relay")
        self.target = target
        self._board = board
        self._on_close = on_close
        self._connections: set[Connection] = set()
        self._is_accepting = False
        self._closed = False
        with contextlib.ExitStack() as stack:
            self._pidfd = os.dup(descriptors[0])
            stack.callback(os.close, self._pidfd)
            self._outside = stack.enter_context(socket.socket(fileno=os.dup(descriptors[1])))
            is_stream = self._outside.type == socket.SOCK_STREAM
            self._associations = None if is_stream else Associations(board.loop, self._outside, target, idle=board.idle)
            stack.pop_all()
        board.loop.watch(self._pidfd, READ, self._process_ended)
        if self._associations is not None:
            board.loop.watch(self._outside.fileno(), READ, self._associations.receive)
        else:
            self._accept_again()

    @property
    def descriptors(self) -> tuple[int, int]:
        """What it was made with, as it has them; they stay the relay's."""
        return self._pidfd, self._outside.fileno()

    def close(self) -> None:
        """End all connections, and let go of the socket. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for connection in list(self._connections):
            connection.close()
        if self._associations is not None:
            self._associations.close()
        for fd in (self._pidfd, self._outside.fileno()):
            self._board.loop.forget(fd)
        os.close(self._pidfd)
        self._outside.close()
        self._on_close(self)

    def _process_ended(self, _events: int) -> None:
        self.close()

    def _accept(self, _events: int) -> None:
        try:
            client = self._outside.accept()[0]
        except (BlockingIOError, ConnectionError):
            return  # the client has gone again
        except OSError:
            # The table of descriptors is full, or memory is (or the socket does not listen): the next try must not come at once.
            self._pause(_ACCEPT_PAUSE_SECONDS)
            return
        self._board.connections += 1
        try:
            self._connections.add(Connection(self._board.loop, client, self.target, on_close=self._forget))
        except OSError:
            self._board.connections -= 1
        if len(self._connections) >= MAX_CONNECTIONS:
            self._pause()
        elif self._board.connections >= MAX_ALL_CONNECTIONS:
            self._pause(_ACCEPT_PAUSE_SECONDS)  # the room may be made by another port's

    def _pause(self, seconds: float | None = None) -> None:
        self._is_accepting = False
        self._board.loop.forget(self._outside.fileno())
        if seconds is not None:
            self._board.loop.call_later(seconds, self._accept_again)

    def _accept_again(self) -> None:
        if self._closed or self._is_accepting or len(self._connections) >= MAX_CONNECTIONS:
            return
        if self._board.connections >= MAX_ALL_CONNECTIONS:
            self._board.loop.call_later(_ACCEPT_PAUSE_SECONDS, self._accept_again)
            return
        self._is_accepting = True
        self._board.loop.watch(self._outside.fileno(), READ, self._accept)

    def _forget(self, connection: Connection) -> None:
        self._board.connections -= 1
        self._connections.discard(connection)
        self._accept_again()


def parse_target(address: str, port: int) -> Target:
    """The container's end of a relay. Raises `ValueError`."""
    if not 0 < port < 65536:
        raise ValueError(f"not a port: {port}")
    return str(ipaddress.ip_address(address)), port
