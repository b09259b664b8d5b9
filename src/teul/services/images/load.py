"""Loading an image archive while it arrives.

One worker takes the archive apart; as soon as a member is whole that may be a layer, another worker indexes or unpacks it, although nobody
knows yet whether an image wants it: names and documents come last in most archives, and receiving and indexing overlap this way. When the
archive has arrived its documents decide. What they claim of the layers is compared with what the workers measured, layers that are still
missing are made, and all images are stored in one step, or none is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from teul import failpoints
from teul.aio import Tasks, run_blocking, run_to_end
from teul.errors import System, TeulError
from teul.oci.digest import Digest, chain_ids
from teul.oci.image_config import ImageDocument
from teul.oci.platform import Platform
from teul.oci.reference import Reference
from teul.services.images.archive_contents import ArchiveContents
from teul.services.images.catalog import Catalog
from teul.services.images.layers import make_layer, take_layer
from teul.services.images.new_image import BlobFile, NewImage, NewPlatform, PreparedLayer
from teul.services.images.plan import PlannedImage, PlannedPlatform, foreign_layers, plan_load
from teul.services.images.store import ImageStore
from teul.services.images.stored_members import BlobWithdrawn, StoredMembers
from teul.snapshots.layers import link_layer
from teul.store.metadata.images import TagRow
from teul.workers.client import InvalidArchive
from teul.workers.layers import Limits, Member, Unpacked, split

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image that was loaded; `replaced` are the names it took from other images, with those images' ids."""

    image_id: Digest
    document: ImageDocument
    tags: tuple[Reference, ...]
    replaced: dict[Reference, Digest]


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """A layer's blob of `total_bytes` is being unpacked (`current_bytes` 0) or has been."""

    diff_id: Digest
    current_bytes: int
    total_bytes: int


Progress = Callable[[LayerProgress], Awaitable[None]]


async def load_archive(
    store: ImageStore,
    stream: AsyncIterator[bytes],
    progress: Progress,
    *,
    host: Platform,
    wanted: Platform | None,
    limits: Limits,
    slots: asyncio.Semaphore,
    completes: bool = False,
) -> list[LoadedImage]:
    """Store every image of the archive that `stream` brings. Raises InvalidParameter or System; then nothing is stored.

    With `completes`, blobs that the archive leaves out are taken from the store, if they are there.
    """
    async with store.workspace.directory() as directory, Tasks() as tasks:
        unpacking = _Unpacking(store, directory, limits, slots=slots, tasks=tasks)
        members = os.path.join(directory, "members")
        await run_to_end(run_blocking(os.mkdir, members, 0o700))
        held = StoredMembers(store.content, store.catalog.blobs)
        contents = ArchiveContents(_read, find_stored=held.find if completes else None)
        async with aclosing(split(stream, members, limits)) as arriving:
            async for member in arriving:
                contents.add(member)
                unpacking.offer(member)
        failpoints.reach("images.load.received")
        for name in await store.slow.run(foreign_layers, contents):
            contents.replace(name, await unpacking.translate(contents.get(name)))
        planned = await store.slow.run(plan_load, contents, host, wanted)
        unpacking.keep_only({file.path for image in planned for file in image.files})
        prepared: dict[Digest, PreparedLayer] = {}
        before = dict(store.catalog.tags)
        while True:
            _check_held(store.catalog, planned, held)
            for platform in (platform for image in planned for platform in image.platforms):
                try:
                    await _prepare(store, platform, unpacking, prepared, progress)
                except (TeulError, OSError):
                    _check_held(store.catalog, planned, held)
                    raise
            new = [_new_image(image, held) for image in planned]
            # False: a layer that was unpacked when `_prepare` looked, or a blob, has been removed with its image meanwhile.
            if await store.commit(new, prepared, tagged_at_ns=0):
                break
    return [_loaded(image, before) for image in new]


async def _prepare(
    store: ImageStore, platform: PlannedPlatform, unpacking: _Unpacking, prepared: dict[Digest, PreparedLayer], progress: Progress
) -> None:
    """See to it that every layer of `platform` is verified, and is in the store already or in `prepared`."""
    diff_ids = platform.document.diff_ids
    for index, (file, diff_id, chain_id) in enumerate(zip(platform.files, diff_ids, chain_ids(diff_ids), strict=True)):
        if chain_id in prepared or (chain_id in store.catalog.snapshots and _is_verified(store.catalog, file, diff_id)):
            continue
        await progress(LayerProgress(diff_id, 0, file.size_bytes))
        made = await unpacking.copy(diff_id) if _is_verified(store.catalog, file, diff_id) else None
        layer, unpacked = made or await unpacking.take(file)
        if unpacked.diff_id != diff_id:
            raise InvalidArchive(f'invalid diffID for layer {index}: expected "{diff_id}", got "{unpacked.diff_id}"')
        prepared[chain_id] = PreparedLayer(chain_id, layer, unpacked.size_bytes)
        failpoints.reach("images.load.unpacked")
        await progress(LayerProgress(diff_id, file.size_bytes, file.size_bytes))


def _is_verified(catalog: Catalog, file: Member, diff_id: Digest) -> bool:
    """Whether it is known without unpacking that `file` is the layer `diff_id`."""
    assert file.digest is not None, "only files are looked up"
    return (not file.compression and file.digest == diff_id) or catalog.knows_layer(file.digest, diff_id)


