"""What a plug-in that implements `VolumeDriver` can be asked. docker: daemon/volume/drivers (proxy.go, adapter.go).

An answer is judged before it counts: where a volume is has to be an absolute path, for the engine mounts it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from teul.errors import TeulError
from teul.model.document import Document
from teul.plugins.errors import PluginRefused
from teul.plugins.registry import Plugin

log = logging.getLogger(__name__)

KIND = "VolumeDriver"
_LONG_SECONDS = 120.0
_SHORT_SECONDS = 60.0
# Of what is asked of all plug-ins: the answers of the others wait for it.
_SURVEY_SECONDS = 5.0
_SCOPES = ("local", "global")


class _Answer(Document):
    err: str = ""


A = TypeVar("A", bound=_Answer)


class PluginVolume(Document):
    """A volume as its driver tells of it. `mountpoint` is empty or absolute."""

    name: str = ""
    mountpoint: str = ""
    created_at: str = ""
    status: dict[str, Any] | None = None


class _Mounted(_Answer):
    mountpoint: str = ""


class _Got(_Answer):
    volume: PluginVolume | None = None


class _Listed(_Answer):
    volumes: list[PluginVolume] | None = None


class _Capability(Document):
    scope: str = ""


class _Capable(_Answer):
    capabilities: _Capability | None = None


class VolumePlugin:
    """The volumes of one plug-in. Every method raises PluginUnreachable, and PluginRefused with the text of the plug-in's `Err`."""

    def __init__(self, plugin: Plugin) -> None:
        self.name = plugin.name
        self._plugin = plugin
        self._scope = ""

    async def create(self, name: str, options: Mapping[str, str] | None) -> None:
        """Make a volume."""
        await self._call("Create", {"Name": name, "Opts": options}, _Answer, seconds=_LONG_SECONDS)

    async def remove(self, name: str) -> None:
        """Remove a volume."""
        await self._call("Remove", {"Name": name}, _Answer)

    async def mount(self, name: str, mount_id: str) -> str:
        """Have the volume be there for whoever `mount_id` stands for, and where: an absolute path."""
        mounted = await self._call("Mount", {"Name": name, "ID": mount_id}, _Mounted, seconds=_LONG_SECONDS)
        if not mounted.mountpoint:
            raise PluginRefused(f"volume plugin {self.name} names no mountpoint of volume {name}")
        return self._judged(name, mounted.mountpoint)

    async def unmount(self, name: str, mount_id: str) -> None:
        """Whoever `mount_id` stands for does not need it any more."""
        await self._call("Unmount", {"Name": name, "ID": mount_id}, _Answer)

    async def get(self, name: str, *, is_survey: bool = False) -> PluginVolume | None:
        """A volume; None if the plug-in says nothing of it. `is_survey`: all plug-ins are asked, and this one has little time."""
        seconds = _SURVEY_SECONDS if is_survey else _SHORT_SECONDS
        volume = (await self._call("Get", {"Name": name}, _Got, seconds=seconds, patient=not is_survey)).volume
        if volume is not None:
            self._judged(name, volume.mountpoint)
        return volume

    async def list(self) -> list[PluginVolume]:
        """All volumes of the plug-in, which has little time."""
        volumes = (await self._call("List", {}, _Listed, seconds=_SURVEY_SECONDS, patient=False)).volumes or []
        for volume in volumes:
            self._judged(volume.name, volume.mountpoint)
        return volumes

    async def scope(self) -> str:
        """`local` or `global`. docker: a plug-in that cannot be asked for it is local, and is asked again."""
        if not self._scope:
            try:
                capable = await self._call("Capabilities", {}, _Capable, patient=False)
            except TeulError as error:
                log.debug("volume plug-in %s does not tell its capabilities: %s", self.name, error.message)
                return "local"
            scope = (capable.capabilities or _Capability()).scope.lower()
            if scope and scope not in _SCOPES:
                log.warning("volume plug-in %s has a scope that there is not: %s", self.name, scope)
            self._scope = scope if scope in _SCOPES else "local"
        return self._scope

    async def _call(
        self, verb: str, arguments: Mapping[str, Any], kind: type[A], *, seconds: float = _SHORT_SECONDS, patient: bool = True
    ) -> A:
        answer = await self._plugin.client.call(f"{KIND}.{verb}", arguments, kind, seconds=seconds, patient=patient)
        if answer.err:
            raise PluginRefused(answer.err)
        return answer

    def _judged(self, name: str, mountpoint: str) -> str:
        """security: what is mounted into containers is named in full, or not at all."""
        if mountpoint and (not mountpoint.startswith("/") or "\0" in mountpoint or ".." in mountpoint.split("/")):
            raise PluginRefused(f"volume plugin {self.name} has volume {name} at {mountpoint!r}, which is no absolute path")
        return mountpoint
