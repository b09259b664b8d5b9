"""The files of an image that is being packed: host paths, kept at the same place inside.

A path is added component by component, so that every symbolic link on the way (`/bin` to `usr/bin`, a chain of alternatives) is in the
image as it is on the host, and the path works inside exactly as it does outside.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from teul.cli.errors import CliError

_MAX_LINKS = 40  # as the kernel's own limit (path_resolution(7))


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of the image. `host_path` is read for a file's content; `content` stands for a file that the host does not have."""

    kind: int  # stat.S_IFDIR, S_IFLNK or S_IFREG
    mode: int
    target: str = ""
    host_path: str = ""
    content: bytes = b""


class Tree:
    """Absolute paths to entries. The first entry of a path stays, so that nothing made up replaces a file of the user."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def add(self, path: str) -> str:
        """Add the host's `path` with everything on the way, and return where its links end. A directory comes without its content.

        Raises `CliError` for a path that does not exist or cannot be followed.
        """
        resolved = "/"
        parts = _parts(path)
        links = 0
        while parts:
            name = parts.pop(0)
            if name == "..":
                resolved = os.path.dirname(resolved)
                continue
            candidate = os.path.join(resolved, name)
            status = _status(candidate, path)
            if not stat.S_ISLNK(status.st_mode):
                self._record(candidate, status)
                resolved = candidate
                continue
            links += 1
            if links > _MAX_LINKS:
                raise CliError(f"cannot pack {path}: too many levels of symbolic links")
            target = os.readlink(candidate)
            self._record(candidate, status, target)
            parts = _parts(target) + parts
            if target.startswith("/"):
                resolved = "/"
        return resolved

    def add_tree(self, path: str) -> None:
        """Add the host's `path` and, if it is a directory, everything in it. Links inside stay links; sockets are left out."""
        top = self.add(os.path.abspath(path))
        if top not in self.entries or self.entries[top].kind != stat.S_IFDIR:
            return

        def refuse(error: OSError) -> None:
            raise CliError(f"cannot pack {error.filename}: {error.strerror}")

        for directory, directories, files in os.walk(top, onerror=refuse):
            for name in sorted(directories + files):
                found = os.path.join(directory, name)
                status = _status(found, found)
                if not stat.S_ISSOCK(status.st_mode):
                    self._record(found, status, os.readlink(found) if stat.S_ISLNK(status.st_mode) else "")

    def newest_seconds(self) -> int:
        """When the file of the host that was changed last was changed, in seconds since the epoch; 0 without any."""
        files = [entry.host_path for entry in self.entries.values() if entry.kind == stat.S_IFREG and entry.host_path]
        return max((int(_status(path, path).st_mtime) for path in files), default=0)

    def make_directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory that the host need not have."""
        self.entries.setdefault(path, Entry(stat.S_IFDIR, mode))

    def make_file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Add a file that the host need not have."""
        self.entries.setdefault(path, Entry(stat.S_IFREG, mode, content=content))

    def make_link(self, path: str, target: str) -> None:
        """Add a symbolic link that the host need not have."""
        self.entries.setdefault(path, Entry(stat.S_IFLNK, 0o777, target))

    def complete(self) -> None:
        """Give every entry its parents."""
        for path in list(self.entries):
            parent = os.path.dirname(path)
            while parent != "/":
                self.make_directory(parent)
                parent = os.path.dirname(parent)

    def _record(self, path: str, status: os.stat_result, target: str = "") -> None:
        kind = stat.S_IFMT(status.st_mode)
        if kind not in (stat.S_IFDIR, stat.S_IFLNK, stat.S_IFREG):
            raise CliError(f"cannot pack {path}: it is neither a file, a directory nor a symbolic link")
        # A link has no permissions of its own.
        mode = 0o777 if kind == stat.S_IFLNK else stat.S_IMODE(status.st_mode)
        self.entries.setdefault(path, Entry(kind, mode, target, path))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _status(path: str, wanted: str) -> os.stat_result:
    try:
        return os.lstat(path)
    except OSError as error:
        where = "" if path == wanted else f" ({path})"
        raise CliError(f"cannot pack {wanted}{where}: {error.strerror}") from None
