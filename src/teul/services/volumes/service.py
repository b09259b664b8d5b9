"""Volumes: which there are, making and removing them, and what containers need of them. Used from the event loop only."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from teul import failpoints
from teul.aio import SlowWork, run_blocking, run_to_end, undoing
from teul.errors import Conflict, TeulError
from teul.model.container import Container
from teul.model.event import Event
from teul.model.filter import Filters
from teul.model.mount import PlannedMount
from teul.model.volume import ANONYMOUS_LABEL, LOCAL_DRIVER, CreateVolume, Volume, VolumeUsage
from teul.services.events import EventSink
from teul.services.usage import Usage
from teul.services.volumes.filters import list_filter, prune_filter
from teul.services.volumes.local import VolumeFiles, is_mount
from teul.services.volumes.request import NoSuchVolume, VolumeInUse, check_driver, check_name, check_options
from teul.store.metadata import volumes as rows
from teul.store.metadata.database import Database
from teul.store.tree_size import blocks_of_tree, size_of_tree

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Turns:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0


class Volumes:
    """The use cases of volumes, and their records."""

    mountpoint: Callable[[str], str]
    """Where a volume's files are on the host, by its name."""

    def __init__(self, database: Database, files: VolumeFiles, usage: Usage[str], events: EventSink, slow: SlowWork) -> None:
        """`usage` is by the volume's name: the containers that have it, running or not."""
        self._database = database
        self._files = files
        self.mountpoint = files.data
        self._usage = usage
        self._events = events
        self._slow = slow
        self._volumes: dict[str, Volume] = {}
        self._seen_by: dict[str, set[str]] = {}  # by name: the ids of the containers that run with it
        self._read: Counter[str] = Counter()  # by name: how often it is being read from its beginning to its end
        self._turns: dict[str, _Turns] = {}
        self._pruning = asyncio.Lock()

    async def open(self) -> None:
        """Read all records, and bring to an end what an engine that was killed had begun."""
        self._volumes = {volume.name: volume for volume in await self._database.transact(rows.load_volumes)}
        await self._slow.run(self._files.sweep, dict(self._volumes))

    async def sweep(self, live: Collection[Container]) -> None:
        """Learn which containers run, and take away the mounts that none of them needs. Once, before anything is started."""
        for container in live:
            for mount in volume_mounts(container):
                self._seen_by.setdefault(mount.name, set()).add(container.id)
        for volume in self._volumes.values():
            if is_mount(volume) and volume.name not in self._seen_by:
                await run_blocking(self._files.unmount, volume.name)

    # -- looking

    def list(self, filters: Filters | None = None) -> Sequence[Volume]:
        """The volumes, in the order of their names, or those that `filters` (of GET /volumes) let through. Raises InvalidParameter."""
        is_wanted = list_filter(filters or Filters(), self._usage.is_used)
        return [self._volumes[name] for name in sorted(self._volumes) if is_wanted(self._volumes[name])]

    def get(self, name: str) -> Volume:
        """The volume of this name. Raises NoSuchVolume."""
        if name not in self._volumes:
            raise NoSuchVolume(name)
        return self._volumes[name]

    async def disk_usage(self) -> Sequence[VolumeUsage]:
        """What the volumes take on the disk. docker: those with options are somebody else's place, and are not told of."""
        found = []
        for volume in self.list():
            if not volume.options:
                size_bytes = await self._slow.run(blocks_of_tree, self._files.data(volume.name))
                found.append(VolumeUsage(volume=volume, size_bytes=size_bytes, containers=self._usage.count(volume.name)))
        return found

    # -- making and removing

    async def create(self, request: CreateVolume) -> Volume:
        """Make a volume, or return the one of that name. Raises as Docker does."""
        labels = request.labels
        if not request.name:
            labels = {**(labels or {}), ANONYMOUS_LABEL: ""}
        name = request.name or secrets.token_hex(32)
        return await self._obtain(name, request.driver, options=request.driver_opts, labels=labels)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume and all that is in it. `force`: one that is not there is no error. Raises NoSuchVolume, VolumeInUse."""
        if force and name not in self._volumes:
            return
        async with self._locked(name):
            await run_to_end(self._remove_locked(self.get(name)))

    async def prune(self, filters: Filters) -> tuple[Sequence[str], int]:
        """Remove what no container has: the names, and how many bytes that made free. Raises InvalidParameter, Conflict."""
        if self._pruning.locked():
            raise Conflict("a prune operation is already running")
        async with self._pruning:
            is_wanted = prune_filter(filters)
            removed: list[str] = []
            freed_bytes = 0
            for volume in self.list():
                if self._usage.is_used(volume.name) or not is_wanted(volume):
                    continue
                size_bytes = await self._slow.run(size_of_tree, self._files.data(volume.name))
                try:
                    await self.remove(volume.name)
                except TeulError as error:
                    log.warning("volume %s is not pruned: %s", volume.name, error.message)
                    continue
                removed.append(volume.name)
                freed_bytes += size_bytes
            self._events.publish(Event("volume", "prune", "", {"reclaimed": str(freed_bytes)}))
            return removed, freed_bytes

    # -- for containers

    async def provide(self, container: Container) -> None:
        """Make those of the container's volumes that are not there yet. Raises as Docker does.

        The container must have declared that it uses them, so that nobody removes one again.
        """
        for mount in volume_mounts(container):
            labels = {**(mount.labels or {}), ANONYMOUS_LABEL: ""} if mount.is_anonymous else mount.labels
            await self._obtain(mount.name, mount.driver, options=mount.driver_options, labels=labels)

    async def discard(self, names: Iterable[str]) -> None:
        """Remove volumes that nobody has named, unless a container has them. What refuses to go stays, and the log says so."""
        for name in names:
            try:
                await self.remove(name)
            except (NoSuchVolume, VolumeInUse):
                continue
            except TeulError as error:
                log.warning("volume %s stays: %s", name, error.message)

    async def mount(self, container: Container) -> None:
        """Have all volumes of a container that starts be there for it. Raises NoSuchVolume, System; undone by `unmount`."""
        for mount in volume_mounts(container):
            await self._take(mount.name, container.id)
            self._publish(
                self.get(mount.name),
                "mount",
                container=container.id,
                destination=mount.destination,
                propagation=mount.propagation,
                **{"read/write": str(not mount.read_only).lower()},
            )

    async def unmount(self, container: Container) -> None:
        """A container does not run any more. Idempotent."""
        for mount in volume_mounts(container):
            if await self._give_back(mount.name, container.id) and mount.name in self._volumes:
                self._publish(self._volumes[mount.name], "unmount", container=container.id)

    @asynccontextmanager
    async def lent(self, container: Container) -> AsyncIterator[None]:
        """All volumes of a container are there while the context lasts, whether it runs or not. Raises as `mount`."""
        async with AsyncExitStack() as stack:
            for mount in volume_mounts(container):
                user = f"{container.id} {secrets.token_hex(8)}"
                await self._take(mount.name, user)
                stack.push_async_callback(self._give_back, mount.name, user)
            yield

    @asynccontextmanager
    async def filling(self, name: str) -> AsyncIterator[int | None]:
        """A descriptor of the mount of a directory to fill an empty volume from, None if the volume has something in it already.

        At the end of the context the volume has all of it; if the context raises, none.
        """
        async with self._locked(name), self._mounted_for_engine(self.get(name)) as volume:
            if not await run_blocking(self._files.is_empty, volume):
                yield None
                return
            async with undoing(partial(self._slow.run, self._files.abandon, volume), "and it stays until the next engine"):
                mount_fd = await run_to_end(run_blocking(self._files.begin, volume))
                try:
                    yield mount_fd
                finally:
                    os.close(mount_fd)
                failpoints.reach("volumes.populate.copied")
                await run_to_end(self._slow.run(partial(self._files.finish, volume, is_seen=name in self._seen_by)))

    @asynccontextmanager
    async def reading(self, name: str) -> AsyncIterator[str]:
        """Where the volume's files are, which are there while the context lasts: nobody removes the volume. Raises as `mount`."""
        user = f"reader {secrets.token_hex(8)}"
        self._read[name] += 1
        try:
            await self._take(name, user)
            try:
                yield self.mountpoint(name)
            finally:
                await run_to_end(self._give_back(name, user))
        finally:
            self._read[name] -= 1
            if not self._read[name]:
                del self._read[name]

    # -- inside

    async def _take(self, name: str, user: str) -> None:
        async with self._locked(name):
            volume = self.get(name)
            if is_mount(volume):
                await run_to_end(run_blocking(self._files.mount, volume))
            self._seen_by.setdefault(name, set()).add(user)

    async def _give_back(self, name: str, user: str) -> bool:
        """Whether it had been taken."""
        async with self._locked(name):
            users = self._seen_by.get(name, set())
            if user not in users:
                return False
            users.discard(user)
            if not users:
                del self._seen_by[name]
                if name in self._volumes and is_mount(self._volumes[name]):
                    await run_to_end(run_blocking(self._files.unmount, name))
            return True

    async def _obtain(self, name: str, driver: str, *, options: Mapping[str, str] | None, labels: Mapping[str, str] | None) -> Volume:
        """The volume of this name, made if need be."""
        check_name(name)
        async with self._locked(name):
            present = self._volumes.get(name)
            if present is not None:
                if driver:
                    check_driver(name, driver)
                if driver and driver != present.driver:
                    raise Conflict(f"create {name}: driver '{present.driver}' already has volume '{name}': volume name must be unique")
                return present
            check_driver(name, driver or LOCAL_DRIVER)
            check_options(name, options)
            volume = Volume(
                name=name,
                created_at_ns=time.time_ns(),
                options=dict(options) if options is not None else None,
                labels=dict(labels) if labels is not None else None,
            )
            await run_to_end(self._make_locked(volume))
            return volume

    async def _make_locked(self, volume: Volume) -> None:
        """Directories and record of a new volume, or neither."""
        async with undoing(partial(self._slow.run, self._files.remove, volume.name), "and it stays until the next engine"):
            await run_blocking(self._files.make, volume.name)
            failpoints.reach("volumes.create.made")
            await self._database.transact(lambda connection: rows.insert_volume(connection, volume))
        self._volumes[volume.name] = volume
        failpoints.reach("volumes.create.recorded")
        self._publish(volume, "create")

    async def _remove_locked(self, volume: Volume) -> None:
        users = self._usage.users(volume.name)
        if users:
            raise VolumeInUse(volume.name, [container.id for container in users])
        if self._read[volume.name]:
            raise Conflict(f"remove {volume.name}: volume is in use - it is being exported or cloned")
        for place in await run_blocking(self._files.mounted_inside, volume.name):
            raise Conflict(f"remove {volume.name}: volume is in use - something is mounted at {place}")
        # The record goes first: what is there without one is swept if the engine dies here.
        await self._database.transact(lambda connection: rows.delete_volume(connection, volume.name), frees=True)
        del self._volumes[volume.name]
        failpoints.reach("volumes.remove.forgotten")
        try:
            await self._slow.run(self._files.remove, volume.name)
        except OSError as error:
            log.warning("the files of volume %s stay until the next engine: %s", volume.name, error)
        self._publish(volume, "destroy")

    @asynccontextmanager
    async def _mounted_for_engine(self, volume: Volume) -> AsyncIterator[Volume]:
        """A volume that is a mount is there while the context lasts, whether a container has it or not."""
        try:
            if is_mount(volume):
                await run_to_end(run_blocking(self._files.mount, volume))
            yield volume
        finally:
            if is_mount(volume) and volume.name not in self._seen_by:
                await run_to_end(run_blocking(self._files.unmount, volume.name))

    @asynccontextmanager
    async def _locked(self, name: str) -> AsyncIterator[None]:
        """One at a time of what is done to a volume, or to what may become one."""
        turns = self._turns.setdefault(name, _Turns())
        turns.wanted += 1
        try:
            async with turns.lock:
                yield
        finally:
            turns.wanted -= 1
            if not turns.wanted:
                del self._turns[name]

    def _publish(self, volume: Volume, action: str, **attributes: str) -> None:
        self._events.publish(Event("volume", action, volume.name, {**attributes, "driver": volume.driver}))


def volume_mounts(container: Container) -> list[PlannedMount]:
    """Those of a container's mounts that are volumes."""
    return [mount for mount in container.planned or () if mount.type == "volume"]
