"""Files below "/" are packed into a tar archive as docker writes it: for `docker cp` out of a container and `docker export`.

Runs inside `view.enter`. Directories are walked by descriptor and nothing but regular files and directories is ever opened, so a container
that renames files meanwhile gets an archive of a moment that never was, and no file of the host. Names are sorted; sockets have no place
in an archive and are left out, as are files that disappear while they are being read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Protocol

from teul.store.atomic import write_all
from teul.wire.tar import BLOCK, CHARACTER, DIRECTORY, FIFO, LINK, REGULAR, SYMLINK, Entry
from teul.wire.tar_write import END, padding, render_header
from teul.workers.program.keeping import data_segments, kept_xattrs

_PIECE_BYTES = 1 << 20
_FLUSH_BYTES = 256 << 10
# kernel: with O_NONBLOCK the open of a FIFO that was put in a file's place does not wait for a writer.
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# The errors of opening a file in whose place there is something else by now: nothing, a symlink, a socket or FIFO, a device.
REPLACED = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EACCES})
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TYPES = {stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK, stat.S_IFCHR: CHARACTER, stat.S_IFBLK: BLOCK, stat.S_IFIFO: FIFO}
_CAPABILITY = "security.capability"


class Compressor(Protocol):
    """As `zlib.compressobj` and `zstandard.ZstdCompressor.compressobj` make them."""

    def compress(self, data: bytes, /) -> bytes:
        """Take more of the archive; returns what can be written by now."""

    def flush(self) -> bytes:
        """The rest."""


class Packer:
    """Writes an archive to `fd`. A packer is used once: `add` or `add_below`, then `finish`.

    `whole`: with all that docker leaves out, for a copy that is to come back as it was: nanoseconds, holes, and the attributes that a
    volume keeps.
    """

    def __init__(self, fd: int, *, whole: bool = False, compressor: Compressor | None = None) -> None:
        self._fd = fd
        self._whole = whole
        self._compressor = compressor
        self._buffer = bytearray()
        self._links: dict[tuple[int, int], bytes] = {}

    def add(self, parent_fd: int, base: bytes, name: bytes) -> None:
        """Add `base` in the directory `parent_fd`, called `name` in the archive, and all files below it. Raises `OSError`."""
        if self._entry(parent_fd, base, name):
            self.add_below(os.open(base, _DIRECTORY_FLAGS, dir_fd=parent_fd), name + b"/")

    def add_directory(self, directory_fd: int, name: bytes) -> None:
        """Add an open directory itself and all files below it; closes the descriptor."""
        status = os.fstat(directory_fd)
        entry = _describe(status, DIRECTORY, name)
        if self._whole:
            entry.xattrs = kept_xattrs(directory_fd)
        self._header(entry)
        # docker: the root itself is called "/", and the files in it "/bin" and so on.
        self.add_below(directory_fd, name.rstrip(b"/") + b"/")

    def add_below(self, directory_fd: int, prefix: bytes) -> None:
        """Add all files below an open directory, with `prefix` before each name; closes the descriptor."""
        # Not recursive: a container may nest directories deeper than Python's stack.
        stack: list[tuple[int, bytes, Iterator[tuple[bytes, bool]]]] = [(directory_fd, prefix, _names(directory_fd))]
        try:
            while stack:
                current_fd, path, names = stack[-1]
                base, is_file = next(names, (b"", False))
                if not base:
                    os.close(stack.pop()[0])
                    continue
                try:
                    if is_file:
                        self._file(current_fd, base, path + base)
                    elif self._entry(current_fd, base, path + base):
                        below_fd = os.open(base, _DIRECTORY_FLAGS, dir_fd=current_fd)
                        stack.append((below_fd, path + base + b"/", _names(below_fd)))
                except (FileNotFoundError, NotADirectoryError):
                    continue  # the file or directory was removed a moment ago
        finally:
            for open_fd, _, _ in stack:
                os.close(open_fd)

    def finish(self) -> None:
        """Write the end of the archive."""
        self._write(END)
        self._flush()
        if self._compressor is not None:
            write_all(self._fd, self._compressor.flush())

    def _entry(self, parent_fd: int, base: bytes, name: bytes) -> bool:
        """Write the entry of one file; whether the file is a directory."""
        status = os.stat(base, dir_fd=parent_fd, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            self._file(parent_fd, base, name)
        elif kind != stat.S_IFSOCK:
            entry = _describe(status, _TYPES[kind], name)
            # docker: whatever has several names is packed once, not only files.
            first = self._first_name(status, name) if kind != stat.S_IFDIR else None
            if first is not None:
                entry.type, entry.link = LINK, first
            elif kind == stat.S_IFLNK:
                entry.link = os.readlink(base, dir_fd=parent_fd)
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
            elif kind == stat.S_IFDIR and self._whole:
                entry.xattrs = _xattrs_of_directory(parent_fd, base)
            self._header(entry)
        return kind == stat.S_IFDIR

    def _file(self, parent_fd: int, base: bytes, name: bytes) -> None:
        try:
            fd = os.open(base, FILE_FLAGS, dir_fd=parent_fd)
        except OSError as error:
            if error.errno in REPLACED:
                return
            raise
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return
            entry = _describe(status, REGULAR, name)
            # docker: a link's entry has the attributes too. Whoever unpacks it sets its owner, and that takes them away.
            entry.xattrs = kept_xattrs(fd) if self._whole else _capability(fd)
            first = self._first_name(status, name)
            if first is not None:
                entry.type, entry.link = LINK, first
                self._header(entry)
                return
            entry.size_bytes = status.st_size
            if self._whole and status.st_blocks * 512 < status.st_size:
                # GNU tar takes the end of the last segment for the file's, whatever its size is said to be.
                entry.segments = [*data_segments(fd, status.st_size), (status.st_size, 0)]
            self._header(entry)
            if entry.segments is None:
                self._pieces(fd, status.st_size)
                self._write(padding(status.st_size))
            else:
                self._segments(fd, entry.segments)
        finally:
            os.close(fd)

    def _first_name(self, status: os.stat_result, name: bytes) -> bytes | None:
        """The name that the file is in the archive by; None if it is `name`, which it is from now on."""
        if status.st_nlink <= 1:
            return None
        first = self._links.setdefault((status.st_dev, status.st_ino), name)
        return first if first != name else None

    def _header(self, entry: Entry) -> None:
        self._write(render_header(entry, exact_time=self._whole))

    def _segments(self, fd: int, segments: list[tuple[int, int]]) -> None:
        """What is between the holes."""
        for offset, length in segments:
            os.lseek(fd, offset, os.SEEK_SET)
            self._pieces(fd, length)
        self._write(padding(sum(length for _, length in segments)))

    def _pieces(self, fd: int, size_bytes: int) -> None:
        """Write exactly as many bytes as the header says: what a growing file gains is left out, what a shrinking one loses is zeros."""
        left = size_bytes
        while left:
            piece = os.read(fd, min(left, _PIECE_BYTES)) or bytes(min(left, _PIECE_BYTES))
            self._write(piece)
            left -= len(piece)

    def _write(self, data: bytes) -> None:
        if self._compressor is not None:
            data = self._compressor.compress(data)
        if len(data) >= _FLUSH_BYTES:
            self._flush()
            write_all(self._fd, data)
            return
        self._buffer += data
        if len(self._buffer) >= _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        write_all(self._fd, memoryview(self._buffer).toreadonly())
        self._buffer = bytearray()


def _describe(status: os.stat_result, kind: bytes, name: bytes) -> Entry:
    entry = Entry(kind, name, mode=stat.S_IMODE(status.st_mode), uid=status.st_uid, gid=status.st_gid)
    entry.mtime_ns = status.st_mtime_ns
    return entry


def _names(directory_fd: int) -> Iterator[tuple[bytes, bool]]:
    """What is in a directory, in the order of the names; with each whether it is a regular file, which saves asking for it."""
    with os.scandir(directory_fd) as entries:
        return iter(sorted((os.fsencode(entry.name), entry.is_file(follow_symlinks=False)) for entry in entries))


def _xattrs_of_directory(parent_fd: int, base: bytes) -> dict[bytes, bytes]:
    directory_fd = os.open(base, _DIRECTORY_FLAGS, dir_fd=parent_fd)
    try:
        return kept_xattrs(directory_fd)
    finally:
        os.close(directory_fd)


def _capability(fd: int) -> dict[bytes, bytes] | None:
    """docker: of all extended attributes, the file's capabilities alone are told."""
    try:
        return {_CAPABILITY.encode(): os.getxattr(fd, _CAPABILITY)}
    except OSError:
        return None  # the file has no capabilities, or its filesystem has no such attribute
