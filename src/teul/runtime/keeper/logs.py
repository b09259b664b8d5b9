"""The monitor's side of a container's log: json-file lines with rotation."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from teul import failpoints
from teul.wire.jsonlog import LineEncoder

# Also for reading: whoever goes on with a file has to see how it ends.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class LogFile:
    """Appends to `path`; when it has grown to `max_bytes`, renames it to `.1` and starts anew, keeping `max_files` in all.

    A full disk must not stop the container: what cannot be written is counted in `lost_bytes` and the cause kept in `error`.
    """

    def __init__(self, path: str, *, max_bytes: int, max_files: int, attrs: str = "") -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._encoders = (LineEncoder("stdout", attrs), LineEncoder("stderr", attrs))
        self._fd = os.open(path, _FLAGS, 0o640)
        self._size_bytes = os.fstat(self._fd).st_size
        # A keeper that was killed in the middle of a write has left half a line.
        self._is_torn = self._size_bytes > 0 and os.pread(self._fd, 1, self._size_bytes - 1) != b"\n"
        self.lost_bytes = 0
        self.error: str | None = None

    def write(self, stream: int, data: bytes) -> None:
        """Log output of `stream` (1 or 2)."""
        self._append(self._encoders[stream - 1].feed(data, time.time_ns()))

    def close(self) -> None:
        """Log the last lines of output that had no newline, and close."""
        for encoder in self._encoders:
            self._append(encoder.finish(time.time_ns()))
        os.close(self._fd)

    def _append(self, lines: bytes) -> None:
        try:
            while lines:
                if 0 < self._max_bytes <= self._size_bytes:
                    self._rotate()
                end = self._end_of_room(lines)
                self._write(lines[:end])
                lines = lines[end:]
        except OSError as error:
            self.lost_bytes += len(lines)
            self.error = str(error)

    def _end_of_room(self, lines: bytes) -> int:
        """Where to cut `lines` so that the file is full by at most one line. docker: a file is closed by the line that fills it."""
        room = self._max_bytes - self._size_bytes
        if self._max_bytes <= 0 or len(lines) <= room:
            return len(lines)
        return lines.index(b"\n", max(0, room - 1)) + 1

    def _write(self, lines: bytes) -> None:
        """Write all of `lines` or nothing: half a line would spoil the next one. Raises `OSError`."""
        if self._is_torn:
            lines = b"\n" + lines
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._fd, memoryview(lines)[written:])
        except OSError:
            if written:
                os.ftruncate(self._fd, self._size_bytes)
            raise
        self._size_bytes += written
        self._is_torn = False

    def _rotate(self) -> None:
        """Begin a new file. What fails or is killed half-way is taken up by the next attempt, and hides nothing from a reader.

        A full file is never cut off in its place: somebody may still read it. docker: with one file, that loses its name.
        """
        if self._max_files <= 1:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
        elif os.path.exists(self._path):  # else an earlier attempt has moved it, and could not make the new one
            self._make_room()
            failpoints.reach("keeper.log.shifted")
            os.rename(self._path, f"{self._path}.1")
            failpoints.reach("keeper.log.moved")
        full_fd, self._fd = self._fd, os.open(self._path, _FLAGS, 0o640)
        self._size_bytes = 0
        self._is_torn = False
        os.close(full_fd)  # not before there is another one: the number would soon be somebody else's

    def _make_room(self) -> None:
        """Have no file called `.1`. Files are moved up as far as the first free number: so never more than one is left out, and
        the oldest file goes only when all numbers are taken."""
        free = 1
        while free < self._max_files - 1 and os.path.exists(f"{self._path}.{free}"):
            free += 1
        for number in range(free - 1, 0, -1):
            os.rename(f"{self._path}.{number}", f"{self._path}.{number + 1}")
