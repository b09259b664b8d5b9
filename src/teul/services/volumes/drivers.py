"""Who keeps volumes: the engine itself (`local`), or a plug-in of that name. docker: daemon/volume/drivers/extpoint.go.

What a volume is for all who use it stands in `Driver`; what the two are asked besides, and in which order with the record, differs.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Protocol

from teul.aio import SlowWork, run_blocking, run_to_end
from teul.errors import NotFound, Refusal, TeulError
from teul.model.volume import LOCAL_DRIVER, Volume
from teul.plugins.errors import PluginNotFound, PluginRefused
from teul.plugins.registry import Plugins
from teul.plugins.volume_driver import KIND, PluginVolume, VolumePlugin
from teul.services.volumes.local import VolumeFiles, is_mount

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a driver says of a volume now: where it is (empty for nowhere yet), when it was made, and whatever else it likes to tell."""

    mountpoint: str
    created_at: str = ""
    status: dict[str, Any] | None = None


class Driver(Protocol):
    """One who keeps volumes. Every method but `name` may take long, of a plug-in minutes, and raises System."""

    name: str

    async def create(self, volume: Volume) -> None:
        """Make a volume that is not there."""

    async def remove(self, volume: Volume) -> None:
        """Remove a volume and all that is in it."""

    async def find(self, name: str) -> Seen | None:
        """What there is of this name, None for nothing."""

    async def mount(self, volume: Volume, mount_id: str) -> str:
        """Have the volume be there for whoever `mount_id` stands for; where it is on the host."""

    async def unmount(self, volume: Volume, mount_id: str) -> None:
        """Whoever `mount_id` stands for does not need it any more."""


class LocalDriver:
    """The volumes that are directories below the engine's root, or mounts made there."""

    name = LOCAL_DRIVER

    def __init__(self, files: VolumeFiles, slow: SlowWork) -> None:
        self.files = files
        self._slow = slow
        self._users: dict[str, set[str]] = defaultdict(set)  # by name: the ids of those who have it mounted

    async def create(self, volume: Volume) -> None:
        await run_blocking(self.files.make, volume.name)

    async def remove(self, volume: Volume) -> None:
        await self._slow.run(self.files.remove, volume.name)

    async def find(self, name: str) -> Seen | None:
        return Seen(mountpoint=self.files.data(name))

    async def mount(self, volume: Volume, mount_id: str) -> str:
        if is_mount(volume):
            await run_to_end(run_blocking(self.files.mount, volume))
        self.note(volume.name, mount_id)
        return self.files.data(volume.name)

    async def unmount(self, volume: Volume, mount_id: str) -> None:
        self._users[volume.name].discard(mount_id)
        await self.let_go(volume)

    def note(self, name: str, mount_id: str) -> None:
        """Somebody has the volume mounted since before this engine."""
        self._users[name].add(mount_id)

    async def let_go(self, volume: Volume) -> None:
        """Take away the mount of a volume that nobody has mounted."""
        if not self.is_seen(volume.name):
            self._users.pop(volume.name, None)
            if is_mount(volume):
                await run_to_end(run_blocking(self.files.unmount, volume.name))

    def is_seen(self, name: str) -> bool:
        """Whether somebody has the volume mounted."""
        return bool(self._users.get(name))


class PluginDriver:
    """The volumes of a plug-in."""

    def __init__(self, plugin: VolumePlugin) -> None:
        self.name = plugin.name
        self.plugin = plugin

    async def create(self, volume: Volume) -> None:
        await self.plugin.create(volume.name, volume.options)

    async def remove(self, volume: Volume) -> None:
        await self.plugin.remove(volume.name)

    async def find(self, name: str) -> Seen | None:
        volume = await self.plugin.get(name)
        return seen(volume) if volume is not None else None

    async def mount(self, volume: Volume, mount_id: str) -> str:
        return await self.plugin.mount(volume.name, mount_id)

    async def unmount(self, volume: Volume, mount_id: str) -> None:
        await self.plugin.unmount(volume.name, mount_id)


class Drivers:
    """All drivers of one engine. Used from the event loop only."""

    def __init__(self, local: LocalDriver, plugins: Plugins) -> None:
        self.local = local
        self._plugins = plugins
        self._drivers: dict[str, PluginDriver] = {}

    def names(self) -> list[str]:
        """`local`, and the plug-ins that have been spoken to. docker: what `docker info` lists."""
        return sorted({LOCAL_DRIVER, *self._drivers})

    def place_of(self, volume: Volume) -> str:
        """Where a volume is on the host, if that can be said before it is mounted; else an empty text."""
        return self.local.files.data(volume.name) if volume.driver == LOCAL_DRIVER else ""

    async def get(self, name: str) -> Driver:
        """The driver of this name. Raises as `plugin`."""
        return self.local if name == LOCAL_DRIVER else await self.plugin(name)

    async def plugin(self, name: str) -> PluginDriver:
        """The plug-in of this name, which may be waited for. Raises NotFound, and what says why it cannot be used."""
        if name not in self._drivers:
            try:
                plugin = await self._plugins.get(name, KIND)
            except PluginNotFound as error:
                raise NotFound(f"error looking up volume plugin {name}: {error.message}") from error
            except TeulError as error:
                raise Refusal(f"error looking up volume plugin {name}: {error.message}") from error
            driver = self._drivers.setdefault(name, PluginDriver(VolumePlugin(plugin)))
            await driver.plugin.scope()  # docker: asked before anything else
        return self._drivers[name]

    async def look(self, driver: str, name: str) -> Seen | None:
        """What the driver says of a volume; None for nothing, also from a plug-in that refuses to say. Raises NotFound, Refusal.

        docker: daemon/volume/service/store.go, lookupVolume: an error of a plug-in's own counts as "no such volume".
        """
        checking = f"error while checking if volume {json.dumps(name)} exists in driver {json.dumps(driver)}"
        try:
            return await (await self.get(driver)).find(name)
        except PluginRefused as error:
            log.debug("%s: %s", checking, error.message)
            return None
        except NotFound as error:
            raise NotFound(f"{checking}: {error.message}") from error
        except TeulError as error:
            raise Refusal(f"{checking}: {error.message}") from error

    async def all_plugins(self, *, quick: bool = False) -> list[PluginDriver]:
        """Every volume plug-in that is in the directories, or was; one that does not answer at once is left out.

        `quick`: so are those that did not answer lately.
        """
        for plugin in await self._plugins.all(KIND, quick=quick):
            if plugin.name not in self._drivers:
                self._drivers[plugin.name] = PluginDriver(VolumePlugin(plugin))
        return [self._drivers[name] for name in sorted(self._drivers) if not (quick and self._plugins.is_silent(name))]

    def note_silence(self, name: str) -> None:
        """A plug-in did not answer, and others had to wait for that."""
        self._plugins.note_silence(name)


def seen(volume: PluginVolume) -> Seen:
    """A plug-in's own words."""
    return Seen(mountpoint=volume.mountpoint, created_at=volume.created_at, status=volume.status)
