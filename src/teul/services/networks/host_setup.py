"""The host's side of the networks: bridges and firewall, made when the engine opens, so that a start has nothing to wait for."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import ipaddress
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from teul import failpoints
from teul.aio import Tasks, run_blocking, run_to_end
from teul.errors import InvalidParameter, System, TeulError, Unavailable
from teul.linux.nftables import LibraryMissing
from teul.model.network import BRIDGE, AddressRange, Network
from teul.network.bridge import Bridge, BridgeMissing, NotABridge, SubnetTaken
from teul.network.default_bridge import AS_USUAL, DefaultBridge
from teul.network.firewall.ports import Published
from teul.network.host import HostNetwork
from teul.network.ipam import NoFreeSubnet, NoSuchPool, Pool, Subnet, choose_subnet, overlaps
from teul.network.wire import ParentMissing, ParentUnusable, Wire
from teul.services.networks.records import bridge_of, subnets_of, wire_of, with_mtu, with_ranges
from teul.services.networks.registry import NetworkRegistry

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

# How old the last look at the host's FORWARD policy may be when a container starts.
_FORWARDING_AGE_SECONDS = 10.0
# How often a subnet is chosen that another engine then turns out to have chosen at the same moment.
CHOICES = 10


class HostSetup:
    """What the host has of this engine's networks. A host that refuses is complained of when a container needs a network."""

    def __init__(
        self,
        host: HostNetwork,
        registry: NetworkRegistry,
        tasks: Tasks,
        *,
        pools: Sequence[Pool],
        default: DefaultBridge = AS_USUAL,
    ) -> None:
        """`pools` are those that networks without a subnet of their own get one of; `default` is what was asked of the default bridge."""
        self._host = host
        self._registry = registry
        self._tasks = tasks
        self._pools = pools
        self._default = default
        self._bridges: dict[str, Bridge] = {}  # by the network's id
        self._has_firewall = False
        self._when_made: list[Callable[[HostNetwork], None]] = []
        self._forwarding_checked_at = 0.0
        self._preparing: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def open(self, networks: Sequence[Network], *, is_in_use: Callable[[str], bool]) -> None:
        """Take over, or make, the bridge of every engine; other bridges and the firewall are seen to in the background.

        `is_in_use` says of a network's id whether containers hold addresses of it. Raises System for a bridge of the administrator's that
        is not as it must be.
        """
        default = next((network for network in networks if network.name == BRIDGE), None)
        try:
            if default is not None:
                await self._ensure_bridge(default, is_in_use=is_in_use(default.id))
        except TeulError as error:
            if self._default.name:
                # docker: an engine whose bridge is somebody else's does not start without it.
                raise System(f'Error initializing network controller: Error creating default "bridge" network: {error.message}') from error
            log.warning("no bridge network for now: %s", error.message)
            return
        # Not waited for: loading libnftables takes longer than the engine's start may, and not every engine starts a container.
        self._preparing = self._tasks.start(self._prepare(networks, is_in_use), name="network set-up")

    async def settle(self) -> None:
        """Wait until the work that was begun on the host is finished."""
        if self._preparing is not None:
            await asyncio.wait([self._preparing])

    async def close(self) -> None:
        """Let go of the host, which stays as it is."""
        await run_blocking(self._host.close)

    async def remove(self) -> None:
        """Leave the host as it was found."""
        async with self._lock:
            self._bridges.clear()
            self._has_firewall = False
            try:
                await run_blocking(self._host.remove)
            except OSError as error:
                log.warning("could not remove the networks' bridge and rules: %s", error)

    async def choose(self, version: int, size: int | None, taken: Sequence[Subnet]) -> Subnet:
        """A subnet out of the pools that the host does not use, and that is not `taken`. Raises TeulError."""
        try:
            claimed = await self._on_host(self._host.claimed_subnets)
            return choose_subnet(self._pools, [*claimed, *taken], version=version, size=size)
        except NoSuchPool:
            raise InvalidParameter("invalid address pool") from None
        except NoFreeSubnet:
            raise _no_more_subnets() from None

    async def ensure(self, network: Network, *, is_in_use: bool, is_exclusive: bool = False) -> tuple[Network, Bridge]:
        """The bridge of `network`, once everything on the host is in place; at once, unless something went wrong before.

        `is_in_use`: containers hold addresses of it, so its subnet must stay. With the bridge comes the record, as it is now.
        Raises TeulError, NoSuchNetwork if it is removed meanwhile, and SubnetTaken if it is to be `is_exclusive`.
        """
        self._registry.get(network.id)  # what was removed is not made again
        bridge = self._bridges.get(network.id)
        if bridge is None or not self._has_firewall:
            bridge = await self._ensure_bridge(network, is_in_use=is_in_use, is_exclusive=is_exclusive)
            async with self._lock:
                if not self._has_firewall:
                    await self._make_firewall()
        elif time.monotonic() - self._forwarding_checked_at > _FORWARDING_AGE_SECONDS:
            self._forwarding_checked_at = time.monotonic()
            self._tasks.start(self._on_host(self._host.ensure_forwarding, self._all()), name="forward policy")
        # By its id: it may have been removed meanwhile, and another one made of its name.
        return self._registry.get(network.id), bridge

    async def ensure_wire(self, network: Network, *, is_new: bool = False) -> Wire:
        """The wire of a network without a bridge, once its parent is there: of one that is being made, or that there is. Raises System."""
        wire = wire_of(network)
        async with self._lock:
            try:
                made = await run_to_end(run_blocking(self._host.ensure_parent, wire))
                failpoints.reach("networks.parent.made")
            except ParentUnusable as error:
                if isinstance(error, ParentMissing) and not is_new:
                    # docker: a network that there is was right once, and what is wrong with the name now is not told.
                    raise System(f"the requested parent interface {wire.parent} was not found on the Docker host") from error
                raise System(str(error)) from error
            except OSError as error:
                raise System(error.strerror or str(error)) from error
            return made

    async def withdraw(self, network: Network) -> None:
        """Take a network, which no container is on, from the host. Idempotent. Raises System."""
        if network.is_wire:
            await self._withdraw_wire(network)
            return
        async with self._lock:
            bridge = self._bridges.pop(network.id, None) or bridge_of(network)
            try:
                if self._has_firewall:
                    await self._remove_from_firewall(bridge)
                    failpoints.reach("networks.withdrawn.firewall")
            finally:
                await self._on_host(self._host.remove_link, bridge)

    async def _withdraw_wire(self, network: Network) -> None:
        async with self._lock:
            wire = wire_of(network)
            # Also of a network that is only being made: its name is taken before its parent is.
            users = [other for other in self._registry.all() if other.is_wire and other.id != network.id and not other.config_only]
            if all(wire_of(other).parent != wire.parent for other in users):
                await self._on_host(self._host.remove_link, wire)

    async def sweep(self, networks: Sequence[Network]) -> None:
        """Delete bridges and parents that are the engine's and none of these networks': of an engine that was killed while it removed one.

        Raises System.
        """
        names = [wire_of(network).parent if network.is_wire else bridge_of(network).name for network in networks if network.has_links]
        async with self._lock:
            for name in await self._on_host(self._host.remove_other_links, names):
                log.info("deleted link %s, which is no network's", name)

    async def change_published(self, removed: Sequence[Published], added: Sequence[Published], everything: Sequence[Published]) -> None:
        """Take published ports out of the firewall and put others in; `everything` is what is to be in it then. Raises TeulError.

        If the firewall does not have what it should have, for somebody else has flushed it, all of it is made anew.
        """
        if not (removed or added) or not (added or self._has_firewall):
            return
        with _translating():
            try:
                await run_to_end(run_blocking(self._host.change_published, removed, added))
                return
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EEXIST):
                    raise
                log.warning("the firewall is not as it was left, and is made anew: %s", error)
        async with self._lock:
            await self._make_firewall()
            await self._on_host(self._host.set_published, everything)

    async def set_published(self, everything: Sequence[Published]) -> None:
        """Have exactly these ports published, once the work that was begun on the host is finished. Raises TeulError."""
        await self.settle()
        async with self._lock:
            if everything and not self._has_firewall:
                await self._make_firewall()
            if self._has_firewall:
                await self._on_host(self._host.set_published, everything)

    async def on_firewall(self, work: Callable[[HostNetwork], T], otherwise: Callable[[HostNetwork], T], *, is_needed: bool) -> T | None:
        """Do `work` with the firewall; if that does not have what it should have, all of it is made anew, and it is done `otherwise`.

        Both block, and raise `OSError`; each is one transaction. If it is not needed where there is no firewall, nothing is done, and None
        returned. To its end, if the caller is cancelled. Raises TeulError.
        """
        if not (is_needed or self._has_firewall):
            return None
        with _translating():
            try:
                return await run_to_end(run_blocking(work, self._host))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EEXIST):
                    raise
                log.warning("the firewall is not as it was left, and is made anew: %s", error)
        async with self._lock:
            await self._make_firewall()
            return await self._on_host(otherwise, self._host)

    def when_made(self, work: Callable[[HostNetwork], None]) -> None:
        """Have `work`, which blocks, done whenever all of the firewall has been made, after what was asked for before."""
        self._when_made.append(work)

    async def list_links(self) -> list[str]:
        """Names of the links on the bridges; none while there is no bridge. Raises System."""
        try:
            return await run_blocking(self._host.list_ports, self._all())
        except OSError as error:
            raise System(f"could not list the links of the networks: {error}") from error

    async def remove_links(self, names: set[str]) -> list[str]:
        """Delete those of `names` that are still on a bridge; returns them."""
        return await run_blocking(self._host.remove_ports, self._all(), names)

    def _all(self) -> list[Bridge]:
        return list(self._bridges.values())

    async def _prepare(self, networks: Sequence[Network], is_in_use: Callable[[str], bool]) -> None:
        for network in networks:
            if not network.has_links:
                continue
            try:
                if network.is_wire:
                    await self.ensure_wire(network)
                else:
                    await self._ensure_bridge(network, is_in_use=is_in_use(network.id))
            except TeulError as error:
                log.warning("network %s is not ready: %s", network.name, error.message)
        try:
            async with self._lock:
                if not self._has_firewall:
                    await self._make_firewall()
        except TeulError as error:
            log.warning("the networks are not ready: %s", error.message)

    async def _make_firewall(self) -> None:
        await self._on_host(self._host.ensure_firewall, self._all())
        for work in self._when_made:
            await self._on_host(work, self._host)
        with _translating():
            failpoints.reach("networks.firewall.made")
        self._has_firewall = True
        self._forwarding_checked_at = time.monotonic()

    async def _remove_from_firewall(self, bridge: Bridge) -> None:
        try:
            await self._on_host(self._host.remove_from_firewall, bridge, self._all())
        except TeulError:
            # Whether the network was in it is not known; without the network, all of it is made anew.
            await self._make_firewall()

    async def _ensure_bridge(self, network: Network, *, is_in_use: bool, is_exclusive: bool = False) -> Bridge:
        async with self._lock:
            if network.id in self._bridges:
                return self._bridges[network.id]
            if network.name == BRIDGE:
                bridge = await self._ensure_default(network, is_in_use=is_in_use)
            else:
                bridge = await self._on_host(self._host.ensure_bridge, bridge_of(network), is_exclusive=is_exclusive)
            with _translating():
                failpoints.reach("networks.bridge.made")
            if self._has_firewall:
                await self._on_host(self._host.add_to_firewall, bridge, [*self._all(), bridge])
            self._bridges[network.id] = bridge
            return bridge

    async def _ensure_default(self, network: Network, *, is_in_use: bool) -> Bridge:
        """The default bridge keeps its subnets unless something else on the host has taken those addresses and no container holds any.

        Addresses that the engine was given are taken as they are, but not from under containers.
        """
        is_given = bridge_of(network).name == self._default.name
        asked = await self._as_given(network) if is_given else self._default
        for _attempt in range(CHOICES):
            changed = await self._with_default_ranges(network, asked, is_in_use=is_in_use)
            wanted = dataclasses.replace(bridge_of(changed), mtu=asked.mtu, is_given=is_given)
            try:
                is_exclusive = not is_in_use and not asked.has_subnets
                bridge = await self._on_host(self._host.ensure_bridge, wanted, is_exclusive=is_exclusive)
            except SubnetTaken:
                continue
            return await self._recorded(network, changed, bridge)
        raise _no_more_subnets()

    async def _as_given(self, network: Network) -> DefaultBridge:
        """What was asked of the default bridge, where that is the administrator's: with the addresses that it has."""
        found = await self._on_host(
            self._host.ensure_bridge, dataclasses.replace(bridge_of(network), segments=(), mtu=self._default.mtu, is_given=True)
        )
        addresses = [ipaddress.ip_interface(f"{each.host_address}/{each.subnet.prefixlen}") for each in found.segments]
        return self._default.with_addresses(addresses)

    async def _with_default_ranges(self, network: Network, asked: DefaultBridge, *, is_in_use: bool) -> Network:
        ranges = network.ipam.ranges
        if is_in_use and ranges:
            if not asked.agrees_with(ranges):
                log.warning("the default bridge keeps its addresses, and does not get those asked for, as long as containers are on it")
            return network
        recorded: dict[int, AddressRange] = {ipaddress.ip_network(entry.subnet).version: entry for entry in ranges or ()}
        chosen = []
        for version, addressing in asked.versions.items():
            subnet = addressing.subnet(recorded.get(version))
            if subnet is None:
                subnet = await self._default_subnet(network, version, recorded.get(version))
            elif overlaps(subnet, self._subnets_of_others(network)):
                raise InvalidParameter(f"the default bridge cannot have {subnet}: a network of this engine has these addresses")
            chosen.append(addressing.in_subnet(subnet, recorded.get(version)))
        return with_ranges(network, chosen)

    async def _recorded(self, network: Network, changed: Network, bridge: Bridge) -> Bridge:
        """The default bridge, once its record says how it was made."""
        changed = with_mtu(changed, bridge)
        if changed != network:
            await self._registry.save(changed)
        failpoints.reach("networks.bridge.recorded")
        return bridge

    def _subnets_of_others(self, network: Network) -> list[Subnet]:
        return [subnet for other in self._registry.all() if other.id != network.id for subnet in subnets_of(other)]

    async def _default_subnet(self, network: Network, version: int, recorded: AddressRange | None) -> Subnet:
        """That on record, if nobody else has come to use it, or else a free one."""
        claimed = await self._on_host(self._host.claimed_subnets, except_bridge=bridge_of(network).name)
        if recorded is not None and not overlaps(ipaddress.ip_network(recorded.subnet), claimed):
            return ipaddress.ip_network(recorded.subnet)
        try:
            return choose_subnet(self._pools, [*claimed, *self._subnets_of_others(network)], version=version)
        except (NoFreeSubnet, NoSuchPool):
            raise _no_more_subnets() from None

    async def _on_host(self, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """To its end: nobody else may come to the host while it is being changed."""
        with _translating():
            return await run_to_end(run_blocking(work, *arguments, **options))


def _no_more_subnets() -> TeulError:
    # docker: moby daemon/libnetwork/ipamapi
    return InvalidParameter("all predefined address pools have been fully subnetted")


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (NotABridge, BridgeMissing) as error:
        raise System(str(error)) from error
    except OSError as error:
        raise _translated(error) from error


def _translated(error: OSError) -> TeulError:
    if isinstance(error, LibraryMissing):
        return Unavailable(f"the bridge network needs libnftables: {error.strerror}", hint="apt-get install libnftables1")
    return System(f"failed to set up the bridge network: {error.strerror or error}")
