"""The records of this engine's networks: in memory for reading, in the database for keeping."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from teul.errors import Conflict, InvalidParameter, NotFound
from teul.model.network import BRIDGE, PREDEFINED, Network
from teul.network.default_bridge import AS_USUAL, DefaultBridge
from teul.network.options import BRIDGE_NAME, HOST_BINDING, ICC, MASQUERADE
from teul.services.networks.records import predefined
from teul.store.metadata import networks as rows
from teul.store.metadata.database import Database

log = logging.getLogger(__name__)


class NoSuchNetwork(NotFound):
    """There is no network of this name or id."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"network {reference} not found")


class NameTaken(Conflict):
    """Another network has that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"network with name {name} already exists")


class NetworkRegistry:
    """All networks, by name and id. Used from the event loop only."""

    def __init__(self, database: Database, *, bridge_name: str, default: DefaultBridge = AS_USUAL) -> None:
        """`bridge_name` is the device of the default bridge, `default` what else the engine was told of it."""
        self._database = database
        self._has_bridge = not default.is_disabled
        self._default_options = {
            BRIDGE_NAME: default.name or bridge_name,
            HOST_BINDING: default.host_binding,
            ICC: str(default.has_icc).lower(),
            MASQUERADE: str(default.is_masqueraded).lower(),
        }
        self._networks: dict[str, Network] = {}  # by name

    async def open(self, *, is_in_use: Callable[[str], bool]) -> None:
        """Read all records; write those of the networks that every engine has, where they are missing.

        `is_in_use` says of a network's id whether containers hold addresses of it: the default bridge stays what it is for them.
        """
        self._networks = {network.name: network for network in await self._database.transact(rows.load_networks)}
        for name in PREDEFINED:
            if name not in self._networks:
                await self.save(predefined(name, bridge_name=self._default_options[BRIDGE_NAME]))
        default = self._networks[BRIDGE]
        options = default.options | self._default_options
        if is_in_use(default.id):
            options[BRIDGE_NAME] = default.options.get(BRIDGE_NAME, options[BRIDGE_NAME])
            if not self._has_bridge or options[BRIDGE_NAME] != self._default_options[BRIDGE_NAME]:
                log.warning("the default bridge is %s as before, as long as containers are on it", options[BRIDGE_NAME])
        elif not self._has_bridge:
            del self._networks[BRIDGE]  # the record stays for an engine that has it again
            return
        if default.options != options:
            # Of an engine that noted the name when the bridge was made; or the root has been moved, or the engine has other options now.
            await self.save(msgspec.structs.replace(default, options=options))

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

    def current(self, network: Network) -> Network:
        """The record as it is now; the given one if there is none any more."""
        return self._networks.get(network.name, network)

    def reserve(self, network: Network) -> None:
        """Take the name for a network that is being made, so that two requests cannot both get it. Raises NameTaken."""
        if network.name in self._networks:
            raise NameTaken(network.name)
        self._networks[network.name] = network

    def give_up(self, network: Network) -> None:
        """Give back the name of a network that could not be made. Idempotent."""
        self._networks.pop(network.name, None)

    async def save(self, network: Network) -> None:
        """Keep a record, new or changed."""
        self._networks[network.name] = network
        await self._database.transact(lambda connection: rows.save_network(connection, network))

    async def delete(self, network: Network) -> None:
        """Forget a network. It is not found any more from now on, so that nobody comes to it while its row is deleted."""
        self.give_up(network)
        try:
            await self._database.transact(lambda connection: rows.delete_network(connection, network.id), frees=True)
        except BaseException:
            self._networks.setdefault(network.name, network)
            raise
