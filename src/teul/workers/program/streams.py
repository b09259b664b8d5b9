"""Bytes on their way through a worker: read, decompressed (`decompression`), hashed and counted, then taken apart by the tar reader.

A stream is an iterator of `bytes` chunks of at most about a megabyte; each step wraps the one before, so a byte is touched once per step
and copied only where it must be. Every fault in the input raises `StreamError` or `Truncated`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Protocol

from teul.wire.tar import BLOCK_BYTES, TRAILING_BYTES, Entry, TarReader, Truncated

CHUNK_BYTES = 1 << 20
_MAGICS = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\x00", "xz"), (b"BZh", "bzip2"))
_LONGEST_MAGIC_BYTES = 6
# How much of a file's beginning `sniff` and `looks_like_tar` want to see.
MAGIC_BYTES = 512


class StreamError(ValueError):
    """Compressed data that is damaged or of another format than its beginning said."""


class LimitExceeded(StreamError):
    """An archive has more bytes or entries than are allowed."""


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...


def read_chunks(fd: int) -> Iterator[bytes]:
    """The bytes that come on the descriptor, to its end."""
    while chunk := os.read(fd, CHUNK_BYTES):
        yield chunk


def sniffed(chunks: Iterator[bytes]) -> tuple[Iterator[bytes], str]:
    """The same chunks, and how they are compressed, as `sniff` names it."""
    head = b""
    while len(head) < _LONGEST_MAGIC_BYTES and (chunk := next(chunks, b"")):
        head += chunk
    return _prefixed(head, chunks), sniff(head)


def _prefixed(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from chunks


def sniff(head: bytes) -> str:
    """How a file that begins with `head` is compressed: gzip, zstd, xz, bzip2, or "" if it is not."""
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    # A zstd file may begin with a frame that is to be skipped (RFC 8878 section 3.1.2).
    return "zstd" if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50 else ""


def looks_like_tar(head: bytes) -> bool:
    """Whether an uncompressed file that begins with `head` is an archive: of ustar's or GNU's mark, or an empty one."""
    return head[257:262] == b"ustar" or (len(head) >= BLOCK_BYTES and not any(head[:BLOCK_BYTES]))


def entries_within(reader: TarReader, *, limit_bytes: int, limit_entries: int) -> Iterator[Entry]:
    """The entries of a layer, one after the other; raises `LimitExceeded` when there are more, or they hold more, than is allowed."""
    total_bytes, count = 0, 0
    while (entry := reader.next()) is not None:
        count += 1
        if count > limit_entries:
            raise LimitExceeded(f"the layer has more than {limit_entries} entries")
        total_bytes += entry.size_bytes
        if total_bytes > limit_bytes:
            raise LimitExceeded(f"the layer is larger than the limit of {limit_bytes} bytes")
        yield entry


def tapped(chunks: Iterator[bytes], *, hasher: _Hasher | None, limit_bytes: int) -> Iterator[bytes]:
    """The same chunks, hashed on the way; raises `LimitExceeded` when there are more than `limit_bytes`."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit_bytes:
            raise LimitExceeded(f"the uncompressed archive is larger than the limit of {limit_bytes} bytes")
        if hasher is not None:
            hasher.update(chunk)
        yield chunk


def teed(chunks: Iterator[bytes], write: Callable[[bytes], object]) -> Iterator[bytes]:
    """The same chunks, each written on the way."""
    for chunk in chunks:
        write(chunk)
        yield chunk


class ChunkSource:
    """A stream as the tar reader wants it (`teul.wire.tar.Source`)."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._position = 0
        self._passed = 0  # bytes of the chunks before

    @property
    def position(self) -> int:
        """How many bytes were taken so far."""
        return self._passed + self._position

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes; raises `Truncated`."""
        end = self._position + count
        if end <= len(self._chunk):
            data = self._chunk[self._position : end]
            self._position = end
            return data
        return b"".join(self.pieces(count))

    def pieces(self, count: int) -> Iterator[memoryview]:
        """Exactly `count` bytes without copying them; raises `Truncated`."""
        while count:
            available = len(self._chunk) - self._position
            if not available:
                if self._at_end():
                    raise Truncated
                continue
            size = min(count, available)
            piece = memoryview(self._chunk)[self._position : self._position + size]
            self._position += size
            count -= size
            yield piece

    def block_after(self, count: int) -> bytes:
        """Pass over exactly `count` bytes, and take a block; b"" if nothing is left behind them. Raises `Truncated`."""
        start = self._position + count
        end = start + BLOCK_BYTES
        if end <= len(self._chunk):
            self._position = end
            return self._chunk[start:end]
        for _ in self.pieces(count):
            pass
        return b"" if self._at_end() else self.take(BLOCK_BYTES)

    def _at_end(self) -> bool:
        """Whether nothing is left; reads on if need be."""
        while self._position == len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._passed += len(self._chunk)
            self._chunk, self._position = chunk, 0
        return False

    def drain(self, *, limit_bytes: int = TRAILING_BYTES) -> None:
        """Read to the very end: padding after an archive counts for its digest. Raises `LimitExceeded` when there is more of it."""
        left = limit_bytes
        while not self._at_end():
            left -= len(self._chunk) - self._position
            if left < 0:
                raise LimitExceeded(f"there are more than {limit_bytes} bytes behind the end of the archive")
            self._position = len(self._chunk)


class FileSource:
    """An uncompressed archive in the regular file `fd`, as the tar reader wants it: what is passed over is not read."""

    _WINDOW_BYTES = 128 << 10

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._window = b""
        self._window_at = 0
        self._size = os.fstat(fd).st_size
        self.position = 0

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes; raises `Truncated`."""
        at = self.position - self._window_at
        data = self._window[at : at + count]
        if len(data) < count:
            self._window = self._read(max(count, self._WINDOW_BYTES))
            self._window_at = self.position
            data = self._window[:count]
            if len(data) < count:
                raise Truncated
        self.position += count
        return data

    def pieces(self, count: int) -> Iterator[memoryview]:
        """Exactly `count` bytes; raises `Truncated`."""
        while count:
            piece = self.take(min(count, CHUNK_BYTES))
            count -= len(piece)
            yield memoryview(piece)

    def block_after(self, count: int) -> bytes:
        """Pass over exactly `count` bytes, and take a block; b"" if nothing is left behind them. Raises `Truncated`."""
        self.position += count
        at = self.position - self._window_at
        block = self._window[at : at + BLOCK_BYTES]
        if len(block) == BLOCK_BYTES:
            self.position += BLOCK_BYTES
            return block
        if self.position >= self._size:
            if self.position > self._size:
                raise Truncated
            return b""
        return self.take(BLOCK_BYTES)

    def drain(self, *, limit_bytes: int = TRAILING_BYTES) -> None:
        """Pass over the rest; raises `LimitExceeded` when there is more of it."""
        if self._size - self.position > limit_bytes:
            raise LimitExceeded(f"there are more than {limit_bytes} bytes behind the end of the archive")
        self.position = self._size

    def _read(self, count: int) -> bytes:
        parts = []
        at = self.position
        while count and (part := os.pread(self._fd, count, at)):
            parts.append(part)
            at += len(part)
            count -= len(part)
        return b"".join(parts)
