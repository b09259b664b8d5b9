"""Published ports of running containers: which ports of the host they have, and where what comes for those goes.

A container's ports belong to the endpoints by which it reaches the outside: when another network becomes its way out, they keep their
numbers and lead there. What is published stands in the record's endpoints. The host has it before the record does, and loses it when the
container has ended; whatever an engine that was killed has left, `sweep` puts right.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from teul import failpoints
from teul.aio import Tasks, run_blocking, run_to_end
from teul.errors import NotFound, Refusal, TeulError
from teul.linux import reserved_ports
from teul.model.container import Container, ContainerEndpoint, PublishedPort
from teul.model.network import Network
from teul.network.allocation import gateways
from teul.network.firewall.ports import Forwarding, Published, Relayed
from teul.network.ipam import Address
from teul.network.options import parse_options
from teul.network.ports.plan import PortGroup, default_addresses, endpoint_versions, group_ports, requested_ports
from teul.network.ports.relays import RELAY, RELAYED_PROTOCOLS, TRANSLATE, PublishedPorts, ways_of
from teul.network.ports.reservations import BindError, NoFreePort, PortAllocated, Reservation, Reservations, can_use_ipv6
from teul.services.networks.host_setup import HostSetup
from teul.services.networks.relays import Relays

log = logging.getLogger(__name__)


class NotRelayed(Exception):
    """A port of this protocol is not to be had where published ports are relayed."""


_Unpublished = PortAllocated | NoFreePort | BindError | NotRelayed


class _Slot(NamedTuple):
    """One thing that a container asks for: a port of its own, on one address of the host, out of a range."""

    container_port: int
    protocol: str
    first: int
    last: int
    address: Address


_Reserved = dict[_Slot, Reservation]


class Ports:
    """The published ports of all containers of one engine. Used from the event loop only."""

    def __init__(
        self, host: HostSetup, relays: Relays, tasks: Tasks, *, find_network: Callable[[str], Network], mode: PublishedPorts = TRANSLATE
    ) -> None:
        """`find_network` finds the record of a network that an endpoint is of, by its id; `mode` is that of networks that do not say."""
        self._mode = mode
        self._relays = relays
        self._host = host
        self._tasks = tasks
        self._find_network = find_network
        self._reservations = Reservations()
        self._reserved: dict[str, _Reserved] = {}  # by the container's id
        self._published: dict[str, list[Published]] = {}  # in the firewall, by the container's id
        self._lock = asyncio.Lock()

    def plan(
        self, container: Container, endpoints: Mapping[str, ContainerEndpoint], priorities: dict[str, int]
    ) -> dict[str, list[PortGroup]]:
        """By the network's name, what would be published by its endpoint. Takes nothing."""
        config, wishes = container.config, container.host_config
        requests = requested_ports(wishes.port_bindings, config.exposed_ports or (), publish_all=wishes.publish_all_ports)
        ways_out = gateways([*endpoints.values()], priorities)
        has_ipv6 = can_use_ipv6()
        plan: dict[str, list[PortGroup]] = {}
        for name, endpoint in endpoints.items():
            versions = endpoint_versions(endpoint, ways_out)
            network = self._find_network(endpoint.network_id) if versions and (endpoint.ipv4 or endpoint.ipv6) else None
            # docker: on a wire, where nothing passes the host, nothing is published.
            if network is not None and not network.is_wire:
                # IPv4 leads to a container that has IPv4, and to no other.
                versions -= set() if endpoint.ipv4 else {4}
                options = parse_options(network.options)
                plan[name] = group_ports(requests, versions, default_addresses(options.host_binding, has_ipv6=has_ipv6))
        return plan

    async def assign(
        self, container: Container, endpoints: Mapping[str, ContainerEndpoint], priorities: dict[str, int]
    ) -> dict[str, ContainerEndpoint]:
        """Publish what a container asks for by these endpoints of its, and nothing else; returns the endpoints, their ports noted.

        Ports that it has already it keeps. `priorities` say which network is its way out. To its end, if the caller is cancelled. Raises
        System with Docker's words if a port is not to be had; then what was published before still is.
        """
        config, wishes = container.config, container.host_config
        asks = bool(wishes.port_bindings) or (wishes.publish_all_ports and bool(config.exposed_ports))
        if not asks and container.id not in self._reserved:
            return dict(endpoints)
        async with self._lock:
            return await run_to_end(self._assign_locked(container, self.plan(container, endpoints, priorities), endpoints))

    def started(self, container_id: str) -> None:
        """The container, whose ports were assigned, runs. Nothing is waited for."""
        self._relays.begin(container_id)

    async def release(self, container_id: str) -> None:
        """The container has ended, or was not started: the ports that it had are free. Idempotent."""
        if container_id in self._reserved:
            async with self._lock:
                await run_to_end(self._release_locked(container_id))

    async def sweep(self, live: Collection[Container]) -> None:
        """Hold the ports that the records of `live` containers have, and have nothing else published. For an engine that takes over.

        A port that another process has taken meanwhile is told of in the log: what comes for it goes to the container all the same.
        """
        async with self._lock:
            await self._relays.find()
            for container in live:
                if container.id not in self._reserved and any(endpoint.ports for endpoint in container.endpoints.values()):
                    await self._restore(container)
            await self._relays.drop_others()
        # Not waited for, as the firewall itself.
        self._tasks.start(self._put_right(), name="published ports")

    def close(self) -> None:
        """Let go of all ports; who runs keeps what is published."""
        for reserved in self._reserved.values():
            self._reservations.release(reserved.values())
        self._reserved.clear()

    async def _assign_locked(
        self, container: Container, plan: dict[str, list[PortGroup]], endpoints: Mapping[str, ContainerEndpoint]
    ) -> dict[str, ContainerEndpoint]:
        before = self._reserved.get(container.id, {})
        reserved: dict[str, _Reserved] = {}
        try:
            for name, groups in plan.items():
                reserved[name] = {}
                self._check_relayed(endpoints[name], groups)
                await run_blocking(self._reserve, groups, before, reserved[name])
            failpoints.reach("networks.ports.reserved")
            after = {name: _with_ports(endpoint, reserved.get(name, {})) for name, endpoint in endpoints.items()}
            translated, relayed = self._ways(after)
            await self._forward(container.id, _in_firewall(translated, relayed))
        except BaseException as error:
            kept = {id(reservation) for reservation in before.values()}
            taken = [each for slots in reserved.values() for each in slots.values() if id(each) not in kept]
            await run_blocking(self._reservations.release, taken)
            if isinstance(error, _Unpublished):
                raise _failure(container, endpoints[name], error) from error
            raise
        now = {slot: reservation for slots in reserved.values() for slot, reservation in slots.items()}
        await self._relays.change(container.id, _sockets(relayed, now.values()))
        await run_blocking(self._reservations.release, [reservation for slot, reservation in before.items() if slot not in now])
        self._reserved[container.id] = now
        if not now:
            del self._reserved[container.id]
        failpoints.reach("networks.ports.published")
        return after

    def _reserve(self, groups: Sequence[PortGroup], before: _Reserved, reserved: _Reserved) -> None:
        """Blocking. Fills `reserved`, as far as it comes."""
        for group in groups:
            slots = {address: _Slot(group.container_port, group.protocol, group.first, group.last, address) for address in group.addresses}
            had = {address: before[slot] for address, slot in slots.items() if slot in before}
            missing = tuple(address for address in slots if address not in had)
            reserved.update({slots[address]: reservation for address, reservation in had.items()})
            if missing:
                port = next((each.port for each in had.values()), None)
                span = (group.first, group.last) if port is None else (port, port)
                wanted = dataclasses.replace(group, first=span[0], last=span[1], addresses=missing)
                reserved.update({slots[each.address]: each for each in self._reservations.reserve(wanted)})

    def relayed(self, endpoint: ContainerEndpoint) -> Sequence[Forwarding]:
        """Those of an endpoint's ports that the network agent takes on the host."""
        return ways_of(endpoint, self._mode_of(endpoint)).relayed

    def _mode_of(self, endpoint: ContainerEndpoint) -> PublishedPorts:
        try:
            network = self._find_network(endpoint.network_id)
        except NotFound:
            return self._mode  # of a container that runs, whose network's record was lost: no reason not to take over the rest
        return parse_options(network.options).published_ports or self._mode

    def _check_relayed(self, endpoint: ContainerEndpoint, groups: Sequence[PortGroup]) -> None:
        protocol = next((group.protocol for group in groups if group.protocol not in RELAYED_PROTOCOLS), None)
        if protocol is not None and self._mode_of(endpoint) == RELAY:
            raise NotRelayed(protocol)

    def _ways(self, endpoints: Mapping[str, ContainerEndpoint]) -> tuple[list[Forwarding], list[Forwarding]]:
        """What is translated of the ports of these endpoints, and what is relayed."""
        ways = [ways_of(endpoint, self._mode_of(endpoint)) for endpoint in endpoints.values() if endpoint.ports]
        return [each for way in ways for each in way.translated], [each for way in ways for each in way.relayed]

    async def _forward(self, container_id: str, wanted: list[Published]) -> None:
        """Have the firewall lead what comes for a container's ports there, and note that."""
        present = self._published.get(container_id, [])
        # A port that two containers relay, each on an address of its own, is one element.
        others = dict.fromkeys(each for other, theirs in self._published.items() if other != container_id for each in theirs)
        removed = [each for each in present if each not in wanted and each not in others]
        added = [each for each in wanted if each not in present and each not in others]
        await self._host.change_published(removed, added, [*(others | dict.fromkeys(wanted))])
        self._published[container_id] = wanted
        if not wanted:
            del self._published[container_id]

    async def _release_locked(self, container_id: str) -> None:
        reserved = self._reserved.pop(container_id, {})
        try:
            await self._forward(container_id, [])
        except TeulError as error:
            # Whoever gets one of the ports next has all of the firewall put right.
            self._published.pop(container_id, None)
            log.warning("ports of container %s are still led to it: %s", container_id, error.message)
        try:
            failpoints.reach("networks.ports.withdrawn")
        finally:
            await self._relays.change(container_id, {})
            await run_blocking(self._reservations.release, reserved.values())

    async def _restore(self, container: Container) -> None:
        reserved: _Reserved = {}
        wishes, config = container.host_config, container.config
        requests = requested_ports(wishes.port_bindings, config.exposed_ports or (), publish_all=wishes.publish_all_ports)
        for endpoint in container.endpoints.values():
            for port in endpoint.ports:
                address = ipaddress.ip_address(port.host_address)
                span = next(
                    (
                        (request.first, request.last)
                        for request in requests
                        if (request.container_port, request.protocol) == (port.container_port, port.protocol)
                        and request.host_address in (None, address)
                        and (not request.first or request.first <= port.host_port <= request.last)
                        and _Slot(port.container_port, port.protocol, request.first, request.last, address) not in reserved
                    ),
                    (port.host_port, port.host_port),
                )
                made = await self._relays.take(address, port.protocol, port.host_port)
                reservation, error = await run_blocking(self._reservations.restore, address, port.protocol, port.host_port, made)
                if error is not None:
                    log.warning("container %s: its published port cannot be kept from others: %s", container.name, _reason(error))
                reserved[_Slot(port.container_port, port.protocol, *span, address)] = reservation
        self._reserved[container.id] = reserved
        translated, relayed = self._ways(container.endpoints)
        self._published[container.id] = _in_firewall(translated, relayed)
        sockets = _sockets(relayed, reserved.values())
        # What an engine relayed that did so with all ports takes nothing any more.
        await run_blocking(_refuse, [each.socket for each in reserved.values() if each.socket not in sockets.values()])
        await self._relays.change(container.id, sockets, may_be_there=True)

    async def _put_right(self) -> None:
        async with self._lock:
            try:
                await self._host.set_published([*dict.fromkeys(each for theirs in self._published.values() for each in theirs)])
            except TeulError as error:
                log.warning("published ports are not ready: %s", error.message)


