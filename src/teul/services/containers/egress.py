"""What containers may reach: their egress policies, shown and changed by their user, while they run or not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import msgspec

from teul import failpoints
from teul.aio import run_to_end, undoing
from teul.model.container import Container
from teul.model.network import Network
from teul.network.firewall.egress import Refusal
from teul.services.containers.attachments import check_alive
from teul.services.containers.names import Names
from teul.services.containers.network_files import NetworkFiles
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.request.network import check_egress
from teul.services.containers.run import Runs
from teul.services.events import Events, container_event
from teul.services.networks.egress import check_networks
from teul.services.networks.service import Networks


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressReport:
    """What a container may reach: its own rules and those of its networks that have some, by name; and what it was refused.

    `names` are allowed names that it has asked for, with their addresses and for how many seconds yet it may reach them; `refused_names`
    those that were asked of nobody, and how often it wanted that.
    """

    rules: list[str] | None
    networks: dict[str, list[str]]
    names: dict[str, dict[str, int]]
    refused_names: dict[str, int]
    refusals: list[Refusal]


class EgressEdits:
    """What containers may reach. Used from the event loop only."""

    def __init__(
        self, registry: ContainerRegistry, runs: Runs, networks: Networks, *, files: NetworkFiles, names: Names, events: Events
    ) -> None:
        self._files = files
        self._names = names
        self._registry = registry
        self._runs = runs
        self._networks = networks
        self._events = events

    async def report(self, reference: str) -> EgressReport:
        """What a container may reach, and what it was refused within hours. Raises NotFound, System."""
        container = self._registry.get(reference)
        endpoints = container.endpoints.values()
        names = [name for name in container.wanted_networks if self._networks.has(name)]
        known = await self._names.report(container)
        return EgressReport(
            rules=container.host_config.egress,
            networks={name: rules for name in sorted(names) if (rules := self._networks.get(name).egress) is not None},
            names={name: _current(addresses) for name, addresses in known.get("names", {}).items() if _current(addresses)},
            refused_names=known.get("refused", {}),
            refusals=await self._networks.egress.refusals({address for each in endpoints for address in (each.ipv4, each.ipv6) if address}),
        )

    async def change(self, reference: str, rules: list[str] | None) -> None:
        """Have a container reach what these rules allow, or anything, from now on. Connections that they do not allow are cut.

        Raises NotFound, InvalidParameter, System; then nothing changes.
        """
        container = self._registry.get(reference)
        async with self._runs.of(container.id).lock:
            self._registry.get(container.id)  # the container may have been removed while we waited
            check_alive(container)
            host_config = msgspec.structs.replace(container.host_config, egress=rules)
            check_egress(host_config)
            if host_config.egress is not None:
                check_networks([self._networks.get(name) for name in container.wanted_networks if self._networks.has(name)])
            wanted = msgspec.structs.replace(container, host_config=host_config)
            await run_to_end(self._change_locked(container, wanted))
            if container.state.has_process:
                await self._files.refresh(container)
                await self._names.policy_changed(container)
        self._events.publish(container_event(container, "update"))

    async def change_network(self, reference: str, rules: list[str] | None) -> Network:
        """Have a network's containers reach what these rules allow, or anything, from now on; returns the record. Raises as `change`."""
        network = await self._networks.change_egress(reference, rules)
        for container in self._networks.users(network):
            if container.state.has_process:
                await self._names.policy_changed(container)
        return network

    async def _change_locked(self, container: Container, wanted: Container) -> None:
        egress = self._networks.egress
        async with undoing(partial(egress.assign, container, container.endpoints), "and it is held to another policy than on record"):
            if container.state.has_process:
                await egress.assign(wanted, container.endpoints)
            failpoints.reach("containers.egress.assigned")
            await self._registry.change(container, host_config=wanted.host_config)


def _current(addresses: dict[str, int]) -> dict[str, int]:
    return {address: seconds for address, seconds in addresses.items() if seconds > 0}
