"""Having damaged blobs and layers again, from what else there is of them.

An archive comes back from the blob that it was made of, whatever its compression; an index from its archive; a blob from the archive if
they are one content, or if it is a document, from memory. New files take the place of the damaged ones name by name, never by writing into
them: a container that runs goes on with the old ones until it ends. What cannot be had again is removed if nothing refers to it.
Nothing is stored or removed by anybody else while files are exchanged.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence

from teul import failpoints
from teul.aio import run_blocking, run_to_end
from teul.errors import TeulError
from teul.oci.digest import Digest
from teul.services.images.layers import compression_of, make_layer
from teul.services.images.store import ImageStore
from teul.store.atomic import sync_filesystem
from teul.store.layer_files import ARCHIVE_FILE
from teul.workers.layers import Limits, index_blob, unpack

log = logging.getLogger(__name__)


class Repair:
    """Repairs of one check. `damaged` are the blobs that are of no use as sources."""

    def __init__(self, store: ImageStore, limits: Limits, damaged: Mapping[Digest, str]) -> None:
        self._store = store
        self._limits = limits
        self._damaged = damaged

    async def remake_index(self, archive_path: str, diff_id: Digest, directory: str) -> bool:
        """Make the new `directory` the indexed layer whose archive `archive_path` is known to be whole. Raises InvalidArchive or System."""
        await run_to_end(run_blocking(os.mkdir, directory, 0o700))
        indexed = await index_blob(archive_path, directory, self._limits, diff_id=diff_id)
        await run_to_end(run_blocking(os.link, archive_path, os.path.join(directory, ARCHIVE_FILE)))
        return not indexed.unindexable

    async def remake_archive(self, diff_id: Digest, place: str) -> tuple[str, str] | None:
        """Make an indexed layer below `place`, of the first blob that it can be made of; its directory, and what it was made of."""
        for number, digest in enumerate(self._sources(diff_id)):
            directory = os.path.join(place, f"archive-{number}")
            path = self._store.content.path(digest)
            try:
                if digest == diff_id:
                    whole = await self.remake_index(path, diff_id, directory)
                else:
                    await run_to_end(run_blocking(os.mkdir, directory, 0o700))
                    indexed = await index_blob(path, directory, self._limits, diff_id=None)
                    whole = not indexed.unindexable and indexed.unpacked.diff_id == diff_id
            except TeulError as error:
                log.warning("layer %s cannot be made of blob %s: %s", diff_id, digest, error.message)
                continue
            if whole:
                return directory, f"restored from blob {digest}"
        return None

    async def unpack_again(self, diff_id: Digest, place: str) -> str | None:
        """Unpack the layer below `place` once more, of the first blob that gives it; its directory. Raises InvalidArchive or System."""
        for number, digest in enumerate(self._sources(diff_id)):
            directory = os.path.join(place, f"unpacked-{number}")
            path = self._store.content.path(digest)
            await run_to_end(run_blocking(os.mkdir, directory, 0o755))
            compression = await run_blocking(compression_of, path)
            unpacked = await unpack(path, compression, directory, self._limits, self._store.slow, diff_id=None)
            if unpacked.diff_id == diff_id:
                return directory
        return None

    async def exchange(self, chains: Collection[Digest], directory: str) -> None:
        """Have the layers `chains`, which are of one archive, share the files of the indexed layer in `directory`. Runs to its end."""

        async def run() -> None:
            await self._store.slow.run(sync_filesystem, self._store.root)  # before a name counts on it
            async with self._store.unchanged() as catalog:
                known = [chain_id for chain_id in chains if chain_id in catalog.snapshots]
                await self._store.slow.run(self._store.layers.exchange, known, directory)
                await self._store.slow.run(sync_filesystem, self._store.root)

        await run_to_end(run())

    async def remake_layer(self, chain_id: Digest, diff_id: Digest, place: str) -> str:
        """Make a layer anew of which there is nothing left, in whichever form layers get; what it was made of, "" if of nothing."""
        for number, digest in enumerate(self._sources(diff_id)):
            directory = os.path.join(place, f"layer-{chain_id.hex}-{number}")
            path = self._store.content.path(digest)
            compression = await run_blocking(compression_of, path)
            known = diff_id if digest == diff_id else None
            try:
                made = await make_layer(self._store, path, compression, directory, self._limits, diff_id=known)
            except TeulError as error:
                log.warning("layer %s cannot be made of blob %s: %s", diff_id, digest, error.message)
                continue
            if made.diff_id == diff_id:
                await run_to_end(self._place(chain_id, directory))
                return f"made again from blob {digest}"
        return ""

    async def restore_blob(self, digest: Digest, archives: Sequence[str]) -> str:
        """Have a blob again: a document from memory, or what one of the `archives` is; what was done, "" if nothing could be."""

        async def run() -> str:
            async with self._store.unchanged() as catalog:
                if digest not in catalog.blobs:
                    return "removed meanwhile"
                document = next((image.documents[digest] for image in catalog.images.values() if digest in image.documents), None)
                if document is not None:
                    await self._store.slow.run(self._store.content.restore, digest, document)
                    return "written again from memory"
                for archive in archives:
                    try:
                        await self._store.slow.run(self._store.content.link, archive, digest)
                    except FileNotFoundError:
                        continue  # the layer was removed meanwhile
                    return "restored from the layer's archive"
            return ""

        return await run_to_end(run())

    async def drop(self, *, blob: Digest | None = None, chain_id: Digest | None = None, complete: bool) -> str:
        """Remove what nothing refers to; "" if something does. Not unless all images are `complete`: one that is damaged may need it."""

        async def run() -> str:
            async with self._store.unchanged() as catalog:
                is_needed = (
                    not complete
                    or (blob is not None and blob in catalog.used_blobs())
                    or (chain_id is not None and chain_id in catalog.used_snapshots())
                    or any(row.parent == chain_id for row in catalog.snapshots.values() if row.parent is not None)
                )
                if is_needed:
                    return ""
                await self._store.forget([blob] if blob is not None else [], [chain_id] if chain_id is not None else [])
            return "removed: no image needs it"

        return await run_to_end(run())

    async def _place(self, chain_id: Digest, directory: str) -> None:
        async with self._store.unchanged() as catalog:
            if chain_id in catalog.snapshots:
                await self._store.slow.run(self._store.layers.remove, chain_id)
                failpoints.reach("images.repair.removed")
                await self._store.slow.run(self._store.layers.place, directory, chain_id)
                await self._store.slow.run(sync_filesystem, self._store.root)

    def _sources(self, diff_id: Digest) -> Iterator[Digest]:
        """Blobs that are whole and have the layer's archive, the uncompressed one first."""
        catalog = self._store.catalog
        found = dict.fromkeys(
            [diff_id]
            + [
                layer.digest
                for image in catalog.images.values()
                for manifest in image.manifests
                if manifest.document is not None
                for layer, known in zip(manifest.layers, manifest.document.diff_ids, strict=True)
                if known == diff_id
            ]
        )
        return (digest for digest in found if digest in catalog.blobs and digest not in self._damaged)