def _in_firewall(translated: Sequence[Forwarding], relayed: Sequence[Forwarding]) -> list[Published]:
    return [*translated, *dict.fromkeys(Relayed(protocol=each.protocol, port=each.port) for each in relayed)]


def _sockets(relayed: Sequence[Forwarding], reservations: Iterable[Reservation]) -> dict[Forwarding, socket.socket]:
    """The relays with the sockets of their ports; without those that the host did not let us have."""
    made = {(each.address, each.protocol, each.port): each.socket for each in reservations}
    found = {each: made.get((each.address, each.protocol, each.port)) for each in relayed}
    return {each: port for each, port in found.items() if port is not None}


def _refuse(sockets: Iterable[socket.socket | None]) -> None:
    for made in sockets:
        if made is not None:
            reserved_ports.refuse(made)


def _with_ports(endpoint: ContainerEndpoint, reserved: _Reserved) -> ContainerEndpoint:
    ports = [
        PublishedPort(
            container_port=slot.container_port, protocol=slot.protocol, host_address=str(slot.address), host_port=reservation.port
        )
        for slot, reservation in reserved.items()
    ]
    return msgspec.structs.replace(endpoint, ports=tuple(ports))


def _failure(container: Container, endpoint: ContainerEndpoint, error: _Unpublished) -> Refusal:
    where = f"driver failed programming external connectivity on endpoint {container.name} ({endpoint.endpoint_id})"
    return Refusal(f"{where}: {_reason(error)}")


def _reason(error: _Unpublished) -> str:
    """docker: libnetwork/portallocator, in its words and, for what the system says, in Go's."""
    if isinstance(error, PortAllocated):
        return f"Bind for {error.address}:{error.port} failed: port is already allocated"
    if isinstance(error, NoFreePort):
        return "all ports are allocated"
    if isinstance(error, NotRelayed):
        return f"{error} ports cannot be published where published ports are relayed"
    said = os.strerror(error.errno or 0)
    return f"{error.action}: {said[0].lower()}{said[1:]}"
