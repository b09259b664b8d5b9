"""A container's upper directory beside the layers of its image: what a name in it means.

Everything is looked at by descriptor, and no symlink is followed. Reading the overlay's marks takes CAP_SYS_ADMIN.

kernel: Documentation/filesystems/overlayfs.rst. docker: moby/go-archive, changes.go: what counts as changed.
"""

from __future__ import annotations

import os
import stat

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# docker: dockerd makes these paths in a layer of their own below the container's ("init layer"), so they are no change; here the first
# start makes them in the container's layer.
_OWN_DIRECTORIES = frozenset({b"/dev", b"/dev/pts", b"/dev/shm", b"/proc", b"/sys", b"/etc"})
_OWN_FILES = frozenset({b"/.dockerenv", b"/dev/console", b"/etc/hostname", b"/etc/hosts", b"/etc/mtab", b"/etc/resolv.conf"})


def find_below(lower_fds: list[int], base: bytes) -> os.stat_result | None:
    """The image's file of that name: the topmost layer that has the name or its whiteout decides."""
    for fd in lower_fds:
        try:
            status = os.stat(base, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        return None if is_whiteout(status) else status
    return None


def open_below(lower_fds: list[int], base: bytes) -> list[int]:
    """The directories of the image that are merged under that name, topmost first."""
    opened: list[int] = []
    for fd in lower_fds:
        try:
            opened.append(os.open(base, DIRECTORY_FLAGS, dir_fd=fd))
        except FileNotFoundError:
            continue
        except OSError:
            break  # a file, a symlink or a whiteout hides the directories of layers further below
        if is_opaque(opened[-1]):
            break
    return opened


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False  # the attribute is not there


def is_own(path: bytes, status: os.stat_result) -> bool:
    """Whether the file at `path` is only a place that the engine mounts something at."""
    if stat.S_ISDIR(status.st_mode):
        return path in _OWN_DIRECTORIES
    return path in _OWN_FILES and (status.st_size == 0 or stat.S_ISLNK(status.st_mode))


def differs(before: os.stat_result, now: os.stat_result) -> bool:
    if (before.st_mode, before.st_uid, before.st_gid, before.st_rdev) != (now.st_mode, now.st_uid, now.st_gid, now.st_rdev):
        return True
    if stat.S_ISDIR(now.st_mode):
        return False
    return before.st_size != now.st_size or not _same_time(before.st_mtime_ns, now.st_mtime_ns)


def _same_time(first_ns: int, second_ns: int) -> bool:
    """docker: layers come from archives, which have whole seconds."""
    seconds = 1_000_000_000
    return first_ns == second_ns or (first_ns // seconds == second_ns // seconds and (first_ns % seconds == 0 or second_ns % seconds == 0))
