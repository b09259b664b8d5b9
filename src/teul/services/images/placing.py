"""The files of new images on their way into their places: blobs, and layers. Everything here blocks."""

from __future__ import annotations

import os
from collections.abc import Sequence

from teul import failpoints
from teul.oci.digest import Digest, chain_ids
from teul.services.images.new_image import NewImage, PreparedLayer
from teul.snapshots.layers import Layers
from teul.store.atomic import sync_filesystem
from teul.store.content import ContentStore
from teul.store.layer_files import INDEX_FILE


class Placing:
    """Files put into their places for one commit, to be taken back if it fails."""

    def __init__(self, root: str, content: ContentStore, layers: Layers, *, keeps_compressed: bool) -> None:
        self._root = root
        self._keeps_compressed = keeps_compressed
        self._content = content
        self._layers = layers
        self._blobs: list[Digest] = []
        self._chains: list[Digest] = []

    def place(
        self, images: Sequence[NewImage], prepared: dict[Digest, PreparedLayer], known: dict[Digest, int], new_chain: Sequence[Digest]
    ) -> dict[Digest, int]:
        """Put the files of `images` and of the chain ids `new_chain` into their places, and wait until they are on the disk.

        That is after the last rename and once for all of it. Returns the size of every blob of the images, by digest. Blocks.
        """
        sizes: dict[Digest, int] = {}
        dropped = set() if self._keeps_compressed else self._needless(images, prepared)
        for image in images:
            for digest, data in image.documents.items():
                if digest not in known and digest not in sizes:
                    self._blobs.append(digest)
                    self._content.put(data, digest)
                    failpoints.reach("images.commit.blob")
                sizes[digest] = len(data)
            for digest, file in image.blobs.items():
                if digest in dropped and digest not in known:
                    continue
                if digest not in known and digest not in sizes:
                    self._blobs.append(digest)
                    self._content.adopt(file.path, digest)
                sizes[digest] = file.size_bytes
        for chain_id in new_chain:
            self._chains.append(chain_id)
            self._layers.place(prepared[chain_id].directory, chain_id)
            failpoints.reach("images.commit.layer")
        stored = {*known, *sizes}
        for platform in (platform for image in images for platform in image.platforms):
            diff_ids = platform.document.diff_ids
            for layer, diff_id, chain_id in zip(platform.layers, diff_ids, chain_ids(diff_ids), strict=True):
                if layer.digest == diff_id and diff_id in stored:  # it came uncompressed: blob and archive are to be one file
                    self._layers.share(chain_id, self._content.path(diff_id))
        if self._blobs or self._chains:
            sync_filesystem(self._root)
        failpoints.reach("images.commit.synced")
        return sizes

    def _needless(self, images: Sequence[NewImage], prepared: dict[Digest, PreparedLayer]) -> set[Digest]:
        """The blobs of layers whose uncompressed archives are kept."""
        found: set[Digest] = set()
        for platform in (platform for image in images for platform in image.platforms):
            for layer, chain_id in zip(platform.layers, chain_ids(platform.document.diff_ids), strict=True):
                made = prepared.get(chain_id)
                if self._layers.is_indexed(chain_id) or (made is not None and os.path.exists(os.path.join(made.directory, INDEX_FILE))):
                    found.add(layer.digest)
        return found

    def undo(self) -> None:
        """Take back what `place` has put into its place. Blocks."""
        for digest in self._blobs:
            self._content.remove(digest)
        for chain_id in self._chains:
            self._layers.remove(chain_id)
