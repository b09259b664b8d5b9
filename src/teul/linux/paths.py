"""Paths inside a root that somebody else controls: openat2(2) with RESOLVE_IN_ROOT, never string arithmetic."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat

from teul.linux.syscalls import os_error, prototype

# linux/openat2.h
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_MAX_SYMLINKS = 40  # linux/namei.h, MAXSYMLINKS


class open_how(ctypes.Structure):
    """linux/openat2.h, struct open_how."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_openat2 = prototype("openat2", ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(open_how), ctypes.c_size_t)


def open_in_root(root_fd: int, path: str, flags: int, mode: int = 0, *, symlinks: bool = True) -> int:
    """Open `path` as if `root_fd` were "/": absolute symlinks and ".." stay inside. Raises `OSError`.

    Without `symlinks`, meeting one is ELOOP.
    """
    return _open(root_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (0 if symlinks else RESOLVE_NO_SYMLINKS))


def open_beneath(directory_fd: int, path: str, flags: int) -> int:
    """Open the relative `path`, also by symlinks and ".." that stay below the directory. Raises `OSError`, EXDEV for what leads out."""
    return _open(directory_fd, path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)


def _open(directory_fd: int, path: str, flags: int, mode: int, resolve: int) -> int:
    how = open_how(flags | os.O_CLOEXEC, mode, resolve)
    while True:
        try:
            return _openat2(directory_fd, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how), path=path)
        except BlockingIOError:  # EAGAIN: a rename ran against the look-up; openat2(2) says to try again
            continue


def _split(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def make_directories_in_root(root_fd: int, path: str, mode: int = 0o755) -> int:
    """Open directory `path` in the root (O_PATH), creating what is missing. Raises `OSError`.

    The part of `path` that exists is resolved by the kernel, symlinks included; the rest is created one component at a time below an
    opened parent, so that a symlink put there meanwhile is not followed. A symlink to nowhere is followed to the place that it names.
    """
    for _ in range(_MAX_SYMLINKS):
        current_fd, existing, rest = _open_existing(root_fd, _split(path))
        for index, part in enumerate(rest):
            if part == "..":
                os.close(current_fd)
                raise os_error(errno.ENOENT, "mkdir", path)
            goal, current_fd = _make_directory(current_fd, part, mode)
            if goal is not None:
                path = "/".join([*_resolve([*existing, *rest[:index]], goal), *rest[index + 1 :]])
                break
        else:
            return current_fd
    raise os_error(errno.ELOOP, "mkdir", path)


def _open_existing(root_fd: int, parts: list[str]) -> tuple[int, list[str], list[str]]:
    """Open the longest beginning of `parts` that exists; also returns that beginning and the rest."""
    for count in range(len(parts), 0, -1):
        try:
            return open_in_root(root_fd, "/" + "/".join(parts[:count]), os.O_PATH | os.O_DIRECTORY), parts[:count], parts[count:]
        except FileNotFoundError:
            continue
    return open_in_root(root_fd, "/", os.O_PATH | os.O_DIRECTORY), [], parts


def _make_directory(parent_fd: int, name: str, mode: int) -> tuple[str | None, int]:
    """Create and open `name`, closing its parent; where a symlink is in the way, return what it says instead of following it."""
    try:
        try:
            os.mkdir(name, mode, dir_fd=parent_fd)
        except FileExistsError:
            goal = _read_link(parent_fd, name)
            if goal is not None:
                return goal, -1
        return None, os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    finally:
        os.close(parent_fd)


def _read_link(parent_fd: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent_fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None  # no symlink


def _resolve(parent: list[str], goal: str) -> list[str]:
    """Where the symlink `goal` found in directory `parent` leads, as a path in the root; ".." in it is left to the kernel."""
    return _split(goal) if goal.startswith("/") else [*parent, *_split(goal)]


def make_target_in_root(root_fd: int, path: str, *, directory: bool, follow: bool = True) -> int:
    """Open (O_PATH) the place where something will be mounted, creating a directory or an empty file if it is missing.

    Without `follow` a file is mounted over a symlink itself, if one is there: nothing is made where it leads.
    """
    if directory:
        return make_directories_in_root(root_fd, path)
    if not follow:
        return _open_file_or_link(root_fd, path)
    for _ in range(_MAX_SYMLINKS):
        try:
            target_fd = open_in_root(root_fd, path, os.O_PATH)
        except FileNotFoundError:
            goal, target_fd = _make_file(root_fd, path)
            if goal is not None:
                path = "/".join(_resolve(_split(path)[:-1], goal))
                continue
        if stat.S_ISDIR(os.fstat(target_fd).st_mode):
            os.close(target_fd)
            raise OSError(errno.EISDIR, f"mount a file over directory `{path}`: {os.strerror(errno.EISDIR)}")
        return target_fd
    raise os_error(errno.ELOOP, "open", path)


def _open_file_or_link(root_fd: int, path: str) -> int:
    parts = _split(path)
    parent_fd = make_directories_in_root(root_fd, "/".join(parts[:-1]))
    try:
        with contextlib.suppress(FileExistsError):
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(parts[-1], flags, 0o644, dir_fd=parent_fd))
        target_fd = os.open(parts[-1], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    finally:
        os.close(parent_fd)
    if stat.S_ISDIR(os.fstat(target_fd).st_mode):
        os.close(target_fd)
        raise OSError(errno.EISDIR, f"mount a file over directory `{path}`: {os.strerror(errno.EISDIR)}")
    return target_fd


def _make_file(root_fd: int, path: str) -> tuple[str | None, int]:
    """Create and open an empty file; where a symlink is in the way, return what it says instead of following it."""
    parts = _split(path)
    parent_fd = make_directories_in_root(root_fd, "/".join(parts[:-1]))
    try:
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(parts[-1], flags, 0o644, dir_fd=parent_fd))
        except FileExistsError:
            goal = _read_link(parent_fd, parts[-1])
            if goal is not None:
                return goal, -1
        return None, os.open(parts[-1], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    finally:
        os.close(parent_fd)


def read_in_root(root_fd: int, path: str, limit_bytes: int) -> bytes:
    """The content of regular file `path` inside the root, at most `limit_bytes`; `FileNotFoundError` when it is anything else.

    Opened without blocking: the image may have put a FIFO there.
    """
    fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _check_regular(fd, path)
        return _read(fd, limit_bytes)
    finally:
        os.close(fd)


def read_foreign_file(root_fd: int, path: str, limit_bytes: int) -> bytes:
    """As `read_in_root`, for a process that is in no device cgroup and sees the host's /proc.

    security: nothing but a regular file is ever opened. A container makes device nodes as it likes, and to open some has effects.
    """
    path_fd = open_in_root(root_fd, path, os.O_PATH)
    try:
        _check_regular(path_fd, path)
        fd = os.open(f"/proc/self/fd/{path_fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _read(fd, limit_bytes)
        finally:
            os.close(fd)
    finally:
        os.close(path_fd)


def _check_regular(fd: int, path: str) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise FileNotFoundError(errno.ENOENT, f"`{path}` is not a regular file")


def _read(fd: int, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    left = limit_bytes
    while left > 0 and (chunk := os.read(fd, min(left, 1 << 16))):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)
