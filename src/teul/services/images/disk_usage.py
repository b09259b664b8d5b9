"""What images take on the disk, in the blocks that du(1) counts: every file once, under however many names.

A layer is counted as it is kept: the archive and its index or the unpacked files, and the blob that it came as unless that is the archive.
So the numbers are other ones than those of an image's list, which are what containers find in the image.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from teul.oci.digest import Digest
from teul.store.tree_size import BLOCK_BYTES, walk_tree

PartName = tuple[Digest, ...]  # whatever tells it from other parts
_Inode = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """What an image or a part of one takes, and how much of that other images have as well."""

    size_bytes: int
    shared_size_bytes: int


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """`total_bytes`: all blobs and layers together, also of images that are damaged or deleted. `images`: those of the list.

    `parts`: what was asked for besides, a single layer, say. Shared is of a part what more than one image has.
    """

    total_bytes: int
    images: Mapping[Digest, ImageUsage]
    parts: Mapping[PartName, ImageUsage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contents:
    """The paths of the blobs and layer directories of an image, of a part of one, or of everything that is stored."""

    blobs: Collection[str]
    layers: Collection[str]

    @property
    def paths(self) -> set[str]:
        return {*self.blobs, *self.layers}


@dataclass(slots=True)
class _Piece:
    """A blob or layer: the bytes of what has one name, and of each file that has more."""

    own_bytes: int = 0
    linked: dict[_Inode, int] = field(default_factory=dict)

    def add(self, status: os.stat_result) -> None:
        size_bytes = status.st_blocks * BLOCK_BYTES
        if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode):
            self.own_bytes += size_bytes
        else:
            self.linked[(status.st_dev, status.st_ino)] = size_bytes


def measure(stored: Contents, images: Mapping[Digest, Contents], parts: Mapping[PartName, Contents] | None = None) -> DiskUsage:
    """Measure everything `stored`, and of that what each of `images` and `parts` has. What vanishes meanwhile is not counted. Blocks."""
    pieces = {path: _piece(path) for path in sorted(stored.paths)}

    def pieces_of(contents: Contents) -> list[str]:
        return [path for path in contents.paths if path in pieces]

    found = {image_id: pieces_of(contents) for image_id, contents in images.items()}
    path_users = Counter(path for paths in found.values() for path in paths)
    inode_users = Counter(inode for paths in found.values() for inode in _linked(pieces[path] for path in paths))

    def usage_of(paths: Collection[str]) -> ImageUsage:
        linked = _linked(pieces[path] for path in paths)
        return ImageUsage(
            sum(pieces[path].own_bytes for path in paths) + sum(linked.values()),
            sum(pieces[path].own_bytes for path in paths if path_users[path] > 1)
            + sum(size_bytes for inode, size_bytes in linked.items() if inode_users[inode] > 1),
        )

    total_bytes = sum(piece.own_bytes for piece in pieces.values()) + sum(_linked(pieces.values()).values())
    return DiskUsage(
        total_bytes,
        {image_id: usage_of(paths) for image_id, paths in found.items()},
        {part: usage_of(pieces_of(contents)) for part, contents in (parts or {}).items()},
    )


def _piece(path: str) -> _Piece:
    piece = _Piece()
    try:
        status = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return piece
    piece.add(status)
    if stat.S_ISDIR(status.st_mode):
        walk_tree(path, piece.add)
    return piece


def _linked(pieces: Iterable[_Piece]) -> dict[_Inode, int]:
    return {inode: size_bytes for piece in pieces for inode, size_bytes in piece.linked.items()}
