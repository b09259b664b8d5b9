"""One engine per root, and one per run root."""

from __future__ import annotations

import fcntl
import os
from types import TracebackType
from typing import Self

from teul.errors import Conflict


class LockTaken(Conflict):
    """Another engine has this root."""


class RootLock:
    """An exclusive lock on `directory`, which the kernel drops with the process. Entering raises `LockTaken` if another engine has it."""

    def __init__(self, directory: str) -> None:
        self._path = f"{directory}/lock"
        self._fd = -1

    def __enter__(self) -> Self:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise LockTaken(f"another engine has {self._path}") from None
        os.ftruncate(fd, 0)
        os.write(fd, b"%d\n" % os.getpid())  # for who wants to end the engine
        self._fd = fd
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        os.close(self._fd)
