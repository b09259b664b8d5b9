"""One file of a container's log, plain or compressed, and how far it was read: to the end of a line, always, for half of one may be cut
off again.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from teul.wire.gziplog import HEADER_BYTES, origin

_BATCH_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file it is. Of a compressed one, which it was before, and when that was changed for the last time: an inode is used again.

    Of a file that may still be written to, the time is that of the look. So where one is compared with a file that was compressed since, it
    is looked at after that one.
    """

    device: int
    inode: int
    modified_ns: int
    is_compressed: bool

    def is_same_as(self, other: Identity | None) -> bool:
        """Whether both are one file, in the same form or not."""
        if other is None or (self.device, self.inode) != (other.device, other.inode):
            return False
        return self.modified_ns == other.modified_ns or not (self.is_compressed or other.is_compressed)


class File(Protocol):
    """A file that is open."""

    @property
    def identity(self) -> Identity: ...

    def read_lines(self) -> bytes:
        """The next whole lines, some of them; empty at the end. Blocking. Raises `OSError`."""

    def skip_to_last(self, lines: int) -> int:
        """Leave the last `lines` of the whole lines to be read, or all there are; returns how many there were too few."""

    def close(self) -> None: ...


def open_file(path: str, number: int) -> File | None:
    """The file with this number, if there is one. Raises `OSError`.

    The plain one is looked for first: it is removed after there is the compressed one.
    """
    name = f"{path}.{number}" if number else path
    try:
        return _PlainFile(os.open(name, os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        pass
    try:
        fd = os.open(f"{name}.gz", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    return _CompressedFile(fd)


def identity_at(path: str, number: int) -> Identity | None:
    """Which file has this number now, if one has. Raises `OSError`."""
    file = open_file(path, number)
    if file is None:
        return None
    try:
        return file.identity
    finally:
        file.close()


class _PlainFile:
    """May be written to while it is read."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0

    @property
    def identity(self) -> Identity:
        status = os.fstat(self._fd)
        return Identity(status.st_dev, status.st_ino, status.st_mtime_ns, is_compressed=False)

    def read_lines(self) -> bytes:
        size = _BATCH_BYTES
        while True:
            data = os.pread(self._fd, size, self._at)
            end = data.rfind(b"\n") + 1
            if not data and os.fstat(self._fd).st_size < self._at:
                self._at = 0  # emptied, to make room or by the keeper of an older version, and begun anew
            elif end == 0 and len(data) == size:
                size *= 2
            else:
                self._at += end
                return data[:end]

    def skip_to_last(self, lines: int) -> int:
        for newline in self._newlines_backwards():
            self._at = newline + 1
            if lines == 0:
                return 0
            lines -= 1
        self._at = 0
        return lines

    def close(self) -> None:
        os.close(self._fd)

    def _newlines_backwards(self) -> Iterator[int]:
        at = os.fstat(self._fd).st_size
        while at > 0:
            size = min(_BLOCK_BYTES, at)
            at -= size
            block = os.pread(self._fd, size, at)
            end = len(block)
            while (end := block.rfind(b"\n", 0, end)) >= 0:
                yield at + end


class _CompressedFile:
    """Never changes. Can be read forwards only: where its last lines begin is found by reading it once more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""
        self._begin()
        status = os.fstat(fd)
        made_of = origin(os.pread(fd, HEADER_BYTES, 0)) or (status.st_dev, status.st_ino, status.st_mtime_ns)
        self.identity = Identity(*made_of, is_compressed=True)

    def read_lines(self) -> bytes:
        """As promised. A file that is damaged ends where the damage begins."""
        data, self._rest = self._rest, b""
        while not (end := data.rfind(b"\n") + 1):
            piece = self._unpack()
            if not piece:
                return b""
            data += piece
        self._rest = data[end:]
        return data[:end]

    def skip_to_last(self, lines: int) -> int:
        count = 0
        while piece := self._unpack():
            count += piece.count(b"\n")
        self._begin()
        skipped = count - lines
        while skipped > 0 and (piece := self._unpack()):
            here = piece.count(b"\n")
            if here < skipped:
                skipped -= here
                continue
            at = -1
            for _ in range(skipped):
                at = piece.index(b"\n", at + 1)
            skipped, self._rest = 0, piece[at + 1 :]
        return max(0, lines - count)

    def close(self) -> None:
        os.close(self._fd)

    def _begin(self) -> None:
        self._at = 0
        self._packed = b""
        self._unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def _unpack(self) -> bytes:
        try:
            while not self._unpacker.eof:
                if not self._packed:
                    self._packed = os.pread(self._fd, _BLOCK_BYTES, self._at)
                    self._at += len(self._packed)
                    if not self._packed:
                        return b""
                data = self._unpacker.decompress(self._packed, _BATCH_BYTES)
                self._packed = self._unpacker.unconsumed_tail
                if data:
                    return data
        except zlib.error:
            self._packed, self._at = b"", os.fstat(self._fd).st_size
        return b""
