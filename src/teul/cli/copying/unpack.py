"""An archive from a container into a local directory: by somebody whom the user need not trust.

docker: moby/go-archive Untar with NoLchown and NoOverwriteDirNonDir: files belong to the user, keep their modes and times, and neither is a
directory replaced by something else nor the other way round.
security: every step below the directory is taken by descriptor and follows no link, so an archive that makes a link and then writes through
it fails, which docker's own command leaves to the order in which it looks.
"""

from __future__ import annotations

import os
import posixpath
import stat

from teul.cli.copying.paths import renamed
from teul.cli.errors import CliError
from teul.cli.files import reason
from teul.wire.tar import BLOCK, BLOCK_BYTES, CHARACTER, DIRECTORY, FIFO, LINK, REGULAR, SYMLINK, TarError, TarReader, Truncated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from teul.wire.tar import Entry

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_IMPLIED_MODE = 0o755
_DEVICES = {CHARACTER: stat.S_IFCHR, BLOCK: stat.S_IFBLK, FIFO: stat.S_IFIFO}


class Stream:
    """The bytes of an answer, as the reader of archives wants them. `observe` is told of every piece how many bytes there were so far."""

    def __init__(self, receive: Callable[[], bytes], observe: Callable[[int], None]) -> None:
        self._receive = receive
        self._observe = observe
        self._buffer = memoryview(b"")
        self.received_bytes = 0

    def _fill(self) -> bool:
        if not self._buffer:
            self._buffer = memoryview(self._receive())
            self.received_bytes += len(self._buffer)
            self._observe(self.received_bytes)
        return bool(self._buffer)

    def pieces(self, count: int) -> Iterator[memoryview]:
        while count:
            if not self._fill():
                raise Truncated
            piece = self._buffer[:count]
            self._buffer = self._buffer[len(piece) :]
            count -= len(piece)
            yield piece

    def take(self, count: int) -> bytes:
        return b"".join(self.pieces(count))

    def block_after(self, count: int) -> bytes:
        for _ in self.pieces(count):
            pass
        return self.take(BLOCK_BYTES) if self._fill() else b""

    def drain(self) -> None:
        """Take what is left, which stands after the archive's end."""
        while self._fill():
            self._buffer = memoryview(b"")


def unpack(stream: Stream, directory: str, old: str = "", new: str = "") -> None:
    """Put the archive's entries below `directory`. The name `old` becomes `new`. Raises `CliError`."""
    reader = TarReader(stream)
    try:
        with _Target(directory) as target:
            while (entry := reader.next()) is not None:
                entry.name = renamed(entry.name, old, new)
                if entry.type == LINK:
                    entry.link = renamed(entry.link, old, new)
                target.add(entry, reader)
            target.finish()
        stream.drain()
    except TarError as error:
        raise CliError(str(error)) from None
    except OSError as error:
        where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else directory
        raise CliError(f"open {where}: {reason(error)}") from None


