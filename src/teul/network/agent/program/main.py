"""The agent's process: answers containers' DNS queries and passes on what comes to published ports, whether its engine lives or not.

It has one thread and one epoll loop. The engine starts it with a connection to itself and a listening socket for the engines after it, and
orders what is to be served (`messages`). It goes on without any engine, and leaves when it has none and serves nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from teul.linux import process
from teul.linux.loop import READ, Loop
from teul.linux.seqpacket import Cut, receive_message, send_message
from teul.network.agent.program.associations import Association, Associations
from teul.network.agent.program.confine import confine
from teul.network.agent.program.connections import Connection
from teul.network.agent.program.orders import Orders
from teul.network.agent.program.relays import Relay
from teul.network.agent.program.resolver import Resolver
from teul.network.agent.program.streams import StreamClient
from teul.network.agent.program.upstream import Exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from teul.network.agent.messages import Answer, Resolved
    from teul.network.agent.program.names import Network

_MAX_CONNECTIONS = 8  # an engine has one, and there is one engine at a time
_ACCEPT_PAUSE_SECONDS = 0.5


class Agent:
    """Takes orders from engines, until there are none and nobody is to be served."""

    def __init__(self, connection: socket.socket, listener: socket.socket) -> None:
        self._loop = Loop(_on_trouble)
        self._orders = Orders(self._loop)
        self._listener = listener
        self._drafts: dict[socket.socket, dict[str, Network]] = {}  # by connection
        self._loop.watch(listener.fileno(), READ, self._accept)
        self._welcome(connection)

    def run(self) -> NoReturn:
        """Serve to the end."""
        while self._drafts or self._orders.is_serving:
            self._loop.turn()
        os._exit(0)

    def _accept(self, _events: int) -> None:
        try:
            connection = self._listener.accept()[0]
        except (BlockingIOError, ConnectionError):
            return  # whoever it was has gone again
        except OSError:
            # The table of descriptors is full, or memory is: the next try must not come at once.
            self._loop.change(self._listener.fileno(), 0)
            self._loop.call_later(_ACCEPT_PAUSE_SECONDS, self._loop.change, self._listener.fileno(), READ)
            return
        if len(self._drafts) >= _MAX_CONNECTIONS:
            connection.close()
            return
        self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> None:
        # By fcntl(2), which is still allowed: an engine that does not read must not hold up anybody's names.
        fcntl.fcntl(connection.fileno(), fcntl.F_SETFL, os.O_RDWR | os.O_NONBLOCK)
        self._drafts[connection] = {}
        self._orders.reports.attend(lambda message: self._tell(connection, message))
        self._loop.watch(connection.fileno(), READ, self._serve, connection)

    def _part(self, connection: socket.socket) -> None:
        self._loop.forget(connection.fileno())
        connection.close()
        del self._drafts[connection]
        if not self._drafts:
            self._orders.reports.attend(None)

    def _serve(self, connection: socket.socket, _events: int) -> None:
        try:
            received = receive_message(connection)
        except (Cut, ValueError) as error:
            self._answer(connection, {"error": f"{type(error).__name__}: {error}"})
            return
        except BlockingIOError:
            return
        except OSError:
            received = None
        if received is None:
            self._part(connection)
            return
        order, descriptors = received
        try:
            answer = self._orders.carry_out(order, descriptors, self._drafts[connection])
        finally:
            for fd in descriptors:
                os.close(fd)
        self._answer(connection, answer, self._orders.lent(order, answer))

    def _tell(self, connection: socket.socket, message: Resolved) -> None:
        # An engine that is gone, or does not read, is parted from when it is answered, or heard of.
        with contextlib.suppress(OSError):
            send_message(connection, message, [])

    def _answer(self, connection: socket.socket, answer: Answer, lent: Sequence[int] = ()) -> None:
        try:
            send_message(connection, answer, list(lent))
        except OSError:
            self._part(connection)  # the engine is gone, or does not read: then it has to begin anew


def _on_trouble(owner: object, error: Exception) -> None:
    """One container's trouble is not the others': it loses a query, a connection, a relay or its resolver, and the engine's log says so."""
    traceback.print_exception(error)
    if isinstance(owner, Exchange):
        owner.cancel()
    elif isinstance(owner, Resolver | StreamClient | Connection | Association | Associations | Relay):
        owner.close()
    else:
        os._exit(1)


def main() -> NoReturn:
    """Entry point: the connection to the engine and the listening socket are the descriptors named by the last two arguments."""
    connection, listener = (socket.socket(fileno=int(number)) for number in sys.argv[-2:])
    process.close_all_but({connection.fileno(), listener.fileno()})
    process.set_name("teul-agent")
    process.set_title("teul: network agent", process.argument_area())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    agent = Agent(connection, listener)
    gc.freeze()
    confine()  # before anything is read
    agent.run()
