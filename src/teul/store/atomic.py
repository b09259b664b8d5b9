"""Files that are either whole or not there, directories that go away completely, and data that is on the disk when we say so.

stdlib and ctypes only: the unpacking workers load this too.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from teul.linux.syscalls import check, libc

_syncfs = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, use_errno=True)(("syncfs", libc))


def sync_filesystem(path: str) -> None:
    """Wait until everything written to `path`'s filesystem is on the disk. One call for many files. syncfs(2)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        check(_syncfs(fd), "syncfs", path)
    finally:
        os.close(fd)


def replace_file(path: str, data: bytes, mode: int = 0o600) -> None:
    """Make `path` a file with `data`: it is the old one or the new one at any time, also after a power cut."""
    temporary = f"{path}.{os.getpid()}.new"
    try:
        write_new_file(temporary, data, mode)
        os.rename(temporary, path)
    except BaseException:
        with ignoring_absence():
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path))


def write_new_file(path: str, data: bytes, mode: int = 0o600) -> None:
    """Create `path` with `data` and wait until it is on the disk. Raises `FileExistsError`."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte: write(2) may take fewer."""
    written = os.write(fd, data)
    if written < len(data):
        rest = memoryview(data)
        while (rest := rest[written:]).nbytes:
            written = os.write(fd, rest)


def sync_directory(path: str) -> None:
    """Wait until the directory's entries are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def ignoring_absence() -> Iterator[None]:
    """For removals: somebody else having been faster is as good."""
    try:
        yield
    except FileNotFoundError:
        return


def remove_tree(path: str | bytes, *, dir_fd: int | None = None) -> None:
    """Remove `path` and all that is below it; it not being there is fine.

    Goes by descriptors, follows no symlink, and neither recurses nor holds more than two descriptors, since an image may nest directories
    deeper than Python's stack and the descriptor table. The tree must not be moved by others meanwhile.
    """
    try:
        os.unlink(path, dir_fd=dir_fd)
        return
    except FileNotFoundError:
        return
    except IsADirectoryError:
        current_fd = _open_directory(path, dir_fd)
    try:
        # One list per level: the subdirectories that are still to be removed; the last one of a list is the one we are in.
        pending = [_empty(current_fd)]
        while True:
            if pending[-1]:
                below_fd = _open_directory(pending[-1][-1], current_fd)
                os.close(current_fd)
                current_fd = below_fd
                pending.append(_empty(current_fd))
                continue
            pending.pop()
            if not pending:
                break
            above_fd = _open_directory("..", current_fd)
            os.close(current_fd)
            current_fd = above_fd
            os.rmdir(pending[-1].pop(), dir_fd=current_fd)
    finally:
        os.close(current_fd)
    os.rmdir(path, dir_fd=dir_fd)


def _open_directory(name: str | bytes, dir_fd: int | None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)


def _empty(directory_fd: int) -> list[str]:
    """Unlink what is not a directory; the names of what is."""
    directories = []
    with os.scandir(directory_fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=directory_fd)
    return directories
