"""Networks: which there are, who is on them, and what a container gets of one while it runs.

So far the three that every engine has. Allocation is decided in memory, on the event loop, and written down before it is told; the
host's side (bridge, nftables) is made when the engine opens, so that a start has nothing to wait for but one row in the database.

A container's link is left to the kernel, which takes it down with the namespace: deleting it costs 25 to 35 ms with the lock held that
every other start needs, where namespaces that die together are taken down together in the background. A link whose namespace does not die
(somebody else is in it) is deleted a moment later.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from types import TracebackType
from typing import Self

from teul.aio import Tasks, run_blocking
from teul.errors import Conflict, Forbidden, InvalidParameter, NotFound, NotImplementedHere, System, TeulError, Unavailable
from teul.linux.nftables import LibraryMissing
from teul.model.container import Container, ContainerEndpoint
from teul.model.filter import Filters
from teul.model.lifecycle import Status
from teul.model.network import BRIDGE, PREDEFINED, Allocation, Attachment, Network
from teul.model.network_config import EndpointSettings
from teul.network import endpoints
from teul.network.bridge import Bridge
from teul.network.host import HostNetwork
from teul.network.ipam import AddressPool, AddressTaken, NoFreeAddress, NoFreeSubnet
from teul.services.networks.filters import check_prune_filters, list_filter
from teul.services.networks.records import attachment_of, network_of, predefined, subnet_of, with_bridge
from teul.store.metadata import networks as store
from teul.store.metadata.database import Database

log = logging.getLogger(__name__)

# How long a link may outlive its container before it is deleted; shorter than an address rests (network.ipam).
_LINK_GRACE_SECONDS = 1.5
# How old the last look at the host's FORWARD policy may be when a container starts.
_FORWARDING_AGE_SECONDS = 10.0

_RUNNING = frozenset({Status.RUNNING, Status.PAUSED})


class NoSuchNetwork(NotFound):
    """There is no network of this name or id."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"network {reference} not found")


