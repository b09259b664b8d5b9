"""Connecting containers to networks and disconnecting them, while they run and while they do not.

A container's lock orders this with everything else that happens to it. When something is added, the host has it before the record does;
when something is taken away, the record loses it first: what an engine that was killed leaves on the host and in no record, the next one
takes away. The way out never leads by a link that is in no record: it moves to a new one last, and away from an old one first.
"""

from __future__ import annotations

from functools import partial

from teul import failpoints
from teul.aio import run_blocking, run_to_end, undoing
from teul.errors import InvalidParameter, NotFound, Refusal, System
from teul.model.container import Container, ContainerEndpoint
from teul.model.network import BRIDGE, HOST, Network
from teul.model.network_config import ConnectRequest, DisconnectRequest, EndpointSettings
from teul.network import live
from teul.network.allocation import gateways
from teul.network.live import Routes
from teul.runtime.engine.process import Process
from teul.services.containers.attachments import check_alive, check_connect, gateway_priorities
from teul.services.containers.links import Links
from teul.services.containers.names import Names
from teul.services.containers.network_files import NetworkFiles
from teul.services.containers.ports import PortMoves
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.run import Runs
from teul.services.events import Events, network_event
from teul.services.networks.egress import check_networks
from teul.services.networks.service import Networks


class Connections:
    """The use cases of containers' networks. Used from the event loop only."""

    def __init__(
        self,
        registry: ContainerRegistry,
        runs: Runs,
        networks: Networks,
        *,
        files: NetworkFiles,
        names: Names,
        links: Links,
        events: Events,
    ) -> None:
        self._registry = registry
        self._runs = runs
        self._networks = networks
        self._port_moves = PortMoves(networks)
        self._files = files
        self._names = names
        self._links = links
        self._events = events

    async def connect(self, reference: str, request: ConnectRequest) -> None:
        """Put a container on one more network. Raises as Docker does."""
        container = self._registry.get(request.container)
        settings = request.endpoint_config or EndpointSettings()
        async with self._runs.of(container.id).lock:
            self._registry.get(container.id)  # the container may have been removed while we waited
            check_alive(container)
            try:
                network = self._networks.get(reference)
            except NotFound:
                if container.state.has_process:
                    raise
                # docker: a network that is not there is missed when the container starts.
                attachments = {**container.wanted_networks, reference: settings}
                await self._registry.change(container, attachments=attachments)
                return
            if not check_connect(container, network, settings):
                return
            if container.host_config.egress is not None:
                check_networks([network])
            await run_to_end(self._connect_locked(container, network, settings))

    async def disconnect(self, reference: str, request: DisconnectRequest) -> None:
        """Take a container off a network. Raises as Docker does; with `force`, a network that is gone is none to complain of."""
        container = self._registry.get(request.container)
        async with self._runs.of(container.id).lock:
            self._registry.get(container.id)
            check_alive(container)
            try:
                network: Network | None = self._networks.get(reference)
            except NotFound:
                if not request.force and container.state.has_process:
                    raise
                network = None
            name = network.name if network is not None else reference
            if name not in container.wanted_networks:
                article = "" if container.state.has_process and network is not None else "the "
                raise Refusal(f"container {container.id} is not connected to {article}network {name}")
            if name == HOST and container.state.has_process:
                raise InvalidParameter("cannot disconnect container from host network - container was created in host network mode")
            await run_to_end(self._disconnect_locked(container, name, network))

    async def _connect_locked(self, container: Container, network: Network, settings: EndpointSettings) -> None:
        process = self._runs.of(container.id).process if container.state.has_process else None
        attachments = {**container.wanted_networks, network.name: settings}
        if process is None or not network.has_links:
            await self._registry.change(container, attachments=attachments)
            return
        endpoints = self._networks.endpoints
        taken = [endpoint.interface for endpoint in container.endpoints.values()]
        async with undoing(partial(endpoints.release_one, network.id, container.id), "and its address stays taken"):
            allocation = await endpoints.allocate(network, container.id, requested=settings, taken=taken)
            settings.network_id = network.id
            after = {**container.endpoints, network.name: allocation.endpoint}
            priorities = {**gateway_priorities(container), network.name: settings.gw_priority}
            async with undoing(partial(self._hold, container), "and its egress policy is in force where it is not"):
                await self._networks.egress.assign(container, after)
                await _on_links(container, network.name, partial(live.connect, allocation.plan, process.pidfd))
                async with undoing(partial(run_blocking, live.disconnect, allocation.endpoint, process.pidfd), "and its link stays"):
                    failpoints.reach("containers.connect.linked")
                    async with undoing(partial(self._port_moves.move_back, container), "and its ports lead elsewhere"):
                        after = await self._port_moves.move(container, after, priorities)
                        await self._registry.change(container, attachments=attachments, endpoints=after)
        failpoints.reach("containers.connect.recorded")
        await _on_links(container, network.name, partial(live.lead_out, process.pidfd, _routes(after, priorities)))
        await self._names.changed(container, [network.name])
        await self._files.refresh(container)
        if network.name == BRIDGE:
            await self._links.joined(container)
        self._events.publish(network_event(network, "connect", container=container.id))

    async def _disconnect_locked(self, container: Container, name: str, network: Network | None) -> None:
        process = self._runs.of(container.id).process if container.state.has_process else None
        endpoint = container.endpoints.get(name)
        attachments = {other: settings for other, settings in container.wanted_networks.items() if other != name}
        after = {other: kept for other, kept in container.endpoints.items() if other != name}
        priorities = {other: settings.gw_priority for other, settings in attachments.items()}
        async with undoing(partial(self._lead_back, container, process), "and its way out is another one"):
            if process is not None:
                await _on_links(container, name, partial(live.lead_out, process.pidfd, _routes(after, priorities)))
            failpoints.reach("containers.disconnect.routed")
            async with undoing(partial(self._port_moves.move_back, container), "and its ports lead elsewhere"):
                after = await self._port_moves.move(container, after, priorities)
                await self._registry.change(container, attachments=attachments, endpoints=after)
        try:
            failpoints.reach("containers.disconnect.recorded")
            if endpoint is not None and process is not None and (endpoint.interface or endpoint.host_interface):
                await _on_links(container, name, partial(live.disconnect, endpoint, process.pidfd))
        finally:
            if endpoint is not None:
                await self._links.left(container)
                # A link that is still there is deleted with its address.
                try:
                    await self._networks.endpoints.release_one(endpoint.network_id, container.id)
                finally:
                    await self._hold(container)
        if endpoint is not None:
            await self._files.refresh(container)
            await self._names.changed(container, [name])
        if network is not None and process is not None:
            self._events.publish(network_event(network, "disconnect", container=container.id))

    async def _hold(self, container: Container) -> None:
        """The egress policy is in force where the record says that the container is."""
        await self._networks.egress.assign(container, container.endpoints)

    async def _lead_back(self, container: Container, process: Process | None) -> None:
        """The ways out are those of the record."""
        if process is not None:
            await run_blocking(live.lead_out, process.pidfd, _routes(container.endpoints, gateway_priorities(container)))


def _routes(endpoints: dict[str, ContainerEndpoint], priorities: dict[str, int]) -> Routes:
    chosen = gateways([*endpoints.values()], priorities)
    return {version: (endpoint.interface, endpoint.gateway if version == 4 else endpoint.gateway6) for version, endpoint in chosen.items()}


async def _on_links(container: Container, network: str, work: partial[None]) -> None:
    try:
        await run_blocking(work)
    except OSError as error:
        raise System(f"failed to change the links of container {container.id} on network {network}: {error.strerror or error}") from error
