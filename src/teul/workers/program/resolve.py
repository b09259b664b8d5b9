"""Paths that a client names, resolved inside the container's root; and what docker's clients are told about a path.

Runs inside `view.enter`. docker: daemon/archive_unix.go and containerfs_linux.go (Stat).
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING

from teul.linux.paths import open_in_root

if TYPE_CHECKING:
    from teul.workers.program.messages import Stat

_MAX_SYMLINKS = 255
# Go's io/fs.FileMode, which the API's stat carries as a number.
_GO_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


class PathError(OSError):
    """A look-up that failed, in Go's words: `lstat /etc/passwd/x: not a directory`."""

    def __init__(self, call: str, path: str, cause: OSError) -> None:
        super().__init__(cause.errno, f"{call} {path}: {os.strerror(cause.errno or 0).lower()}")


def absolute(path: str) -> str:
    """`path` from the root, cleaned as a string, as docker does; a slash, "/." or "/./" at the end has a meaning and stays."""
    clean = "/" + posixpath.normpath("/" + path).lstrip("/")
    if posixpath.basename(path.rstrip("/")) == ".":
        return clean.rstrip("/") + ("/./" if path.endswith("/") else "/.")
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def base_name(path: str) -> str:
    """Go's filepath.Base of an `absolute` path: slashes at the end do not count, and the name of "/" is "/"."""
    return path.rstrip("/").rpartition("/")[2] or "/"


def open_path(root_fd: int, path: str) -> int:
    """Open (O_PATH) what an `absolute` path names, not following a symlink that it ends in. Raises `PathError`."""
    try:
        return open_in_root(root_fd, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError as error:
        raise PathError("lstat", path, error) from None


def describe(root_fd: int, path: str) -> Stat:
    """What the API tells of an `absolute` path. Raises `PathError`."""
    fd = open_path(root_fd, path)
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    target = follow(root_fd, path) if stat.S_ISLNK(status.st_mode) else ""
    return {
        "name": base_name(path),
        "size": status.st_size,
        "mode": go_mode(status.st_mode),
        "mtime_ns": status.st_mtime_ns,
        "target": target,
    }


def go_mode(mode: int) -> int:
    """A Linux mode as Go numbers it."""
    return (mode & 0o777) | _GO_TYPES.get(stat.S_IFMT(mode), 0) | sum(go for bit, go in _GO_BITS if mode & bit)


def follow(root_fd: int, path: str) -> str:
    """Where the symlinks along `path` lead in the end; from the first name that does not exist, the rest of the path stays as it is.

    The result is a name to be shown, not a path to be opened. Raises `PathError` for a loop.
    """
    pending = path.split("/")[::-1]
    resolved: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            resolved = resolved[:-1]
            continue
        target = _read_link(root_fd, "/" + "/".join([*resolved, part]))
        if target is None:
            resolved.append(part)
            continue
        links += 1
        if links > _MAX_SYMLINKS:
            raise PathError("readlink", path, OSError(40, ""))
        if target.startswith("/"):
            resolved = []
        pending += target.split("/")[::-1]
    return "/" + "/".join(resolved)


def _read_link(root_fd: int, path: str) -> str | None:
    """The target of the symlink `path`; None if `path` is no symlink or does not exist."""
    try:
        fd = open_in_root(root_fd, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        # readlinkat(2): with an empty path, the symlink that the descriptor was opened on.
        return os.readlink("", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)
