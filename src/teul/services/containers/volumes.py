"""The volumes of containers: made with a container, filled from its image, and taken away with it if nobody has named them.

docker: daemon/create_unix.go (populateVolumes), daemon/mounts.go (removeMountPoints).
"""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack

import msgspec

from teul.aio import run_blocking, run_to_end
from teul.errors import System
from teul.model.container import Container
from teul.model.mount import PlannedMount
from teul.model.volume import LOCAL_DRIVER
from teul.services.containers.directories import EngineDirectories
from teul.services.images.service import Images
from teul.services.volumes.mounts import volume_mounts
from teul.services.volumes.service import Volumes
from teul.workers.rootfs import NoSuchPath, View, populate, stat_path

_DIRECTORY = 1 << 31  # Go's io/fs.ModeDir


class ContainerVolumes:
    """What a container's making and removal do to volumes. Used from the event loop only."""

    def __init__(self, volumes: Volumes, images: Images, directories: EngineDirectories) -> None:
        self._volumes = volumes
        self._images = images
        self._directories = directories

    @staticmethod
    def name(container: Container) -> None:
        """Give those volumes of a new container that nobody has named a name for good. docker: 64 hexadecimal digits."""
        container.planned = [
            msgspec.structs.replace(mount, name=secrets.token_hex(32)) if mount.type == "volume" and not mount.name else mount
            for mount in container.planned or ()
        ]

    async def provide(self, container: Container) -> None:
        """Make the volumes of a new container that are not there yet, and note in its record where they are. Raises as Docker does."""
        if not volume_mounts(container):
            return
        await self._volumes.provide(container)
        points = {}
        for mount in volume_mounts(container):
            assert mount.point is not None, mount
            driver = self._volumes.records.get(mount.name).driver
            source = self._volumes.drivers.place_of(self._volumes.records.get(mount.name))
            # docker: what is said of sharing is SELinux's, which has to do with local volumes only.
            mode = "" if driver != LOCAL_DRIVER and mount.point.mode == "z" else mount.point.mode
            points[mount.destination] = msgspec.structs.replace(mount.point, name=mount.name, driver=driver, source=source, mode=mode)
        container.planned = [
            msgspec.structs.replace(mount, point=points.get(mount.destination, mount.point)) for mount in container.planned or ()
        ]
        container.mounts = [mount.point for mount in container.planned if mount.point is not None]

    async def fill(self, container: Container) -> None:
        """Copy what the image has where the container's volumes are going to be, into those that are empty. Raises System.

        The container's directories are there already. Volumes that are filled at the same time wait for each other in the order of names.
        """
        wanted = {mount.name: mount for mount in volume_mounts(container) if not mount.no_copy and not mount.subpath}
        async with AsyncExitStack() as stack:
            targets = []
            for name in sorted(wanted):
                if not await self._is_worth_mounting(container, wanted[name]):
                    continue
                mount_fd = await stack.enter_async_context(self._volumes.filling(name))
                if mount_fd is not None:
                    targets.append((wanted[name].destination, mount_fd))
            if not targets:
                return
            async with AsyncExitStack() as layers:
                lower = await run_to_end(run_blocking(layers.enter_context, self._images.lower(self._images.of(container))))
                found = await populate(self._view(container, [*lower, self._directories.lowest_layer]), targets)
            for (destination, _), kind in zip(targets, found, strict=True):
                if kind == "file":
                    is_of_image = destination in (container.config.volumes or {})
                    raise System(
                        f"cannot mount volume over existing file, file exists {destination}"
                        if is_of_image
                        else f"source {destination} is not directory"
                    )

    async def _is_worth_mounting(self, container: Container, mount: PlannedMount) -> bool:
        """docker: a plug-in is asked to mount a volume only if the image has a directory for it."""
        if self._volumes.records.get(mount.name).driver == LOCAL_DRIVER:
            return True
        async with AsyncExitStack() as layers:
            lower = await run_to_end(run_blocking(layers.enter_context, self._images.lower(self._images.of(container))))
            try:
                found = await stat_path(self._view(container, lower), mount.destination)
            except NoSuchPath:
                return False
        return bool(found.mode & _DIRECTORY or found.target)

    async def discard(self, container: Container) -> None:
        """Remove those volumes of a container that is gone that nobody has named, unless another container has them."""
        await self._volumes.discard([mount.name for mount in volume_mounts(container) if mount.is_anonymous])

    def _view(self, container: Container, lower: list[str | int]) -> View:
        directory = self._directories.container(container.id)
        return View(
            pidfd=None,
            lower=tuple(lower),
            upper=self._directories.upper(container.id),
            work=f"{directory}/work",
            stage=f"{self._directories.root}/tmp",
        )
