"""Reading a container's log, in either format: all entries, the last ones, and those still to be written."""

from __future__ import annotations

import asyncio
import calendar
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from functools import lru_cache
from typing import TypeVar

import msgspec

from teul.aio import run_blocking, run_to_end
from teul.model.log import LogEntry, LogQuery
from teul.runtime.messages import LogFormat
from teul.services.containers.log_files import LogFiles
from teul.services.watching import DirectoryWatcher
from teul.wire import locallog

T = TypeVar("T")
_STREAMS = {"stdout": 1, "stderr": 2}


class _Line(msgspec.Struct):
    log: str
    time: str
    stream: str = "stdout"
    attrs: dict[str, str] | None = None


_DECODER = msgspec.json.Decoder(_Line)


def _decode_json(whole: bytes) -> Iterator[LogEntry]:
    for line in _decode_lines(whole):
        yield LogEntry(_STREAMS.get(line.stream, 1), parse_time(line.time), line.log.encode("utf-8", "surrogatepass"), line.attrs)


def _decode_lines(whole: bytes) -> list[_Line]:
    try:
        return _DECODER.decode_lines(whole)
    except msgspec.MsgspecError:
        pass  # a line was damaged (by a crash of the host, say): the other lines are still good
    lines = []
    for line in whole.split(b"\n"):
        with suppress(msgspec.MsgspecError):
            lines.append(_DECODER.decode(line))
    return lines


def _decode_local(whole: bytes) -> Iterator[LogEntry]:
    for line in whole.split(b"\n"):
        entry = locallog.decode_line(line)
        if entry is not None:
            stream, time_ns, attrs, data = entry
            yield LogEntry(stream, time_ns, data, _decode_attrs(attrs) if attrs else None)


@lru_cache(maxsize=16)
def _decode_attrs(text: str) -> dict[str, str] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.MsgspecError:
        return None  # a damaged line: what it says is still good


async def read_log(
    path: str, query: LogQuery, ended: asyncio.Future[T] | None, watcher: DirectoryWatcher, *, form: LogFormat = "json"
) -> AsyncIterator[LogEntry]:
    """The entries of the log at `path`, which is in the format `form`; with `query.follow`, until `ended` is done and the rest was read."""
    decode = _decode_json if form == "json" else _decode_local
    async with AsyncExitStack() as stack:
        follow = query.follow and ended is not None
        # Before the first look: what is written after it is told.
        changed = await stack.enter_async_context(watcher.watching(os.path.dirname(path))) if follow else asyncio.Event()
        files = LogFiles(path, query.tail)
        stack.push_async_callback(_close, files)
        while True:
            changed.clear()
            finished = not follow or (ended is not None and ended.done())
            while lines := await run_blocking(files.read_lines):
                for entry in decode(lines):
                    if query.until_ns is not None and entry.time_ns > query.until_ns:
                        return
                    if _wanted(entry, query):
                        yield entry
            if finished:
                return
            assert ended is not None
            await _either(changed, ended)


async def _close(files: LogFiles) -> None:
    await run_to_end(run_blocking(files.close))


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


@lru_cache(maxsize=64)
def parse_time(text: str) -> int:
    """RFC 3339 in UTC to nanoseconds. Lines that were read together carry one time, hence the cache."""
    moment, _, fraction = text.removesuffix("Z").partition(".")
    date, _, clock = moment.partition("T")
    year, month, day = map(int, date.split("-"))
    hour, minute, second = map(int, clock.split(":"))
    return calendar.timegm((year, month, day, hour, minute, second)) * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)