class Networks:
    """The use cases of networks. `containers` gives all container records; the composition root sets it. Used from the event loop only."""

    def __init__(self, database: Database, host: HostNetwork, *, containers: Callable[[], Iterable[Container]] = tuple) -> None:
        self.containers = containers
        self._database = database
        self._host = host
        self._tasks = Tasks()
        self._set_up: asyncio.Task[None] | None = None
        self._networks: dict[str, Network] = {}
        self._pool: AddressPool | None = None
        self._held: dict[str, store.HeldAddresses] = {}
        self._links: dict[str, str] = {}  # container id: name of its link, of those started by this engine
        self._departed: set[str] = set()  # names of links whose containers have ended
        self._generation = secrets.randbelow(36)
        self._bridge: Bridge | None = None
        self._has_firewall = False
        self._forwarding_checked = 0.0
        self._host_lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def open(self) -> None:
        """Load what is recorded and take over, or make, the host's side. A host that refuses is complained of when a container needs it."""
        records = await self._database.transact(store.load_networks)
        self._networks = {network.name: network for network in records}
        for missing in (predefined(name) for name in PREDEFINED if name not in self._networks):
            await self._save(missing)
        for held in await self._database.transact(store.load_held):
            self._held[held.container_id] = held
        await self._open_bridge()

    async def close(self, *, remove: bool = True) -> None:
        """Stop background work; with `remove`, and if no container holds an address, leave the host as it was found."""
        if self._set_up is not None:
            # What was begun on the host is finished before it is removed again.
            await asyncio.wait([self._set_up])
        await self._tasks.cancel()
        if not remove or self._held:
            return
        async with self._host_lock:
            self._bridge, self._has_firewall = None, False
            try:
                await run_blocking(self._host.remove)
            except OSError as error:
                log.warning("could not remove the networks' bridge and rules: %s", error)

    def list(self, filters: Filters | None = None) -> Sequence[Network]:
        """The networks, or those that `filters` (of GET /networks) let through. Raises InvalidParameter."""
        networks = [self._networks[name] for name in sorted(self._networks)]
        if not filters:
            return networks
        is_wanted = list_filter(filters, lambda network: bool(self.attachments(network)))
        return [network for network in networks if is_wanted(network)]

    def get(self, reference: str, *, scope: str = "") -> Network:
        """By id, name or unique beginning of the id, in this order. Raises NoSuchNetwork, InvalidParameter if it is ambiguous."""
        candidates = [network for network in self._networks.values() if scope in {"", network.scope}]
        for network in candidates:
            if network.id == reference:
                return network
        for network in candidates:
            if network.name == reference:
                return network
        found = [network for network in candidates if reference and network.id.startswith(reference)]
        if len(found) > 1:
            raise InvalidParameter(f"{len(found)} matches found based on ID prefix: network {reference} is ambiguous")
        if not found:
            raise NoSuchNetwork(reference)
        return found[0]

    def attachments(self, network: Network) -> Sequence[Attachment]:
        """The running containers on a network."""
        return [
            attachment_of(container, network)
            for container in self.containers()
            if container.state.status in _RUNNING and network_of(container) == network.name
        ]

    async def create(self, name: str) -> None:
        """Networks of the user's are not made yet. Raises Forbidden, Conflict or NotImplementedHere."""
        if name in PREDEFINED:
            # docker: the text ends in a space.
            raise Forbidden(f"operation is not permitted on predefined {name} network ")
        if name in self._networks:
            raise Conflict(f"network with name {name} already exists")
        raise NotImplementedHere("creating networks is not supported by this engine")

    async def remove(self, reference: str) -> None:
        """Raises NoSuchNetwork, or Forbidden: no network can be removed that every engine has."""
        network = self.get(reference)
        raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")

    async def prune(self, filters: Filters) -> Sequence[str]:
        """Remove the networks that nobody uses and that may be removed; returns their names. Raises InvalidParameter."""
        check_prune_filters(filters)
        return []

    async def connect(self, reference: str) -> None:
        """Connecting a container to one more network is not done yet. Raises NoSuchNetwork or NotImplementedHere."""
        self.get(reference)
        raise NotImplementedHere("connecting a container to another network is not supported by this engine")

    async def disconnect(self, reference: str) -> None:
        """See `connect`."""
        self.get(reference)
        raise NotImplementedHere("disconnecting a container from a network is not supported by this engine")

    async def allocate(
        self,
        container_id: str,
        mode: str,
        *,
        hostname: str,  # noqa: ARG002 - for the names that an embedded DNS server will answer to
        requested: EndpointSettings | None,
    ) -> Allocation:
        """Give a container its place on network `mode` (bridge or default); recorded when this returns.

        One that holds a place already keeps its address. Raises NoSuchNetwork, InvalidParameter, Forbidden if the address is taken,
        Unavailable or System if the host does not let us.
        """
        network = self.get(BRIDGE if mode == "default" else mode)
        if network.driver != "bridge":
            raise InvalidParameter(f"network {network.name} has no addresses to give")
        mac = _requested_mac(requested)
        bridge = await self._ensure_host()
        address = self._take_address(network, container_id, requested)
        held = store.HeldAddresses(network.id, container_id, *((str(address), None) if address.version == 4 else (None, str(address))))
        self._held[container_id] = held
        try:
            await self._database.transact(lambda connection: store.save_held(connection, held))
        except BaseException:
            # Cancelled, too: the row may be written all the same, so it is deleted after.
            await self.release(container_id)
            raise
        return self._describe(network, bridge, container_id, address, mac)

    def nominal_endpoint(self, container_id: str, mode: str) -> ContainerEndpoint:
        """What inspection shows of a container on network `mode` (none, host), where there is nothing to allocate. Raises NoSuchNetwork."""
        network = self.get(mode)
        return ContainerEndpoint(
            network_name=network.name, network_id=network.id, endpoint_id=endpoints.endpoint_id(network.id, container_id)
        )

    async def release(self, container_id: str) -> None:
        """The container has ended, or was not started: what it held is free again. Idempotent."""
        if container_id not in self._held:
            return
        self._forget(container_id)
        await self._database.transact(lambda connection: store.delete_held(connection, container_id))

    async def sweep(self, live_container_ids: Collection[str]) -> None:
        """Release what containers hold that are not live, and delete links on our bridge that are nobody's.

        For an engine that takes over from one that was killed.
        """
        for container_id in [held for held in self._held if held not in live_container_ids]:
            await self.release(container_id)
        if self._bridge is None:
            return
        prefixes = tuple(endpoints.host_interface_prefix(container_id) for container_id in live_container_ids)
        try:
            ports = await run_blocking(self._host.list_ports)
        except OSError as error:
            raise System(f"could not list the links of bridge {self._bridge.name}: {error}") from error
        self._take_down({port for port in ports if not port.startswith(prefixes)})

    async def _save(self, network: Network) -> None:
        self._networks[network.name] = network
        await self._database.transact(lambda connection: store.save_network(connection, network))

    async def _open_bridge(self) -> None:
        try:
            await self._ensure_bridge()
        except TeulError as error:
            log.warning("no bridge network for now: %s", error.message)
        else:
            # Not waited for: loading libnftables takes longer than a start may, and not every engine starts a container.
            self._set_up = self._tasks.start(self._prepare_host(), name="network set-up")

    async def _prepare_host(self) -> None:
        try:
            await self._ensure_host()
        except TeulError as error:
            log.warning("the bridge network is not ready: %s", error.message)

    async def _ensure_host(self) -> Bridge:
        """The bridge, once everything on the host is in place; at once, unless something went wrong before. Raises TeulError."""
        bridge = self._bridge
        if bridge is None or not self._has_firewall:
            bridge = await self._ensure_bridge()
            async with self._host_lock:
                if not self._has_firewall:
                    await self._on_host(self._host.ensure_firewall, [bridge])
                    self._has_firewall = True
                    self._forwarding_checked = time.monotonic()
        elif time.monotonic() - self._forwarding_checked > _FORWARDING_AGE_SECONDS:
            self._forwarding_checked = time.monotonic()
            self._tasks.start(self._on_host(self._host.ensure_forwarding, [bridge]), name="forward policy")
        return bridge

    async def _ensure_bridge(self) -> Bridge:
        async with self._host_lock:
            if self._bridge is not None:
                return self._bridge
            recorded = subnet_of(self._networks[BRIDGE])
            try:
                bridge = await run_blocking(self._host.ensure_bridge, recorded=recorded, is_in_use=bool(self._held))
            except NoFreeSubnet:
                # docker: moby daemon/libnetwork/ipamapi
                raise Unavailable("all predefined address pools have been fully subnetted") from None
            except OSError as error:
                raise _translated(error) from error
            self._open_pool(bridge)
            network = with_bridge(self._networks[BRIDGE], bridge)
            if network != self._networks[BRIDGE]:
                await self._save(network)
            self._bridge = bridge
            return bridge

    def _open_pool(self, bridge: Bridge) -> None:
        pool = AddressPool(bridge.subnet, reserved=[bridge.gateway])
        for held in self._held.values():
            try:
                pool.claim(ipaddress.ip_address(held.ipv4 or held.ipv6 or ""), held.container_id)
            except AddressTaken:
                log.warning("container %s holds %s, which is not of %s", held.container_id, held.ipv4 or held.ipv6, bridge.subnet)
        self._pool = pool

    async def _on_host(self, work: Callable[[Sequence[Bridge]], None], bridges: Sequence[Bridge]) -> None:
        try:
            await run_blocking(work, bridges)
        except OSError as error:
            raise _translated(error) from error

    def _take_address(
        self, network: Network, container_id: str, requested: EndpointSettings | None
    ) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        assert self._pool is not None, "the bridge is there, so its pool is"
        held = self._held.get(container_id)
        if held is not None:
            return ipaddress.ip_address(held.ipv4 or held.ipv6 or "")
        wanted = requested.ipam_config.ipv4_address if requested is not None and requested.ipam_config is not None else ""
        try:
            return self._pool.allocate(container_id, now_ns=time.monotonic_ns(), wanted=ipaddress.ip_address(wanted) if wanted else None)
        except ValueError:
            raise InvalidParameter(f"invalid IPv4 address: {wanted}") from None
        except AddressTaken:
            raise Forbidden("Address already in use") from None
        except NoFreeAddress:
            raise Unavailable(f"no available IPv4 addresses on this network's address pools: {network.name} ({network.id})") from None

    def _describe(
        self, network: Network, bridge: Bridge, container_id: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address, mac: str | None
    ) -> Allocation:
        self._generation += 1
        name = self._links[container_id] = endpoints.host_interface_name(container_id, self._generation)
        mac = mac or endpoints.mac_for(address)
        length, gateway = bridge.subnet.prefixlen, str(bridge.gateway)
        is_ipv4 = address.version == 4
        return Allocation(
            container_id=container_id,
            network_name=network.name,
            network_id=network.id,
            endpoint_id=endpoints.endpoint_id(network.id, container_id),
            host_interface=name,
            mac=mac,
            ipv4=str(address) if is_ipv4 else "",
            ipv4_prefix=length if is_ipv4 else 0,
            gateway=gateway if is_ipv4 else "",
            ipv6="" if is_ipv4 else str(address),
            ipv6_prefix=0 if is_ipv4 else length,
            gateway6="" if is_ipv4 else gateway,
            plan=endpoints.make_plan(
                host_name=name,
                bridge=bridge.name,
                mac=mac,
                mtu=bridge.mtu,
                addresses=[f"{address}/{length}"],
                gateway=gateway if is_ipv4 else None,
                gateway6=None if is_ipv4 else gateway,
            ),
        )

    def _forget(self, container_id: str) -> None:
        held = self._held.pop(container_id)
        if self._pool is not None:
            self._pool.release(ipaddress.ip_address(held.ipv4 or held.ipv6 or ""), now_ns=time.monotonic_ns())
        link = self._links.pop(container_id, None)
        if link is not None:
            self._take_down({link})

    def _take_down(self, links: set[str]) -> None:
        """See to it that these links are gone soon. One look at the bridge serves all that ended meanwhile."""
        if links and not self._departed:
            self._tasks.start(self._remove_departed(), name="links of ended containers")
        self._departed |= links

    async def _remove_departed(self) -> None:
        await asyncio.sleep(_LINK_GRACE_SECONDS)
        # A name may have come round again meanwhile.
        links, self._departed = self._departed - set(self._links.values()), set()
        removed = await run_blocking(self._host.remove_ports, links)
        if removed:
            log.info("deleted links that outlived their containers: %s", ", ".join(removed))


def _requested_mac(requested: EndpointSettings | None) -> str | None:
    if requested is None or not requested.mac_address:
        return None
    mac = endpoints.parse_mac(requested.mac_address)
    if mac is None:
        raise InvalidParameter(f"invalid MAC address: {requested.mac_address}")
    return mac


def _translated(error: OSError) -> TeulError:
    if isinstance(error, LibraryMissing):
        return Unavailable(f"the bridge network needs libnftables: {error.strerror}", hint="apt-get install libnftables1")
    return System(f"failed to set up the bridge network: {error.strerror or error}")
