"""The host's side of the networks: bridges and firewall, made when the engine opens, so that a start has nothing to wait for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from teul import failpoints
from teul.aio import Tasks, run_blocking, run_to_end
from teul.errors import System, TeulError, Unavailable
from teul.linux.nftables import LibraryMissing
from teul.model.network import Network
from teul.network.bridge import Bridge
from teul.network.host import HostNetwork
from teul.network.ipam import NoFreeSubnet
from teul.services.networks.records import subnet_of, with_bridge
from teul.services.networks.registry import NetworkRegistry

log = logging.getLogger(__name__)

# How old the last look at the host's FORWARD policy may be when a container starts.
_FORWARDING_AGE_SECONDS = 10.0


class HostSetup:
    """What the host has of this engine's networks. A host that refuses is complained of when a container needs a network."""

    def __init__(self, host: HostNetwork, registry: NetworkRegistry, tasks: Tasks) -> None:
        self._host = host
        self._registry = registry
        self._tasks = tasks
        self._bridges: dict[str, Bridge] = {}  # by the network's id
        self._has_firewall = False
        self._forwarding_checked_at = 0.0
        self._preparing: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def open(self, network: Network, *, is_in_use: bool) -> None:
        """Take over, or make, the bridge of `network`; the firewall is seen to in the background."""
        try:
            await self._ensure_bridge(network, is_in_use=is_in_use)
        except TeulError as error:
            log.warning("no bridge network for now: %s", error.message)
        else:
            # Not waited for: loading libnftables takes longer than the engine's start may, and not every engine starts a container.
            self._preparing = self._tasks.start(self._prepare(network, is_in_use=is_in_use), name="network set-up")

    async def settle(self) -> None:
        """Wait until the work that was begun on the host is finished."""
        if self._preparing is not None:
            await asyncio.wait([self._preparing])

    async def remove(self) -> None:
        """Leave the host as it was found."""
        async with self._lock:
            self._bridges.clear()
            self._has_firewall = False
            try:
                await run_blocking(self._host.remove)
            except OSError as error:
                log.warning("could not remove the networks' bridge and rules: %s", error)

    async def ensure(self, network: Network, *, is_in_use: bool) -> Bridge:
        """The bridge of `network`, once everything on the host is in place; at once, unless something went wrong before.

        `is_in_use`: containers hold addresses of it, so its subnet must stay. Raises TeulError.
        """
        bridge = self._bridges.get(network.id)
        if bridge is None or not self._has_firewall:
            bridge = await self._ensure_bridge(network, is_in_use=is_in_use)
            async with self._lock:
                if not self._has_firewall:
                    await self._on_host(self._host.ensure_firewall)
                    failpoints.reach("networks.firewall.made")
                    self._has_firewall = True
                    self._forwarding_checked_at = time.monotonic()
        elif time.monotonic() - self._forwarding_checked_at > _FORWARDING_AGE_SECONDS:
            self._forwarding_checked_at = time.monotonic()
            self._tasks.start(self._on_host(self._host.ensure_forwarding), name="forward policy")
        return bridge

    async def list_links(self) -> list[str]:
        """Names of the links on the bridges; none while there is no bridge. Raises System."""
        if not self._bridges:
            return []
        try:
            return await run_blocking(self._host.list_ports)
        except OSError as error:
            names = ", ".join(bridge.name for bridge in self._bridges.values())
            raise System(f"could not list the links of bridge {names}: {error}") from error

    async def remove_links(self, names: set[str]) -> list[str]:
        """Delete those of `names` that are still on a bridge; returns them."""
        return await run_blocking(self._host.remove_ports, names)

    async def _prepare(self, network: Network, *, is_in_use: bool) -> None:
        try:
            await self.ensure(network, is_in_use=is_in_use)
        except TeulError as error:
            log.warning("the bridge network is not ready: %s", error.message)

    async def _ensure_bridge(self, network: Network, *, is_in_use: bool) -> Bridge:
        async with self._lock:
            if network.id in self._bridges:
                return self._bridges[network.id]
            try:
                # To its end: nobody else may come to the host while it is being changed.
                bridge = await run_to_end(run_blocking(self._host.ensure_bridge, recorded=subnet_of(network), is_in_use=is_in_use))
                failpoints.reach("networks.bridge.made")
            except NoFreeSubnet:
                # docker: moby daemon/libnetwork/ipamapi
                raise Unavailable("all predefined address pools have been fully subnetted") from None
            except OSError as error:
                raise _translated(error) from error
            changed = with_bridge(network, bridge)
            if changed != network:
                await self._registry.save(changed)
            failpoints.reach("networks.bridge.recorded")
            self._bridges[network.id] = bridge
            return bridge

    async def _on_host(self, work: Callable[[Sequence[Bridge]], None]) -> None:
        try:
            await run_to_end(run_blocking(work, list(self._bridges.values())))
        except OSError as error:
            raise _translated(error) from error


def _translated(error: OSError) -> TeulError:
    if isinstance(error, LibraryMissing):
        return Unavailable(f"the bridge network needs libnftables: {error.strerror}", hint="apt-get install libnftables1")
    return System(f"failed to set up the bridge network: {error.strerror or error}")
