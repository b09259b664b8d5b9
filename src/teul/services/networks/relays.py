"""Relays of running containers' published ports: which there are, and that the network agent carries them out.

A relay begins when its port's socket admits what comes, which waits there until the agent, started if need be, has a copy of it: nobody's
start waits for that. The agent keeps that copy until the container's process ends or the relay is dropped, with an engine or without.

What cannot be relayed is told in the log and refused to whoever comes, so that they try another address, until the container's ports
change or another agent is there: a container runs, or ends, whatever becomes of relays.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping

from teul import failpoints
from teul.aio import Tasks, run_blocking, run_to_end
from teul.errors import System, TeulError
from teul.linux import reserved_ports
from teul.network.agent.relays import AgentRelays, relay_id
from teul.network.firewall.ports import Forwarding
from teul.network.ipam import Address

log = logging.getLogger(__name__)

Wanted = Mapping[Forwarding, socket.socket]
"""Where relays lead, and the sockets of their ports, which stay their owner's as long as the relay is wanted."""


class Relays:
    """The relays of one engine. Used from the event loop only."""

    def __init__(self, agent: AgentRelays, tasks: Tasks, *, find_pidfd: Callable[[str], int | None]) -> None:
        """`find_pidfd` finds the pidfd of a container's first process, None if none runs. It is copied at once."""
        self._agent = agent
        self._tasks = tasks
        self._find_pidfd = find_pidfd
        self._wanted: dict[str, Wanted] = {}  # by the container's id
        self._put: dict[str, set[Forwarding]] = {}  # what the agent has been told of, as long as it is not lost
        self._found: frozenset[str] = frozenset()  # ids of what an earlier engine's agent has
        self._lock = asyncio.Lock()

    async def find(self) -> None:
        """Learn what an earlier engine's agent relays."""
        try:
            self._found = await self._agent.find()
        except TeulError as error:
            log.error("ports that were relayed cannot be for now: %s", error.message)

    async def take(self, address: Address, protocol: str, port: int) -> socket.socket | None:
        """The socket by which an earlier engine's agent keeps a port; None if it has none. It is the caller's."""
        if relay_id(address, protocol, port) not in self._found:
            return None
        try:
            return await self._agent.take(address, protocol, port)
        except TeulError as error:
            log.error("port %s/%s of %s cannot be had from the network agent: %s", port, protocol, address, error.message)
            return None

    async def drop_others(self) -> None:
        """Have no relay of what was found that is not wanted."""
        wanted = {_id(relay) for theirs in self._wanted.values() for relay in theirs}
        await self._drop(self._found - wanted)
        self._found &= wanted

    async def change(self, container_id: str, wanted: Wanted, *, may_be_there: bool = False) -> None:
        """Have exactly these ports of a container relayed from now on. Those that are not any more are free when this returns.

        `may_be_there`: the agent of an earlier engine may have them. To its end, if the caller is cancelled.
        """
        if not wanted and container_id not in self._wanted:
            return
        await run_to_end(self._change(container_id, wanted, may_be_there=may_be_there))

    async def _change(self, container_id: str, wanted: Wanted, *, may_be_there: bool) -> None:
        before = self._wanted.pop(container_id, {})
        if wanted:
            self._wanted[container_id] = wanted
        kept = {_id(relay) for relay in wanted}
        async with self._lock:
            present = self._put.pop(container_id, set())
            gone = {_id(relay) for relay in (*before, *present)} - kept
            told = gone & ({_id(relay) for relay in present} | self._found)
            if remaining := {relay for relay in present if _id(relay) in kept}:
                self._put[container_id] = remaining
        await self._drop(told)
        await run_blocking(_refuse, [made for relay, made in before.items() if _id(relay) not in kept])
        try:
            await run_blocking(_admit, [made for relay, made in wanted.items() if relay not in before])
        except TeulError as error:
            log.error("published ports of container %s are not relayed: %s", container_id, error.message)
        self.begin(container_id, may_be_there=may_be_there)

    def begin(self, container_id: str, *, may_be_there: bool = False) -> None:
        """The container runs, if it does: its relays are put to the agent, which is not waited for."""
        if container_id in self._wanted and self._find_pidfd(container_id) is not None:
            self._tasks.start(self._begin(container_id, may_be_there=may_be_there), name="relay ports")

    async def say_everything(self) -> None:
        """Put all relays to an agent that has taken the place of one that was lost. Raises `System` where no agent can be had."""
        async with self._lock:
            self._put.clear()
        for container_id in list(self._wanted):
            await self._put_all(container_id, may_be_there=True)

    async def _begin(self, container_id: str, *, may_be_there: bool) -> None:
        try:
            await self._put_all(container_id, may_be_there=may_be_there)
        except TeulError as error:
            log.error("published ports of container %s are not relayed: %s", container_id, error.message)
            async with self._lock:
                present = self._put.get(container_id, set())
                left = [made for relay, made in self._wanted.get(container_id, {}).items() if relay not in present]
                await run_blocking(_refuse, left)

    async def _put_all(self, container_id: str, *, may_be_there: bool) -> None:
        await self._agent.open()  # without the lock: who ends meanwhile does not wait for that
        for relay in list(self._wanted.get(container_id, {})):
            async with self._lock:
                await run_to_end(self._put_locked(container_id, relay, may_be_there=may_be_there))

    async def _put_locked(self, container_id: str, relay: Forwarding, *, may_be_there: bool) -> None:
        made = self._wanted.get(container_id, {}).get(relay)
        present = self._put.get(container_id, set())
        pidfd = self._find_pidfd(container_id)
        if made is None or relay in present or pidfd is None:
            return
        pidfd = os.dup(pidfd)  # the process may end meanwhile, and its descriptor's number be another's
        try:
            await run_blocking(_admit, [made])
            led_elsewhere = any(_id(other) == _id(relay) for other in present)
            await self._agent.put(relay, made, pidfd=pidfd, may_be_there=may_be_there or led_elsewhere)
        finally:
            os.close(pidfd)
        failpoints.reach("networks.relays.put")
        self._put[container_id] = {other for other in present if _id(other) != _id(relay)} | {relay}

    async def _drop(self, ids: Iterable[str]) -> None:
        for name in ids:
            try:
                await self._agent.drop(name)
            except TeulError as error:
                log.warning("relay %s is not known to have ended: %s", name, error.message)


def _id(relay: Forwarding) -> str:
    return relay_id(relay.address, relay.protocol, relay.port)


def _admit(sockets: Iterable[socket.socket]) -> None:
    for made in sockets:
        try:
            reserved_ports.admit(made)
        except OSError as error:
            raise System(f"nobody can be let in at a published port: {error.strerror}") from error


def _refuse(sockets: Iterable[socket.socket]) -> None:
    for made in sockets:
        reserved_ports.refuse(made)
