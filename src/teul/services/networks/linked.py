"""What links open on a default bridge that keeps its containers apart: the ports that the linked container exposes, to who links to it.

docker: libnetwork/drivers/bridge (link.go). What is open follows from who is on the bridge at the time; what an engine that was killed has
left, `sweep` puts right.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable

from teul import failpoints
from teul.aio import Tasks, run_to_end
from teul.errors import TeulError
from teul.model.container import Container
from teul.model.network import BRIDGE, Network
from teul.network.firewall.linked import LinkedPort
from teul.network.host import HostNetwork
from teul.network.ports.plan import parse_port
from teul.services.networks.host_setup import HostSetup
from teul.services.networks.records import bridge_of

log = logging.getLogger(__name__)

Pairs = Callable[[], Iterable[tuple[Container, Container]]]
"""Of each link whose containers are both on the default bridge now: who links, and who is linked to."""


class LinkedPorts:
    """The ports that one engine's links open. Used from the event loop only."""

    def __init__(self, host: HostSetup, tasks: Tasks, *, find_network: Callable[[str], Network]) -> None:
        self._host = host
        self._tasks = tasks
        self._find_network = find_network
        self._open: frozenset[LinkedPort] = frozenset()
        self._lock = asyncio.Lock()
        host.when_made(self._restore)

    async def follow(self, pairs: Pairs) -> None:
        """Have open what these links open, and nothing else. To its end, if cancelled. Raises TeulError, and opens nothing."""
        async with self._lock:
            await run_to_end(self._follow(pairs))

    async def sweep(self, pairs: Pairs) -> None:
        """As `follow`, whatever the firewall has been left with. For an engine that takes over."""
        async with self._lock:
            self._open = self._wanted(pairs)
        # Not waited for, as the firewall itself.
        self._tasks.start(self._put_right(), name="ports of links")

    async def _follow(self, pairs: Pairs) -> None:
        wanted = self._wanted(pairs)
        removed, added = self._open - wanted, wanted - self._open
        if removed or added:
            # At once: who makes the firewall anew meanwhile, in a thread, is to put there what is wanted.
            before, self._open = self._open, wanted
            try:
                await self._host.on_firewall(
                    lambda host: host.links.change(removed, added), lambda host: host.links.set(wanted), is_needed=True
                )
            except BaseException:
                self._open = before
                raise
            failpoints.reach("networks.links.opened")

    async def _put_right(self) -> None:
        await self._host.settle()
        async with self._lock:
            wanted = self._open
            try:
                await self._host.on_firewall(
                    lambda host: host.links.set(wanted), lambda host: host.links.set(wanted), is_needed=bool(wanted)
                )
            except TeulError as error:
                log.warning("the ports of links are not as they should be: %s", error.message)

    def _restore(self, host: HostNetwork) -> None:
        """The firewall was made, maybe anew, and has nothing then."""
        if self._open:
            host.links.set(self._open)

    def _wanted(self, pairs: Pairs) -> frozenset[LinkedPort]:
        found = list(pairs())
        if not found or (bridge := bridge_of(self._find_network(BRIDGE))).has_icc:
            return frozenset()
        return frozenset(port for parent, child in found for port in _ports(bridge.name, parent, child))


def _ports(bridge: str, parent: Container, child: Container) -> Iterable[LinkedPort]:
    source, target = parent.endpoints[BRIDGE].ipv4, child.endpoints[BRIDGE].ipv4
    for exposed in child.config.exposed_ports or ():
        try:
            number, protocol = parse_port(exposed)
        except ValueError as error:
            log.warning("container %s exposes what is no port, which no link opens: %s", child.name, error)
            continue
        yield LinkedPort(bridge, ipaddress.IPv4Address(source), ipaddress.IPv4Address(target), protocol, number)
