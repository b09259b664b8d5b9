"""Who has which volume mounted: containers while they run, and the engine itself where it works in a volume.

A plug-in counts its mounts, by an id that it is given, so none may be forgotten: each stands in the database from before the plug-in is
asked for it until it has answered that it is gone. What an engine that was killed has left there, and no container that runs needs, the
next one gives back. A local volume needs none of that: who has it follows from who runs.

docker: daemon/volume/mounts/mounts.go (Setup, Cleanup), whose calls these are, in that order.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from teul import failpoints
from teul.aio import Tasks, run_to_end
from teul.errors import NotFound, Refusal, TeulError
from teul.model.container import Container
from teul.model.mount import PlannedMount
from teul.model.volume import LOCAL_DRIVER, Volume, VolumeMount
from teul.plugins.errors import PluginRefused, PluginUnreachable
from teul.services.volumes.drivers import Drivers, PluginDriver
from teul.services.volumes.records import VolumeRecords
from teul.services.volumes.request import NoSuchVolume
from teul.services.volumes.turns import Turns
from teul.store.metadata import volumes as rows
from teul.store.metadata.database import Database

log = logging.getLogger(__name__)

Key = tuple[str, str]  # a container's id and a place in it
# docker: with the volume's place as it was when the container was made, which is none.
_FAILED = "error while mounting volume ''"


class VolumeMounts:
    """The mounts of all volumes of one engine. Used from the event loop only."""

    def __init__(self, database: Database, records: VolumeRecords, drivers: Drivers, turns: Turns, tasks: Tasks) -> None:
        self._database = database
        self._records = records
        self._drivers = drivers
        self._turns = turns
        self._tasks = tasks
        self._by_plugins: dict[Key, VolumeMount] = {}  # those of containers
        self._taken: set[Key] = set()
        # By id: those that nobody needs. Of an engine before this one, or of a plug-in that could not be told.
        self._left: dict[str, VolumeMount] = {}

    async def open(self) -> None:
        """Read what plug-ins have mounted. Once, before anything else."""
        for mount in await self._database.transact(rows.load_mounts):
            self._left[mount.id] = mount

    async def sweep(self, live: Collection[Container]) -> None:
        """Learn which containers run; what none of them needs is given back, by plug-ins in the background. Before anything is started."""
        # Not those that have ended meanwhile: they have given back what they know of.
        running = [container for container in live if container.state.has_process]
        needed = {(container.id, mount.destination): mount for container in running for mount in volume_mounts(container)}
        for (container_id, destination), planned in needed.items():
            volume = self._records.by_name.get(planned.name)
            if volume is not None and volume.driver == LOCAL_DRIVER:
                self._drivers.local.note(volume.name, f"{container_id} {destination}")
                self._taken.add((container_id, destination))
        for volume in self._records.by_name.values():
            if volume.driver == LOCAL_DRIVER:
                await self._drivers.local.let_go(volume)
        for mount in list(self._left.values()):
            key = (mount.container_id, mount.destination)
            if key in needed and needed[key].name == mount.volume:
                self._by_plugins[key] = self._left.pop(mount.id)
                self._taken.add(key)
            else:
                self._unmount_later(mount)

    async def take(self, volume: Volume, container_id: str, destination: str) -> str:
        """Have a volume be there for a container; where, on the host. Raises NoSuchVolume, System; undone by `give_back`."""
        async with self._turns.of(volume.name):
            key = (container_id, destination)
            if volume.driver == LOCAL_DRIVER:
                place = await self._drivers.local.mount(self._records.get(volume.name), f"{container_id} {destination}")
            else:
                mount = _new_mount(volume, container_id, destination)
                place = await self._mounted(volume, mount)
                self._by_plugins[key] = mount
            self._taken.add(key)
            return place

    async def give_back(self, name: str, container_id: str, destination: str) -> bool:
        """The container does not need the volume any more; whether it had it. Idempotent.

        A plug-in that cannot be told is told when the volume is next wanted, or by the next engine.
        """
        async with self._turns.of(name):
            key = (container_id, destination)
            was_taken = key in self._taken
            self._taken.discard(key)
            if key in self._by_plugins:
                await self._unmounted(self._by_plugins.pop(key))
            elif was_taken and name in self._records.by_name:
                await self._drivers.local.unmount(self._records.get(name), f"{container_id} {destination}")
            return was_taken

    @asynccontextmanager
    async def lent(self, volume: Volume) -> AsyncIterator[str]:
        """A volume is there while the context lasts, for the engine itself; where, on the host. Raises as `take`."""
        async with self._turns.of(volume.name):
            mount = _new_mount(volume, "", "")
            place = await self._take_for_engine(volume, mount)
        try:
            yield place
        finally:
            await run_to_end(self._give_back_of_engine(volume, mount))

    @asynccontextmanager
    async def lent_in_turn(self, volume: Volume) -> AsyncIterator[str]:
        """As `lent`, for who has the volume's turn already and keeps it."""
        mount = _new_mount(volume, "", "")
        place = await self._take_for_engine(volume, mount)
        try:
            yield place
        finally:
            await run_to_end(self._released(volume, mount))

    async def settle(self, name: str) -> None:
        """Have a volume unmounted, as far as that could not be done before; whoever calls has its turn, and has reached the plug-in."""
        for mount in [mount for mount in self._left.values() if mount.volume == name]:
            await self._unmounted(mount)

    # -- inside

    async def _take_for_engine(self, volume: Volume, mount: VolumeMount) -> str:
        if volume.driver == LOCAL_DRIVER:
            return await self._drivers.local.mount(self._records.get(volume.name), mount.id)
        return await self._mounted(volume, mount)

    async def _give_back_of_engine(self, volume: Volume, mount: VolumeMount) -> None:
        async with self._turns.of(volume.name):
            await self._released(volume, mount)

    async def _released(self, volume: Volume, mount: VolumeMount) -> None:
        if volume.driver == LOCAL_DRIVER:
            await self._drivers.local.unmount(volume, mount.id)
        else:
            await self._unmounted(mount)

    async def _forget(self, mount: VolumeMount) -> None:
        self._left.pop(mount.id, None)
        await self._database.transact(lambda connection: rows.delete_mount(connection, mount.id), frees=True)

    async def _mounted(self, volume: Volume, mount: VolumeMount) -> str:
        """Have a plug-in mount a volume. If it refuses, nothing is left; if nobody knows what it did, it is told to unmount it."""
        try:
            # docker: asked first whether it has the volume.
            if await self._drivers.look(volume.driver, volume.name) is None:
                raise NoSuchVolume(volume.name)
            await self.settle(volume.name)
            return await self._mounted_by(await self._drivers.plugin(volume.driver), volume, mount)
        except NotFound as error:
            raise NotFound(f"{_FAILED}: {error.message}") from error
        except (PluginRefused, PluginUnreachable, Refusal) as error:
            raise Refusal(f"{_FAILED}: {error.message}") from error

    async def _mounted_by(self, driver: PluginDriver, volume: Volume, mount: VolumeMount) -> str:
        self._left[mount.id] = mount  # nobody has it before it is known to be there
        try:
            await self._database.transact(lambda connection: rows.insert_mount(connection, mount))
            failpoints.reach("volumes.mount.noted")
            place = await driver.mount(volume, mount.id)
            failpoints.reach("volumes.mount.mounted")
        except PluginRefused:
            await run_to_end(self._forget(mount))
            raise
        except BaseException:
            self._unmount_later(mount)
            raise
        del self._left[mount.id]
        return place

    async def _unmounted(self, mount: VolumeMount) -> None:
        """Have a plug-in unmount what is noted. One that refuses has been told; one that cannot be told is told later."""
        try:
            if await self._drivers.look(mount.driver, mount.volume) is None:
                log.warning("volume %s is still mounted, and plug-in %s does not know it any more", mount.volume, mount.driver)
            else:
                await (await self._drivers.plugin(mount.driver)).plugin.unmount(mount.volume, mount.id)
        except PluginRefused as error:
            log.warning("plug-in %s refuses to unmount volume %s: %s", mount.driver, mount.volume, error.message)
        except TeulError as error:
            log.warning("volume %s could not be unmounted by plug-in %s: %s", mount.volume, mount.driver, error.message)
            self._left[mount.id] = mount
            return
        failpoints.reach("volumes.mount.unmounted")
        await self._forget(mount)

    def _unmount_later(self, mount: VolumeMount) -> None:
        self._tasks.start(self._give_back_left(mount), name=f"unmount volume {mount.volume}")

    async def _give_back_left(self, mount: VolumeMount) -> None:
        async with self._turns.of(mount.volume):
            if mount.id in self._left:
                await self._unmounted(mount)


def volume_mounts(container: Container) -> list[PlannedMount]:
    """Those of a container's mounts that are volumes."""
    return [mount for mount in container.planned or () if mount.type == "volume"]


def _new_mount(volume: Volume, container_id: str, destination: str) -> VolumeMount:
    # docker: 64 hexadecimal digits, by chance, for each mount.
    return VolumeMount(
        id=secrets.token_hex(32), volume=volume.name, driver=volume.driver, container_id=container_id, destination=destination
    )
