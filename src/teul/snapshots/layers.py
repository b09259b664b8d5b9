"""Unpacked layers: `<root>/snapshots/<chain id hex>/fs`, one directory per chain id, shared by all images that have it.

The lifecycle of a layer: it is unpacked in the temporary area, renamed to its place (`place`), on the disk with all its files and its
name once whoever placed it has synced the filesystem, and counts from the moment the database has its row, which is added after that;
a directory without a row is swept at start. The mount of an image is the list of its layers' directories, topmost first; no layer is
ever written to again.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from teul import failpoints
from teul.oci.digest import Digest, find_digest
from teul.store.atomic import ignoring_absence, remove_tree
from teul.store.sweeping import logging_refusals


class Layers:
    """The snapshot directory below `root`. Every method but `directory` blocks."""

    def __init__(self, root: str, temporary: str) -> None:
        self._root = root
        self._temporary = temporary

    def open(self) -> None:
        """Make the directory. Idempotent. security: nobody but root looks in: layers have set-id programs and device nodes."""
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        os.chmod(self._root, 0o700)

    def directory(self, chain_id: Digest) -> str:
        """The directory of the layer's files, which is to be mounted."""
        return os.path.join(self._root, chain_id.hex, "fs")

    def has(self, chain_id: Digest) -> bool:
        return os.path.isdir(self.directory(chain_id))

    def place(self, prepared: str, chain_id: Digest) -> None:
        """Give `prepared`, a directory that contains `fs`, its final name; if the layer is there already, remove `prepared`.

        The caller syncs, once for all that it places, before a row counts on them.
        """
        try:
            os.rename(prepared, os.path.join(self._root, chain_id.hex))
        except OSError:
            # rename(2) does not replace a directory that has something in it (ENOTEMPTY or EEXIST).
            if not self.has(chain_id):
                raise
            remove_tree(prepared)

    def remove(self, chain_id: Digest) -> None:
        """Remove a layer. Idempotent. The layer is away at once, whatever happens while its files are being deleted."""
        doomed = os.path.join(self._temporary, f"removed-{chain_id.hex}")
        remove_tree(doomed)
        with ignoring_absence():
            os.rename(os.path.join(self._root, chain_id.hex), doomed)
        failpoints.reach("snapshots.remove.aside")
        remove_tree(doomed)

    def sweep(self, known: Collection[Digest]) -> int:
        """Remove every directory that is none of the `known` layers; returns how many. To be called before any layer is unpacked."""
        removed = 0
        for name in os.listdir(self._root):
            if find_digest(f"sha256:{name}") not in known:
                with logging_refusals(f"layer {name}, of which there is no record"):
                    remove_tree(os.path.join(self._root, name))
                    removed += 1
        return removed
