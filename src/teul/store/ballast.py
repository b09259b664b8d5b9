"""Room that is kept for bad days: a file that weighs something and says nothing, thrown overboard when the disk is full.

Removing something needs a little room before it gives any back: a row is deleted by writing. On a disk that a container has filled that
room is not there, and nothing could ever be removed. So the engine keeps some, gives it up when what frees room finds none, and takes it
again as soon as there is enough.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable

from teul.store.atomic import ignoring_absence

BALLAST_BYTES = 4 << 20  # as much as SQLite's log grows before it is written back
_ENOUGH_BYTES = 4 * BALLAST_BYTES  # that must be free beside the ballast
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Ballast:
    """The file `path`, on the filesystem that it keeps room of. Every method blocks and may be called from any thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._on_release: Callable[[], None] = lambda: None

    def notify(self, on_release: Callable[[], None]) -> None:
        """Have `on_release` called, from whichever thread, when the room was given up or was found to be gone."""
        self._on_release = on_release

    def release(self) -> bool:
        """Give the room up; False if there was none to give."""
        with self._lock:
            try:
                os.unlink(self._path)
                was_there = True
            except FileNotFoundError:
                was_there = False
        self._on_release()
        return was_there

    def restore(self) -> bool:
        """Take the room if there is enough; whether it is taken now. Idempotent."""
        with self._lock:
            if os.path.exists(self._path):
                return True
            if free_bytes(os.path.dirname(self._path)) < BALLAST_BYTES + _ENOUGH_BYTES:
                return False
            try:
                fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with contextlib.closing(os.fdopen(fd, "wb")):
                    os.posix_fallocate(fd, 0, BALLAST_BYTES)
            except OSError as error:
                with ignoring_absence():
                    os.unlink(self._path)
                if is_full(error):
                    return False
                raise
            return True


def is_full(error: OSError) -> bool:
    """Whether the disk is full, or the user's share of it."""
    return error.errno in _FULL


def free_bytes(path: str) -> int:
    """What root may still write to `path`'s filesystem."""
    status = os.statvfs(path)
    return status.f_bfree * status.f_frsize
