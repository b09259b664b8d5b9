"""What containers have mounted, changed by their user while they run or not.

Each change is by itself: what fails is undone, while the changes before it stay. What is in a container's mount namespace cannot be swept,
so the record has a mount first and loses it last: whatever happens in between, it can be taken away, and the container's next start makes
its mounts as the record has them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import msgspec

from teul import failpoints
from teul.aio import run_blocking, run_to_end, undoing
from teul.errors import Conflict, InvalidParameter, NotFound, NotImplementedHere
from teul.model.container import Container
from teul.model.lifecycle import Status
from teul.model.mount import PlannedMount
from teul.model.mount_changes import MountChanges
from teul.oci.digest import Digest
from teul.services.containers.launch import Launcher
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.request.id_map import parse_id_map
from teul.services.containers.request.mounts import clean_path, mounts_of, parse_bind, parse_mount
from teul.services.containers.run import Runs
from teul.services.containers.sources import choose_images, identify, make_bind_sources, open_whole
from teul.services.containers.volumes import ContainerVolumes
from teul.services.images.service import Images
from teul.workers.mounting import attach_mount, detach_mount


class MountEdits:
    """Adds mounts to containers and takes them away. Used from the event loop only."""

    def __init__(self, registry: ContainerRegistry, runs: Runs, launcher: Launcher, images: Images, volumes: ContainerVolumes) -> None:
        self._registry = registry
        self._runs = runs
        self._launcher = launcher
        self._images = images
        self._volumes = volumes

    async def change(self, reference: str, changes: MountChanges) -> Container:
        """Carry out the changes in order, and return the record. Raises NotFound, InvalidParameter, Conflict, System."""
        container = self._registry.get(reference)
        wanted = [*map(parse_bind, changes.binds or ()), *map(parse_mount, changes.mounts or ())]
        for mount in wanted:
            if mount.type == "tmpfs":
                raise NotImplementedHere("a tmpfs cannot be added to a container that is there")
        async with self._runs.of(container.id).lock:
            self._registry.get(container.id)  # the container may have been removed while we waited
            if container.state.status in (Status.REMOVING, Status.DEAD):
                raise Conflict(f"container {container.id} is marked for removal")
            for place in changes.remove or ():
                await run_to_end(self._remove_locked(container, clean_path(place), force=changes.force))
            for mount in wanted:
                await run_to_end(self._add_locked(container, mount))
        return container

    async def _add_locked(self, container: Container, mount: PlannedMount) -> None:
        present = mounts_of(container)
        if any(other.destination == mount.destination for other in present):
            raise InvalidParameter(f"Duplicate mount point: {mount.destination}")
        await run_blocking(make_bind_sources, [mount])
        alone = msgspec.structs.replace(container, planned=choose_images([mount], self._images))
        self._volumes.name(alone)
        self._registry.hold(container, alone.planned or ())
        attached: list[PlannedMount] = []
        async with undoing(partial(self._undo, container, alone, attached), "and it stays mounted until the container ends"):
            await self._volumes.provide(alone)
            await self._record(container, [*present, _only(alone)])
            failpoints.reach("containers.mounts.recorded")
            if container.state.has_process:
                await self._launcher.volumes.mount(alone)
                await self._record(container, [*present, _only(alone)])  # a plug-in has said where it is
                await self._attach(container, _only(alone))
                attached.append(_only(alone))
                failpoints.reach("containers.mounts.attached")

    async def _attach(self, container: Container, mount: PlannedMount) -> None:
        mount_fd = await run_to_end(run_blocking(open_whole, mount, self._images, self._launcher.host))
        try:
            pidfd = self._pidfd(container)
            id_map = parse_id_map(mount.id_map) if mount.id_map else None
            try:
                await attach_mount(pidfd, mount_fd, mount.destination, id_map=id_map, user=container.config.user)
            finally:
                os.close(pidfd)
        finally:
            os.close(mount_fd)

    async def _remove_locked(self, container: Container, place: str, *, force: bool) -> None:
        present = mounts_of(container)
        mount = next((other for other in present if other.destination == place), None)
        if mount is None:
            raise NotFound(f"no mount of container {container.id} is at {place}")
        if container.state.has_process:
            await self._detach(container, mount, force=force)
        failpoints.reach("containers.mounts.detached")
        alone = msgspec.structs.replace(container, planned=[mount])
        await self._record(container, [other for other in present if other is not mount])
        await self._forget(container, alone)
        await self._volumes.discard(alone)

    async def _detach(self, container: Container, mount: PlannedMount, *, force: bool) -> None:
        identity = await run_blocking(identify, mount)
        pidfd = self._pidfd(container)
        try:
            await detach_mount(pidfd, mount.destination, identity=identity, lazily=force)
        except Conflict as error:
            raise Conflict(error.message, hint="with --force it goes when nobody uses it any more") from error
        finally:
            os.close(pidfd)

    async def _record(self, container: Container, planned: Sequence[PlannedMount]) -> None:
        points = [mount.point for mount in planned if mount.point is not None]
        await self._registry.change(container, planned=list(planned), mounts=points)

    async def _undo(self, container: Container, alone: Container, attached: Sequence[PlannedMount]) -> None:
        for mount in attached:
            await self._detach(container, mount, force=True)
        present = mounts_of(container)
        if _only(alone) in present:
            await self._record(container, [mount for mount in present if mount != _only(alone)])
        await self._forget(container, alone)

    async def _forget(self, container: Container, alone: Container) -> None:
        """What `alone` uses, the container uses only as far as its record says."""
        mount = _only(alone)
        if mount.type == "volume":
            await self._launcher.volumes.unmount(alone)
        self._registry.hold(container)
        if mount.image_id:
            await self._images.release(Digest(mount.image_id))

    def _pidfd(self, container: Container) -> int:
        """The pidfd of the container's first process, a copy that is the caller's. Raises Conflict."""
        process = self._runs.of(container.id).process
        if process is None or process.pidfd < 0:
            raise Conflict(f"container {container.id} is ending")
        return os.dup(process.pidfd)


def _only(alone: Container) -> PlannedMount:
    """The mount of a record that has one."""
    assert alone.planned is not None
    [mount] = alone.planned
    return mount
