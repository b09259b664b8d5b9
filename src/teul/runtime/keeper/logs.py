"""The monitor's side of a container's log: a file of lines, with rotation."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from teul import failpoints
from teul.wire import jsonlog, locallog

if TYPE_CHECKING:
    from teul.runtime.keeper.compression import Compressor
    from teul.runtime.messages import LogFormat

# Also for reading: whoever goes on with a file has to see how it ends.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class LogFile:
    """Appends to `path`; when it has grown to `max_bytes`, renames it to `.1` and starts anew, keeping `max_files` in all.

    With a `compressor`, those that are full become `.1.gz` and so on, sooner or later. A full disk must not stop the container: what
    cannot be written is counted in `lost_bytes` and the cause kept in `error`.
    """

    def __init__(
        self,
        path: str,
        *,
        max_bytes: int,
        max_files: int,
        attrs: str = "",
        form: LogFormat = "json",
        compressor: Compressor | None = None,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        encoder = jsonlog.LineEncoder if form == "json" else locallog.LineEncoder
        self._encoders = (encoder("stdout", attrs), encoder("stderr", attrs))
        self._fd = os.open(path, _FLAGS, 0o640)
        self._size_bytes = os.fstat(self._fd).st_size
        # A keeper that was killed in the middle of a write has left half a line.
        self._is_torn = self._size_bytes > 0 and os.pread(self._fd, 1, self._size_bytes - 1) != b"\n"
        self._compressor = compressor
        if compressor is not None:
            compressor.look()
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
        if self._compressor is not None:
            self._compressor.close()
            if self._compressor.error is not None and self.error is None:
                self.error = f"a full file is not compressed: {self._compressor.error}"

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
            if self._compressor is not None:
                # Its last change has a time of its own from now on: the kernel's clock gives one to all within some milliseconds, in which
                # another file may get the inode that this one has when it is compressed.
                now_ns = time.time_ns()
                os.utime(self._fd, ns=(now_ns, now_ns))
            failpoints.reach("keeper.log.shifted")
            os.rename(self._path, f"{self._path}.1")
            failpoints.reach("keeper.log.moved")
        full_fd, self._fd = self._fd, os.open(self._path, _FLAGS, 0o640)
        self._size_bytes = 0
        self._is_torn = False
        os.close(full_fd)  # not before there is another one: the number would soon be somebody else's
        if self._compressor is not None:
            self._compressor.look()

    def _make_room(self) -> None:
        """Have no file called `.1`. Files are moved up as far as the first free number: so never more than one is left out, and
        the oldest file goes only when all numbers are taken."""
        free = 1
        while free < self._max_files - 1 and self._is_taken(free):
            free += 1
        for number in range(free - 1, 0, -1):
            self._move(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        if self._compressor is not None and free == 1:
            with suppress(FileNotFoundError):
                os.unlink(f"{self._path}.1.gz")  # the plain one takes its number, and would hide it

    def _is_taken(self, number: int) -> bool:
        name = f"{self._path}.{number}"
        return os.path.exists(name) or (self._compressor is not None and os.path.exists(f"{name}.gz"))

    def _move(self, old: str, new: str) -> None:
        """Give a full file the next number, in whichever form it is, and what had that number goes.

        Of a number that has both forms, a reader takes the plain file, and the other one may be unfinished business of a keeper that was
        killed: so the plain one is never the older one.
        """
        if self._compressor is None or os.path.exists(old):
            os.rename(old, new)
            if self._compressor is not None:
                for left in (f"{old}.gz", f"{new}.gz"):
                    with suppress(FileNotFoundError):
                        os.unlink(left)
            return
        with suppress(FileNotFoundError):
            os.unlink(new)
        os.rename(f"{old}.gz", f"{new}.gz")
