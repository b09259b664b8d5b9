"""Storing and forgetting images: files first and then rows on the way in, rows first and then files on the way out.

One lock orders all changes, so that no commit counts on a layer that a deletion is about to remove. The lock is never held while an
archive is being received or unpacked.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from teul import failpoints
from teul.aio import SlowWork, run_to_end, undoing
from teul.model.image import Image, ImageManifest
from teul.oci.digest import Digest, chain_ids
from teul.oci.platform import Platform, host_platform
from teul.oci.reference import Reference
from teul.services.images.catalog import Catalog, build_catalog, make_row
from teul.services.images.leaving import Leaving, without_image, without_manifest
from teul.services.images.new_image import NewImage, PreparedLayer
from teul.services.images.placing import Placing
from teul.snapshots.layers import Layers
from teul.store.atomic import sync_filesystem
from teul.store.content import ContentStore
from teul.store.metadata import images as rows
from teul.store.metadata.database import Database
from teul.store.workspace import Workspace


class ImageStore:
    """The catalog, the files behind it, and the only code that changes either."""

    def __init__(
        self,
        root: str,
        database: Database,
        workspace: Workspace,
        slow: SlowWork,
        *,
        indexes: bool = False,
        keeps_compressed: bool = True,
        host: Platform | None = None,
    ) -> None:
        """`indexes`: new layers are indexed, not unpacked, which the host must be able to mount. `host`: what images are chosen for.

        `keeps_compressed`: the blob of a layer that is indexed is stored as well, so that the image leaves as it came.
        """
        self.root = root
        self.indexes = indexes
        self.keeps_compressed = keeps_compressed
        self.workspace = workspace
        self.slow = slow
        self.content = ContentStore(os.path.join(root, "blobs"))
        self.layers = Layers(os.path.join(root, "snapshots"), workspace.path)
        self.host = host or host_platform()
        self.catalog = Catalog(self.host)
        self._database = database
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Read what there is and sweep what is left of interrupted work: files without a row. Before anything else is called."""
        known = await self._database.transact(rows.read_all)
        self.catalog = await self.slow.run(self._open, known)

    async def close(self) -> None:
        """Let go of what is held of the host's."""
        await run_to_end(self.slow.run(self.layers.close))

    def missing(self, chain: Sequence[Digest]) -> list[Digest]:
        """Those of `chain` that are not unpacked."""
        return [chain_id for chain_id in chain if chain_id not in self.catalog.snapshots]

    async def commit(self, images: Sequence[NewImage], prepared: dict[Digest, PreparedLayer], *, tagged_at_ns: int) -> bool:
        """Store all of `images` or nothing. False, with nothing done, if a layer is neither prepared nor (any more) unpacked.

        So it is if a blob that an image counts on is not stored any more.

        Every blob and layer is on the disk, its bytes and its name, before there is a row that counts on it. Runs to its end even if
        the caller is cancelled.
        """
        if prepared:
            # Not yet the promise, for names are still to come: but the long part of the sync, and nobody waits for the lock meanwhile.
            await self.slow.run(sync_filesystem, self.root)
        return await run_to_end(self._commit(images, prepared, tagged_at_ns))

    async def tag(self, image: Image, reference: Reference) -> None:
        """Point a name at an image. Runs to its end even if the caller is cancelled."""
        await run_to_end(self._tag(rows.TagRow(reference.canonical, image.image_id, time.time_ns())))

    async def untag(self, references: Sequence[Reference]) -> None:
        """Forget names. Idempotent. Runs to its end even if the caller is cancelled."""
        await run_to_end(self._untag([reference.canonical for reference in references]))

    async def delete(self, image: Image, *, is_used: Callable[[Digest], bool]) -> list[Digest] | None:
        """Forget an image without names, with the blobs and layers that it alone needs; the chain ids of layers that went, topmost first.

        None, with nothing done, if the image has been given a name meanwhile, is gone or has been stored anew. `is_used` is asked at the
        moment from which no new container can stand on the image: while containers do, its layers and config stay until `delete` is called
        again. Runs to its end even if the caller is cancelled.
        """
        return await run_to_end(self._delete(image, is_used))

    async def delete_platform(self, image: Image, manifest: ImageManifest, *, is_used: Callable[[], bool]) -> list[Digest] | None:
        """Forget one manifest of an image, with the blobs and layers that it alone needs; the rest of the image stays, its index whole.

        Returns as `delete`. None, with nothing done, if the image has changed meanwhile, if `is_used` says at the moment from which no new
        container can stand on the manifest that one does, if nothing of the image could be used without it, or if another image has it
        as well. Runs to its end even if the caller is cancelled.
        """
        return await run_to_end(self._delete_platform(image, manifest, is_used))

    @asynccontextmanager
    async def unchanged(self) -> AsyncIterator[Catalog]:
        """The catalog; while the context lasts, nobody else stores or removes anything."""
        async with self._lock:
            yield self.catalog

    async def recorded(self) -> rows.Rows:
        """All rows, also those of images that are left out of the catalog."""
        return await self._database.transact(rows.read_all)

    async def forget(self, blobs: Sequence[Digest], chain: Sequence[Digest]) -> None:
        """Delete rows, and then the files, of blobs and layers that no image needs. Only while the store is `unchanged`."""

        def delete(connection: sqlite3.Connection) -> None:
            rows.delete_snapshots(connection, chain)
            rows.delete_blobs(connection, blobs)

        await self._database.transact(delete, frees=True)
        for chain_id in chain:
            del self.catalog.snapshots[chain_id]
            await self.slow.run(self.layers.remove, chain_id)
        for digest in blobs:
            del self.catalog.blobs[digest]
            await self.slow.run(self.content.remove, digest)

    def _open(self, known: rows.Rows) -> Catalog:
        self.content.open()
        self.layers.open()
        self.content.sweep(known.blobs)
        self.layers.sweep({row.chain_id for row in known.snapshots})
        return build_catalog(known, self.content, self.host)

    async def _commit(self, images: Sequence[NewImage], prepared: dict[Digest, PreparedLayer], tagged_at_ns: int) -> bool:
        async with self._lock:
            wanted = {chain_id for image in images for platform in image.platforms for chain_id in chain_ids(platform.document.diff_ids)}
            if any(chain_id not in prepared for chain_id in self.missing(sorted(wanted))):
                return False
            if any(digest not in self.catalog.blobs for image in images for digest in image.counted_on):
                return False
            now_ns = time.time_ns()
            snapshots = self._new_snapshots(images, prepared)
            tags = [rows.TagRow(tag.canonical, image.image_id, tagged_at_ns) for image in images for tag in image.tags]
            placed = Placing(self.root, self.content, self.layers, keeps_compressed=self.keeps_compressed)
            async with undoing(partial(self.slow.run, placed.undo), "and its files stay until the next engine"):
                blobs = await self.slow.run(placed.place, images, prepared, dict(self.catalog.blobs), [row.chain_id for row in snapshots])
                # What comes of it is known before it is written down: nothing that cannot be read again gets a row.
                after = replace(
                    self.catalog,
                    blobs={**self.catalog.blobs, **blobs},
                    snapshots={**self.catalog.snapshots, **{row.chain_id: row for row in snapshots}},
                )
                stored = self._stored(images, after, now_ns)
                await self._database.transact(
                    lambda connection: _insert(connection, stored, blobs, snapshots=snapshots, tags=tags, now_ns=now_ns)
                )
            failpoints.reach("images.commit.recorded")
            self.catalog.blobs.update(blobs)
            self.catalog.snapshots.update({row.chain_id: row for row in snapshots})
            for image in stored:
                self.catalog.images[image.image_id] = image
            for tag in tags:
                self.catalog.name(tag)
            return True

    async def _tag(self, row: rows.TagRow) -> None:
        async with self._lock:
            await self._database.transact(lambda connection: rows.save_tag(connection, row))
            failpoints.reach("images.tag.recorded")
            self.catalog.name(row)

    async def _untag(self, names: Sequence[str]) -> None:
        async with self._lock:
            await self._database.transact(lambda connection: rows.delete_tags(connection, names))
            failpoints.reach("images.untag.recorded")
            for name in names:
                self.catalog.unname(name)

    def _stored(self, images: Sequence[NewImage], after: Catalog, now_ns: int) -> list[Image]:
        """The images as they will be. One that is there gains what is new of it, and keeps its age."""
        found: dict[Digest, Image] = {}
        for image in images:
            known = found.get(image.image_id) or self.catalog.images.get(image.image_id)
            documents = {**(known.documents if known is not None else {}), **image.documents}
            stored_at_ns = known.stored_at_ns if known is not None and not known.deleted else now_ns
            row = rows.ImageRow(image.image_id, image.target.media_type, deleted=False, stored_at_ns=stored_at_ns)
            found[image.image_id] = after.assemble(row, documents)
        return list(found.values())

    def _new_snapshots(self, images: Sequence[NewImage], prepared: dict[Digest, PreparedLayer]) -> list[rows.SnapshotRow]:
        """Rows of the layers that are not unpacked yet, parents first."""
        new: dict[Digest, rows.SnapshotRow] = {}
        for platform in (platform for image in images for platform in image.platforms):
            parent = None
            for chain_id, diff_id in zip(chain_ids(platform.document.diff_ids), platform.document.diff_ids, strict=True):
                if chain_id not in self.catalog.snapshots and chain_id not in new:
                    new[chain_id] = rows.SnapshotRow(chain_id, parent, diff_id, prepared[chain_id].size_bytes)
                parent = chain_id
        return list(new.values())

    async def _delete(self, image: Image, is_used: Callable[[Digest], bool]) -> list[Digest] | None:
        async with self._lock:
            if self.catalog.images.get(image.image_id) is not image or self.catalog.names(image.image_id):
                return None
            leaving = without_image(self.catalog, image, keep_layers=is_used(image.image_id))

            def forget(connection: sqlite3.Connection) -> None:
                if leaving.remains is not None:
                    rows.save_image(connection, make_row(leaving.remains))
                else:
                    rows.delete_image(connection, image.image_id)

            await self._take_away(image, leaving, forget)
            return leaving.chain

    async def _delete_platform(self, image: Image, manifest: ImageManifest, is_used: Callable[[], bool]) -> list[Digest] | None:
        async with self._lock:
            if self.catalog.images.get(image.image_id) is not image or is_used():
                return None
            leaving = without_manifest(self.catalog, image, manifest)
            if leaving is None:
                return None
            await self._take_away(image, leaving)
            return leaving.chain

    async def _take_away(self, image: Image, leaving: Leaving, forget: Callable[[sqlite3.Connection], None] | None = None) -> None:
        """Delete rows, and then files, of what of `image` is `leaving`. `forget` comes before that, in the same transaction."""
        catalog, blobs, chain = self.catalog, leaving.blobs, leaving.chain

        def delete(connection: sqlite3.Connection) -> None:
            if forget is not None:
                forget(connection)
            rows.delete_snapshots(connection, chain)
            rows.delete_blobs(connection, blobs)

        # Decided: whoever looks for an image to make a container of does not find what goes any more.
        if leaving.remains is not None:
            catalog.images[image.image_id] = leaving.remains
        else:
            del catalog.images[image.image_id]
        try:
            await self._database.transact(delete, frees=True)
        except BaseException:
            catalog.images[image.image_id] = image
            raise
        failpoints.reach("images.delete.recorded")
        for chain_id in chain:
            del catalog.snapshots[chain_id]
        for digest in blobs:
            catalog.blobs.pop(digest, None)
        for digest in blobs:
            await self.slow.run(self.content.remove, digest)
        failpoints.reach("images.delete.blobs")
        # Deleting many files is the kernel's work, so layers go side by side.
        await asyncio.gather(*(self.slow.run(self.layers.remove, chain_id) for chain_id in chain))


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
