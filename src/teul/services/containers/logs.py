"""Reading a container's log files: all entries, the last ones, and those still to be written.

The files belong to the monitor, which may rotate them at any moment; a reader follows the file it has open to its end before it
goes on with the next one.
"""

from __future__ import annotations

import asyncio
import calendar
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from functools import lru_cache
from typing import BinaryIO, TypeVar

import msgspec

from teul.aio import run_blocking
from teul.linux import inotify
from teul.model.log import LogEntry, LogQuery

_BATCH_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16
_CHANGES = inotify.IN_MODIFY | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO | inotify.IN_CREATE | inotify.IN_DELETE
T = TypeVar("T")
_STREAMS = {"stdout": 1, "stderr": 2}


class _Line(msgspec.Struct):
    log: str
    time: str
    stream: str = "stdout"
    attrs: dict[str, str] | None = None


_DECODER = msgspec.json.Decoder(_Line)


def _decode(whole: bytes) -> list[_Line]:
    try:
        return _DECODER.decode_lines(whole)
    except msgspec.MsgspecError:
        pass  # a line was damaged (by a crash of the host, say): the other lines are still good
    lines = []
    for line in whole.split(b"\n"):
        with suppress(msgspec.MsgspecError):
            lines.append(_DECODER.decode(line))
    return lines


class _Reader:
    """A position in a chain of rotated files, oldest first."""

    def __init__(self, path: str, files: list[BinaryIO]) -> None:
        self._path = path
        self._files = files
        self._rest = b""

    def read_batch(self) -> list[_Line]:
        """The next lines, empty when everything written so far was read. Blocking."""
        while self._files:
            file = self._files[0]
            data = file.read(_BATCH_BYTES)
            if data:
                whole, newline, rest = (self._rest + data).rpartition(b"\n")
                self._rest = rest
                if newline and (lines := _decode(whole)):
                    return lines
                continue
            if len(self._files) == 1 and not self._find_next(file):
                return []
            self._files.pop(0).close()
            self._rest = b""
        return []

    def close(self) -> None:
        """Close the files that are open."""
        for file in self._files:
            file.close()

    def _find_next(self, file: BinaryIO) -> bool:
        """When `file`, the last, was rotated away, append the file that took its name."""
        here = os.fstat(file.fileno())
        if here.st_size < file.tell():  # the log is kept to one file, which was cut off and begins anew
            file.seek(0)
            return False
        try:
            current = open(self._path, "rb")
        except FileNotFoundError:
            return False
        if os.path.samestat(os.fstat(current.fileno()), here):
            current.close()
            return False
        self._files.append(current)
        return True


async def read_log(path: str, query: LogQuery, ended: asyncio.Future[T] | None) -> AsyncIterator[LogEntry]:
    """The entries of the log at `path`; with `query.follow`, until `ended` is done and the rest was read."""
    with ExitStack() as stack:
        follow = query.follow and ended is not None
        changed = asyncio.Event()
        if follow:
            _watch(stack, os.path.dirname(path), changed)
        reader = await run_blocking(_open, path, query.tail)
        stack.callback(reader.close)
        while True:
            changed.clear()
            finished = not follow or (ended is not None and ended.done())
            while lines := await run_blocking(reader.read_batch):
                for entry in _entries(lines):
                    if query.until_ns is not None and entry.time_ns > query.until_ns:
                        return
                    if _wanted(entry, query):
                        yield entry
            if finished:
                return
            assert ended is not None
            await _either(changed, ended)


def _watch(stack: ExitStack, directory: str, changed: asyncio.Event) -> None:
    watch_fd = inotify.open_watch(directory, _CHANGES)
    stack.callback(os.close, watch_fd)
    loop = asyncio.get_running_loop()

    def drain() -> None:
        try:
            os.read(watch_fd, 65536)
        except BlockingIOError:
            return
        changed.set()

    loop.add_reader(watch_fd, drain)
    stack.callback(loop.remove_reader, watch_fd)


async def _either(changed: asyncio.Event, ended: asyncio.Future[T]) -> None:
    def wake(_ended: asyncio.Future[T]) -> None:
        changed.set()

    ended.add_done_callback(wake)
    try:
        await changed.wait()
    finally:
        ended.remove_done_callback(wake)


def _wanted(entry: LogEntry, query: LogQuery) -> bool:
    if query.since_ns is not None and entry.time_ns < query.since_ns:
        return False
    return query.stdout if entry.stream == 1 else query.stderr


def _entries(lines: list[_Line]) -> Iterator[LogEntry]:
    for line in lines:
        yield LogEntry(_STREAMS.get(line.stream, 1), parse_time(line.time), line.log.encode("utf-8", "surrogatepass"), line.attrs)


@lru_cache(maxsize=64)
def parse_time(text: str) -> int:
    """RFC 3339 in UTC to nanoseconds. Lines that were read together carry one time, hence the cache."""
    moment, _, fraction = text.removesuffix("Z").partition(".")
    date, _, clock = moment.partition("T")
    year, month, day = map(int, date.split("-"))
    hour, minute, second = map(int, clock.split(":"))
    return calendar.timegm((year, month, day, hour, minute, second)) * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


def _open(path: str, tail: int | None) -> _Reader:
    files: list[BinaryIO] = []
    number = 0
    while True:
        try:
            files.insert(0, open(f"{path}.{number}" if number else path, "rb"))
        except FileNotFoundError:
            if number:
                break
        number += 1
    if tail is not None:
        _seek_tail(files, tail)
    return _Reader(path, files)


def _seek_tail(files: list[BinaryIO], tail: int) -> None:
    """Leave the files positioned so that `tail` lines are left to read."""
    wanted = tail
    for file in reversed(files):
        at = file.seek(0, os.SEEK_END)
        if wanted <= 0 or at == 0:
            continue
        while at > 0 and wanted > 0:
            size = min(_BLOCK_BYTES, at)
            at -= size
            file.seek(at)
            block = file.read(size)
            # The newline at the very end closes the last line and begins none.
            end = len(block) - 1 if at + size == os.fstat(file.fileno()).st_size else len(block)
            while (newline := block.rfind(b"\n", 0, end)) >= 0:
                end = newline
                wanted -= 1
                if wanted == 0:
                    file.seek(at + newline + 1)
                    break
        if wanted > 0:
            file.seek(0)
            wanted -= 1  # the file's first line has no newline before it