class _Target:
    """The directory that is filled."""

    def __init__(self, directory: str) -> None:
        self._directory = os.fsencode(directory)
        self._shown = posixpath.normpath(directory)
        self._root_fd = -1
        # The times of directories are set last: what is put into them changes them.
        self._times: list[tuple[bytes, int]] = []

    def __enter__(self) -> _Target:
        self._root_fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *details: object) -> None:
        os.close(self._root_fd)

    def add(self, entry: Entry, reader: TarReader) -> None:
        name = posixpath.normpath(entry.name).lstrip(b"/") or b"."
        if name == b".." or name.startswith(b"../"):
            raise CliError(f'"{os.fsdecode(name)}" is outside of "{self._shown}"')
        if name == b".":
            return
        parent, _, last = name.rpartition(b"/")
        parent_fd = self._open_directory(parent, create=True)
        try:
            if self._make_room(entry, name, last, parent_fd):
                self._make(entry, name, last, parent_fd, reader)
        finally:
            os.close(parent_fd)

    def finish(self) -> None:
        for name, mtime_ns in self._times:
            fd = self._open_directory(name)
            try:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(fd)

    def _open_directory(self, name: bytes, *, create: bool = False) -> int:
        """A descriptor of a directory below the root, reached without following links; with `create`, what is missing is made."""
        fd = os.dup(self._root_fd)
        for part in name.split(b"/") if name else ():
            if create:
                try:
                    os.mkdir(part, _IMPLIED_MODE, dir_fd=fd)
                except FileExistsError:
                    pass
            try:
                below = os.open(part, _DIRECTORY_FLAGS, dir_fd=fd)
            except OSError as error:
                raise OSError(error.errno, error.strerror, self._path(name)) from None
            finally:
                os.close(fd)
            fd = below
        return fd

    def _path(self, name: bytes) -> str:
        return os.path.join(self._shown, os.fsdecode(name))

    def _make_room(self, entry: Entry, name: bytes, last: bytes, parent_fd: int) -> bool:
        """Take away what is there. False for a directory that stays: it takes the entry's mode and time."""
        try:
            there = os.stat(last, dir_fd=parent_fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return True
        if stat.S_ISDIR(there) and entry.type != DIRECTORY:
            raise CliError(f'cannot overwrite directory "{self._path(name)}" with non-directory "{self._shown}"')
        if not stat.S_ISDIR(there) and entry.type == DIRECTORY:
            raise CliError(f'cannot overwrite non-directory "{self._path(name)}" with directory "{self._shown}"')
        if stat.S_ISDIR(there):
            self._dress_directory(entry, name, last, parent_fd)
            return False
        os.unlink(last, dir_fd=parent_fd)
        return True

    def _make(self, entry: Entry, name: bytes, last: bytes, parent_fd: int, reader: TarReader) -> None:
        times = (entry.mtime_ns, entry.mtime_ns)
        if entry.type == DIRECTORY:
            os.mkdir(last, 0o700, dir_fd=parent_fd)
            self._dress_directory(entry, name, last, parent_fd)
        elif entry.type == REGULAR:
            fd = os.open(last, _NEW_FILE_FLAGS, 0o600, dir_fd=parent_fd)
            try:
                _write(fd, entry, reader)
                _set_attributes(fd, entry)
                os.fchmod(fd, entry.mode & 0o7777)
                os.utime(fd, ns=times)
            finally:
                os.close(fd)
        elif entry.type == SYMLINK:
            self._symlink(entry, name, last, parent_fd)
            os.utime(last, ns=times, dir_fd=parent_fd, follow_symlinks=False)
        elif entry.type == LINK:
            self._link(entry, name, last, parent_fd)
        else:
            os.mknod(last, _DEVICES[entry.type] | entry.mode & 0o777, os.makedev(entry.major, entry.minor), dir_fd=parent_fd)
            os.chmod(last, entry.mode & 0o7777, dir_fd=parent_fd)
            os.utime(last, ns=times, dir_fd=parent_fd, follow_symlinks=False)

    def _dress_directory(self, entry: Entry, name: bytes, last: bytes, parent_fd: int) -> None:
        fd = os.open(last, _DIRECTORY_FLAGS, dir_fd=parent_fd)
        try:
            os.fchmod(fd, entry.mode & 0o7777)
        finally:
            os.close(fd)
        self._times.append((name, entry.mtime_ns))

    def _symlink(self, entry: Entry, name: bytes, last: bytes, parent_fd: int) -> None:
        """docker: a link whose target, taken as relative, lies outside is refused."""
        directory = posixpath.normpath(os.fsencode(self._shown))
        parent = posixpath.dirname(os.fsencode(self._path(name)))
        target = posixpath.normpath(parent + b"/" + entry.link)
        if not target.startswith(directory):
            raise CliError(f'invalid symlink "{self._path(name)}" -> "{os.fsdecode(entry.link)}"')
        os.symlink(entry.link, last, dir_fd=parent_fd)

    def _link(self, entry: Entry, name: bytes, last: bytes, parent_fd: int) -> None:
        target = posixpath.normpath(b"/" + entry.link).lstrip(b"/")
        directory, _, file = target.rpartition(b"/")
        if posixpath.normpath(entry.link).startswith(b"..") or not file:
            raise CliError(f'invalid hardlink "{self._path(name)}" -> "{os.fsdecode(entry.link)}"')
        source_fd = self._open_directory(directory)
        try:
            os.link(file, last, src_dir_fd=source_fd, dst_dir_fd=parent_fd, follow_symlinks=False)
        finally:
            os.close(source_fd)


def _write(fd: int, entry: Entry, reader: TarReader) -> None:
    """The file's data; of a sparse file only what is there."""
    if entry.segments is None:
        for piece in reader.data():
            _write_all(fd, piece)
        return
    for offset, count in entry.segments:
        os.lseek(fd, offset, os.SEEK_SET)
        for piece in reader.data(count):
            _write_all(fd, piece)
    os.ftruncate(fd, entry.size_bytes)


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _set_attributes(fd: int, entry: Entry) -> None:
    """docker: who may not set an extended attribute goes without it."""
    for key, value in (entry.xattrs or {}).items():
        try:
            os.setxattr(fd, key, value)
        except PermissionError:
            continue
