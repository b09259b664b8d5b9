"""A local file or tree as an archive, in pieces as it is read."""

from __future__ import annotations

import os
import stat

from teul.cli.copying.paths import Place, renamed, split_entry
from teul.cli.errors import CliError
from teul.cli.files import reason
from teul.wire.tar import BLOCK, CHARACTER, DIRECTORY, FIFO, LINK, REGULAR, SYMLINK, Entry
from teul.wire.tar_write import END, padding, render_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE_BYTES = 1 << 16
_CAPABILITY = "security.capability"
_TYPES = {
    stat.S_IFREG: REGULAR,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK,
}


def pack(source: Place, warn: Callable[[str], None], old: str = "", new: str = "") -> Iterator[bytes]:
    """The archive of `source`. The name `old` becomes `new` in it.

    docker: what cannot be read is told to `warn` and left out. Raises `CliError` when a file shrinks while it is read.
    """
    directory, name = split_entry(source.path)
    packer = _Packer(warn, old, new)
    yield from packer.tree(directory, name, source.rebase or name)
    yield END


class _Packer:
    def __init__(self, warn: Callable[[str], None], old: str, new: str) -> None:
        self._warn = warn
        self._old = old
        self._new = new
        # (device, inode) of files with more names than one, to the name that they already have in the archive.
        self._linked: dict[tuple[int, int], bytes] = {}

    def tree(self, directory: str, name: str, shown: str) -> Iterator[bytes]:
        """`directory`/`name`, called `shown`, and what is below it, parents first and in order."""
        path = os.path.join(directory, name)
        yield from self._one(path, shown)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return
        try:
            children = sorted(os.listdir(path))
        except OSError as error:
            self._warn(f"Can't stat file {path} to tar: open {path}: {reason(error)}")
            return
        for child in children:
            yield from self.tree(path, child, os.path.join(shown, child))

    def _one(self, path: str, shown: str) -> Iterator[bytes]:
        try:
            status = os.lstat(path)
            entry = self._entry(path, shown, status)
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK) if entry.type == REGULAR else -1
        except OSError as error:
            self._warn(f"Can't add file {path} to tar: {reason(error)}")
            return
        yield render_header(entry)
        if fd >= 0:
            try:
                yield from _data(fd, entry.size_bytes, path)
            finally:
                os.close(fd)

    def _entry(self, path: str, shown: str, status: os.stat_result) -> Entry:
        kind = _TYPES.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            raise OSError(0, "archive/tar: sockets not supported")
        name = renamed(os.fsencode(shown), self._old, self._new)
        entry = Entry(kind, name, mode=stat.S_IMODE(status.st_mode), uid=status.st_uid, gid=status.st_gid)
        entry.mtime_ns = status.st_mtime_ns
        if kind == SYMLINK:
            entry.link = os.fsencode(os.readlink(path))
        elif kind != DIRECTORY and status.st_nlink > 1:
            first = self._linked.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                entry.type, entry.link = LINK, first
                return entry
        if kind == REGULAR:
            entry.size_bytes = status.st_size
            if _CAPABILITY in os.listxattr(path, follow_symlinks=False):
                entry.xattrs = {_CAPABILITY.encode(): os.getxattr(path, _CAPABILITY, follow_symlinks=False)}
        elif kind in (CHARACTER, BLOCK):
            entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        return entry


def _data(fd: int, size_bytes: int, path: str) -> Iterator[bytes]:
    """Exactly `size_bytes`: what a file grows by meanwhile is left out."""
    left = size_bytes
    while left:
        try:
            data = os.read(fd, min(_PIECE_BYTES, left))
        except OSError as error:
            raise CliError(f"read {path}: {reason(error)}") from None
        if not data:
            raise CliError(f"archive/tar: missed writing {left} bytes: {path} became shorter while it was read")
        left -= len(data)
        yield data
    yield padding(size_bytes)
