"""The files of a container's log, read as one: oldest first, each line once, while the monitor goes on to rotate them.

The rotation (`runtime/keeper/logs.py`) only ever moves a file to a higher number, or removes it; all of them stay in one directory. So a
name says where a file was at one moment, and nothing more: a file is known by its device and inode, which nobody else has for as long as
it is open. Two files are neighbours if the newer one still had its number after the older one was opened. A file that is full is never
written to again once its successor exists: so it is at its end if it is there *after* the successor was seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from threading import Lock

_BATCH_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16
# A rotation that is under way, or was broken off, leaves one number out: behind two of them there is nothing.
_GAP = 2

Identity = tuple[int, int]


class LogFiles:
    """The log at `path` from its beginning, or its last `tail` lines; a log that is not there has no lines.

    Has a position in it: the file that is being read, and those after it as far as they are known. Opened by the first reading. May be
    closed while another thread still reads, whom nobody waits for any more.
    """

    def __init__(self, path: str, tail: int | None = None) -> None:
        self._path = path
        self._tail = tail
        self._files: list[_File] = []
        self._lock = Lock()
        self._closed = False

    def read_lines(self) -> bytes:
        """The next whole lines, some of them; empty when everything written so far was read. Blocking. Raises `OSError`."""
        with self._lock:
            if self._closed:
                return b""
            while not (lines := self._files[0].read_lines() if self._files else b""):
                if len(self._files) > 1:
                    self._files.pop(0).close()  # half a line at its end stays half a line
                elif newer := _open_newer(self._path, self._files[0].identity if self._files else None):
                    self._files += newer  # and now to the end of what was written before these were begun
                    self._skip()
                else:
                    break
            return lines

    def close(self) -> None:
        """Close the files that are open, once nobody reads them. Blocking."""
        with self._lock:
            self._closed = True
            for file in self._files:
                file.close()
            self._files = []

    def _skip(self) -> None:
        """Go to the last lines, if those are wanted and this is the first time that there are files."""
        if self._tail is not None:
            self._files = _last_lines(self._files, self._tail)
            self._tail = None


class _File:
    """One file, and how far it was read: to the end of a line, always, for half of one may be cut off again."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0
        self.identity = _identity(os.fstat(fd))

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
        """Leave the last `lines` of the whole lines to be read, or all there are; returns how many there were too few."""
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


def _last_lines(files: list[_File], lines: int) -> list[_File]:
    """Of `files`, oldest first, those with the last `lines`; the others are closed."""
    for index in range(len(files) - 1, -1, -1):
        lines = files[index].skip_to_last(lines)
        if lines == 0:
            for file in files[:index]:
                file.close()
            return files[index:]
    return files


def _open_newer(path: str, known: Identity | None) -> list[_File]:
    """The files that came after the one that is `known`, oldest first; all there are if it is None, or not among them any more."""
    files: list[_File] = []
    try:
        number, file = _open_first(path, 0)
        while file is not None:
            if file.identity == known:
                file.close()
                break
            files.append(file)
            number, file = _open_older(path, number, file)
    except BaseException:
        for file in files:
            file.close()
        raise
    files.reverse()
    return files


def _open_older(path: str, number: int, file: _File) -> tuple[int, _File | None]:
    """The number and the file that comes before `file`, whose own number is `number` or, by now, a higher one."""
    while True:
        older_number, older = _open_first(path, number + 1)
        if _identity_at(path, number) == file.identity:
            return older_number, older  # nothing has moved: so these are neighbours
        if older is not None:
            older.close()
        moved = _find(path, number + 1, file.identity)
        if moved is None:
            return number, None  # rotated away, and all that were older were so before it
        number = moved


def _open_first(path: str, number: int) -> tuple[int, _File | None]:
    """The file with the lowest number that is not below `number`, and that number."""
    for candidate in range(number, number + _GAP):
        try:
            fd = os.open(_name(path, candidate), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        return candidate, _File(fd)
    return number, None


def _find(path: str, number: int, identity: Identity) -> int | None:
    """Where the file is by now. It only moves up, as we do, so it cannot slip past."""
    missing = 0
    while missing < _GAP:
        there = _identity_at(path, number)
        if there == identity:
            return number
        missing = 0 if there is not None else missing + 1
        number += 1
    return None


def _identity_at(path: str, number: int) -> Identity | None:
    try:
        return _identity(os.stat(_name(path, number)))
    except FileNotFoundError:
        return None


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _name(path: str, number: int) -> str:
    return f"{path}.{number}" if number else path
