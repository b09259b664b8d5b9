"""Storing and forgetting images: files first and then rows on the way in, rows first and then files on the way out.

One lock orders all changes, so that nobody counts on a layer that somebody else is about to delete. It is never held while something is
being received or unpacked.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from teul.aio import run_blocking
from teul.model.image import Image
from teul.oci.descriptor import Descriptor
from teul.oci.digest import Digest, chain_ids
from teul.oci.image_config import ImageDocument
from teul.oci.reference import Reference
from teul.services.images.catalog import Catalog, blobs_of, build_catalog, deleted, make_image, make_row
from teul.snapshots.layers import Layers
from teul.store.atomic import remove_tree, sync_filesystem
from teul.store.content import ContentStore
from teul.store.metadata import images as rows
from teul.store.metadata.database import Database


@dataclass(frozen=True, slots=True)
class PreparedLayer:
    """A layer that was verified and lies unpacked in `directory`/fs."""

    chain_id: Digest
    directory: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to be stored. `blobs` are files that become the layers' blobs, as far as they are not stored."""

    raw: bytes
    document: ImageDocument
    manifest: bytes
    layers: tuple[Descriptor, ...]
    blobs: dict[Digest, str]
    tags: Sequence[Reference] = ()

    @property
    def image_id(self) -> Digest:
        return Digest.of(self.raw)


