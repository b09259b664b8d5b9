"""Egress policies in force: which containers and networks the firewall holds to what, as long as they are there.

What is allowed stands in the records, a container's and a network's. The firewall has it before a container's program runs, and still
when the container has ended, for as long as another process may be left in its network namespace. What an engine that was killed has
left, `sweep` puts right.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from teul import failpoints
from teul.aio import Tasks, run_to_end
from teul.errors import InvalidParameter, TeulError
from teul.model.container import Container, ContainerEndpoint
from teul.model.egress import EgressPolicy, parse_egress
from teul.model.network import Network
from teul.network.firewall.egress import Element, Refusal, container_elements, network_elements
from teul.network.host import HostNetwork
from teul.network.ipam import Address
from teul.services.networks.host_setup import HostSetup
from teul.services.networks.records import bridge_of

log = logging.getLogger(__name__)
T = TypeVar("T")

# How long a container's policy outlives it: longer than its links may (services.networks.endpoints).
_LINK_GRACE_SECONDS = 3.0
# An address of a name is allowed as long as the answer says, but not so short that the connection comes too late, nor for ever.
_MIN_SECONDS, _MAX_SECONDS = 30, 86400
_MAX_ADDRESSES = 4096  # of names of one container


def policy_of(rules: Sequence[str] | None) -> EgressPolicy | None:
    """The policy that a record has, or a request asks for. Raises InvalidParameter."""
    try:
        return parse_egress(rules)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None


@dataclass(frozen=True, slots=True)
class _Held:
    """What the firewall has of a container or a network, and the sources (addresses, or a bridge) that it knows it by."""

    elements: frozenset[Element] = frozenset()
    sources: frozenset[str] = frozenset()

    @classmethod
    def of_container(cls, endpoints: Mapping[str, ContainerEndpoint], policy: EgressPolicy, find_network: Callable[[str], Network]) -> Self:
        places: dict[str, list[ContainerEndpoint]] = {}
        for endpoint in endpoints.values():
            network = find_network(endpoint.network_id)
            if network.driver == "bridge":
                places.setdefault(bridge_of(network).name, []).append(endpoint)
        sources = _addresses(endpoints)
        return cls(container_elements(places, policy.networks), sources) if places else cls()

    @classmethod
    def of_network(cls, network: Network, policy: EgressPolicy) -> Self:
        name = bridge_of(network).name
        return cls(network_elements(name, policy.networks), frozenset([name]))


class Egress:
    """The egress policies of one engine. Used from the event loop only."""

    def __init__(self, host: HostSetup, tasks: Tasks, *, find_network: Callable[[str], Network]) -> None:
        """`find_network` finds the record of a network that an endpoint is of, by its id."""
        self._host = host
        self._tasks = tasks
        self._find_network = find_network
        self._held: dict[str, _Held] = {}  # by the id of the container, or of the network
        self._departed: dict[str, _Held] = {}
        self._resolved: dict[str, dict[Address, float]] = {}  # of a container, until when each address of a name is allowed
        self._has_guard = False  # the table for bridges, as far as this engine knows
        self._lock = asyncio.Lock()
        host.when_made(self._restore)

    async def assign(self, container: Container, endpoints: Mapping[str, ContainerEndpoint]) -> None:
        """Hold a container that has these endpoints, or is about to have them, to its policy and to those of its networks.

        In force when this returns; to its end, if the caller is cancelled. Raises InvalidParameter on a network that the firewall does not
        see, and other TeulError; then what was in force before still is.
        """
        policy = policy_of(container.host_config.egress)
        networks = [self._find_network(endpoint.network_id) for endpoint in endpoints.values()]
        if policy is not None:
            check_networks(networks)
        policed = {network.id: held for network in networks if (held := self._of_network(network)) is not None}
        if policy is None and container.id not in self._held and not policed and not self._departed:
            return
        async with self._lock:
            held = self._of_container(endpoints, policy, is_policed=bool(policed))
            strangers = [each for each, left in self._departed.items() if each != container.id and left.sources & _addresses(endpoints)]
            gone = {each: _Held() for each in strangers}
            await run_to_end(self._change({**policed, **gone, container.id: held}))

    async def assign_network(self, network: Network, users: Collection[Container] = ()) -> None:
        """Hold a network's containers, of which `users` are there, to what its record says, or is about to say. Raises as `assign`."""
        if network.egress is not None or network.id in self._held:
            async with self._lock:
                theirs = {each.id: _Held(sources=_addresses(each.endpoints)) for each in users if each.id not in self._held}
                await run_to_end(self._change({network.id: self._of_network(network) or _Held(), **theirs}))

    def name_rules(self, container: Container) -> list[list[str]] | None:
        """Of each policy that holds a container and has names, these; of nobody, if none of them has; None if none holds it.

        A policy without names says nothing about whom to ask for, beside another that does.
        """
        policies = self._policies(container)
        rules = [list(policy.names) for policy, _sources in policies if policy.names]
        return (rules or [[]]) if policies else None

    async def allow(self, container: Container, name: str, addresses: Sequence[tuple[str, int]]) -> bool:
        """Whether a container's policies allow a name; if so, it may reach these addresses for so many seconds when this returns.

        security: whoever says so may be somebody who has got the better of the network agent. Raises TeulError.
        """
        policies = [each for each in self._policies(container) if each[0].names]
        if not policies or not all(policy.allows_name(name) for policy, _sources in policies):
            return False
        usable = [(address, seconds) for text, seconds in addresses if (address := _usable(text)) is not None]
        wanted = {
            (source, address): float(max(_MIN_SECONDS, min(seconds, _MAX_SECONDS)))
            for address, seconds in usable
            for _policy, sources in policies
            for source in sources
            if _fits(source, address)
        }
        if not wanted:
            return True
        async with self._lock:
            if not self._note(container.id, wanted):
                log.warning("container %s: more addresses of names than a policy may allow at a time", container.name)
                return False
            await self._on_firewall(lambda host: host.egress.resolve(wanted), is_needed=True)
        return True

    async def keep(self, containers: Collection[Container], known: Mapping[str, Mapping[str, Collection[str]]]) -> None:
        """Of the addresses of names that these containers could reach, let them reach those that their policies still allow.

        `known` are, by the container's id, the names with their addresses. Raises TeulError.
        """
        kept: dict[str, set[str]] = {}
        for container in containers:
            for policy, sources in self._policies(container):
                names = known.get(container.id, {})
                theirs = {address for name, each in names.items() if policy.allows_name(name) for address in each}
                for source in sources:
                    kept.setdefault(source, set()).update(theirs)
            for address in _addresses(container.endpoints):
                kept.setdefault(address, set())
        if kept:
            async with self._lock:
                await self._on_firewall(lambda host: host.egress.keep(kept), is_needed=False)

    async def release(self, container_id: str) -> None:
        """The container has ended, or was not started. Its policy goes a moment later, with the link that it may have left. Idempotent."""
        if container_id in self._held and container_id not in self._departed:
            self._departed[container_id] = self._held[container_id]
            self._tasks.start(self._release_later(container_id, self._held[container_id]), name=f"egress policy of {container_id}")

    async def release_network(self, network_id: str) -> None:
        """The network, on which nobody is, is no more. Idempotent."""
        if network_id in self._held:
            async with self._lock:
                await run_to_end(self._let_go(network_id))

    async def refusals(self, sources: Collection[str]) -> list[Refusal]:
        """What these addresses were refused within hours, what was refused most often first. Raises TeulError."""
        everything = await self._on_firewall(lambda host: host.egress.refusals(), is_needed=False) if sources else None
        found = [each for each in everything or () if str(each.source) in sources]
        return sorted(found, key=lambda each: (-each.packets, str(each.destination), each.protocol, each.port))

    async def sweep(self, live: Collection[Container], networks: Collection[Network]) -> None:
        """Have in force what the records of `live` containers and of `networks` say, and nothing else. For an engine that takes over."""
        async with self._lock:
            for network in networks:
                held = self._of_network(network)
                if held is not None:
                    self._held[network.id] = held
            for container in live:
                is_policed = any(endpoint.network_id in self._held for endpoint in container.endpoints.values())
                held = self._of_container(container.endpoints, policy_of(container.host_config.egress), is_policed=is_policed)
                if held.sources:
                    self._held.setdefault(container.id, held)
        # Not waited for, as the firewall itself; what is in force meanwhile was so before.
        self._tasks.start(self._put_right(), name="egress policies")

    def _of_container(self, endpoints: Mapping[str, ContainerEndpoint], policy: EgressPolicy | None, *, is_policed: bool) -> _Held:
        """What is held of a container with a policy; of one without, on a network with one, what it may leave in the firewall."""
        if policy is not None:
            return _Held.of_container(endpoints, policy, self._find_network)
        return _Held(sources=_addresses(endpoints)) if is_policed else _Held()

    def _of_network(self, network: Network) -> _Held | None:
        policy = policy_of(network.egress)
        return _Held.of_network(network, policy) if policy is not None else None

    def _policies(self, container: Container) -> list[tuple[EgressPolicy, frozenset[str]]]:
        """The policies that hold a container, with the sources by which the firewall knows it, or its networks."""
        own = policy_of(container.host_config.egress)
        found = [(own, _addresses(container.endpoints))] if own is not None else []
        for endpoint in container.endpoints.values():
            network = self._find_network(endpoint.network_id)
            policy = policy_of(network.egress)
            if policy is not None:
                found.append((policy, frozenset([bridge_of(network).name])))
        return found

    def _note(self, container_id: str, wanted: Mapping[tuple[str, Address], float]) -> bool:
        """Whether a container has room for these addresses; noted if so."""
        now = time.monotonic()
        noted = {address: until for address, until in self._resolved.get(container_id, {}).items() if until > now}
        noted.update({address: now + seconds for (_source, address), seconds in wanted.items()})
        if len(noted) > _MAX_ADDRESSES:
            return False
        self._resolved[container_id] = noted
        return True

    async def _change(self, wanted: Mapping[str, _Held]) -> None:
        """Have the firewall hold these as is said here, and all others as before; noted when it does."""
        after = {**self._held, **wanted}
        changed = {key: (self._held.get(key, _Held()), after[key]) for key in wanted}
        removed = frozenset(element for old, new in changed.values() for element in old.elements - new.elements)
        added = frozenset(element for old, new in changed.values() for element in new.elements - old.elements)
        everything = _elements(after)
        if removed or added:
            await self._put(removed, added, everything)
        gone = frozenset(source for old, new in changed.values() for source in old.sources - new.sources)
        self._held = {key: held for key, held in after.items() if held.sources}
        for key in wanted:
            self._departed.pop(key, None)
            if key not in self._held:
                self._resolved.pop(key, None)
        failpoints.reach("networks.egress.changed")
        if gone:
            await self._on_firewall(lambda host: host.egress.forget(gone), is_needed=False)

    async def _let_go(self, key: str) -> None:
        try:
            await self._change({key: _Held()})
        except TeulError as error:
            # Whoever is policed next has all of the firewall put right.
            self._held.pop(key, None)
            self._departed.pop(key, None)
            log.warning("an egress policy is still in force that is nobody's: %s", error.message)

    async def _release_later(self, container_id: str, held: _Held) -> None:
        await asyncio.sleep(_LINK_GRACE_SECONDS)
        async with self._lock:
            if self._departed.get(container_id) is held:  # else it has started again, or another has its address
                await run_to_end(self._let_go(container_id))

    async def _put(self, removed: frozenset[Element], added: frozenset[Element], everything: frozenset[Element]) -> None:
        def change(host: HostNetwork) -> None:
            if self._has_guard or not _guards(everything):
                host.egress.change(removed, added)
            else:
                host.egress.set(everything)

        await self._host.on_firewall(change, lambda host: host.egress.set(everything), is_needed=bool(added))
        self._has_guard = self._has_guard or _guards(everything)

    async def _on_firewall(self, work: Callable[[HostNetwork], T], *, is_needed: bool) -> T | None:
        return await self._host.on_firewall(work, work, is_needed=is_needed)

    async def _put_right(self) -> None:
        await self._host.settle()
        async with self._lock:
            everything = _elements(self._held)
            sources = frozenset(source for held in self._held.values() for source in held.sources)

            def put(host: HostNetwork) -> None:
                host.egress.set(everything)
                host.egress.forget(sources, others=True)

            try:
                await self._on_firewall(put, is_needed=bool(everything))
            except TeulError as error:
                log.warning("egress policies are not ready: %s", error.message)
            else:
                self._has_guard = _guards(everything)

    def _restore(self, host: HostNetwork) -> None:
        """The firewall was made, maybe anew, and has nothing then."""
        if self._held:
            host.egress.set(_elements(self._held))


