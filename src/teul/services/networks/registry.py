"""The records of this engine's networks: in memory for reading, in the database for keeping."""

from __future__ import annotations

from collections.abc import Sequence

from teul.errors import InvalidParameter, NotFound
from teul.model.network import PREDEFINED, Network
from teul.services.networks.records import predefined
from teul.store.metadata import networks as rows
from teul.store.metadata.database import Database


class NoSuchNetwork(NotFound):
    """There is no network of this name or id."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"network {reference} not found")


class NetworkRegistry:
    """All networks, by name and id. Used from the event loop only."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._networks: dict[str, Network] = {}  # by name

    async def open(self) -> None:
        """Read all records; write those of the networks that every engine has, where they are missing."""
        self._networks = {network.name: network for network in await self._database.transact(rows.load_networks)}
        for missing in [predefined(name) for name in PREDEFINED if name not in self._networks]:
            await self.save(missing)

    def all(self) -> Sequence[Network]:
        """All networks, in the order of their names."""
        return [self._networks[name] for name in sorted(self._networks)]

    def has(self, name: str) -> bool:
        """Whether there is a network of this name."""
        return name in self._networks

    def get(self, reference: str, *, scope: str = "") -> Network:
        """Find by id, name or unique beginning of the id, in this order. Raises NoSuchNetwork, InvalidParameter if the id is ambiguous."""
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

    async def save(self, network: Network) -> None:
        """Keep a record, new or changed."""
        self._networks[network.name] = network
        await self._database.transact(lambda connection: rows.save_network(connection, network))
