"""Output that waits for a slow reader: a little in memory, the rest in an unlinked file.

A reader that falls behind must stall neither the container nor the log nor the other readers; so what the reader has not taken yet is
kept outside of the keeper's memory. The file has a bound, or a reader that has stopped for good would have the container fill the host's
disk; long before it is reached the monitor reads no more of the process's output.
"""

from __future__ import annotations

import errno
import os

_MEMORY_BYTES = 256 * 1024
_READ_BYTES = 64 * 1024
_FILE_BYTES = 64 << 20


class Outbox:
    """A first-in first-out queue of bytes. The file is a ring: positions count on, and stand in it at their rest by its size."""

    __slots__ = ("_directory", "_file", "_memory", "_read_at", "_write_at")

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._memory = bytearray()
        self._file = -1
        self._read_at = 0
        self._write_at = 0

    def __bool__(self) -> bool:
        return bool(self._memory) or self._read_at < self._write_at

    @property
    def waiting_bytes(self) -> int:
        """How much waits."""
        return len(self._memory) + self._write_at - self._read_at

    def put(self, data: bytes) -> None:
        """Add `data` at the end. Raises `OSError` when the disk is full, or too much waits already: then the reader is to be given up."""
        if self._file < 0:
            if len(self._memory) + len(data) <= _MEMORY_BYTES:
                self._memory += data
                return
            self._file = os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if self._write_at - self._read_at + len(data) > _FILE_BYTES:
            raise OSError(errno.ENOBUFS, f"more than {_FILE_BYTES} bytes wait for a reader")
        view = memoryview(data)
        while view:
            offset = self._write_at % _FILE_BYTES
            written = os.pwrite(self._file, view[: _FILE_BYTES - offset], offset)
            self._write_at += written
            view = view[written:]

    def peek(self) -> bytes:
        """Bytes at the front; empty when nothing waits."""
        if not self._memory and self._read_at < self._write_at:
            offset = self._read_at % _FILE_BYTES
            self._memory += os.pread(self._file, min(_READ_BYTES, self._write_at - self._read_at, _FILE_BYTES - offset), offset)
            self._read_at += len(self._memory)
            if self._read_at == self._write_at:
                os.close(self._file)
                self._file = -1
                self._read_at = self._write_at = 0
        return bytes(self._memory[:_READ_BYTES])

    def drop(self, count: int) -> None:
        """Remove `count` bytes from the front."""
        del self._memory[:count]

    def close(self) -> None:
        """Forget everything."""
        self._memory.clear()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._read_at = self._write_at = 0