# What became of making a layer: the layer's directory, and what is in it; or why there is no such directory.
_Outcome = tuple[str, Unpacked] | Exception


class _Unpacking:
    """Layers that are being made, by the path of their archive. Whoever ends the `tasks` ends the work on those that nobody took."""

    def __init__(self, store: ImageStore, directory: str, limits: Limits, *, slots: asyncio.Semaphore, tasks: Tasks) -> None:
        self._store = store
        self._directory = directory
        self._limits = limits
        self._slots = slots
        self._tasks = tasks
        self._count = 0
        # Without a task where the layer is made already.
        self._running: dict[str, tuple[asyncio.Task[None] | None, asyncio.Future[_Outcome]]] = {}

    def offer(self, member: Member) -> None:
        """Start on `member` if it may be a layer that is new."""
        if member.is_archive and member.digest not in self._store.catalog.blobs:
            self._start(member)

    def keep_only(self, paths: set[str]) -> None:
        """Give up the layers at other `paths`, which turned out to belong to no wanted image."""
        for path in self._running.keys() - paths:
            task, _ = self._running.pop(path)
            if task is not None:
                task.cancel()

    async def copy(self, diff_id: Digest) -> tuple[str, Unpacked] | None:
        """The layer of that archive, if another chain has it, as the caller's own directory; the files are the same."""
        row = self._store.catalog.find_layer(diff_id, self._store.layers.is_indexed) if self._store.indexes else None
        if row is None:
            return None
        directory = self._new_directory()
        copied = await run_to_end(run_blocking(link_layer, self._store.layers.directory(row.chain_id), directory))
        return (directory, Unpacked(diff_id, row.size_bytes)) if copied else None

    async def take(self, member: Member) -> tuple[str, Unpacked]:
        """The layer of `member`, whose directory is the caller's from now on. Raises what unpacking raised."""
        if member.path not in self._running:
            self._start(member)
        _, future = self._running.pop(member.path)
        outcome = await future
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def translate(self, member: Member) -> Member:
        """The layer's uncompressed archive, in the place of `member`. Raises what unpacking raised."""
        directory = self._new_directory()
        async with self._slots:
            made = await take_layer(self._store, _chunks(self._store, member.path), directory, self._limits, as_it_came=False)
        future: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        future.set_result((directory, made.unpacked))
        self._running[made.blob_path] = (None, future)
        return replace(member, path=made.blob_path, size_bytes=made.size_bytes, digest=made.digest, compression="")

    def _start(self, member: Member) -> None:
        directory = self._new_directory()
        future: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        task = self._tasks.start(self._unpack(member, directory, future), name=f"unpack {member.name}")
        self._running[member.path] = (task, future)

    def _new_directory(self) -> str:
        self._count += 1
        return os.path.join(self._directory, f"layer-{self._count}")

    async def _unpack(self, member: Member, directory: str, future: asyncio.Future[_Outcome]) -> None:
        outcome: _Outcome = System(f"unpacking {member.name} was given up")
        try:
            async with self._slots:
                # The worker that took the archive apart has hashed the member: the digest of one that is not compressed is its diff_id.
                is_known = not member.compression and member.digest is not None and member.digest.algorithm == "sha256"
                diff_id = member.digest if is_known else None
                unpacked = await make_layer(self._store, member.path, member.compression, directory, self._limits, diff_id=diff_id)
                outcome = (directory, unpacked)
        except (TeulError, OSError) as error:
            outcome = error
        finally:
            if not future.done():
                future.set_result(outcome)


async def _chunks(store: ImageStore, path: str) -> AsyncIterator[bytes]:
    with await store.slow.run(open, path, "rb") as file:
        while chunk := await store.slow.run(file.read, _CHUNK_BYTES):
            yield chunk


def _read(member: Member) -> bytes:
    with open(member.path, "rb") as file:
        return file.read()


def _check_held(catalog: Catalog, planned: Sequence[PlannedImage], held: StoredMembers) -> None:
    """Raise `BlobWithdrawn` if a blob that was found in the store is not there any more."""
    for file in (file for image in planned for file in image.files if held.is_stored(file)):
        if file.digest is not None and file.digest not in catalog.blobs:
            raise BlobWithdrawn(file.digest)


def _new_image(image: PlannedImage, held: StoredMembers) -> NewImage:
    blobs = {
        file.digest: BlobFile(file.path, file.size_bytes) for file in image.files if file.digest is not None and not held.is_stored(file)
    }
    counted_on = frozenset(file.digest for file in image.files if file.digest is not None and held.is_stored(file))
    platforms = tuple(NewPlatform(platform.document, platform.layers) for platform in image.platforms)
    return NewImage(image.target, image.documents, platforms, blobs, image.tags, counted_on)


def _loaded(image: NewImage, before: dict[str, TagRow]) -> LoadedImage:
    replaced = {
        tag: row.image_id for tag in image.tags if (row := before.get(tag.canonical)) is not None and row.image_id != image.image_id
    }
    return LoadedImage(image.image_id, image.platforms[0].document, tuple(image.tags), replaced)