def check_networks(networks: Collection[Network]) -> None:
    """Raise InvalidParameter for networks on which nothing that a container sends passes the engine's firewall."""
    for network in networks:
        if network.is_wire or network.driver == "host":
            raise InvalidParameter(
                f"conflicting options: an egress policy and network {network.name}, whose driver {network.driver} lets nobody filter"
            )


def _usable(text: str) -> Address | None:
    """The address, unless it is none that a name's is: the machine's own, its neighbours' by link, everybody's."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    is_special = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    return None if is_special or mapped is not None or "%" in text else address


def _fits(source: str, address: Address) -> bool:
    """Whether a source, a container's address or a bridge's name, sends to an address of this version of IP."""
    try:
        return ipaddress.ip_address(source).version == address.version
    except ValueError:
        return True


def _elements(held: Mapping[str, _Held]) -> frozenset[Element]:
    return frozenset(element for each in held.values() for element in each.elements)


def _guards(elements: frozenset[Element]) -> bool:
    return any(element.family == "bridge" for element in elements)


def _addresses(endpoints: Mapping[str, ContainerEndpoint]) -> frozenset[str]:
    return frozenset(
        str(ipaddress.ip_address(address)) for endpoint in endpoints.values() for address in (endpoint.ipv4, endpoint.ipv6) if address
    )
