"""One inotify instance tells everybody, and where the host gives none, everybody still hears."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from teul.aio import run_blocking
from teul.linux import inotify
from teul.services import watching
from teul.services.watching import DirectoryWatcher

SECONDS = 20


@pytest.fixture
async def watcher() -> AsyncIterator[DirectoryWatcher]:
    watcher = DirectoryWatcher()
    yield watcher
    watcher.close()
    assert instances() == [], "an instance was not given back"


def instances() -> list[str]:
    """The inotify descriptors of this process."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:inotify":
                found.append(fd)
        except FileNotFoundError:
            pass  # the listing's own
    return found


def kernel_watches() -> int:
    """How many watches the kernel keeps for this process."""
    return sum(Path(f"/proc/self/fdinfo/{fd}").read_text().count("inotify wd:") for fd in instances())


def refusing(number: int, calls: list[int]) -> Any:
    def refuse(*_arguments: object) -> int:
        calls.append(number)
        raise OSError(number, os.strerror(number))

    return refuse


async def heard(changed: asyncio.Event) -> None:
    async with asyncio.timeout(SECONDS):
        await changed.wait()


async def test_two_hundred_listeners_hear_by_one_instance(watcher: DirectoryWatcher, tmp_path: Path) -> None:
    """The host has 128 instances for all programs of a user. A directory has one watch, which goes with its last listener."""
    directories = [tmp_path / f"{number}" for number in range(10)]
    for directory in directories:
        directory.mkdir()
    async with AsyncExitStack() as stack:
        listeners = [(where, await stack.enter_async_context(watcher.watching(str(where)))) for where in directories * 20]
        assert len(instances()) == 1
        assert kernel_watches() == len(directories)
        assert not any(changed.is_set() for _, changed in listeners)
        await run_blocking(os.mkdir, directories[0] / "new")
        for where, changed in listeners:
            if where == directories[0]:
                await heard(changed)
        assert {where for where, changed in listeners if changed.is_set()} == {directories[0]}, "who watches another directory was woken"
        for directory in directories[1:]:
            await run_blocking(os.mkdir, directory / "new")
        for _, changed in listeners:
            await heard(changed)
    assert kernel_watches() == 0
    assert len(instances()) == 1


async def test_a_watch_stays_for_as_long_as_somebody_listens(watcher: DirectoryWatcher, tmp_path: Path) -> None:
    """Whoever leaves first takes nothing along; who comes again after the last one has a watch again."""
    for _ in range(3):
        async with watcher.watching(str(tmp_path)) as stays:
            async with watcher.watching(str(tmp_path)):
                pass
            await run_blocking(os.mkdir, tmp_path / "new")
            await heard(stays)
        await run_blocking(os.rmdir, tmp_path / "new")
        assert kernel_watches() == 0


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOSPC])
@pytest.mark.parametrize("call", ["open_instance", "add_watch"])
async def test_who_cannot_be_told_looks_from_time_to_time(
    watcher: DirectoryWatcher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
    number: int,
) -> None:
    """The host has no more instances, or watches: whoever listens is woken again and again, and the engine's log says so."""
    monkeypatch.setattr(watching, "_POLL_SECONDS", 0.01)
    calls: list[int] = []
    monkeypatch.setattr(inotify, call, refusing(number, calls))
    async with watcher.watching(str(tmp_path)) as first, watcher.watching(str(tmp_path)) as second:
        assert calls == [number, number], "who comes later tries again"
        for _ in range(3):
            await heard(first)
            await heard(second)
            first.clear()
            second.clear()
    assert f"looking into {tmp_path} every 0.01 s, for the host does not tell of changes: " in caplog.text
    assert os.strerror(number) in caplog.text


async def test_a_directory_that_is_not_there_is_an_error(watcher: DirectoryWatcher, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with watcher.watching(str(tmp_path / "none")):
            pass
    async with watcher.watching(str(tmp_path)) as changed:
        assert not changed.is_set()
        assert kernel_watches() == 1


async def test_lost_events_wake_everybody(watcher: DirectoryWatcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's queue was full: nobody knows what was in it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    read = inotify.read_events

    def lose(fd: int) -> list[tuple[int, int]]:
        assert read(fd)
        return [(-1, inotify.IN_Q_OVERFLOW)]

    monkeypatch.setattr(inotify, "read_events", lose)
    async with watcher.watching(str(tmp_path / "a")) as first, watcher.watching(str(tmp_path / "b")) as second:
        await run_blocking(os.mkdir, tmp_path / "a" / "new")
        await heard(first)
        await heard(second)


async def test_a_directory_that_goes_wakes_its_listeners(watcher: DirectoryWatcher, tmp_path: Path) -> None:
    (tmp_path / "goes").mkdir()
    async with watcher.watching(str(tmp_path / "goes")) as changed:
        await run_blocking(os.rmdir, tmp_path / "goes")
        await heard(changed)
        await run_blocking(os.mkdir, tmp_path / "goes")
        async with watcher.watching(str(tmp_path / "goes")) as again:
            changed.clear()
            await run_blocking(os.mkdir, tmp_path / "goes" / "new")
            await heard(changed)
            await heard(again)
    assert kernel_watches() == 0


async def test_a_listener_that_is_cancelled_while_its_watch_begins_leaves_none(
    watcher: DirectoryWatcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(function: Any, *arguments: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await run_blocking(function, *arguments)

    monkeypatch.setattr(watching, "run_blocking", slowly)

    async def listen() -> None:
        async with watcher.watching(str(tmp_path)):
            raise AssertionError("nobody is here any more")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(listen())
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
    assert task.cancelled()
    assert kernel_watches() == 0
