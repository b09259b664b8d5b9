"""How much the trees of directories take: a walk that can be done below a container that runs."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

BLOCK_BYTES = 512
"""The unit of `st_blocks`, whatever the file system's own is. stat(2)."""


def size_of_tree(path: str) -> int:
    """Bytes of the regular files and links below `path`, hard links counted once. As `walk_tree`."""
    return _measure(path, lambda status: 0 if stat.S_ISDIR(status.st_mode) else status.st_size)


def blocks_of_tree(path: str) -> int:
    """Bytes that everything below `path` takes on the disk, as du(1) counts them: by blocks, and hard links once. As `walk_tree`."""
    return _measure(path, lambda status: status.st_blocks * BLOCK_BYTES)


def walk_tree(path: str, visit: Callable[[os.stat_result], None]) -> None:
    """Have `visit` see the status of everything below the directory `path`, which need not be there. What vanishes meanwhile is left out.

    security: of a container that runs, which may exchange a directory for a symlink at any time and nest directories deeper than a path
    is long: goes by descriptors, two at a time, and follows no link. The way back up is checked, for the directory may have been moved.
    """
    try:
        current_fd = _open_directory(path)
    except FileNotFoundError:
        return
    try:
        # One list per level, of the directories still to be looked into, and above each the identity of the directory that has them.
        pending = [_visit_entries(current_fd, visit)]
        above = [_identity(current_fd)]
        while pending:
            if pending[-1]:
                try:
                    below_fd = _open_directory(pending[-1].pop(), current_fd)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # gone, or something else by now
                except OSError as error:
                    if error.errno != errno.ELOOP:
                        raise
                    continue  # a symlink by now
                os.close(current_fd)
                current_fd = below_fd
                pending.append(_visit_entries(current_fd, visit))
                above.append(_identity(current_fd))
                continue
            pending.pop()
            above.pop()
            if pending:
                above_fd = _open_directory("..", current_fd)
                os.close(current_fd)
                current_fd = above_fd
                if _identity(current_fd) != above[-1]:
                    break  # moved under our feet: where we are now is not where we came from
    finally:
        os.close(current_fd)


def _measure(path: str, size_of: Callable[[os.stat_result], int]) -> int:
    total_bytes = 0
    seen: set[tuple[int, int]] = set()

    def visit(status: os.stat_result) -> None:
        nonlocal total_bytes
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            if (status.st_dev, status.st_ino) in seen:
                return
            seen.add((status.st_dev, status.st_ino))
        total_bytes += size_of(status)

    walk_tree(path, visit)
    return total_bytes


def _visit_entries(directory_fd: int, visit: Callable[[os.stat_result], None]) -> list[str]:
    """Visit what is in the directory; returns the names of the directories in it."""
    directories: list[str] = []
    with os.scandir(directory_fd) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(status.st_mode):
                directories.append(entry.name)
            visit(status)
    return directories


def _open_directory(name: str, dir_fd: int | None = None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
