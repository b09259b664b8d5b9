"""Published ports of containers that are there: moved when their networks change, and changed by their user, while they run or not."""

from __future__ import annotations

from functools import partial

import msgspec

from teul import failpoints
from teul.aio import run_blocking, run_to_end, undoing
from teul.errors import InvalidParameter, System
from teul.model.container import Container, ContainerEndpoint
from teul.model.host_config import HostConfig, PortBinding
from teul.model.port_changes import PortChanges
from teul.model.ports import normal_port
from teul.network import live
from teul.services.containers.attachments import check_alive, gateway_priorities
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.request.network import check_ports, has_own_network
from teul.services.containers.run import Runs
from teul.services.networks.service import Networks


class PortMoves:
    """Has the ports of running containers lead where their records, or what these are about to be, say."""

    def __init__(self, networks: Networks) -> None:
        self._ports = networks.ports

    async def move(
        self, container: Container, endpoints: dict[str, ContainerEndpoint], priorities: dict[str, int]
    ) -> dict[str, ContainerEndpoint]:
        """The endpoints with the ports that they publish from now on: those of the way out, which may be another one than it was."""
        moved = await self._ports.assign(container, endpoints, priorities)
        new = [endpoint.host_interface for name, endpoint in moved.items() if endpoint.ports and not _publishes(container, name)]
        if new:
            try:
                await run_blocking(live.let_back, new)
            except OSError as error:
                raise System(f"failed to change the links of container {container.id}: {error.strerror or error}") from error
        return moved

    async def move_back(self, container: Container) -> None:
        """The ports are published as the record has them."""
        await self._ports.assign(container, container.endpoints, gateway_priorities(container))


class PortEdits:
    """What a container publishes, changed. Used from the event loop only."""

    def __init__(self, registry: ContainerRegistry, runs: Runs, networks: Networks) -> None:
        self._registry = registry
        self._runs = runs
        self._moves = PortMoves(networks)

    async def change(self, reference: str, changes: PortChanges) -> Container:
        """Publish more of a container's ports, or no longer some; all of it or nothing. What stays published is not touched.

        Returns the record. Raises NotFound, InvalidParameter, and System as a start does if a port is not to be had.
        """
        container = self._registry.get(reference)
        async with self._runs.of(container.id).lock:
            self._registry.get(container.id)  # the container may have been removed while we waited
            check_alive(container)
            if not has_own_network(container.host_config):
                raise InvalidParameter("a container without a network of its own publishes no ports")
            host_config = merge(container.host_config, changes)
            check_ports(container.config, host_config)
            await run_to_end(self._change_locked(container, host_config))
        return container

    async def _change_locked(self, container: Container, host_config: HostConfig) -> None:
        async with undoing(partial(self._moves.move_back, container), "and the ports are published otherwise"):
            endpoints = container.endpoints
            if container.state.has_process:
                wanted = msgspec.structs.replace(container, host_config=host_config)
                endpoints = await self._moves.move(wanted, endpoints, gateway_priorities(container))
            failpoints.reach("containers.ports.moved")
            await self._registry.change(container, host_config=host_config, endpoints=endpoints)


def merge(present: HostConfig, changes: PortChanges) -> HostConfig:
    """`present` with the bindings that are to go gone, and the new ones added; it is not changed itself. Raises InvalidParameter."""
    bindings = {normal_port(port): list(places or ()) for port, places in (present.port_bindings or {}).items()}
    for port, places in (changes.remove or {}).items():
        for place in places or [PortBinding()]:
            kept = [each for each in bindings.get(normal_port(port), []) if not _is_meant(place, each)]
            if len(kept) == len(bindings.get(normal_port(port), [])):
                raise InvalidParameter(f"port {_text(port, place)} is not published")
            bindings[normal_port(port)] = kept
    for port, places in (changes.add or {}).items():
        here = bindings.setdefault(normal_port(port), [])
        for place in places or [PortBinding()]:
            if place in here:
                raise InvalidParameter(f"port {_text(port, place)} is published already")
            here.append(place)
    return msgspec.structs.replace(present, port_bindings={port: places for port, places in bindings.items() if places})


def _is_meant(wanted: PortBinding, present: PortBinding) -> bool:
    """What is not said of a place means all places."""
    return wanted.host_ip in ("", present.host_ip) and wanted.host_port in ("", present.host_port)


def _text(port: str, place: PortBinding) -> str:
    address = f"[{place.host_ip}]" if ":" in place.host_ip else place.host_ip
    return ":".join(part for part in (address, place.host_port, port) if part)


def _publishes(container: Container, name: str) -> bool:
    return name in container.endpoints and bool(container.endpoints[name].ports)
