"""What a container changed in its image's files, read from its upper directory: `docker diff`.

The upper directory of an overlay has every file that was written, a character device 0:0 for every name that was removed, and a mark on
directories that hide everything below them. Whether a file is new is asked of the lower directories. All of it is walked by descriptor
without following a symlink, since a running container changes it meanwhile. Reading the mark takes CAP_SYS_ADMIN.

kernel: Documentation/filesystems/overlayfs.rst. docker: moby/go-archive, changes.go: what counts as changed (mode, owner, device; of what
is no directory size and time as well), that a directory is told before its content, and as changed if its content has changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from teul.workers.program.upper import DIRECTORY_FLAGS, differs, find_below, is_opaque, is_own, is_whiteout, open_below

MODIFIED, ADDED, DELETED = 0, 1, 2
Change = tuple[int, bytes]


class _Directory:
    """A directory on the way: `begin` is where the changes in it begin in the list, `told` whether the list has the directory itself."""

    __slots__ = ("begin", "lower_fds", "names", "path", "removed", "told", "upper_fd")

    def __init__(self, path: bytes, upper_fd: int, lower_fds: list[int], names: Iterator[bytes], *, begin: int, told: bool) -> None:
        self.path = path
        self.upper_fd = upper_fd
        self.lower_fds = lower_fds
        self.names = names
        self.begin = begin
        self.told = told
        self.removed: list[bytes] = []

    def close(self) -> None:
        for fd in (self.upper_fd, *self.lower_fds):
            os.close(fd)


def list_changes(upper_fd: int, lower_fds: list[int]) -> list[Change]:
    """(kind, path) of every change; `lower_fds` has the topmost directory first. Closes the descriptors. Raises `OSError`."""
    changes: list[Change] = []
    stack = [_open_directory(b"", upper_fd, lower_fds, changes, told=True)]
    try:
        while stack:
            current = stack[-1]
            base = next(current.names, None)
            if base is not None:
                below = _look_at(current, base, changes)
                if below is not None:
                    stack.append(below)
                continue
            # docker: the removed names of a directory come after all its other changes.
            changes += [(DELETED, current.path + b"/" + name) for name in current.removed]
            if len(changes) > current.begin and not current.told:
                changes.insert(current.begin, (MODIFIED, current.path))
            stack.pop().close()
    finally:
        for directory in stack:
            directory.close()
    return changes


def _look_at(current: _Directory, base: bytes, changes: list[Change]) -> _Directory | None:
    """Note what became of the file `base`; returns it if it is a directory that has to be looked into."""
    path = current.path + b"/" + base
    try:
        status = os.stat(base, dir_fd=current.upper_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    before = find_below(current.lower_fds, base)
    if is_whiteout(status):
        if before is not None:
            current.removed.append(base)
        return None
    told = True
    begin = len(changes)
    if before is None:
        if is_own(path, status):
            told = False
        else:
            changes.append((ADDED, path))
    elif differs(before, status):
        changes.append((MODIFIED, path))
    else:
        told = False
    if not stat.S_ISDIR(status.st_mode):
        return None
    try:
        upper_fd = os.open(base, DIRECTORY_FLAGS, dir_fd=current.upper_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    lower_fds = open_below(current.lower_fds, base)
    directory = _open_directory(path, upper_fd, lower_fds, changes, told=told)
    directory.begin = begin
    return directory


def _open_directory(path: bytes, upper_fd: int, lower_fds: list[int], changes: list[Change], *, told: bool) -> _Directory:
    names = sorted(os.fsencode(name) for name in os.listdir(upper_fd))
    directory = _Directory(path, upper_fd, lower_fds, iter(names), begin=len(changes), told=told)
    if path:
        directory.removed += _hidden(upper_fd, lower_fds, names)
    return directory


def _hidden(upper_fd: int, lower_fds: list[int], names: list[bytes]) -> list[bytes]:
    """The names that the lower directories have and an opaque directory does not."""
    if not lower_fds or not is_opaque(upper_fd):
        return []
    seen = set(names)
    below = {os.fsencode(name) for fd in lower_fds for name in os.listdir(fd)} - seen
    return sorted(name for name in below if find_below(lower_fds, name) is not None)
