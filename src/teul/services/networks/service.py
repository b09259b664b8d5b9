"""Networks: which there are and who is on them. So far the three that every engine has."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from teul.aio import Tasks
from teul.errors import Conflict, Forbidden, NotImplementedHere
from teul.model.filter import Filters
from teul.model.lifecycle import Status
from teul.model.network import BRIDGE, PREDEFINED, Attachment, Network
from teul.network.host import HostNetwork
from teul.services.networks.endpoints import Endpoints
from teul.services.networks.filters import check_prune_filters, list_filter
from teul.services.networks.host_setup import HostSetup
from teul.services.networks.records import attachment_of
from teul.services.networks.registry import NetworkRegistry
from teul.services.usage import Usage
from teul.store.metadata.database import Database

_RUNNING = frozenset({Status.RUNNING, Status.PAUSED})


class Networks:
    """The use cases of networks. What containers get of them is in `endpoints`. Used from the event loop only."""

    def __init__(self, database: Database, host: HostNetwork, usage: Usage[str]) -> None:
        """`usage` is by the network's id."""
        self._usage = usage
        self._tasks = Tasks()
        self._registry = NetworkRegistry(database)
        self._host = HostSetup(host, self._registry, self._tasks)
        self.endpoints = Endpoints(database, self._host, self._tasks)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def open(self) -> None:
        """Load the records and take over, or make, the host's side."""
        await self._registry.open()
        await self.endpoints.open()
        network = self._registry.get(BRIDGE)
        await self._host.open(network, is_in_use=self.endpoints.is_in_use(network.id))

    async def close(self, *, remove: bool = True) -> None:
        """Stop background work; with `remove`, and if no container holds an address, leave the host as it was found."""
        await self._host.settle()  # work that was begun on the host is finished before its results are removed again
        await self._tasks.cancel()
        if remove and not self.endpoints.is_in_use():
            await self._host.remove()

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

    def attachments(self, network: Network) -> Sequence[Attachment]:
        """The running containers on a network."""
        return [attachment_of(container, network) for container in self._usage.users(network.id) if container.state.status in _RUNNING]

    async def create(self, name: str) -> None:
        """Networks of the user's are not made yet. Raises Forbidden, Conflict or NotImplementedHere."""
        if name in PREDEFINED:
            # docker: the text ends in a space.
            raise Forbidden(f"operation is not permitted on predefined {name} network ")
        if self._registry.has(name):
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