class ImageStore:
    """The catalog, the files behind it, and the only code that changes either."""

    def __init__(self, root: str, database: Database) -> None:
        self.root = root
        self.content = ContentStore(os.path.join(root, "blobs"))
        self.layers = Layers(os.path.join(root, "snapshots"), os.path.join(root, "tmp"))
        self.catalog = Catalog()
        self._database = database
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Read what there is and sweep what is left of interrupted work: files without a row, and all of `<root>/tmp`."""
        known = await self._database.transact(rows.read_all)
        self.catalog = await run_blocking(self._open, known)

    @asynccontextmanager
    async def workspace(self) -> AsyncIterator[str]:
        """A new directory in `<root>/tmp`, on the same filesystem as everything else; gone at the end, with all that is in it."""
        path = os.path.join(self.root, "tmp", uuid.uuid4().hex)
        try:
            await run_blocking(os.mkdir, path, 0o700)
            yield path
        finally:
            await asyncio.shield(run_blocking(remove_tree, path))

    def missing(self, chain: Sequence[Digest]) -> list[Digest]:
        """Those of `chain` that are not unpacked."""
        return [chain_id for chain_id in chain if chain_id not in self.catalog.snapshots]

    async def commit(self, images: Sequence[NewImage], prepared: dict[Digest, PreparedLayer], *, tagged_at_ns: int) -> bool:
        """Store all of `images` or nothing. False, with nothing done, if a layer is neither prepared nor (any more) unpacked.

        What is stored is on the disk before its rows are. Runs to its end even if the caller is cancelled.
        """
        if prepared:
            await run_blocking(sync_filesystem, self.root)
        return await asyncio.shield(self._commit(images, prepared, tagged_at_ns))

    async def tag(self, image: Image, reference: Reference) -> None:
        """Point a name at an image."""
        row = rows.TagRow(reference.canonical, image.image_id, time.time_ns())
        async with self._lock:
            await self._database.transact(lambda connection: rows.save_tag(connection, row))
            self.catalog.tags[row.reference] = row

    async def untag(self, references: Sequence[Reference]) -> None:
        """Forget names; those that are not known are none already."""
        names = [reference.canonical for reference in references]
        async with self._lock:
            await self._database.transact(lambda connection: rows.delete_tags(connection, names))
            for name in names:
                self.catalog.tags.pop(name, None)

    async def delete(self, image: Image, *, keep_layers: bool) -> list[Digest] | None:
        """Forget an image without names, and what no other image needs; the chain ids of layers that went, topmost first.

        None, with nothing done, if it has been given a name meanwhile, or is gone. With `keep_layers` containers still stand on it: its
        layers and config stay until `delete` is called again without.
        """
        return await asyncio.shield(self._delete(image, keep_layers))

    def _open(self, known: rows.Rows) -> Catalog:
        temporary = os.path.join(self.root, "tmp")
        os.makedirs(temporary, mode=0o700, exist_ok=True)
        os.chmod(temporary, 0o700)
        self.content.open()
        self.layers.open()
        for name in os.listdir(temporary):
            remove_tree(os.path.join(temporary, name))
        self.content.sweep(known.blobs)
        self.layers.sweep({row.chain_id for row in known.snapshots})
        return build_catalog(known, self.content)

    async def _commit(self, images: Sequence[NewImage], prepared: dict[Digest, PreparedLayer], tagged_at_ns: int) -> bool:
        async with self._lock:
            # An image that is there keeps the manifest it came with; only its names are new.
            new = list({image.image_id: image for image in images if not self._is_shown(image.image_id)}.values())
            if any(chain_id not in prepared for image in new for chain_id in self.missing(chain_ids(image.document.diff_ids))):
                return False
            now_ns = time.time_ns()
            snapshots = self._new_snapshots(new, prepared)
            stored = [self._stored(image, snapshots, now_ns) for image in new]
            tags = [rows.TagRow(tag.canonical, image.image_id, tagged_at_ns) for image in images for tag in image.tags]
            placed = _Placed(self.content, self.layers)
            try:
                blobs = await run_blocking(placed.place, new, prepared, set(self.catalog.blobs), [row.chain_id for row in snapshots])
                await self._database.transact(
                    lambda connection: _insert(connection, stored, blobs, snapshots=snapshots, tags=tags, now_ns=now_ns)
                )
            except BaseException:
                await run_blocking(placed.undo)
                raise
            self.catalog.blobs.update(blobs)
            self.catalog.snapshots.update({row.chain_id: row for row in snapshots})
            self.catalog.images.update({image.image_id: image for image in stored})
            self.catalog.tags.update({tag.reference: tag for tag in tags})
            return True

    def _stored(self, image: NewImage, snapshots: Sequence[rows.SnapshotRow], now_ns: int) -> Image:
        sizes = {row.chain_id: row.size_bytes for row in (*self.catalog.snapshots.values(), *snapshots)}
        size_bytes = sum(sizes[chain_id] for chain_id in chain_ids(image.document.diff_ids))
        row = rows.ImageRow(image.image_id, Digest.of(image.manifest), image.layers, None, size_bytes, now_ns)
        return make_image(row, image.raw, image.document)

    def _new_snapshots(self, images: Sequence[NewImage], prepared: dict[Digest, PreparedLayer]) -> list[rows.SnapshotRow]:
        """Rows of the layers that are not unpacked yet, parents first."""
        new: dict[Digest, rows.SnapshotRow] = {}
        for image in images:
            parent = None
            for chain_id, diff_id in zip(chain_ids(image.document.diff_ids), image.document.diff_ids, strict=True):
                if chain_id not in self.catalog.snapshots and chain_id not in new:
                    new[chain_id] = rows.SnapshotRow(chain_id, parent, diff_id, prepared[chain_id].size_bytes)
                parent = chain_id
        return list(new.values())

    def _is_shown(self, image_id: Digest) -> bool:
        image = self.catalog.images.get(image_id)
        return image is not None and image.manifest_digest is not None

    async def _delete(self, image: Image, keep_layers: bool) -> list[Digest] | None:
        async with self._lock:
            catalog = self.catalog
            if image.image_id not in catalog.images or any(row.image_id == image.image_id for row in catalog.tags.values()):
                return None
            used = catalog.used_blobs(without=image.image_id) | ({image.image_id} if keep_layers else set())
            blobs = sorted(blobs_of(image) - used)
            kept = set(image.chain_ids) if keep_layers else catalog.used_snapshots(without=image.image_id)
            chain = [chain_id for chain_id in reversed(image.chain_ids) if chain_id not in kept]

            def forget(connection: sqlite3.Connection) -> None:
                if keep_layers:
                    rows.save_image(connection, make_row(deleted(image)))
                else:
                    rows.delete_image(connection, image.image_id)
                rows.delete_snapshots(connection, chain)
                rows.delete_blobs(connection, blobs)

            await self._database.transact(forget)
            if keep_layers:
                catalog.images[image.image_id] = deleted(image)
            else:
                del catalog.images[image.image_id]
            for chain_id in chain:
                del catalog.snapshots[chain_id]
            for digest in blobs:
                catalog.blobs.pop(digest, None)
            for digest in blobs:
                await run_blocking(self.content.remove, digest)
            # Deleting many files is the kernel's work, so layers go side by side.
            await asyncio.gather(*(run_blocking(self.layers.remove, chain_id) for chain_id in chain))
            return chain


class _Placed:
    """Files put into their places for one commit, to be taken back if it fails."""

    def __init__(self, content: ContentStore, layers: Layers) -> None:
        self._content = content
        self._layers = layers
        self._blobs: list[Digest] = []
        self._chains: list[Digest] = []

    def place(
        self, images: Sequence[NewImage], prepared: dict[Digest, PreparedLayer], known: set[Digest], new_chain: Sequence[Digest]
    ) -> dict[Digest, int]:
        """Blocks. The size of every blob that the images need, by digest."""
        sizes: dict[Digest, int] = {}
        for image in images:
            for data in (image.raw, image.manifest):
                digest = Digest.of(data)
                if digest not in known:
                    self._blobs.append(digest)
                    self._content.put(data)
                    known.add(digest)
                sizes[digest] = len(data)
            for layer in image.layers:
                if layer.digest not in known:
                    self._blobs.append(layer.digest)
                    self._content.adopt(image.blobs[layer.digest], layer.digest)
                    known.add(layer.digest)
                sizes[layer.digest] = layer.size_bytes
        for chain_id in new_chain:
            self._chains.append(chain_id)
            self._layers.place(prepared[chain_id].directory, chain_id)
        return sizes

    def undo(self) -> None:
        """Blocks."""
        for digest in self._blobs:
            self._content.remove(digest)
        for chain_id in self._chains:
            self._layers.remove(chain_id)


def _insert(
    connection: sqlite3.Connection,
    images: Sequence[Image],
    blobs: dict[Digest, int],
    *,
    snapshots: Sequence[rows.SnapshotRow],
    tags: Sequence[rows.TagRow],
    now_ns: int,
) -> None:
    rows.insert_blobs(connection, blobs.items(), now_ns)
    rows.insert_snapshots(connection, snapshots, now_ns)
    for image in images:
        rows.save_image(connection, make_row(image))
    for tag in tags:
        rows.save_tag(connection, tag)
