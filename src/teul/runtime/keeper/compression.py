"""Full files of a log, made smaller by a process of their own, while the keeper goes on.

A fork of the keeper reads the file and writes another one under a name that nobody looks for; all that names mean, the keeper changes,
between two lines of the log. Which file it was stands in the header of what comes of it: a reader that has the one open knows the other.
"""

from __future__ import annotations

import os
import signal
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from teul import failpoints
from teul.linux import process
from teul.linux.loop import HANGUP, READ, Loop
from teul.wire.gziplog import header

if TYPE_CHECKING:
    from collections.abc import Callable

_PIECE_BYTES = 1 << 18
_DONE = b"1"


class Compressor:
    """Of one log, whose newest file is at `path`. At most one file is at work at a time; what fails is tried again at the next `look`.

    `expect_end` is told the pid of a child that ends by itself. Abandoned when the log is closed: who opens it next goes on.
    """

    def __init__(self, path: str, loop: Loop, expect_end: Callable[[int], None]) -> None:
        self._path = path
        self._unfinished = f"{path}.gz.{os.getpid():016x}.new"
        self._loop = loop
        self._expect_end = expect_end
        self._line = -1  # from the child
        self._pid = 0
        self._at_work: tuple[int, int] | None = None  # device and inode of the file
        self.error: str | None = None  # why a file stays as it is
        self._remove_unfinished()

    def look(self) -> None:
        """Begin with the newest full file that is not compressed, if none is at work."""
        try:
            if self._line < 0:
                self._look()
        except OSError as error:
            self.error = str(error)

    def _look(self) -> None:
        number = 1
        while True:
            name = f"{self._path}.{number}"
            if os.path.exists(name):
                if not os.path.exists(f"{name}.gz"):
                    self._begin(name)
                    return
                os.unlink(name)  # a keeper was killed when all but this was done
            elif not os.path.exists(f"{name}.gz"):
                return
            number += 1

    def close(self) -> None:
        """Give up what is at work."""
        if self._line >= 0:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._forget()
            with suppress(FileNotFoundError):
                os.unlink(self._unfinished)

    def _begin(self, name: str) -> None:
        # Opened here: by the time the fork comes to it, the name may be another file's.
        source = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(source)
            self._fork(source)
        finally:
            os.close(source)
        self._at_work = status.st_dev, status.st_ino

    def _fork(self, source: int) -> None:
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError:
            os.close(ours)
            os.close(theirs)
            raise
        if pid == 0:
            _compress(source, self._unfinished, theirs)
        os.close(theirs)
        self._line, self._pid = ours, pid
        self._expect_end(pid)
        self._loop.watch(ours, READ | HANGUP, self._heard)

    def _heard(self, _events: int) -> None:
        is_done = os.read(self._line, 1) == _DONE
        at_work = self._at_work
        self._forget()
        try:
            if is_done and at_work is not None:
                self._put_in_place(at_work)
            else:
                self.error = "the process that compressed it has failed"
                self._remove_unfinished()
                return
        except OSError as error:
            self.error = str(error)
            return
        self.look()

    def _put_in_place(self, identity: tuple[int, int]) -> None:
        name = self._find(identity)
        if name is None:  # rotated away meanwhile
            os.unlink(self._unfinished)
            return
        os.rename(self._unfinished, f"{name}.gz")
        failpoints.reach("keeper.log.compressed")
        os.unlink(name)

    def _remove_unfinished(self) -> None:
        """What is left of this log's by those who were killed or have failed."""
        directory, _, name = self._path.rpartition("/")
        for entry in os.listdir(directory):
            if entry.startswith(f"{name}.gz.") and entry.endswith(".new"):
                os.unlink(f"{directory}/{entry}")

    def _forget(self) -> None:
        self._loop.forget(self._line)
        os.close(self._line)
        self._line, self._at_work = -1, None

    def _find(self, identity: tuple[int, int]) -> str | None:
        """What the file is called by now."""
        number = 1
        while True:
            name = f"{self._path}.{number}"
            try:
                status = os.stat(name)
            except FileNotFoundError:
                if not os.path.exists(f"{name}.gz"):
                    return None
            else:
                if (status.st_dev, status.st_ino) == identity:
                    return name
            number += 1


def _compress(source: int, result: str, line: int) -> NoReturn:
    """In a fork: write `result`, sync it, and say so."""
    try:
        process.close_all_but({line, source})
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        process.set_name("teul-gzip")
        os.nice(19)
        _write(source, result)
        os.write(line, _DONE)
    finally:
        os._exit(0)  # what has gone wrong is known by the word that did not come


def _write(source: int, result: str) -> None:
    import zlib  # noqa: PLC0415 (here only: it would stay in the keeper's memory)

    with suppress(FileNotFoundError):
        os.unlink(result)
    target = os.open(result, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    status = os.fstat(source)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    checksum, size = 0, 0
    _write_all(target, header(status))
    while data := os.read(source, _PIECE_BYTES):
        checksum, size = zlib.crc32(data, checksum), size + len(data)
        _write_all(target, packer.compress(data))
    _write_all(target, packer.flush() + struct.pack("<LL", checksum, size & 0xFFFFFFFF))
    os.fsync(target)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
