"""All containers of this engine: in memory for reading, in the database for keeping, by id, name and prefix."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from teul.errors import Conflict, InvalidParameter, NotFound
from teul.model import lifecycle
from teul.model.config import ContainerConfig
from teul.model.container import Container
from teul.model.host_config import HostConfig
from teul.model.mount import PlannedMount
from teul.model.names import random_name
from teul.oci.digest import Digest
from teul.services.containers.link_names import LinkNames
from teul.services.usage import Usage
from teul.store.metadata import containers as rows
from teul.store.metadata.database import Database

log = logging.getLogger(__name__)

_HEX = re.compile(r"[0-9a-f]+")


class NoSuchContainer(NotFound):
    """There is no such container. The text is Docker's; docker-py and the CLI look for its words."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"No such container: {reference}")


class NameTaken(Conflict):
    """Another container has that name."""

    def __init__(self, name: str, container_id: str) -> None:
        super().__init__(
            f'Conflict. The container name "/{name}" is already in use by container "{container_id}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        )


class ContainerRegistry:
    """The records, and what they declare to use. Names are reserved in memory first, so two requests cannot both get the same."""

    def __init__(self, database: Database, *, image_usage: Usage[Digest], network_usage: Usage[str], volume_usage: Usage[str]) -> None:
        """`image_usage` is by image id, `network_usage` by the id of the network, `volume_usage` by the volume's name."""
        self._database = database
        self._image_usage = image_usage
        self._network_usage = network_usage
        self._volume_usage = volume_usage
        self._containers: dict[str, Container] = {}
        self._ids: dict[str, str] = {}  # name → id
        self.links = LinkNames()
        self._unreadable: set[str] = set()  # ids
        # Held while a row is being written of what memory has yet to learn, or the other way round.
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Read all records. A container whose record cannot be read is there as dead, by what else its row says: it can be removed."""
        for damaged in await self._database.transact(rows.damaged_containers):
            log.error("container %s (%s) is set aside: %s", damaged.id, damaged.name, damaged.reason)
            self._unreadable.add(damaged.id)
            self._remember(_stand_in(damaged))
        for container in await self._database.transact(rows.all_containers):
            self._remember(container)

    def all(self) -> list[Container]:
        """All records, newest first."""
        return sorted(self._containers.values(), key=lambda container: container.created_at_ns, reverse=True)

    def get(self, reference: str) -> Container:
        """The container with this full id, name (also one by a link), or unambiguous prefix of an id, in this order.

        Raises NotFound, and InvalidParameter if nothing is named.
        """
        if not reference:
            raise InvalidParameter('invalid name or ID supplied: ""')
        container = self.find(reference)
        if container is None:
            raise NoSuchContainer(reference)
        return container

    def find(self, reference: str) -> Container | None:
        """As `get`, None when there is none. Raises InvalidParameter for an ambiguous prefix."""
        if reference in self._containers:
            return self._containers[reference]
        name = reference.removeprefix("/")
        if name in self._ids:
            return self._containers.get(self._ids[name])
        if (child_id := self.links.find(name)) is not None:
            return self._containers.get(child_id)
        if not _HEX.fullmatch(reference):
            return None
        matches = [container for container_id, container in self._containers.items() if container_id.startswith(reference)]
        if len(matches) > 1:
            # docker: an ambiguous prefix is "not found" to its API.
            raise NotFound(f"multiple IDs found with provided prefix: {reference}")
        return matches[0] if matches else None

    def exists(self, container_id: str) -> bool:
        """Whether there is a record with this full id."""
        return container_id in self._containers

    def is_unreadable(self, container_id: str) -> bool:
        """Whether what is known of the container is not what its record says, because that cannot be read."""
        return container_id in self._unreadable

    def reserve_name(self, name: str | None, container_id: str) -> str:
        """Take `name`, or a random one, for a container that is being made. Raises `NameTaken`."""
        if name is not None and name in self._ids:
            raise NameTaken(name, self._ids[name])
        chosen = name or self._free_name()
        self._ids[chosen] = container_id
        return chosen

    def _free_name(self) -> str:
        attempt = 0
        while (name := random_name(attempt)) in self._ids:
            attempt += 1
        return name

    def release_name(self, name: str) -> None:
        """Give a reserved name back."""
        self._ids.pop(name, None)

    def hold(self, container: Container, more: Sequence[PlannedMount] = ()) -> None:
        """Keep the images and the volumes of a container, and those of the mounts that it is to have besides; to be called in the step that
        looked the images up."""
        images = [*container.image_ids, *(mount.image_id for mount in more if mount.image_id)]
        self._image_usage.declare(container, map(Digest, images))
        self._volume_usage.declare(container, _volumes_of([*(container.planned or ()), *more]))

    def give_up(self, container: Container) -> None:
        """Give back the name, the images and the volumes of a container that could not be made."""
        self.release_name(container.name)
        self._image_usage.withdraw(container)
        self._volume_usage.withdraw(container)

    async def add(self, container: Container) -> None:
        """Keep a new record, whose name was reserved."""
        await self._database.transact(lambda connection: rows.insert(connection, container))
        self._keep(container)

    async def change(self, container: Container, **changes: Any) -> None:
        """Give members of a record new values: in the row first, and in memory only when the row has them.

        If the row cannot be written, nothing is changed. A cancelled caller must not come between the two, so what calls this is itself
        called by way of `aio.run_to_end`. Raises Conflict for a record that cannot be read.
        """
        async with self._writing:
            self._refuse_unreadable(container)
            changed = msgspec.structs.replace(container, **changes)
            await self._database.transact(lambda connection: rows.update(connection, changed))
            for name in changes:
                setattr(container, name, getattr(changed, name))
        if container.id in self._containers:
            self._declare_networks(container)
            self.links.declare(container)

    async def change_together(self, *changes: tuple[Container, dict[str, Any]], frees: bool = False) -> None:
        """As `change`, of several records in one transaction. Containers may exchange names; a name that is new was reserved.

        `frees`: what follows from it makes room on a full disk.
        """
        async with self._writing:
            for container, _ in changes:
                self._refuse_unreadable(container)
            after = [msgspec.structs.replace(container, **values) for container, values in changes]
            await self._database.transact(lambda connection: rows.update_together(connection, after), frees=frees)
            for container, values in changes:
                if "name" in values:
                    self._ids.pop(container.name, None)
                for name, value in values.items():
                    setattr(container, name, value)
            self._ids.update({container.name: container.id for container, values in changes if "name" in values})
        for container, _ in changes:
            if container.id in self._containers:
                self._keep(container)

    async def save(self, container: Container) -> None:
        """Keep what has changed in a record: what has happened to the container, whether it can be written down or not.

        So room is made for it on a full disk: it is a fact by now, and a record that knows nothing of it would mislead the next engine.

        What somebody wants to change goes through `change`. A record that is gone stays gone. Raises Conflict for one that cannot be read.
        """
        self._refuse_unreadable(container)
        if container.id in self._containers:
            self._declare_networks(container)
        async with self._writing:
            await self._database.transact(lambda connection: rows.update(connection, container), frees=True)

    async def remove(self, container: Container) -> None:
        """Forget a record and its name."""
        await self._database.transact(lambda connection: rows.delete(connection, container.id), frees=True)
        self._containers.pop(container.id, None)
        self._unreadable.discard(container.id)
        self._image_usage.withdraw(container)
        self._network_usage.withdraw(container)
        self._volume_usage.withdraw(container)
        self.links.withdraw(container)
        self.release_name(container.name)

    def _refuse_unreadable(self, container: Container) -> None:
        if container.id in self._unreadable:
            raise Conflict(f"container {container.id} cannot be changed: {container.state.error}")

    def _remember(self, container: Container) -> None:
        self._keep(container)
        self._ids[container.name] = container.id

    def _keep(self, container: Container) -> None:
        self._containers[container.id] = container
        self.hold(container)
        self._declare_networks(container)
        self.links.declare(container)

    def _declare_networks(self, container: Container) -> None:
        self._network_usage.declare(container, [endpoint.network_id for endpoint in container.endpoints.values()])


def _volumes_of(planned: Sequence[PlannedMount]) -> list[str]:
    return [mount.name for mount in planned if mount.type == "volume"]


def _stand_in(damaged: rows.DamagedRow) -> Container:
    """What is shown of a container whose record cannot be read: a dead one, with the reason."""
    return Container(
        id=damaged.id,
        name=damaged.name,
        created_at_ns=0,
        image_id=damaged.image_id,
        image_reference=damaged.image_id,
        path="",
        args=[],
        config=ContainerConfig(image=damaged.image_id),
        host_config=HostConfig(),
        state=lifecycle.lost(damaged.reason),
    )
