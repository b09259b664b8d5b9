"""The files of a container's log, read as one: oldest first, each line once, while the monitor goes on to rotate them.

The rotation (`runtime/keeper/logs.py`) only ever moves a file to a higher number, or removes it; all of them stay in one directory. So a
name says where a file was at one moment, and nothing more: a file is known by its device and inode, which nobody else has for as long as
it is open; `log_file.Identity` says what that means for one that is compressed. Two files are neighbours if the newer one still had its
number after the older one was opened. A file that is full is never written to again once its successor exists: so it is at its end if it
is there *after* the successor was seen.
"""

from __future__ import annotations

from threading import Lock

from teul.services.containers.log_file import File, identity_at, open_file

# A rotation that is under way, or was broken off, leaves one number out: behind two of them there is nothing.
_GAP = 2


class LogFiles:
    """The log at `path` from its beginning, or its last `tail` lines; a log that is not there has no lines.

    Has a position in it: the file that is being read, and those after it as far as they are known. Opened by the first reading. May be
    closed while another thread still reads, whom nobody waits for any more.
    """

    def __init__(self, path: str, tail: int | None = None) -> None:
        self._path = path
        self._tail = tail
        self._files: list[File] = []
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
                elif newer := _open_newer(self._path, self._files[0] if self._files else None):
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


def _last_lines(files: list[File], lines: int) -> list[File]:
    """Of `files`, oldest first, those with the last `lines`; the others are closed."""
    for index in range(len(files) - 1, -1, -1):
        lines = files[index].skip_to_last(lines)
        if lines == 0:
            for file in files[:index]:
                file.close()
            return files[index:]
    return files


def _open_newer(path: str, known: File | None) -> list[File]:
    """The files that came after the one that is `known`, oldest first; all there are if it is None, or not among them any more."""
    files: list[File] = []
    try:
        number, file = _open_first(path, 0)
        while file is not None:
            if known is not None and file.identity.is_same_as(known.identity):
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


def _open_older(path: str, number: int, file: File) -> tuple[int, File | None]:
    """The number and the file that comes before `file`, whose own number is `number` or, by now, a higher one."""
    while True:
        older_number, older = _open_first(path, number + 1)
        if _is_at(path, number, file):
            return older_number, older  # nothing has moved: so these are neighbours
        if older is not None:
            older.close()
        moved = _find(path, number + 1, file)
        if moved is None:
            return number, None  # rotated away, and all that were older were so before it
        number = moved


def _open_first(path: str, number: int) -> tuple[int, File | None]:
    """The file with the lowest number that is not below `number`, and that number."""
    for candidate in range(number, number + _GAP):
        file = open_file(path, candidate)
        if file is not None:
            return candidate, file
    return number, None


def _find(path: str, number: int, file: File) -> int | None:
    """Where the file is by now. It only moves up, as we do, so it cannot slip past."""
    missing = 0
    while missing < _GAP:
        there = identity_at(path, number)
        if there is not None and there.is_same_as(file.identity):
            return number
        missing = 0 if there is not None else missing + 1
        number += 1
    return None


def _is_at(path: str, number: int, file: File) -> bool:
    there = identity_at(path, number)
    return there is not None and there.is_same_as(file.identity)
