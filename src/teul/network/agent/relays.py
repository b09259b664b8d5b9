"""Relays of published ports, as the engine has its network agent carry them out."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

from teul.errors import System
from teul.network.agent.client import NetworkAgent, UnknownRelay

if TYPE_CHECKING:
    from teul.network.firewall.ports import Forwarding
    from teul.network.ipam import Address

log = logging.getLogger(__name__)

_KINDS = {"tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP), "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP)}


def relay_id(address: Address, protocol: str, port: int) -> str:
    """What the agent calls the relay of a port on one address of the host, or on all of them."""
    return f"{protocol}/{port}/{address}"


class AgentRelays:
    """The relays of an agent. All methods may be repeated, and raise `System` as those of the agent."""

    def __init__(self, agent: NetworkAgent) -> None:
        self._agent = agent

    async def find(self) -> frozenset[str]:
        """The ids of those that the agent has that an earlier engine has left."""
        held = await self._agent.find()
        return held.relays if held is not None else frozenset()

    async def open(self) -> None:
        """Have an agent, which is started if there is none: what comes next does not wait for that."""
        await self._agent.open()

    async def put(self, relay: Forwarding, made: socket.socket, *, pidfd: int, may_be_there: bool) -> None:
        """Have what comes to the socket `made` passed on, until the process of `pidfd` has ended. Both stay the caller's.

        `may_be_there`: the agent may have the relay; then it is only told where it leads, and if that is the same all goes on.
        """
        name = relay_id(relay.address, relay.protocol, relay.port)
        if may_be_there:
            try:
                await self._put(name, relay, ())
                return
            except UnknownRelay:
                log.debug("the network agent does not have relay %s yet", name)
        await self._put(name, relay, (pidfd, made.fileno()))

    async def drop(self, name: str) -> None:
        """End a relay, and all that it passes on; the agent has nothing of its socket any more."""
        await self._agent.order({"order": "drop relay", "id": name})

    async def take(self, address: Address, protocol: str, port: int) -> socket.socket | None:
        """A copy of a relay's socket, for an engine that has none; None if the agent has none that is what it should be.

        security: whoever has got the better of the agent may send anything. What is not bound to this port is let go; what is, the engine
        never reads.
        """
        try:
            received = await self._agent.order_descriptors({"order": "relay socket", "id": relay_id(address, protocol, port)})
        except UnknownRelay:
            return None
        found: socket.socket | None = None
        for fd in received:
            made = _as_socket(fd)
            if made is not None and found is None and _is_ports(made, address, protocol, port):
                found = made
            elif made is not None:
                made.close()
        if found is None:
            log.warning("the network agent does not give back the socket of port %s/%s on %s", port, protocol, address)
        return found

    async def _put(self, name: str, relay: Forwarding, descriptors: tuple[int, ...]) -> None:
        answer = await self._agent.order(
            {"order": "relay", "id": name, "address": str(relay.target), "port": relay.target_port, "socket": bool(descriptors)},
            descriptors,
        )
        if name not in answer.get("relays", ()):
            raise System("the network agent is an earlier engine's, and knows nothing of relays")


def _as_socket(fd: int) -> socket.socket | None:
    try:
        return socket.socket(fileno=fd)
    except OSError:
        os.close(fd)  # it is none
        return None


def _is_ports(made: socket.socket, address: Address, protocol: str, port: int) -> bool:
    """Whether a socket keeps this port, and takes what comes for it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    if made.family != family or (made.type, made.proto) != _KINDS.get(protocol):
        return False
    if made.type == socket.SOCK_STREAM and not made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    if family == socket.AF_INET6 and not made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return False
    return bool(made.getsockname()[:2] == (str(address), port))
