"""Layers: `<root>/snapshots/<chain id hex>/`, one directory per chain id, shared by all images that have it.

A layer is one of two things. Indexed: `layer.tar`, the uncompressed archive as its diff id names it, and `index.erofs`, by which the
kernel mounts it. Where the archive is a blob as well, or the layer of another chain, it is one file under several names. Or unpacked: the
files themselves, below `fs`. What a root has of either kind goes on working whichever kind its engine makes.

The lifecycle of a layer: it is made in the temporary area, renamed to its place (`place`), on the disk with all its files and its name
once whoever placed it has synced the filesystem, and counts from the moment the database has its row, which is added after that; a
directory without a row is swept at start. The mount of an image is the list of its layers, topmost first; no layer is ever written to
again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from teul import failpoints
from teul.oci.digest import Digest, find_digest
from teul.snapshots.mounted import MountedLayers
from teul.store.atomic import ignoring_absence, remove_tree
from teul.store.layer_files import ARCHIVE_FILE, FILES_DIRECTORY, INDEX_FILE
from teul.store.sweeping import logging_refusals


class Layers:
    """The snapshot directory below `root`. Every method blocks, but `directory`, `place_of` and `is_indexed`."""

    def __init__(self, root: str, temporary: str) -> None:
        self._root = root
        self._temporary = temporary
        self._indexed: set[str] = set()
        self._mounted = MountedLayers()

    def open(self) -> None:
        """Make the directory, and look what is there. Idempotent.

        security: nobody but root looks in: layers have set-id programs and device nodes.
        """
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        os.chmod(self._root, 0o700)
        self._indexed = {name for name in os.listdir(self._root) if os.path.exists(os.path.join(self._root, name, INDEX_FILE))}

    def close(self) -> None:
        """Let go of the mounts."""
        self._mounted.close()

    def is_indexed(self, chain_id: Digest) -> bool:
        return chain_id.hex in self._indexed

    def directory(self, chain_id: Digest) -> str:
        """Where the layer is: the directory of its files, or if it is indexed that of its index and archive."""
        directory = os.path.join(self._root, chain_id.hex)
        return directory if chain_id.hex in self._indexed else os.path.join(directory, FILES_DIRECTORY)

    def place_of(self, chain_id: Digest) -> str:
        """The layer's own directory, whatever form the layer has."""
        return os.path.join(self._root, chain_id.hex)

    @contextmanager
    def lower(self, chain_ids: Sequence[Digest]) -> Iterator[list[str | int]]:
        """The layers of the chain, topmost first, as overlayfs takes them while the context lasts: directories, and descriptors of mounts.

        Raises `OSError`.
        """
        with ExitStack() as stack:
            found: list[str | int] = []
            for chain_id in reversed(chain_ids):
                if chain_id.hex in self._indexed:
                    directory = os.path.join(self._root, chain_id.hex)
                    fd = self._mounted.duplicate(chain_id.hex, f"{directory}/{INDEX_FILE}", f"{directory}/{ARCHIVE_FILE}")
                    stack.callback(os.close, fd)
                    found.append(fd)
                else:
                    found.append(self.directory(chain_id))
            yield found

    def has(self, chain_id: Digest) -> bool:
        directory = os.path.join(self._root, chain_id.hex)
        return os.path.exists(f"{directory}/{INDEX_FILE}") or os.path.isdir(f"{directory}/{FILES_DIRECTORY}")

    def place(self, prepared: str, chain_id: Digest) -> None:
        """Give `prepared`, a directory that has the layer in either form, its final name; if the layer is there already, remove `prepared`.

        The caller syncs, once for all that it places, before a row counts on them.
        """
        final = os.path.join(self._root, chain_id.hex)
        try:
            os.rename(prepared, final)
        except OSError:
            # rename(2) does not replace a directory that has something in it (ENOTEMPTY or EEXIST).
            if not self.has(chain_id):
                raise
            remove_tree(prepared)
        if os.path.exists(os.path.join(final, INDEX_FILE)):
            self._indexed.add(chain_id.hex)

    def share(self, chain_id: Digest, blob_path: str) -> None:
        """Have the layer's archive and the blob at `blob_path`, which has the same bytes, be one file. The caller syncs."""
        archive = os.path.join(self._root, chain_id.hex, ARCHIVE_FILE)
        if chain_id.hex not in self._indexed or os.path.samefile(archive, blob_path):
            return
        temporary = f"{blob_path}.shared"
        with ignoring_absence():
            os.unlink(temporary)
        os.link(archive, temporary)
        os.rename(temporary, blob_path)

    def exchange(self, chain_ids: Sequence[Digest], prepared: str) -> None:
        """Have the indexed layers `chain_ids`, which are of one archive, share the files in `prepared` from now on. The caller syncs.

        Each file takes the place of the damaged one in one step, and either works with the other's successor: what they say is the same.
        Containers that run keep what they have; whoever mounts the layer next gets the new files, for the index is another file then.
        """
        for chain_id in chain_ids:
            directory = os.path.join(self._root, chain_id.hex)
            os.makedirs(directory, mode=0o700, exist_ok=True)
            for name in (ARCHIVE_FILE, INDEX_FILE):
                temporary = os.path.join(directory, f"{name}.exchanged")
                with ignoring_absence():
                    os.unlink(temporary)
                os.link(os.path.join(prepared, name), temporary)
                os.rename(temporary, os.path.join(directory, name))
                with ignoring_absence():
                    os.unlink(temporary)  # rename(2) leaves both names of one file
                failpoints.reach("snapshots.exchange.file")
            self._indexed.add(chain_id.hex)
        for chain_id in chain_ids:
            self._mounted.forget(chain_id.hex)

    def places(self) -> list[str]:
        """Everything that lies among the layers, with a record or without."""
        return [os.path.join(self._root, name) for name in os.listdir(self._root)]

    def remove(self, chain_id: Digest) -> None:
        """Remove a layer. Idempotent. The layer is away at once, whatever happens while its files are being deleted."""
        doomed = os.path.join(self._temporary, f"removed-{chain_id.hex}")
        remove_tree(doomed)
        with ignoring_absence():
            os.rename(os.path.join(self._root, chain_id.hex), doomed)
        self._indexed.discard(chain_id.hex)
        self._mounted.forget(chain_id.hex)
        failpoints.reach("snapshots.remove.aside")
        remove_tree(doomed)

    def sweep(self, known: Collection[Digest]) -> int:
        """Remove every directory that is none of the `known` layers; returns how many. To be called before any layer is made."""
        removed = 0
        for name in os.listdir(self._root):
            if find_digest(f"sha256:{name}") not in known:
                with logging_refusals(f"layer {name}, of which there is no record"):
                    remove_tree(os.path.join(self._root, name))
                    self._indexed.discard(name)
                    removed += 1
        return removed


def move_layer(source: str, directory: str) -> None:
    """Have the layer in `source`, on the same file system, in the new `directory`. Blocks."""
    os.rename(source, directory)


def link_layer(source: str, directory: str) -> bool:
    """Give the new `directory` the files of the indexed layer in `source`, shared; False if there is no such layer (any more). Blocks."""
    os.mkdir(directory, 0o700)
    try:
        for name in (INDEX_FILE, ARCHIVE_FILE):
            os.link(os.path.join(source, name), os.path.join(directory, name))
    except FileNotFoundError:
        remove_tree(directory)
        return False
    return True
