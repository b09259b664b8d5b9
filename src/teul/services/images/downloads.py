"""Layers on their way from registries: each is downloaded, hashed, inflated, written and indexed in one pass over its bytes.

Who wants a layer that is on its way already gets the same one: two pulls of one layer are one download. A download ends with the last
pull that wants it, and its files with it; what a pull takes of it is its own, by hard links or, if nobody else wants it, by a rename.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from teul import failpoints
from teul.aio import Tasks, run_blocking, run_to_end
from teul.errors import Integrity, System
from teul.oci.descriptor import Descriptor
from teul.oci.digest import Digest
from teul.registry.client.repository import Repository
from teul.services.images.layers import ArrivedLayer, make_layer, take_layer
from teul.services.images.store import ImageStore
from teul.snapshots.layers import link_layer, move_layer
from teul.workers.client import InvalidArchive
from teul.workers.layers import Limits

_PROGRESS_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Received:
    """So much of a layer's blob has come; `is_whole` once all of it has come and is what it should be."""

    current_bytes: int
    total_bytes: int
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """The registry is asked for a layer's blob, or the rest of it, again in so many seconds."""

    seconds: int


Listener = Callable[[Received | Waiting], None]


class Downloads:
    """The downloads of one engine."""

    def __init__(self, store: ImageStore, limits: Limits, *, at_once: int) -> None:
        self._store = store
        self._limits = limits
        self._slots = asyncio.Semaphore(at_once)
        self._running: dict[Digest, Download] = {}

    @asynccontextmanager
    async def of(self, repository: Repository, layer: Descriptor, listener: Listener) -> AsyncIterator[Download]:
        """The download of `layer`, which is whole once the context is entered.

        Raises `RegistryError`, `Integrity` for a blob that is not what its digest says, InvalidArchive or System.
        """
        while True:
            download = self._running.get(layer.digest)
            is_own = download is None
            if download is None:
                download = self._running[layer.digest] = Download(self._store, self._limits, layer)
                download.start(repository, self._slots)
            async with self._wanted(download, layer.digest, listener):
                try:
                    await download.until_whole()
                except Exception:
                    # What went wrong may have been the other pull's affair: its credentials, its registry.
                    if is_own:
                        raise
                    continue
                yield download
                return

    @asynccontextmanager
    async def _wanted(self, download: Download, digest: Digest, listener: Listener) -> AsyncIterator[None]:
        download.listeners.append(listener)
        try:
            yield
        finally:
            download.listeners.remove(listener)
            if download.has_failed or not download.listeners:
                self._forget(download, digest)
            if not download.listeners:
                await run_to_end(download.close())

    def _forget(self, download: Download, digest: Digest) -> None:
        if self._running.get(digest) is download:
            del self._running[digest]

    def keep_to_oneself(self, download: Download, digest: Digest) -> bool:
        """Whether only the caller wants the download; then nobody else will get it from now on."""
        if len(download.listeners) > 1:
            return False
        self._forget(download, digest)
        return True


class Download:
    """One layer's blob on its way, and what becomes of it."""

    def __init__(self, store: ImageStore, limits: Limits, layer: Descriptor) -> None:
        self.listeners: list[Listener] = []
        self._store = store
        self._limits = limits
        self._layer = layer
        self._stack = AsyncExitStack()
        self._tasks = Tasks()
        self._outcome: asyncio.Future[ArrivedLayer | Exception] = asyncio.get_running_loop().create_future()
        self._directory = ""

    def start(self, repository: Repository, slots: asyncio.Semaphore) -> None:
        """Begin. `close` ends it."""
        self._tasks.start(self._run_to_outcome(repository, slots), name=f"download {self._layer.digest.short}")

    @property
    def has_failed(self) -> bool:
        return self._outcome.done() and isinstance(self._outcome.result(), Exception)

    async def until_whole(self) -> ArrivedLayer:
        """Wait for the end, which others wait for as well. Raises what went wrong."""
        outcome = await asyncio.shield(self._outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def take(self, directory: str, *, alone: bool) -> ArrivedLayer:
        """Make the new `directory` the layer, with the blob beside it; `alone` if nobody else wants it."""
        arrived = await self.until_whole()
        blob_path = f"{directory}.blob"
        await run_to_end(run_blocking(os.link, arrived.blob_path, blob_path))
        if alone:
            await run_to_end(run_blocking(move_layer, self._directory, directory))
        elif not await run_to_end(run_blocking(link_layer, self._directory, directory)):
            diff_id = None if arrived.compression else arrived.digest
            await make_layer(self._store, blob_path, arrived.compression, directory, self._limits, diff_id=diff_id)
        return ArrivedLayer(arrived.unpacked, arrived.digest, arrived.size_bytes, arrived.compression, blob_path)

    async def close(self) -> None:
        """End the download, if it still goes on, and remove its files."""
        await self._tasks.cancel()
        await self._stack.aclose()

    async def _run_to_outcome(self, repository: Repository, slots: asyncio.Semaphore) -> None:
        try:
            self._outcome.set_result(await self._run(repository, slots))
        except Exception as error:  # noqa: BLE001 - boundary: `until_whole` raises it where the download is waited for
            self._outcome.set_result(error)
        except asyncio.CancelledError:
            self._outcome.set_result(System("the download was given up"))
            raise

    async def _run(self, repository: Repository, slots: asyncio.Semaphore) -> ArrivedLayer:
        async with slots:
            workspace = await self._stack.enter_async_context(self._store.workspace.directory())
            self._directory = os.path.join(workspace, "layer")
            source = repository.telling(lambda seconds: self._tell(Waiting(seconds)))
            async with source.open_blob(self._layer, verify=False) as chunks:
                try:
                    counted = self._counted(aiter(chunks))
                    arrived = await take_layer(self._store, counted, self._directory, self._limits, as_it_came=True)
                except InvalidArchive as error:
                    raise InvalidArchive(f"failed to register layer: {error.message}") from error
        failpoints.reach("images.pull.received")
        if arrived.digest != self._layer.digest:
            # docker: distribution/pull_v2.go.
            raise Integrity(f"filesystem layer verification failed for digest {self._layer.digest}")
        self._tell(Received(arrived.size_bytes, self._layer.size_bytes, is_whole=True))
        return arrived

    async def _counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        count, told_at = 0, 0.0
        async for chunk in chunks:
            count += len(chunk)
            if (now := time.monotonic()) - told_at >= _PROGRESS_SECONDS:
                told_at = now
                self._tell(Received(count, self._layer.size_bytes))
            yield chunk

    def _tell(self, news: Received | Waiting) -> None:
        for listener in self.listeners:
            listener(news)
