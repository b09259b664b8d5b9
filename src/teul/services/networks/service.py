"""Networks: which there are and who is on them; making and removing them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from functools import partial
from types import TracebackType
from typing import Self

import msgspec

from teul import failpoints
from teul.aio import Tasks, run_to_end, undoing
from teul.errors import Forbidden, InvalidParameter, NotFound, TeulError
from teul.model.container import Container
from teul.model.egress import EgressPolicy
from teul.model.event import Event
from teul.model.filter import Filters
from teul.model.lifecycle import Status
from teul.model.network import AddressRange, Attachment, Network
from teul.model.network_config import CreateNetwork
from teul.network.bridge import SubnetTaken
from teul.network.default_bridge import AS_USUAL, DefaultBridge
from teul.network.host import HostNetwork
from teul.network.ipam import DEFAULT_POOLS, Pool
from teul.network.options import parse_options
from teul.network.ports.relays import TRANSLATE, PublishedPorts
from teul.services.events import EventSink, network_event
from teul.services.networks.creation import (
    SubnetWish,
    as_range,
    check_bridge_name,
    check_options,
    check_overlap,
    check_parent,
    check_request,
    check_ways_out,
    wishes_of,
)
from teul.services.networks.egress import Egress, check_networks, policy_of
from teul.services.networks.endpoints import Endpoints
from teul.services.networks.filters import check_prune_filters, list_filter, prune_filter
from teul.services.networks.host_setup import CHOICES, HostSetup
from teul.services.networks.linked import LinkedPorts
from teul.services.networks.ports import Ports
from teul.services.networks.records import attachment_of, subnets_of
from teul.services.networks.registry import NetworkRegistry
from teul.services.networks.relays import Relays
from teul.services.usage import Usage
from teul.store.metadata.database import Database

log = logging.getLogger(__name__)

# How long a container that ended may take to give back what it held: its end is told before that, and a full disk may hold it up for good.
_GIVING_BACK_SECONDS = 2.0
_RUNNING = frozenset({Status.RUNNING, Status.PAUSED})


class Networks:
    """The use cases of networks. What containers get of them is in `endpoints` and `ports`. Used from the event loop only."""

    def __init__(
        self,
        database: Database,
        host: HostNetwork,
        usage: Usage[str],
        events: EventSink,
        relays: Relays,
        *,
        pools: Sequence[Pool] = DEFAULT_POOLS,
        default_bridge: DefaultBridge = AS_USUAL,
        published_ports: PublishedPorts = TRANSLATE,
    ) -> None:
        """`usage` is by the network's id; `pools` are those that networks without a subnet of their own get one of; `published_ports` is
        what is done with the ports of networks that do not say.
        """
        self._usage = usage
        self._events = events
        self._tasks = Tasks()
        self._registry = NetworkRegistry(database, bridge_name=host.names.bridge, default=default_bridge)
        self._host = HostSetup(host, self._registry, self._tasks, pools=pools, default=default_bridge)
        self.endpoints = Endpoints(database, self._host, self._tasks)
        self.ports = Ports(self._host, relays, self._tasks, find_network=self._registry.get, mode=published_ports)
        self.egress = Egress(self._host, self._tasks, find_network=self._registry.get)
        self.linked = LinkedPorts(self._host, self._tasks, find_network=self._registry.get)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def open(self) -> None:
        """Load the records and take over, or make, the host's side."""
        await self.endpoints.open()
        await self._registry.open(is_in_use=self.endpoints.is_in_use)
        await self._host.open(self._registry.all(), is_in_use=self.endpoints.is_in_use)

    async def close(self, *, remove: bool = True) -> None:
        """Stop background work; with `remove`, and if no container holds an address, leave the host as it was found."""
        await self._host.settle()  # work that was begun on the host is finished before its results are removed again
        await self._tasks.cancel()
        self.ports.close()
        if remove and not self.endpoints.is_in_use():
            await self._host.remove()
        await self._host.close()

    async def sweep(self, live: Collection[Container]) -> None:
        """Take from the host what belongs to none of the `live` containers, see `Endpoints.sweep` and `Ports.sweep`, and to no network."""
        await self._host.sweep(self._registry.all())
        await self.egress.sweep(live, self._registry.all())
        await self.endpoints.sweep(live)
        await self.ports.sweep(live)

    def announce(self, container: Container, action: str) -> None:
        """Tell that a container has come to all of its networks (`connect`), or has left them (`disconnect`)."""
        for name in container.endpoints:
            if self._registry.has(name):
                self._events.publish(network_event(self._registry.get(name), action, container=container.id))

    def list(self, filters: Filters | None = None) -> Sequence[Network]:
        """The networks, or those that `filters` (of GET /networks) let through. Raises InvalidParameter."""
        networks = self._registry.all()
        if not filters:
            return networks
        is_wanted = list_filter(filters, lambda network: bool(self.attachments(network)))
        return [network for network in networks if is_wanted(network)]

    def get(self, reference: str, *, scope: str = "") -> Network:
        """Find by id, name or unique beginning of the id, in this order. Raises NoSuchNetwork, InvalidParameter if the id is ambiguous."""
        return self._registry.get(reference, scope=scope)

    def has(self, name: str) -> bool:
        """Whether there is a network of this name."""
        return self._registry.has(name)

    def users(self, network: Network) -> Sequence[Container]:
        """The containers that are on a network, newest first."""
        return self._usage.users(network.id)

    def attachments(self, network: Network) -> Sequence[Attachment]:
        """The running containers on a network."""
        return [attachment_of(container, network) for container in self._usage.users(network.id) if container.state.status in _RUNNING]

    async def create(self, request: CreateNetwork) -> Network:
        """Make a network; nothing of it is there if it fails. Raises as Docker does."""
        network, wishes = check_request(request)
        if network.config_from:
            network = self._with_configuration(network)
            wishes = wishes_of(network)
            check_options(network)
        if not self._registry.has(network.name):
            check_parent(network, self._registry.all())
        self._registry.reserve(network)
        return await run_to_end(self._make(network, wishes))

    async def change_egress(self, reference: str, rules: Sequence[str] | None) -> Network:
        """Hold a network's containers to other rules from now on, or to none; returns the record. Raises TeulError, and changes nothing."""
        network = self.get(reference)
        policy = policy_of(rules)
        if network.driver == "null":
            raise InvalidParameter(f"network {network.name} leads nowhere, and has no egress policy")
        check_networks([network])
        if policy is not None and policy.names and network.is_predefined:
            raise InvalidParameter(f"containers on network {network.name} ask no resolver of the engine's: no names can be allowed there")
        return await run_to_end(self._change_egress(network, policy))

    async def remove(self, reference: str) -> None:
        """Remove a network that no container is on. Raises NoSuchNetwork, Forbidden."""
        network = self.get(reference)
        if network.is_predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        await run_to_end(self._remove(network))

    async def prune(self, filters: Filters) -> Sequence[str]:
        """Remove the networks that nobody uses and that may be removed; returns their names. Raises InvalidParameter."""
        check_prune_filters(filters)
        is_wanted = prune_filter(filters, now_ns=time.time_ns())
        removed: list[str] = []
        for network in self._registry.all():
            if network.is_predefined or network.config_only or self._usage.is_used(network.id):
                continue
            if not is_wanted(network):
                continue
            try:
                await self.remove(network.id)
            except (Forbidden, NotFound):
                continue  # a container came, or somebody else was faster
            except TeulError as error:
                log.warning("network %s is not pruned: %s", network.name, error.message)
                continue
            removed.append(network.name)
        if removed:
            self._events.publish(Event("network", "prune", "", {"reclaimed": "0"}))
        return removed

    async def _change_egress(self, network: Network, policy: EgressPolicy | None) -> Network:
        changed = msgspec.structs.replace(network, egress=[*policy.rules] if policy is not None else None)
        async with undoing(partial(self.egress.assign_network, network), "and the policy is another one than on record"):
            await self.egress.assign_network(changed, self._usage.users(network.id))
            failpoints.reach("networks.egress.assigned")
            await self._registry.save(changed)
        self._events.publish(network_event(changed, "update"))
        return changed

    def _with_configuration(self, network: Network) -> Network:
        """The record with what it takes from a configuration network. Raises NotFound."""
        found = next((each for each in self._registry.all() if each.config_only and each.name == network.config_from), None)
        if found is None:
            raise NotFound(f'configuration network "{network.config_from}" does not exist')
        return msgspec.structs.replace(
            network,
            enable_ipv4=found.enable_ipv4,
            enable_ipv6=found.enable_ipv6,
            ipam=found.ipam,
            options=dict(found.options),
            labels=dict(found.labels),
        )

    async def _make(self, network: Network, wishes: Sequence[SubnetWish]) -> Network:
        """Record and bridge of a network whose name was reserved, or neither."""
        async with undoing(partial(self._give_up, network), "and it stays until it is removed"):
            for attempt in range(CHOICES):
                network = await self._with_subnets(network, wishes)
                failpoints.reach("networks.create.chosen")
                await self._registry.save(network)
                failpoints.reach("networks.create.recorded")
                if network.config_only:
                    break
                if network.is_wire:
                    await self._host.ensure_wire(network, is_new=True)
                    break
                await self.egress.assign_network(network)
                try:
                    is_exclusive = any(wish.subnet is None for wish in wishes) and attempt + 1 < CHOICES
                    await self._host.ensure(network, is_in_use=False, is_exclusive=is_exclusive)
                except SubnetTaken:
                    continue
                break
        self._events.publish(network_event(network, "create"))
        return network

    async def _with_subnets(self, network: Network, wishes: Sequence[SubnetWish]) -> Network:
        others_here = [other for other in self._registry.all() if other.id != network.id and not other.config_only]
        others = [subnet for other in others_here for subnet in subnets_of(other)]
        isolated = parse_options(network.options).isolated if network.driver == "bridge" else frozenset()
        if isolated and not network.internal:
            raise InvalidParameter("gateway mode 'isolated' can only be used for an internal network")
        check_ways_out(network, wishes)
        if network.driver == "bridge" and not network.config_only:
            check_bridge_name(network, [other for other in others_here if other.driver == "bridge"])
        # docker: on a wire the gateway is somebody else, so only one that was given is left alone.
        has_gateways = not network.config_only and not network.is_wire
        ranges: list[AddressRange] = []
        for wish in wishes:
            if not network.config_only:
                check_overlap(wish, others)
            if wish.subnet is None and network.config_only:
                continue
            subnet = wish.subnet or await self._host.choose(wish.version, wish.size, others)
            others.append(subnet)
            ranges.append(as_range(wish, subnet, is_routed=has_gateways and wish.version not in isolated))
        return msgspec.structs.replace(network, ipam=msgspec.structs.replace(network.ipam, ranges=ranges))

    async def _give_up(self, network: Network) -> None:
        current = self._registry.current(network)
        await self.egress.release_network(network.id)
        try:
            if not current.config_only and (current.ipam.ranges or current.is_wire):
                await self._host.withdraw(current)
        finally:
            await self._registry.delete(current)

    async def _remove(self, network: Network) -> None:
        if self._is_configuration_of_others(network):
            raise Forbidden(f'error while removing network: configuration network "{network.name}" is in use')
        attached = self.attachments(network)
        if attached:
            named = ", ".join(f'name:"{each.container_name}" id:"{each.endpoint_id[:12]}"' for each in attached)
            raise Forbidden(f"error while removing network: network {network.name} has active endpoints ({named})")
        if not await self._is_given_back(network):
            raise Forbidden(f"error while removing network: network {network.name} has active endpoints ()")
        # The row first: a bridge without a network is removed by the next engine, a network without a bridge would get a new one.
        await self._registry.delete(network)
        failpoints.reach("networks.remove.forgotten")
        self.endpoints.forget_network(network.id)
        await self.egress.release_network(network.id)
        if network.has_links:
            await self._host.withdraw(network)
        if not network.config_only:
            self._events.publish(network_event(network, "destroy"))

    async def _is_given_back(self, network: Network) -> bool:
        """Whether no container holds addresses of a network on which none runs; one that has just ended is waited for."""
        deadline = time.monotonic() + _GIVING_BACK_SECONDS
        while self.endpoints.is_in_use(network.id):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_GIVING_BACK_SECONDS / 100)
        return True

    def _is_configuration_of_others(self, network: Network) -> bool:
        return network.config_only and any(other.config_from == network.name for other in self._registry.all())
