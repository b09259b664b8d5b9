"""The names by which containers find each other: what the network agent is told of networks and of those on them.

The agent answers containers' DNS queries and outlives the engine. It is told anew what there is whenever something changes; what it holds
from an earlier engine is compared with the records when this one opens, and if it is lost, everything is told to the next one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence

from teul.aio import run_blocking, run_to_end
from teul.errors import TeulError
from teul.linux.netns import run_inside
from teul.linux.resolver import ResolverSockets, open_resolver_sockets
from teul.model.container import Container
from teul.model.link import parse_link
from teul.model.network import PREDEFINED, Network
from teul.network.agent.client import Held, NetworkAgent, UnknownContainer
from teul.network.agent.messages import Answer, NetworkTable, Resolved, View
from teul.runtime.engine.process import Process
from teul.services.containers.attachments import gateway_priorities
from teul.services.containers.bundle import read_host_file
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.run import Runs
from teul.services.containers.spec.network_files import upstream_servers, uses_resolver
from teul.services.networks.records import names_on
from teul.services.networks.service import Networks

log = logging.getLogger(__name__)


class Names:
    """Keeps the network agent of one engine up to date. Used from the event loop only.

    What cannot be told is logged and told again with the next change: a container runs, or ends, whatever becomes of names.
    """

    def __init__(self, registry: ContainerRegistry, runs: Runs, networks: Networks, agent: NetworkAgent) -> None:
        self._registry = registry
        self._runs = runs
        self._networks = networks
        self._agent = agent
        agent.after_loss(self.say_everything)
        agent.judge_by(self._allow)
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Take over, or replace, what an earlier engine's agent serves. The containers that run are known by now."""
        try:
            await self._take_over(await self._agent.find())
            await self.keep_allowed(self._served())
        except TeulError as error:
            log.error("containers cannot be found by their names for now: %s", error.message)

    async def _take_over(self, held: Held | None) -> None:
        if held is None and not self._served():
            return
        if held is not None:
            served = self._served()
            for network_id in held.networks - {network.id for network in self._named_networks(served)}:
                await self._agent.drop_network(network_id)
            for container_id in held.containers - {container.id for container in served}:
                await self._agent.drop_container(container_id)
        await self.say_everything()

    async def say_everything(self) -> None:
        """Tell an agent about all networks and containers. Raises `System` where no agent can be had."""
        served = self._served()
        for network in self._named_networks(served):
            await self._agent.put_network(self._table(network))
        for container in served:
            await self._serve(container, None)

    async def joined(self, container: Container, process: Process) -> None:
        """A container runs: its names are known, and its queries answered, when this returns."""
        sockets = process.take_resolver_sockets()
        try:
            if uses_resolver(container):
                await self._tell(container, set(container.endpoints), sockets)
        finally:
            _close(sockets or ())

    async def changed(self, container: Container, networks: Iterable[str]) -> None:
        """A container has come to these `networks` (by name), or has left them, or is called otherwise."""
        await self._tell(container, set(networks), None)

    async def policy_changed(self, container: Container) -> None:
        """A container's egress policy is another one: only what it allows is asked for, and reached, from now on. Raises TeulError."""
        if self._process(container) is not None:
            await self._tell(container, set(container.endpoints), None, always=True)
            await self.keep_allowed([container])

    async def keep_allowed(self, containers: Sequence[Container]) -> None:
        """Have those that are held to policies reach addresses of allowed names, and of no others. Raises TeulError."""
        held = [container for container in containers if self._networks.egress.name_rules(container) is not None]
        # A network's addresses are of all its containers.
        names = {name for container in held for name in container.endpoints}
        held += [each for each in self._served() if each not in held and names.intersection(each.endpoints)]
        known = {container.id: (await self._agent.report(container.id)).get("names", {}) for container in held}
        await self._networks.egress.keep(held, known)

    async def report(self, container: Container) -> Answer:
        """What the agent knows of a container's egress policy: `names` and `refused`. Raises System."""
        return await self._agent.report(container.id)

    async def _allow(self, told: Resolved) -> bool:
        container = self._registry.find(told["container"])
        if container is None or self._process(container) is None:
            return False
        try:
            return await self._networks.egress.allow(container, told["resolved"], told["addresses"])
        except TeulError as error:
            log.error("container %s does not reach %s: %s", container.name, told["resolved"], error.message)
            return False

    async def _tell(self, container: Container, networks: set[str], sockets: ResolverSockets | None, *, always: bool = False) -> None:
        named = [self._networks.get(name) for name in sorted(networks) if name not in PREDEFINED and self._networks.has(name)]
        if not (named or always or uses_resolver(container)):
            return
        async with self._lock:
            try:
                await run_to_end(self._tell_locked(container, named, sockets))
            except (TeulError, OSError) as error:
                log.error("the names of container %s are not up to date: %s", container.name, error)

    async def _tell_locked(self, container: Container, named: list[Network], sockets: ResolverSockets | None) -> None:
        for network in named:
            table = self._table(network)
            if table["names"]:
                await self._agent.put_network(table)
            else:
                await self._agent.drop_network(network.id)  # nobody is on it any more; it may be about to be removed
        if self._process(container) is None:
            pass  # the agent has seen its end by itself
        elif uses_resolver(container):
            await self._serve(container, sockets)
        else:
            await self._agent.drop_container(container.id)
        for network in named:
            for other in self._networks.users(network):
                settings = other.wanted_networks.get(network.name)
                if other.id != container.id and settings is not None and settings.links and self._process(other) is not None:
                    await self._serve(other, None)

    async def _serve(self, container: Container, sockets: ResolverSockets | None) -> None:
        """Give the agent a container's view, and if it has none of it yet the sockets; those are made anew if they are lost."""
        process = self._process(container)
        if process is None:
            return
        view = self._view(container, await run_blocking(read_host_file, "/etc/resolv.conf"))
        if sockets is not None:
            await self._agent.put_container(container.id, view, pidfd=process.pidfd, sockets=sockets)
            return
        try:
            await self._agent.update_view(container.id, view)
        except UnknownContainer:
            try:
                made = await run_blocking(run_inside, process.pidfd, open_resolver_sockets)
            except ProcessLookupError:
                return  # it has just ended
            try:
                await self._agent.put_container(container.id, view, pidfd=process.pidfd, sockets=made)
            finally:
                _close(made)

    def _process(self, container: Container) -> Process | None:
        process = self._runs.of(container.id).process if container.state.has_process else None
        return process if process is not None and not process.exit.done() else None

    def _served(self) -> list[Container]:
        return [container for container in self._registry.all() if self._process(container) is not None and uses_resolver(container)]

    def _named_networks(self, containers: Iterable[Container]) -> list[Network]:
        names = {name for container in containers for name in container.endpoints}
        return [network for network in self._networks.list() if network.name in names and network.name not in PREDEFINED]

    def _table(self, network: Network) -> NetworkTable:
        names: dict[str, list[str]] = {}
        reverse: dict[str, str] = {}
        # The oldest first: of several containers that are called the same, the answer begins with the one that was there before.
        for container in reversed(self._networks.users(network)):
            endpoint = container.endpoints.get(network.name)
            if endpoint is None:
                continue
            own = names_on(container, network.name)
            for address in filter(None, (endpoint.ipv4, endpoint.ipv6)):
                reverse[address] = f"{own[0]}.{network.name}"
                for name in own:
                    names.setdefault(name.lower(), []).append(address)
        return {"id": network.id, "name": network.name, "names": names, "reverse": reverse}

    def _view(self, container: Container, host_resolv_conf: str) -> View:
        rules = self._networks.egress.name_rules(container)
        priorities = gateway_priorities(container)
        ordered = sorted(container.endpoints.values(), key=lambda each: (-priorities.get(each.network_name, 0), each.network_name))
        networks = [self._networks.get(each.network_name) for each in ordered if self._networks.has(each.network_name)]
        return {
            "networks": [network.id for network in networks if network.name not in PREDEFINED],
            "links": {network.id: links for network in networks if (links := self._links(container, network))},
            "servers": upstream_servers(host_resolv_conf, container.host_config.dns or ()),
            "forwards": any(not network.is_closed for network in networks),
            "allowed": rules or [],
        }

    def _links(self, container: Container, network: Network) -> dict[str, list[str]]:
        """By alias, the addresses on this network of the containers that are linked to. docker: `container:alias`."""
        settings = container.wanted_networks.get(network.name)
        links: dict[str, list[str]] = {}
        for link in (settings.links if settings is not None else None) or ():
            reference, alias = parse_link(link)
            target = self._registry.find(reference)
            endpoint = target.endpoints.get(network.name) if target is not None else None
            if endpoint is not None:
                links[alias.lower()] = [address for address in (endpoint.ipv4, endpoint.ipv6) if address]
        return links


def _close(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        os.close(fd)
