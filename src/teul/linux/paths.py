"""Paths inside a root that somebody else controls: openat2(2) with RESOLVE_IN_ROOT, never string arithmetic."""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from teul.linux.syscalls import prototype

# linux/openat2.h
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10


class open_how(ctypes.Structure):
    """linux/openat2.h, struct open_how."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_openat2 = prototype("openat2", ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(open_how), ctypes.c_size_t)


def open_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` as if `root_fd` were "/": absolute symlinks and ".." stay inside. Raises `OSError`."""
    how = open_how(flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    while True:
        try:
            return _openat2(root_fd, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how), path=path)
        except BlockingIOError:  # EAGAIN: a rename ran against the look-up; openat2(2) says to try again
            continue


def _split(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def make_directories_in_root(root_fd: int, path: str, mode: int = 0o755) -> int:
    """Open directory `path` in the root (O_PATH), creating what is missing. Raises `OSError`.

    What exists is resolved by the kernel, symlinks included; what does not is created one component at a time below an opened
    parent, so that a symlink put there meanwhile is not followed.
    """
    parts = _split(path)
    rest: list[str] = []
    while True:
        try:
            current_fd = open_in_root(root_fd, "/" + "/".join(parts), os.O_PATH | os.O_DIRECTORY)
            break
        except FileNotFoundError:
            rest.insert(0, parts.pop())
    for part in rest:
        if part == "..":
            os.close(current_fd)
            raise OSError(errno.ENOENT, f"mkdir `{path}`: {os.strerror(errno.ENOENT)}")
        try:
            try:
                os.mkdir(part, mode, dir_fd=current_fd)
            except FileExistsError:
                pass
            next_fd = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current_fd)
        finally:
            os.close(current_fd)
        current_fd = next_fd
    return current_fd


def make_target_in_root(root_fd: int, path: str, *, directory: bool) -> int:
    """Open (O_PATH) the place where something will be mounted, creating a directory or an empty file if it is missing."""
    if directory:
        return make_directories_in_root(root_fd, path)
    try:
        target_fd = open_in_root(root_fd, path, os.O_PATH)
    except FileNotFoundError:
        parts = _split(path)
        parent_fd = make_directories_in_root(root_fd, "/".join(parts[:-1]))
        try:
            fd = os.open(parts[-1], os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o644, dir_fd=parent_fd)
            os.close(fd)
            return os.open(parts[-1], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        finally:
            os.close(parent_fd)
    if stat.S_ISDIR(os.fstat(target_fd).st_mode):
        os.close(target_fd)
        raise OSError(errno.EISDIR, f"mount a file over directory `{path}`: {os.strerror(errno.EISDIR)}")
    return target_fd


def read_in_root(root_fd: int, path: str, limit_bytes: int) -> bytes:
    """The content of regular file `path` inside the root, at most `limit_bytes`; `FileNotFoundError` when it is anything else.

    Opened without blocking: the image may have put a FIFO there.
    """
    fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise FileNotFoundError(errno.ENOENT, f"`{path}` is not a regular file")
        chunks: list[bytes] = []
        left = limit_bytes
        while left > 0 and (chunk := os.read(fd, min(left, 1 << 16))):
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)
