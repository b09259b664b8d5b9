"""What containers hold of networks while they run: addresses and links.

Allocation is decided in memory, on the event loop, and written down before the caller hears of it, so that a start has nothing to wait
for but one row in the database.

A container's link is left to the kernel, which takes it down with the namespace: deleting it costs 25 to 35 ms with the lock held that
every other start needs, where namespaces that die together are taken down together in the background. A link whose namespace does not die
(another process is in it) is deleted a moment later.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import Collection, Sequence
from functools import partial
from itertools import count

from teul import failpoints
from teul.aio import Tasks, undoing
from teul.errors import Forbidden, InvalidParameter, System
from teul.model.container import Container, ContainerEndpoint
from teul.model.link import parse_link
from teul.model.network import Network
from teul.model.network_config import EndpointSettings
from teul.network import allocation, endpoints
from teul.network.allocation import Allocation, with_sysctls
from teul.network.bridge import Bridge
from teul.network.endpoint_options import parse_endpoint_options
from teul.network.ipam import Address
from teul.network.wire import Wire
from teul.services.networks.addresses import Addresses, addresses_of
from teul.services.networks.host_setup import HostSetup
from teul.store.metadata import networks as rows
from teul.store.metadata.database import Database, DiskFull

log = logging.getLogger(__name__)

# How long a link may outlive its container before it is deleted; shorter than an address rests (network.ipam).
_LINK_GRACE_SECONDS = 1.5

# (network id, container id)
_Key = tuple[str, str]


class Endpoints:
    """The endpoints of all containers of one engine. Used from the event loop only."""

    def __init__(self, database: Database, host: HostSetup, tasks: Tasks) -> None:
        self._database = database
        self._host = host
        self._tasks = tasks
        self._held: dict[_Key, rows.HeldAddresses] = {}
        self._addresses = Addresses()
        self._links: dict[_Key, str] = {}  # name of the host's end, of containers that this engine started
        self._owed: set[_Key] = set()  # to be released, at once or, on a full disk, as soon as that is possible
        self._departed: set[str] = set()  # names of links whose containers have ended
        self._generation = secrets.randbelow(36)

    async def open(self) -> None:
        """Read the addresses that containers hold."""
        for held in await self._database.transact(rows.load_held):
            self._held[held.network_id, held.container_id] = held

    def is_in_use(self, network_id: str | None = None) -> bool:
        """Whether a container holds an address of this network, or without `network_id` of any network."""
        return any(network_id in (None, key[0]) for key in self._held)

    async def allocate(
        self, network: Network, container_id: str, *, requested: EndpointSettings | None = None, taken: Collection[str] = ()
    ) -> Allocation:
        """Give a container addresses on `network`; recorded when this returns. `taken` are the names of its other interfaces.

        A container that holds addresses there already keeps them. Raises InvalidParameter, Forbidden if the address is taken, Unavailable
        or System if the host does not let us.
        """
        if not network.has_links:
            raise InvalidParameter(f"network {network.name} has no addresses to give")
        mac = _requested_mac(requested)
        if mac and network.driver == "ipvlan":
            raise System("ipvlan interfaces do not support custom mac address assignment")
        self._owed.discard((network.id, container_id))
        await self._release_owed()
        link_local = _requested_link_local(requested)
        _check_links(requested)
        options = parse_endpoint_options((requested.driver_opts if requested is not None else None) or {})
        side: Bridge | Wire
        if network.is_wire:
            side = await self._host.ensure_wire(network)
        else:
            network, side = await self._host.ensure(network, is_in_use=self.is_in_use(network.id))
        held = self._take(network, container_id, requested)
        # Cancelled, too: the row may be written all the same, so it is deleted afterwards.
        async with undoing(partial(self._give_back, [(network.id, container_id)]), "and the address stays taken"):
            failpoints.reach("networks.address.held")
            await self._database.transact(lambda connection: rows.save_held(connection, held))
            failpoints.reach("networks.address.recorded")
        interface = options.interface or _free_name(side, taken)
        return with_sysctls(self._describe(network, side, held, mac=mac, interface=interface, link_local=link_local), options.sysctls)

    def nominal(self, network: Network, container_id: str) -> ContainerEndpoint:
        """What inspection shows of a container on a network where there is nothing to allocate (none, host). Raises Forbidden."""
        if network.config_only:
            raise Forbidden("cannot create endpoint on configuration-only network")
        identifier = endpoints.endpoint_id(network.id, container_id)
        return ContainerEndpoint(network_name=network.name, network_id=network.id, endpoint_id=identifier)

    async def release(self, container_id: str) -> None:
        """The container has ended, or was not started: the addresses that it held of any network are free again. Idempotent.

        Raises DiskFull; then they will be free when there is room, unless the container is started again.
        """
        await self._release_owed()
        await self._give_back([key for key in self._held if key[1] == container_id])

    async def release_one(self, network_id: str, container_id: str) -> None:
        """The container has left this network, but no other. Idempotent. Raises DiskFull, as `release`."""
        await self._release_owed()
        if (network_id, container_id) in self._held:
            await self._give_back([(network_id, container_id)])

    def forget_network(self, network_id: str) -> None:
        """The network, of which no container holds anything, is no more."""
        self._addresses.forget(network_id)

    async def sweep(self, live: Collection[Container]) -> None:
        """Release the addresses that no live container's record has, and delete links on the engine's bridges that are no such container's.

        Of a live container whose record says nothing of networks (its engine died between the start and the record) everything is
        kept. For an engine that takes over from one that was killed. What a full disk keeps from being released stays its
        container's, for that is no reason not to take over: nobody else could make room. Raises System.
        """
        known = {container.id: container for container in live}
        self._owed.update(key for key in self._held if key[1] not in known or not _is_on_record(known[key[1]], key[0]))
        await self._release_owed()
        prefixes = tuple(endpoints.host_interface_prefix(container.id) for container in live if not container.endpoints)
        for container in live:
            links_of = {(endpoint.network_id, container.id): endpoint.host_interface for endpoint in container.endpoints.values()}
            self._links.update((key, link) for key, link in links_of.items() if link)
        recorded = set(self._links.values())
        links = await self._host.list_links()
        self._take_down({link for link in links if link not in recorded and not link.startswith(prefixes)})

    async def _release_owed(self) -> None:
        """Release what could not be released so far, for want of room; if there is none still, another time."""
        for network_id, container_id in list(self._owed):
            try:
                await self._release(network_id, container_id)
            except DiskFull as error:
                log.warning("container %s keeps its address for now: %s", container_id, error.message)
                return

    async def _give_back(self, keys: Sequence[_Key]) -> None:
        self._owed.update(keys)
        for key in keys:
            await self._release(*key)

    async def _release(self, network_id: str, container_id: str) -> None:
        # The row goes first: an address that memory alone has free would be given out again, and the row would refuse that.
        await self._database.transact(lambda connection: rows.delete_held(connection, network_id, container_id), frees=True)
        # Not owed any more: another task has released it, or the container has it again, with a row that was written after ours went.
        if (network_id, container_id) in self._owed:
            self._owed.discard((network_id, container_id))
            if (network_id, container_id) in self._held:
                self._forget(network_id, container_id)
        failpoints.reach("networks.address.forgotten")

    def _forget(self, network_id: str, container_id: str) -> None:
        self._addresses.give_back(self._held.pop((network_id, container_id)))
        link = self._links.pop((network_id, container_id), None)
        if link is not None:
            self._take_down({link})

    def _take(self, network: Network, container_id: str, requested: EndpointSettings | None) -> rows.HeldAddresses:
        held = self._held.get((network.id, container_id))
        if held is None:
            of_network = [each for each in self._held.values() if each.network_id == network.id]
            addresses = {address.version: str(address) for address in self._addresses.take(network, container_id, requested, of_network)}
            held = rows.HeldAddresses(network.id, container_id, addresses.get(4), addresses.get(6))
            self._held[network.id, container_id] = held
        return held

    def _describe(
        self, network: Network, side: Bridge | Wire, held: rows.HeldAddresses, *, mac: str | None, interface: str, link_local: Sequence[str]
    ) -> Allocation:
        name = self._free_link(held.container_id)
        if isinstance(side, Bridge):
            self._links[network.id, held.container_id] = name
        addresses: list[Address] = addresses_of(held)
        return allocation.describe(
            network,
            side,
            held.container_id,
            addresses,
            mac=mac or _mac(side, addresses, endpoints.endpoint_id(network.id, held.container_id)),
            host_interface=name,
            container_interface=interface,
            link_local=[f"{address}/{16 if '.' in address else 64}" for address in link_local],
        )

    def _free_link(self, container_id: str) -> str:
        """A name for one more link of the container, which has others, or had one that is not gone yet."""
        taken = {*self._links.values(), *self._departed}
        self._generation += 1
        names = [endpoints.host_interface_name(container_id, self._generation + number) for number in range(endpoints.GENERATIONS)]
        # If they are all taken, the kernel says so.
        name = next((name for name in names if name not in taken), names[0])
        self._generation += names.index(name)
        return name

    def _take_down(self, links: set[str]) -> None:
        """See to it that these links are gone soon. One look at the bridges serves all containers that end meanwhile."""
        if links and not self._departed:
            self._tasks.start(self._remove_departed(), name="links of ended containers")
        self._departed |= links

    async def _remove_departed(self) -> None:
        await asyncio.sleep(_LINK_GRACE_SECONDS)
        # A link's name may have been given to a new link meanwhile.
        links, self._departed = self._departed - set(self._links.values()), set()
        removed = await self._host.remove_links(links)
        if removed:
            log.info("deleted links that outlived their containers: %s", ", ".join(removed))


def _is_on_record(container: Container, network_id: str) -> bool:
    return not container.endpoints or any(endpoint.network_id == network_id for endpoint in container.endpoints.values())


def _free_name(side: Bridge | Wire, taken: Collection[str]) -> str:
    prefix = side.interface_prefix if isinstance(side, Bridge) else "eth"
    return next(name for number in count() if (name := f"{prefix}{number}") not in taken)


def _mac(side: Bridge | Wire, addresses: Sequence[Address], endpoint_id: str) -> str:
    """The MAC address of a link whose container did not ask for one; "" where that is not ours to choose, nor Docker's to show."""
    if isinstance(side, Wire):
        if side.kind == "ipvlan":
            return ""
        if side.mode == "passthru":
            return side.parent_mac  # the two have one, and a container's choice would change the host's
    return endpoints.mac_for(addresses[0]) if addresses else endpoints.mac_for_endpoint(endpoint_id)


def _check_links(requested: EndpointSettings | None) -> None:
    try:
        for link in (requested.links if requested is not None else None) or ():
            parse_link(link)
    except ValueError as error:
        raise System(str(error)) from None


def _requested_link_local(requested: EndpointSettings | None) -> list[str]:
    given = (requested.ipam_config.link_local_ips if requested is not None and requested.ipam_config is not None else None) or []
    for text in given:
        if not ipaddress.ip_address(text).is_link_local:
            raise InvalidParameter(f"invalid link local IP address: {text}")
    return given


def _requested_mac(requested: EndpointSettings | None) -> str | None:
    if requested is None or not requested.mac_address:
        return None
    mac = endpoints.parse_mac(requested.mac_address)
    if mac is None:
        raise InvalidParameter(f"invalid MAC address: {requested.mac_address}")
    return mac
