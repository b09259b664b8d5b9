"""Volumes that plug-ins keep: what they say of them, and what becomes of the records when that changes.

A plug-in knows its volumes better than the engine does. Each time one is wanted it is asked, and what it has lost is forgotten here, unless
containers have it. It may also have volumes that nobody made here: they are listed, and get a record when somebody wants them by name.

docker: daemon/volume/service/store.go, whose order of calls this is.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence

from teul.aio import run_to_end
from teul.errors import Conflict, NotFound, Refusal, TeulError
from teul.model.volume import Volume, VolumeView
from teul.oci.timestamp import ZERO_TIME, normalize_time
from teul.plugins.errors import PluginRefused, PluginSilent
from teul.plugins.volume_driver import PluginVolume
from teul.services.usage import Usage
from teul.services.volumes.drivers import Drivers, PluginDriver, Seen, seen
from teul.services.volumes.records import VolumeRecords
from teul.services.volumes.request import NoSuchVolume, VolumeInUse

log = logging.getLogger(__name__)


_NOT_UNIQUE = "volume name must be unique"
_FRACTION = re.compile(r"\.\d+")


class PluggedVolumes:
    """The volumes of all plug-ins. Used from the event loop only; whoever calls has the volume's turn, but for `listing`."""

    def __init__(self, records: VolumeRecords, drivers: Drivers, usage: Usage[str]) -> None:
        self._records = records
        self._drivers = drivers
        self._usage = usage

    async def listing(self, drivers: Collection[str]) -> tuple[Sequence[VolumeView], list[str]]:
        """What the plug-ins list (`drivers`: only these, if any are named), and warnings of those that did not.

        Of a plug-in that does not answer the volumes are shown that are on record.
        """
        plugins = [driver for driver in await self._drivers.all_plugins() if not drivers or driver.name in drivers]
        found: list[VolumeView] = []
        warnings: list[str] = []
        for driver, answer in zip(plugins, await asyncio.gather(*map(self._list_of, plugins)), strict=True):
            if isinstance(answer, TeulError):
                warnings.append(f"list {driver.name}: {answer.message}")
                volumes = [volume for volume in self._records.by_name.values() if volume.driver == driver.name]
                found += [view(volume, Seen(mountpoint="")) for volume in volumes]
            else:
                found += answer
        return found, warnings

    async def _list_of(self, driver: PluginDriver) -> list[VolumeView] | TeulError:
        try:
            listed = await driver.plugin.list()
            scope = await driver.plugin.scope() if listed else ""
        except TeulError as error:
            return error
        found = []
        for volume in listed:
            record = self._records.by_name.get(volume.name)
            if record is not None and record.driver != driver.name:
                log.warning("volume %s of plug-in %s is not shown: there is one of that name", volume.name, driver.name)
            else:
                found.append(view(record or _adopted(volume, driver.name, scope), seen(volume)))
        return found

    async def inspect(self, name: str) -> VolumeView:
        """A volume that is on record as a plug-in's, or that a plug-in turns out to have. Raises NoSuchVolume, Refusal."""
        volume = self._records.by_name.get(name)
        if volume is None:
            return await self.probe(name)
        try:
            found = await self._drivers.look(volume.driver, name)
        except NotFound as error:
            raise NotFound(f"get {name}: {error.message}") from error
        except TeulError as error:
            raise Refusal(f"get {name}: {error.message}") from error
        if found is None:
            await self._forget_lost(volume)
            raise NoSuchVolume(name)
        return view(volume, found)

    @staticmethod
    def view_of_new(volume: Volume) -> VolumeView:
        """A volume that has just been made. docker: where it is, the plug-in is not asked."""
        return view(volume, Seen(mountpoint=""))

    async def probe(self, name: str) -> VolumeView:
        """Ask all plug-ins for a volume that nobody here knows, and put the first one's on record. Raises NoSuchVolume.

        Most who want a volume want a local one: a plug-in that keeps them waiting does so once.
        """
        drivers = await self._drivers.all_plugins(quick=True)
        for driver, found in zip(drivers, await asyncio.gather(*(self._probe(driver, name) for driver in drivers)), strict=True):
            if found is not None:
                volume = _adopted(found, driver.name, await driver.plugin.scope(), name=name)
                await run_to_end(self._records.add(volume))
                return view(volume, seen(found))
        raise NoSuchVolume(name)

    async def _probe(self, driver: PluginDriver, name: str) -> PluginVolume | None:
        try:
            return await driver.plugin.get(name, is_survey=True)
        except PluginSilent as error:
            log.warning("plug-in %s is not asked for volumes for a while: %s", driver.name, error.message)
            self._drivers.note_silence(driver.name)
            return None
        except TeulError as error:
            log.debug("plug-in %s on volume %s: %s", driver.name, name, error.message)
            return None

    async def check_driver(self, name: str, driver: str) -> None:
        """Raises NotFound or Refusal for a driver that cannot be had, in the words of who makes a volume of this name."""
        try:
            await self._drivers.get(driver)
        except NotFound as error:
            raise NotFound(f"create {name}: {error.message}") from error
        except TeulError as error:
            raise Refusal(f"create {name}: {error.message}") from error

    async def check_present(self, volume: Volume, driver: str, *, container_id: str) -> bool:
        """Whether a volume on record is still there, for somebody who wants to make one of its name with `driver` ("" for any).

        docker: store.go, checkConflict. `container_id` is the container that wants it, which is no reason to keep it. Raises Conflict.
        """
        name, conflict = volume.name, bool(driver) and driver != volume.driver
        try:
            found = await self._drivers.look(volume.driver, name)
        except TeulError as error:
            reason = f"found reference to volume '{name}' in driver '{volume.driver}', but got an error while checking the driver"
            raise Conflict(f"create {name}: {reason}: {error.message}: {_NOT_UNIQUE}") from error
        if found is not None:
            if conflict:
                raise Conflict(f"create {name}: driver '{volume.driver}' already has volume '{name}': {_NOT_UNIQUE}")
            return True
        if any(user.id != container_id for user in self._usage.users(name)):
            found_references = f"found references to volume '{name}' in driver '{volume.driver}' but the volume was not found in the driver"
            advice = "you may need to remove containers referencing this volume or force remove the volume to re-create it"
            raise Conflict(f"create {name}: {found_references} -- {advice}: {_NOT_UNIQUE}")
        await run_to_end(self._records.forget(name))
        return False

    async def make(self, name: str, driver_name: str, options: Mapping[str, str] | None, labels: Mapping[str, str] | None) -> Volume:
        """A new record of a volume that the plug-in has, or makes. Raises NotFound, Refusal."""
        await self.check_driver(name, driver_name)
        driver = await self._drivers.plugin(driver_name)
        scope = await driver.plugin.scope()
        volume = Volume(
            name=name,
            created_at_ns=time.time_ns(),
            driver=driver_name,
            options=dict(options) if options is not None else None,
            labels=dict(labels) if labels is not None else None,
            scope=scope,
        )
        try:
            if await self._quietly(driver, name) is None:
                await driver.create(volume)
        except TeulError as error:
            raise Refusal(f"create {name}: {error.message}") from error
        await self._records.add(volume)
        return volume

    async def remove(self, name: str, *, force: bool) -> Volume | None:
        """Remove a volume, and its record; None if there is none, which only `force` allows. docker: service.go and store.go, Remove.

        With `force` the record goes even if the plug-in refuses, which is raised all the same. Raises NoSuchVolume, VolumeInUse, Refusal.
        """
        try:
            volume = (await self.inspect(name)).volume
        except NoSuchVolume:
            if force:
                return None
            raise
        if users := self._usage.users(name):
            raise VolumeInUse(name, [container.id for container in users])
        if await self._drivers.look(volume.driver, name) is None:  # docker: asked twice
            await self._records.forget(name)
            return None
        try:
            await (await self._drivers.plugin(volume.driver)).remove(volume)
        except TeulError as error:
            if force:
                await self._records.forget(name)
            raise Refusal(f"remove {name}: {error.message}") from error
        await self._records.forget(name)
        return volume

    async def _quietly(self, driver: PluginDriver, name: str) -> Seen | None:
        """docker: whatever is wrong with the answer, making the volume will show it."""
        try:
            return await driver.find(name)
        except PluginRefused as error:
            log.debug("plug-in %s on volume %s: %s", driver.name, name, error.message)
            return None

    async def _forget_lost(self, volume: Volume) -> None:
        if not self._usage.is_used(volume.name):
            log.warning("volume %s is forgotten: plug-in %s does not have it any more", volume.name, volume.driver)
            await run_to_end(self._records.forget(volume.name))


def view(volume: Volume, found: Seen) -> VolumeView:
    """A plug-in's volume as clients see it. docker: a time that the plug-in does not tell is the first of all."""
    try:
        created_at = _FRACTION.sub("", normalize_time(found.created_at or ZERO_TIME))
    except ValueError:
        created_at = ZERO_TIME
    return VolumeView(volume=volume, mountpoint=found.mountpoint, created_at=created_at, status=found.status or None)


def _adopted(found: PluginVolume, driver: str, scope: str, *, name: str = "") -> Volume:
    return Volume(name=name or found.name, created_at_ns=time.time_ns(), driver=driver, scope=scope or "local")
