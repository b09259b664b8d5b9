"""Everything that can be told of the files below a directory, and what two such directories do not have in common."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Any

Facts = dict[str, Any]
Tree = dict[bytes, Facts]

LISTED_ONLY: Facts = {"kind": "listed, but not there"}
_OPAQUE = "trusted.overlay.opaque"


def tree(top: str) -> Tree:
    """The facts of `top` itself, as b".", and of all below it. Goes by descriptors: no path is too long."""
    top_fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = {b".": _facts(top_fd, b".")}
        inodes: dict[tuple[int, int], list[bytes]] = {}
        for path, above_fd, name in _walk(top_fd, b""):
            try:
                found[path] = _facts(above_fd, name)
            except FileNotFoundError:
                # kernel: overlayfs lists the whiteouts in a directory that only one layer has.
                found[path] = LISTED_ONLY
                continue
            status = os.stat(name, dir_fd=above_fd, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
                inodes.setdefault((status.st_dev, status.st_ino), []).append(path)
        for paths in inodes.values():
            for path in paths:
                # Whiteouts are one file for overlayfs, and are told of by their kind only.
                if found[path] != _WHITEOUT:
                    found[path]["names"] = sorted(paths)
        return found
    finally:
        os.close(top_fd)


def differences(theirs: Tree, ours: Tree) -> list[tuple[bytes, str, Any, Any]]:
    """The path, the fact, theirs and ours, wherever they are not the same; a path that one side has not is of the fact "there"."""
    found: list[tuple[bytes, str, Any, Any]] = []
    for path in sorted(theirs.keys() | ours.keys()):
        if path not in theirs or path not in ours:
            found.append((path, "there", path in theirs, path in ours))
            continue
        left, right = theirs[path], ours[path]
        found += [(path, fact, left.get(fact), right.get(fact)) for fact in left | right if left.get(fact) != right.get(fact)]
    return found


_WHITEOUT: Facts = {"kind": "a whiteout"}


def _walk(directory_fd: int, above: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    for name in sorted(os.listdir(os.fsencode(f"/proc/self/fd/{directory_fd}"))):
        path = above + b"/" + name if above else name
        yield path, directory_fd, name
        try:
            below_fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory_fd)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            yield from _walk(below_fd, path)
        finally:
            os.close(below_fd)


def _facts(above_fd: int, name: bytes) -> Facts:
    """All but the size and the number of names of a directory, which are the filesystem's business."""
    status = os.stat(name, dir_fd=above_fd, follow_symlinks=False)
    mode = status.st_mode
    if stat.S_ISCHR(mode) and not status.st_rdev:
        return dict(_WHITEOUT)
    path = os.fsencode(f"/proc/self/fd/{above_fd}/") + name
    xattrs = {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}
    facts: Facts = {
        "kind": stat.S_IFMT(mode),
        "mode": oct(stat.S_IMODE(mode)),
        "owner": (status.st_uid, status.st_gid),
        "mtime": status.st_mtime_ns,
        "device": (os.major(status.st_rdev), os.minor(status.st_rdev)),
        "opaque": xattrs.get(_OPAQUE) == b"y",
        "attributes": {key: value for key, value in xattrs.items() if not key.startswith("trusted.overlay.")},
    }
    if stat.S_ISLNK(mode):
        facts["target"] = os.readlink(path)
    if not stat.S_ISDIR(mode):
        facts |= {"size": status.st_size, "links": status.st_nlink}
    if stat.S_ISREG(mode):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=above_fd)
        with open(fd, "rb") as file:
            facts["content"] = hashlib.file_digest(file, "sha256").hexdigest()
    return facts
