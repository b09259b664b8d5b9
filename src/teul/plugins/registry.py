"""The plug-ins of one engine: found when somebody wants them, and asked once what they are. docker: pkg/plugins/plugins.go."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from teul.aio import run_blocking
from teul.errors import TeulError
from teul.model.document import Document
from teul.plugins.client import PluginClient
from teul.plugins.discovery import PluginDirectories, find, scan
from teul.plugins.errors import PluginNotFound, PluginRefused, PluginSilent, PluginUnreachable, PluginUnusable

log = logging.getLogger(__name__)

_HANDSHAKE_SECONDS = 30.0
# Of a plug-in that nobody has asked for by name; others wait for what it says.
_UNASKED_SECONDS = 5.0
# How long a plug-in that is in none of the directories is waited for, and how often is looked. docker: after 1, 2, 4 and 8 seconds.
_LOOKING_SECONDS = 15.0
_LOOK_AGAIN_SECONDS = 0.25
# One that has kept somebody waiting who did not want it is left in peace for so long by those who do not.
_SILENCE_SECONDS = 30.0


class _Manifest(Document):
    implements: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Plugin:
    """One that has said what it is: the subsystems that it implements."""

    name: str
    client: PluginClient
    implements: frozenset[str]


class Plugins:
    """Used from the event loop only. What a plug-in has said once counts for as long as the engine runs."""

    def __init__(self, directories: PluginDirectories) -> None:
        self._directories = directories
        self._active: dict[str, Plugin] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._silent_until: dict[str, float] = {}  # by name: by the loop's clock

    def note_silence(self, name: str) -> None:
        """This plug-in does not answer, and others had to wait for that."""
        self._silent_until[name] = asyncio.get_running_loop().time() + _SILENCE_SECONDS

    def is_silent(self, name: str) -> bool:
        """Whether it is known not to answer, since lately."""
        return self._silent_until.get(name, 0.0) > asyncio.get_running_loop().time()

    async def get(self, name: str, kind: str) -> Plugin:
        """The plug-in of this name, which implements `kind`; one that is not there, or does not answer, is waited for a little.

        Raises PluginNotFound, PluginUnusable.
        """
        plugin = await self._activated(name, patient=True)
        if kind not in plugin.implements:
            what = f"plugin={json.dumps(name)}, requested implementation={json.dumps(kind)}"
            raise PluginUnusable(f"Plugin does not implement the requested driver: {what}")
        return plugin

    async def all(self, kind: str, *, quick: bool = False) -> list[Plugin]:
        """Those in the directories that implement `kind`, by name. Whoever does not answer at once is left out, and the log says so.

        `quick`: somebody waits who does not want plug-ins at all, and those that are known to be silent are not asked.
        """
        try:
            names = await run_blocking(scan, self._directories)
        except TeulError as error:
            log.warning("plug-ins cannot be looked for: %s", error.message)
            names = []
        asked = [name for name in {*names, *self._active} if not (quick and self.is_silent(name))]
        found = await asyncio.gather(*map(self._find, asked))
        return sorted((plugin for plugin in found if plugin is not None and kind in plugin.implements), key=lambda plugin: plugin.name)

    async def _find(self, name: str) -> Plugin | None:
        try:
            return await self._activated(name, patient=False)
        except TeulError as error:
            log.warning("plug-in %s is left out: %s", name, error.message)
            return None

    async def _activated(self, name: str, *, patient: bool) -> Plugin:
        if name in self._active:
            return self._active[name]
        if not patient:
            return await self._activate(name, seconds=_UNASKED_SECONDS, patient=False)
        async with self._turn(name):
            if name not in self._active:
                await self._await_it(name)
                await self._activate(name, seconds=_HANDSHAKE_SECONDS, patient=True)
            return self._active[name]

    async def _await_it(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LOOKING_SECONDS
        while True:
            try:
                await run_blocking(find, self._directories, name)
                return
            except PluginNotFound:
                if loop.time() + _LOOK_AGAIN_SECONDS >= deadline:
                    raise
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _activate(self, name: str, *, seconds: float, patient: bool) -> Plugin:
        """Two may do that at once: the first answer counts."""
        client = PluginClient(await run_blocking(find, self._directories, name))
        try:
            manifest = await client.call("Plugin.Activate", None, _Manifest, seconds=seconds, patient=patient)
        except (PluginUnreachable, PluginRefused) as error:
            if isinstance(error, PluginSilent):
                self.note_silence(name)
            raise PluginUnusable(error.message) from error
        return self._active.setdefault(name, Plugin(name, client, frozenset(manifest.implements or ())))

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        """One at a time of those who wait for a plug-in."""
        lock = self._turns.setdefault(name, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and self._turns.get(name) is lock:
                del self._turns[name]
