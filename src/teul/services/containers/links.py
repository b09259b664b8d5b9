"""Links of containers on the default bridge (`--link`): which there are, what those that have them are told, and how they end.

A link is in its parent's record, and the name `parent/alias` that the child has by it follows from there. Docker keeps links in memory and
makes them anew from the request whenever it starts, so that one which was removed comes back; here it does not.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Iterator
from functools import partial

from teul.aio import run_to_end
from teul.errors import Conflict, InvalidParameter, NotFound, System, TeulError
from teul.model.container import Container, LinkedContainer
from teul.model.host_config import HostConfig
from teul.model.link import parse_link
from teul.model.network import BRIDGE
from teul.services.containers.network_files import NetworkFiles
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.request.network import LINKS_AND_HOST, is_user_defined, network_donor
from teul.services.containers.run import Runs
from teul.services.containers.spec.links import Link, link_environment, with_links, without_link
from teul.services.networks.linked import LinkedPorts

log = logging.getLogger(__name__)


class Links:
    """The links of one engine's containers. Used from the event loop only."""

    def __init__(self, registry: ContainerRegistry, runs: Runs, files: NetworkFiles, ports: LinkedPorts) -> None:
        self._registry = registry
        self._runs = runs
        self._files = files
        self._ports = ports

    def resolve(self, parent: str, host_config: HostConfig) -> dict[str, LinkedContainer]:
        """By alias, the containers that a new one, `parent`, is to be linked to. Raises as Docker does.

        docker: daemon_unix.go, registerLinks. An alias that cannot be a name, or is given twice, is passed over.
        """
        links: dict[str, LinkedContainer] = {}
        if is_user_defined(host_config.network_mode):
            return links
        for text in host_config.links or ():
            try:
                reference, alias = parse_link(text)
            except ValueError as error:
                raise System(str(error)) from None
            child = self._get(reference)
            while (donor := network_donor(child.host_config)) is not None:
                child = self._get(donor)
            if child.host_config.network_mode == "host":
                raise InvalidParameter(LINKS_AND_HOST)
            name = posixpath.normpath(f"/{parent}/{alias}").removeprefix(f"/{parent}/")
            if name.startswith("/") or name in links:
                log.warning("container %s is not linked to %s as %r: there is such a name", parent, child.name, alias)
                continue
            links[name] = LinkedContainer(id=child.id, name=child.name)
        return links

    def shown(self, container: Container) -> list[str]:
        """A container's links as an inspection has them."""
        return [f"/{self._name(linked)}:/{container.name}/{alias}" for alias, linked in container.links.items()]

    def of(self, container: Container) -> list[Link]:
        """The links of a container that starts and has its endpoints. Raises System where a child is not to be linked to."""
        if BRIDGE not in container.endpoints:
            return []
        links: list[Link] = []
        for alias, linked in container.links.items():
            child = self._registry.find(linked.id)
            if child is not None and BRIDGE not in child.wanted_networks:
                raise System(f"Cannot link to /{child.name}, as it does not belong to the default network")
            if child is None or not child.state.has_process:
                raise System(f"Cannot link to a non running container: /{self._name(linked)} AS /{container.name}/{alias}")
            links.append(Link(alias, child))
        return links

    def environment(self, container: Container) -> list[str]:
        """What a process that comes to a running container is told of its links.

        docker: refuses it where a child has ended meanwhile; here that child is not told of.
        """
        return link_environment(container.name, self._living(container)) if BRIDGE in container.endpoints else []

    async def open_ports(self) -> None:
        """Have open, on a default bridge that keeps its containers apart, what the links of those open who are on it. Raises TeulError."""
        await self._ports.follow(self._pairs)

    async def sweep(self) -> None:
        """As `open_ports`, in the background, whatever an earlier engine has left open."""
        await self._ports.sweep(self._pairs)

    async def left(self, container: Container) -> None:
        """A container is not on the default bridge any more, or has ended. What fails is logged."""
        try:
            await self.open_ports()
        except (TeulError, OSError) as error:
            log.error("the ports of the links of container %s are still open: %s", container.name, error)

    async def joined(self, container: Container) -> None:
        """A container runs on the default bridge, perhaps by another address: it is told of its children, and its parents of it.

        What fails is logged: the container runs all the same.
        """
        if BRIDGE not in container.endpoints:
            return
        try:
            await self.open_ports()
            parents = [self._registry.get(parent_id) for parent_id in set(self._registry.links.parents_of(container.id))]
            for each in (container, *parents):
                if each.state.has_process and BRIDGE in each.endpoints and (living := self._living(each)):
                    await self._files.edit_hosts(each, partial(with_links, links=living))
        except (TeulError, OSError) as error:
            log.error("the links of container %s are not up to date: %s", container.name, error)

    async def renamed(self, child: Container) -> None:
        """A container has another name; those that are linked to it know it by that, also when it is gone. What fails is logged."""
        for parent_id in set(self._registry.links.parents_of(child.id)):
            parent, known = self._registry.get(parent_id), LinkedContainer(id=child.id, name=child.name)
            renamed = {alias: known if linked.id == child.id else linked for alias, linked in parent.links.items()}
            try:
                await self._registry.change(parent, links=renamed)
            except TeulError as error:
                log.error("container %s does not know what it is linked to by its new name: %s", parent.name, error.message)

    async def remove(self, reference: str) -> None:
        """Remove a link by the name that its child has by it. Raises as Docker does."""
        name = f"/{reference.removeprefix('/')}"
        parent_name, _, alias = name.rpartition("/")
        if not parent_name:
            raise Conflict("Conflict, cannot remove the default link name of the container")
        parent = self._registry.find(parent_name)
        if parent is None or f"/{parent.name}" != parent_name:
            raise System(f"Cannot get parent {parent_name} for link name {name}")
        async with self._runs.of(parent.id).lock:
            await run_to_end(self._remove_locked(parent, alias))

    async def _remove_locked(self, parent: Container, alias: str) -> None:
        await self._registry.change(parent, links={other: child for other, child in parent.links.items() if other != alias})
        await self.left(parent)
        if parent.state.has_process:
            # docker: the names of the others are brought up to date with that.
            living = self._living(parent)
            await self._files.edit_hosts(parent, lambda hosts: with_links(without_link(hosts, alias), living))

    def _get(self, reference: str) -> Container:
        try:
            if not reference:
                raise InvalidParameter('invalid name or ID supplied: ""')
            return self._registry.get(reference)
        except (NotFound, InvalidParameter) as error:
            # docker: not "not found", from which clients would conclude that there is no image.
            raise InvalidParameter(f"could not get container for {reference}: {error.message}") from error

    def _pairs(self) -> Iterator[tuple[Container, Container]]:
        """Who has a link, and to whom it leads, of those who are both on the default bridge."""
        for parent_id in self._registry.links.parents():
            parent = self._registry.get(parent_id)
            if BRIDGE in parent.endpoints:
                yield from ((parent, link.child) for link in self._living(parent))

    def _living(self, container: Container) -> list[Link]:
        found = [(alias, self._registry.find(linked.id)) for alias, linked in container.links.items()]
        return [Link(alias, child) for alias, child in found if child is not None and BRIDGE in child.endpoints]

    def _name(self, linked: LinkedContainer) -> str:
        child = self._registry.find(linked.id)
        return child.name if child is not None else linked.name
