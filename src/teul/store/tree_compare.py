"""Whether two trees of files are the same, entry by entry."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from itertools import zip_longest

_Entry = tuple[str, tuple[object, ...]]


def first_difference(one: str, other: str) -> str | None:
    """The path below both trees where they first differ, None if they do nowhere. Blocks. Raises `OSError`.

    Compared are names, kinds, modes, owners, device numbers, contents, targets of links, extended attributes, and the times of what is no
    directory and no whiteout. The trees must not change meanwhile. Goes by descriptors, two at a time, for an image may nest directories
    as it likes.
    """
    for mine, others in zip_longest(_entries(one), _entries(other)):
        if mine != others:
            paths = [entry[0] for entry in (mine, others) if entry is not None]
            return min(paths, key=lambda path: path.split("/"))  # the one that comes first in the order of `_entries`
    return None


def _entries(root: str) -> Iterator[_Entry]:
    """Every entry below `root`, a directory's before those in it, in one order for one tree."""
    current_fd = _open_directory(root)
    try:
        pending = [sorted(os.listdir(current_fd), reverse=True)]
        names: list[str] = []
        while True:
            if not pending[-1]:
                pending.pop()
                if not pending:
                    return
                names.pop()
                above_fd = _open_directory("..", current_fd)
                os.close(current_fd)
                current_fd = above_fd
                continue
            name = pending[-1].pop()
            status = os.stat(name, dir_fd=current_fd, follow_symlinks=False)
            yield "/".join([*names, name]), _attributes(current_fd, name, status)
            if stat.S_ISDIR(status.st_mode):
                below_fd = _open_directory(name, current_fd)
                os.close(current_fd)
                current_fd = below_fd
                names.append(name)
                pending.append(sorted(os.listdir(current_fd), reverse=True))
    finally:
        os.close(current_fd)


def _attributes(directory_fd: int, name: str, status: os.stat_result) -> tuple[object, ...]:
    content: object = None
    if stat.S_ISREG(status.st_mode):
        with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd), "rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(name, dir_fd=directory_fd)
    place = f"/proc/self/fd/{directory_fd}/{name}"
    xattrs = [(key, os.getxattr(place, key, follow_symlinks=False)) for key in sorted(os.listxattr(place, follow_symlinks=False))]
    # Directories are made for what is in them, and whiteouts have no time of their own.
    has_time = not stat.S_ISDIR(status.st_mode) and not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0)
    changed_ns = status.st_mtime_ns if has_time else 0
    return status.st_mode, status.st_uid, status.st_gid, status.st_rdev, changed_ns, content, xattrs


def _open_directory(name: str, dir_fd: int | None = None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
