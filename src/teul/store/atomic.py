"""The one writer of whole files; directories that go away completely; and data that is on the disk when we say so.

A whole file is written beside its place, under a name that nobody else uses, and then given its own name in one step. So readers see the
old file, or none, until they see the new one, never a part of it; and threads, processes and engines that write the same file at the same
time do not meet. What a write leaves when its process is killed, and only then, is `<name>.<16 hex digits>.new`: it counts for nothing.

`durable` says what a power cut may do. With it, the file and its name are on the disk when the function returns: an fsync of the file
before it gets its name, and one of the directory after. Without it nothing is waited for, and after a power cut the file may be the old
one, the new one, or empty: right for what is lost at a reboot anyhow (the run root), what is written anew before it is read again, and
what the caller syncs together with other files (`sync_filesystem`).

On the standard library and `linux/syscalls` only: the keeper and the unpacking workers load this too. Everything here blocks.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from teul.linux.syscalls import check, libc

_syncfs = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, use_errno=True)(("syncfs", libc))


def replace_file(path: str, data: bytes, mode: int = 0o600, *, durable: bool) -> None:
    """Make `path` a file with `data` and exactly `mode`, whatever was there; a symlink is replaced and not followed.

    Raises `OSError`; then the old file is there, and nothing beside it. The exception is a directory that cannot be synced: then the new
    file is there, but may not outlive a power cut.
    """
    temporary = _write_beside(path, data, mode, durable=durable)
    try:
        os.rename(temporary, path)
    except BaseException:
        with ignoring_absence():
            os.unlink(temporary)
        raise
    if durable:
        sync_directory(os.path.dirname(path) or ".")


def write_new_file(path: str, data: bytes, mode: int = 0o600, *, durable: bool) -> None:
    """As `replace_file`, but raises `FileExistsError` if there is anything at `path`, and leaves it as it is."""
    temporary = _write_beside(path, data, mode, durable=durable)
    try:
        os.link(temporary, path)
    finally:
        with ignoring_absence():
            os.unlink(temporary)
    if durable:
        sync_directory(os.path.dirname(path) or ".")


def _write_beside(path: str, data: bytes, mode: int, *, durable: bool) -> str:
    """Write the file under a name of its own in `path`'s directory, and return that. Raises `OSError`; then there is no such file."""
    # Random, and not the process's id: two threads have the same one, and so may a process and one that was killed before it.
    temporary = f"{path}.{os.urandom(8).hex()}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.fchmod(fd, mode)  # open(2) would take the umask off
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        with ignoring_absence():
            os.unlink(temporary)
        raise
    return temporary


def sync_directory(path: str) -> None:
    """Wait until the names in this directory are on the disk; the files that they name are another matter."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_filesystem(path: str) -> None:
    """Wait until everything is on the disk, names included, that was written to `path`'s filesystem so far. One call for many files.

    It waits for what others wrote to the filesystem as well. syncfs(2).
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        check(_syncfs(fd), "syncfs", path)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte of `data`: one write(2) may take fewer. Raises `OSError`; then a part of it may be written."""
    written = os.write(fd, data)
    if written < len(data):
        rest = memoryview(data)
        while (rest := rest[written:]).nbytes:
            written = os.write(fd, rest)


@contextmanager
def ignoring_absence() -> Iterator[None]:
    """Around a removal: a file that somebody else has removed before us is removed."""
    try:
        yield
    except FileNotFoundError:
        return


def remove_tree(path: str | bytes, *, dir_fd: int | None = None) -> None:
    """Remove `path`, a file or a directory with all that is below it; a `path` that is not there is fine.

    Others may remove parts of the tree meanwhile, or all of it, and may still put something in: what has vanished is removed, and what has
    come is removed as well. Only a tree that does not stop growing is `OSError` (ENOTEMPTY). Nobody may move the tree or a directory in it.

    Goes by descriptors, follows no symlink, and neither recurses nor holds more than two descriptors, since an image may nest directories
    deeper than Python's stack and the descriptor table.
    """
    patience = _Patience()
    while True:
        try:
            os.unlink(path, dir_fd=dir_fd)
            return
        except FileNotFoundError:
            return
        except IsADirectoryError:
            pass
        try:
            _empty_tree(_open_directory(path, dir_fd), patience)
        except FileNotFoundError:
            return
        if _removed_directory(path, dir_fd, patience):
            return


class _Patience:
    """How often directories may be found to have got new entries since they were emptied."""

    def __init__(self) -> None:
        self.left = 1000


def _empty_tree(current_fd: int, patience: _Patience) -> None:
    """Remove all that is below the directory `current_fd`, which is closed."""
    try:
        # One list per level, of the subdirectories still to be removed; in every list but the deepest, the last one is the one we are in.
        pending = [_empty(current_fd)]
        while True:
            if pending[-1]:
                try:
                    below_fd = _open_directory(pending[-1][-1], current_fd)
                except FileNotFoundError:
                    pending[-1].pop()
                    continue
                os.close(current_fd)
                current_fd = below_fd
                pending.append(_empty(current_fd))
                continue
            pending.pop()
            if not pending:
                return
            above_fd = _open_directory("..", current_fd)
            os.close(current_fd)
            current_fd = above_fd
            if _removed_directory(pending[-1][-1], current_fd, patience):
                pending[-1].pop()
    finally:
        os.close(current_fd)


def _removed_directory(path: str | bytes, dir_fd: int | None, patience: _Patience) -> bool:
    """Remove an empty directory; False if something has come into it since it was emptied."""
    try:
        os.rmdir(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST} or patience.left == 0:
            raise
        patience.left -= 1
        return False
    return True


def _open_directory(name: str | bytes, dir_fd: int | None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)


def _empty(directory_fd: int) -> list[str]:
    """Unlink everything in the directory that is no directory itself; returns the names of those that are."""
    directories = []
    with os.scandir(directory_fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            else:
                with ignoring_absence():
                    os.unlink(entry.name, dir_fd=directory_fd)
    return directories
