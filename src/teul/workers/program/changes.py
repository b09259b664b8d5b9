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
from dataclasses import dataclass

MODIFIED, ADDED, DELETED = 0, 1, 2
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# docker: dockerd makes these paths in a layer of their own below the container's ("init layer"), so they are no change; here the first
# start makes them in the container's layer.
_OWN_DIRECTORIES = frozenset({b"/dev", b"/dev/pts", b"/dev/shm", b"/proc", b"/sys", b"/etc"})
_OWN_FILES = frozenset({b"/.dockerenv", b"/dev/console", b"/etc/hostname", b"/etc/hosts", b"/etc/mtab", b"/etc/resolv.conf"})

Change = tuple[int, bytes]


@dataclass(slots=True)
class _Directory:
    """A directory on the way: `begin` is where the changes in it begin in the list, `told` whether the list has the directory itself."""

    path: bytes
    upper_fd: int
    lower_fds: list[int]
    names: Iterator[bytes]
    begin: int
    told: bool
    removed: list[bytes]

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
    before = _find_below(current.lower_fds, base)
    if _is_whiteout(status):
        if before is not None:
            current.removed.append(base)
        return None
    told = True
    begin = len(changes)
    if before is None:
        if _is_own(path, status):
            told = False
        else:
            changes.append((ADDED, path))
    elif _differs(before, status):
        changes.append((MODIFIED, path))
    else:
        told = False
    if not stat.S_ISDIR(status.st_mode):
        return None
    try:
        upper_fd = os.open(base, _DIRECTORY_FLAGS, dir_fd=current.upper_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    lower_fds = _open_below(current.lower_fds, base)
    directory = _open_directory(path, upper_fd, lower_fds, changes, told=told)
    directory.begin = begin
    return directory


def _open_directory(path: bytes, upper_fd: int, lower_fds: list[int], changes: list[Change], *, told: bool) -> _Directory:
    names = sorted(os.fsencode(name) for name in os.listdir(upper_fd))
    removed = _hidden(upper_fd, lower_fds, names) if path else []
    return _Directory(path, upper_fd, lower_fds, iter(names), len(changes), told, removed)


def _hidden(upper_fd: int, lower_fds: list[int], names: list[bytes]) -> list[bytes]:
    """The names that the lower directories have and an opaque directory does not."""
    if not lower_fds or not _is_opaque(upper_fd):
        return []
    seen = set(names)
    below = {os.fsencode(name) for fd in lower_fds for name in os.listdir(fd)} - seen
    return sorted(name for name in below if _find_below(lower_fds, name) is not None)


def _find_below(lower_fds: list[int], base: bytes) -> os.stat_result | None:
    """The image's file of that name: the topmost layer that has the name or its whiteout decides."""
    for fd in lower_fds:
        try:
            status = os.stat(base, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        return None if _is_whiteout(status) else status
    return None


def _open_below(lower_fds: list[int], base: bytes) -> list[int]:
    """The directories of the image that are merged under that name, topmost first."""
    opened: list[int] = []
    for fd in lower_fds:
        try:
            opened.append(os.open(base, _DIRECTORY_FLAGS, dir_fd=fd))
        except FileNotFoundError:
            continue
        except OSError:
            break  # a file, a symlink or a whiteout hides the directories of layers further below
        if _is_opaque(opened[-1]):
            break
    return opened


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False  # the attribute is not there


def _is_own(path: bytes, status: os.stat_result) -> bool:
    """Whether the file at `path` is only a place that the engine mounts something at."""
    if stat.S_ISDIR(status.st_mode):
        return path in _OWN_DIRECTORIES
    return path in _OWN_FILES and (status.st_size == 0 or stat.S_ISLNK(status.st_mode))


def _differs(before: os.stat_result, now: os.stat_result) -> bool:
    if (before.st_mode, before.st_uid, before.st_gid, before.st_rdev) != (now.st_mode, now.st_uid, now.st_gid, now.st_rdev):
        return True
    if stat.S_ISDIR(now.st_mode):
        return False
    return before.st_size != now.st_size or not _same_time(before.st_mtime_ns, now.st_mtime_ns)


def _same_time(first_ns: int, second_ns: int) -> bool:
    """docker: layers come from archives, which have whole seconds."""
    seconds = 1_000_000_000
    return first_ns == second_ns or (first_ns // seconds == second_ns // seconds and (first_ns % seconds == 0 or second_ns % seconds == 0))
