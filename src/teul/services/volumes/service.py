"""Volumes: which there are, making and removing them, and what containers need of them. Used from the event loop only."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import msgspec

from teul import failpoints
from teul.aio import SlowWork, Tasks, run_blocking, run_to_end, undoing
from teul.errors import Conflict, System, TeulError
from teul.linux import mounts as kernel_mounts
from teul.model.container import Container
from teul.model.event import Event
from teul.model.filter import Filters
from teul.model.volume import ANONYMOUS_LABEL, LOCAL_DRIVER, CreateVolume, Volume, VolumeUsage, VolumeView
from teul.oci.timestamp import render_time
from teul.services.events import EventSink
from teul.services.usage import Usage
from teul.services.volumes.drivers import Drivers
from teul.services.volumes.filters import list_filter, prune_filter
from teul.services.volumes.mounts import VolumeMounts, volume_mounts
from teul.services.volumes.plugged import PluggedVolumes
from teul.services.volumes.records import VolumeRecords
from teul.services.volumes.request import NoSuchVolume, VolumeInUse, check_name, check_options
from teul.services.volumes.turns import Turns
from teul.store.metadata.database import Database
from teul.store.tree_size import blocks_of_tree, size_of_tree

log = logging.getLogger(__name__)


class Volumes:
    """The use cases of volumes. `records` says what is known of them, and is changed here only; `drivers`, who keeps them."""

    records: VolumeRecords
    drivers: Drivers

    def __init__(self, database: Database, drivers: Drivers, usage: Usage[str], events: EventSink, *, slow: SlowWork, tasks: Tasks) -> None:
        """`usage` is by the volume's name: the containers that have it, running or not."""
        self.records = VolumeRecords(database)
        self.drivers = drivers
        self._local = drivers.local
        self._files = drivers.local.files
        self._usage = usage
        self._events = events
        self._slow = slow
        self._turns = Turns()
        self._mounts = VolumeMounts(database, self.records, drivers, self._turns, tasks)
        self._plugged = PluggedVolumes(self.records, drivers, usage)
        self._read: Counter[str] = Counter()  # by name: how often it is being read from its beginning to its end
        self._pruning = asyncio.Lock()

    async def open(self) -> None:
        """Read all records, and bring to an end what an engine that was killed had begun."""
        await self.records.open()
        await self._mounts.open()
        await self._slow.run(self._files.sweep, self._local_ones())

    async def sweep(self, live: Collection[Container]) -> None:
        """Learn which containers run, and take away the mounts that none of them needs. Once, before anything is started."""
        await self._mounts.sweep(live)

    # -- looking

    async def list(self, filters: Filters | None = None) -> tuple[Sequence[VolumeView], Sequence[str]]:
        """The volumes, in the order of their names, or those that `filters` (of GET /volumes) let through; and warnings.

        Also those that only plug-ins know; of plug-ins that do not answer, those on record. Raises InvalidParameter.
        """
        wanted = filters or Filters()
        is_wanted = list_filter(wanted, self._usage.is_used)
        found, warnings = await self._plugged.listing(wanted.get("driver"))
        found = [*map(self._view_local, self._local_ones().values()), *found]
        chosen = {view.volume.name: view for view in found if is_wanted(view.volume)}
        return [chosen[name] for name in sorted(chosen)], warnings

    async def inspect(self, name: str) -> VolumeView:
        """The volume of this name as it is now. Raises NoSuchVolume, and System where its driver cannot be asked."""
        volume = self.records.by_name.get(name)
        if volume is not None and volume.driver == LOCAL_DRIVER:
            return self._view_local(volume)
        async with self._turns.of(name):
            return await self._plugged.inspect(name)

    async def disk_usage(self) -> Sequence[VolumeUsage]:
        """What the volumes take on the disk. docker: those with options are somebody else's place, and are not told of."""
        found = []
        for name, volume in sorted(self._local_ones().items()):
            if not volume.options:
                size_bytes = await self._slow.run(blocks_of_tree, self._files.data(name))
                found.append(VolumeUsage(view=self._view_local(volume), size_bytes=size_bytes, containers=self._usage.count(name)))
        return found

    # -- making and removing

    async def create(self, request: CreateVolume) -> VolumeView:
        """Make a volume, or return the one of that name. Raises as Docker does."""
        labels = request.labels
        if not request.name:
            labels = {**(labels or {}), ANONYMOUS_LABEL: ""}
        name = request.name or secrets.token_hex(32)
        driver = request.driver or ("" if request.name else LOCAL_DRIVER)
        volume = await self._obtain(name, driver, options=request.driver_opts, labels=labels)
        return self._view_local(volume) if volume.driver == LOCAL_DRIVER else PluggedVolumes.view_of_new(volume)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume and all that is in it. `force`: one that is not there is no error. Raises NoSuchVolume, VolumeInUse, System."""
        async with self._turns.of(name):
            volume = self.records.by_name.get(name)
            if volume is None or volume.driver != LOCAL_DRIVER:
                await run_to_end(self._remove_plugged(name, force=force))
            else:
                await run_to_end(self._remove_locked(volume))

    async def prune(self, filters: Filters) -> tuple[Sequence[str], int]:
        """Remove what no container has: the names, and how many bytes that made free. Raises InvalidParameter, Conflict.

        docker: what plug-ins keep is theirs.
        """
        if self._pruning.locked():
            raise Conflict("a prune operation is already running")
        async with self._pruning:
            is_wanted = prune_filter(filters)
            removed: list[str] = []
            freed_bytes = 0
            for name, volume in sorted(self._local_ones().items()):
                if self._usage.is_used(name) or not is_wanted(volume):
                    continue
                size_bytes = await self._slow.run(size_of_tree, self._files.data(name))
                try:
                    await self.remove(name)
                except TeulError as error:
                    log.warning("volume %s is not pruned: %s", name, error.message)
                    continue
                removed.append(name)
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
            driver = mount.driver or (LOCAL_DRIVER if mount.is_anonymous else "")
            await self._obtain(mount.name, driver, options=mount.driver_options, labels=labels, container_id=container.id)

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
        """Have all volumes of a container that starts be there for it, and note in its record where. Undone by `unmount`.

        Raises NoSuchVolume, System.
        """
        for mount in volume_mounts(container):
            volume = self.records.get(mount.name)
            _note_place(container, mount.destination, await self._mounts.take(volume, container.id, mount.destination))
            self._publish(
                volume,
                "mount",
                container=container.id,
                destination=mount.destination,
                propagation=mount.propagation,
                **{"read/write": str(not mount.read_only).lower()},
            )

    async def unmount(self, container: Container) -> None:
        """A container does not run any more. Idempotent."""
        for mount in volume_mounts(container):
            if await self._mounts.give_back(mount.name, container.id, mount.destination) and mount.name in self.records.by_name:
                self._publish(self.records.get(mount.name), "unmount", container=container.id)

    @asynccontextmanager
    async def lent(self, container: Container) -> AsyncIterator[None]:
        """All volumes of a container are there while the context lasts, whether it runs or not. Raises as `mount`."""
        async with AsyncExitStack() as stack:
            for mount in volume_mounts(container):
                place = await stack.enter_async_context(self._mounts.lent(self.records.get(mount.name)))
                _note_place(container, mount.destination, place)
            yield

    @asynccontextmanager
    async def filling(self, name: str) -> AsyncIterator[int | None]:
        """A descriptor of the mount of a directory to fill an empty volume from, None if the volume has something in it already.

        At the end of the context the volume has all of it; if the context raises, none. What a plug-in keeps may be left with a part.
        """
        async with self._turns.of(name):
            volume, is_seen = self.records.get(name), self._local.is_seen(name)
            async with self._mounts.lent_in_turn(volume) as place:
                if volume.driver != LOCAL_DRIVER:
                    mount_fd = await self._slow.run(_open_if_empty, place)
                    try:
                        yield mount_fd
                    finally:
                        if mount_fd is not None:
                            os.close(mount_fd)
                    return
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
                    await run_to_end(self._slow.run(partial(self._files.finish, volume, is_seen=is_seen)))

    @asynccontextmanager
    async def reading(self, name: str) -> AsyncIterator[str]:
        """Where the volume's files are, which are there while the context lasts: nobody removes the volume. Raises as `mount`."""
        self._read[name] += 1
        try:
            async with self._mounts.lent((await self.inspect(name)).volume) as place:
                yield place
        finally:
            self._read[name] -= 1
            if not self._read[name]:
                del self._read[name]

    # -- inside

    def _local_ones(self) -> dict[str, Volume]:
        return {name: volume for name, volume in self.records.by_name.items() if volume.driver == LOCAL_DRIVER}

    def _view_local(self, volume: Volume) -> VolumeView:
        created_at = render_time(volume.created_at_ns // 1_000_000_000 * 1_000_000_000)
        return VolumeView(volume=volume, mountpoint=self._files.data(volume.name), created_at=created_at)

    async def _obtain(
        self, name: str, driver: str, *, options: Mapping[str, str] | None, labels: Mapping[str, str] | None, container_id: str = ""
    ) -> Volume:
        """The volume of this name, made if need be, for a container if one wants it. Without `driver` it may be any driver's."""
        async with self._turns.of(name):
            present = self.records.by_name.get(name)
            if present is not None and await self._is_there(present, driver, container_id):
                return present
            if not driver:
                try:
                    return (await self._plugged.probe(name)).volume
                except NoSuchVolume:
                    driver = LOCAL_DRIVER
            if driver != LOCAL_DRIVER:
                volume = await run_to_end(self._plugged.make(name, driver, options, labels))
                self._publish(volume, "create")
                return volume
            check_name(name)
            check_options(name, options)
            volume = Volume(
                name=name,
                created_at_ns=time.time_ns(),
                options=dict(options) if options is not None else None,
                labels=dict(labels) if labels is not None else None,
            )
            await run_to_end(self._make_locked(volume))
            return volume

    async def _is_there(self, present: Volume, driver: str, container_id: str) -> bool:
        """Whether a volume on record is one to go on with; raises Conflict where it is another driver's."""
        if driver and driver != present.driver:
            await self._plugged.check_driver(present.name, driver)
        if present.driver != LOCAL_DRIVER:
            return await self._plugged.check_present(present, driver, container_id=container_id)
        if driver and driver != present.driver:
            raise Conflict(
                f"create {present.name}: driver '{present.driver}' already has volume '{present.name}': volume name must be unique"
            )
        return True

    async def _make_locked(self, volume: Volume) -> None:
        """Directories and record of a new volume, or neither."""
        async with undoing(partial(self._local.remove, volume), "and it stays until the next engine"):
            await self._local.create(volume)
            failpoints.reach("volumes.create.made")
            await self.records.add(volume)
        failpoints.reach("volumes.create.recorded")
        self._publish(volume, "create")

    async def _remove_plugged(self, name: str, *, force: bool) -> None:
        if self._read[name]:
            raise _being_read(name)
        await self._mounts.settle(name)
        volume = await self._plugged.remove(name, force=force)
        if volume is not None:
            self._publish(volume, "destroy")

    async def _remove_locked(self, volume: Volume) -> None:
        users = self._usage.users(volume.name)
        if users:
            raise VolumeInUse(volume.name, [container.id for container in users])
        if self._read[volume.name]:
            raise _being_read(volume.name)
        for place in await run_blocking(self._files.mounted_inside, volume.name):
            raise Conflict(f"remove {volume.name}: volume is in use - something is mounted at {place}")
        # The record goes first: what is there without one is swept if the engine dies here.
        await self.records.forget(volume.name)
        failpoints.reach("volumes.remove.forgotten")
        try:
            await self._local.remove(volume)
        except OSError as error:
            log.warning("the files of volume %s stay until the next engine: %s", volume.name, error)
        self._publish(volume, "destroy")

    def _publish(self, volume: Volume, action: str, **attributes: str) -> None:
        self._events.publish(Event("volume", action, volume.name, {**attributes, "driver": volume.driver}))


def _being_read(name: str) -> Conflict:
    return Conflict(f"remove {name}: volume is in use - it is being exported or cloned")


def _note_place(container: Container, destination: str, place: str) -> None:
    """Have a container's record say where a volume of its is, which a plug-in may have moved."""
    planned, points = [], []
    for mount in container.planned or ():
        if mount.destination == destination and mount.point is not None and mount.point.source != place:
            mount = msgspec.structs.replace(mount, point=msgspec.structs.replace(mount.point, source=place))  # noqa: PLW2901
        planned.append(mount)
        if mount.point is not None:
            points.append(mount.point)
    if planned != container.planned:
        container.planned, container.mounts = planned, points


def _open_if_empty(place: str) -> int | None:
    """A detached mount of a directory of a plug-in's, None if something is in it. Blocking. Raises System."""
    try:
        with os.scandir(place) as entries:
            if next(entries, None) is not None:
                return None
        mount_fd = kernel_mounts.clone_tree(place)
        # security: the copier reaches nothing above, and opens nothing as a device.
        attributes = kernel_mounts.MOUNT_ATTR_NODEV | kernel_mounts.MOUNT_ATTR_NOSUID
        kernel_mounts.set_attributes(mount_fd, add=attributes, propagation=kernel_mounts.MS_PRIVATE)
    except OSError as error:
        raise System(f"failed to populate volume: {error}") from error
    return mount_fd
