"""Volumes as archives, and copies of them: what `teul volume export`, `import` and `clone` ask for. Used from the event loop only.

What is unpacked or copied fills a volume as an image would (`Volumes.filling`): nobody sees the half of it, not even after a crash.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from teul import failpoints
from teul.aio import undoing
from teul.errors import Conflict, InvalidParameter
from teul.model.volume import LOCAL_DRIVER, CreateVolume, Volume
from teul.services.volumes.local import is_mount
from teul.services.volumes.service import Volumes
from teul.workers import volumes as workers
from teul.workers.volumes import Compression


class VolumeNotEmpty(Conflict):
    """Something is in the volume that was to be filled."""

    def __init__(self, name: str) -> None:
        super().__init__(f"volume {name} is not empty")


class VolumeArchives:
    """The ways in and out. One instance per engine."""

    def __init__(self, volumes: Volumes, stage: str) -> None:
        """`stage` is a directory of the host that workers cover in their own mount namespaces."""
        self._volumes = volumes
        self._stage = stage

    @asynccontextmanager
    async def export(self, name: str, compression: str = "") -> AsyncIterator[AsyncIterator[bytes]]:
        """An archive of the volume as it is, which containers may be changing meanwhile. The volume stays for as long as that takes.

        Raises NoSuchVolume, InvalidParameter, System.
        """
        kind = _compression(compression)
        async with self._volumes.reading(name) as path, workers.exported(path, kind) as chunks:
            yield chunks

    async def import_(self, name: str, stream: AsyncIterator[bytes], *, create: bool = False) -> Volume:
        """Unpack the tar archive that `stream` brings in a volume that is empty; with `create` in a new one if there is none.

        All of it or nothing. Raises NoSuchVolume, VolumeNotEmpty, InvalidParameter, System, and what `stream` raises.
        """
        async with AsyncExitStack() as stack:
            volume, target_fd = await self._target(stack, name, create=create)
            await workers.unpack(target_fd, self._stage, stream)
            failpoints.reach("volumes.import.unpacked")
        return volume

    async def clone(self, source: str, name: str) -> Volume:
        """Copy a volume into another one that is new or empty. All of it or nothing. Raises as `import_`; Conflict if they are one."""
        if source == name:
            raise Conflict(f"volume {name} cannot be cloned into itself")
        async with AsyncExitStack() as stack:
            path = await stack.enter_async_context(self._volumes.reading(source))
            volume, target_fd = await self._target(stack, name, create=True)
            await workers.copy(path, target_fd)
            failpoints.reach("volumes.clone.copied")
        return volume

    async def _target(self, stack: AsyncExitStack, name: str, *, create: bool) -> tuple[Volume, int]:
        """A volume that is empty, and a descriptor of what to fill it by. One that was made for this goes if `stack` ends with an error."""
        if create and not name:
            raise InvalidParameter("a volume that is to be filled needs a name")
        if create and name not in self._volumes.records.by_name:
            await stack.enter_async_context(undoing(partial(self._volumes.discard, [name]), "and it stays, empty"))
            await self._volumes.create(CreateVolume(name=name))
        volume = self._volumes.records.get(name)
        if volume.driver != LOCAL_DRIVER:
            raise Conflict(f"volume {name} is kept by plug-in {volume.driver}, where nothing can be put in its place in one step")
        if is_mount(volume):
            raise Conflict(f"volume {name} is a mount of {(volume.options or {})['device']}: fill that place itself")
        mount_fd = await stack.enter_async_context(self._volumes.filling(name))
        if mount_fd is None:
            raise VolumeNotEmpty(name)
        return volume, mount_fd


def _compression(text: str) -> Compression:
    match text:
        case "" | "gzip" | "zstd":
            return text
    raise InvalidParameter(f"unknown compression: {text!r}: must be gzip or zstd")
