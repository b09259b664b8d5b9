"""Whose files a worker gets to see when the container ends meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path

import pytest

from support.container_records import container_record
from teul.aio import run_blocking
from teul.errors import NotFound, System
from teul.model.container import Container
from teul.model.filesystem import Change
from teul.runtime.engine.process import ExitRecord, Process
from teul.services.containers.directories import EngineDirectories
from teul.services.containers.filesystem import Filesystems
from teul.services.containers.launch import Launcher
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.run import Runs
from teul.services.events import Events
from teul.services.images.service import Images
from teul.services.usage import Usage
from teul.services.volumes.service import Volumes
from teul.store.metadata.database import Database
from teul.workers import rootfs
from teul.workers.rootfs import Bind, ContainerGone, View

OWN, FOREIGN = b"its own", b"another container's"


def file_with(content: bytes) -> int:
    """A descriptor that stands for a pidfd: what is read from it says whose it is."""
    fd = os.memfd_create("process", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


class NoImages(Images):
    def __init__(self) -> None:
        pass

    def get(self, image_id: object) -> None:  # type: ignore[override] # nobody looks at it
        return None

    def lower(self, image: object) -> AbstractContextManager[list[str | int]]:
        return nullcontext([])


class NoLauncher(Launcher):
    def __init__(self, directories: EngineDirectories) -> None:
        self.directories = directories
        self.volumes = NoVolumes()


class NoVolumes(Volumes):
    """The container has none."""

    def __init__(self) -> None:
        pass


class EndingContainer(Filesystems):
    """The container's first process ends while its binds are looked up, and another container's takes the number of its pidfd."""

    ends: Process | None = None

    def _binds(self, container: Container, owner: AsyncExitStack) -> tuple[Bind, ...]:
        if self.ends is not None:
            number, self.ends.pidfd = self.ends.pidfd, -1
            taken = file_with(FOREIGN)
            os.dup2(taken, number)
            os.close(taken)
            self.ends = None
        return ()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "teul.db"))
    yield database
    database.close()


class Case:
    def __init__(self, database: Database, path: Path) -> None:
        self.registry = ContainerRegistry(database, image_usage=Usage(), network_usage=Usage(), volume_usage=Usage())
        self.runs = Runs()
        launcher = NoLauncher(EngineDirectories(str(path), str(path)))
        self.files = EndingContainer(self.registry, self.runs, launcher, NoImages(), Events())
        self.container = container_record(running=True)
        near, self.keeper = socket.socketpair()
        self.process = Process(str(path), near, terminal=False, lost=lambda _process: None)
        self.process.pidfd = file_with(OWN)
        self.runs.of(self.container.id).process = self.process
        self.seen: list[bytes | None] = []

    @asynccontextmanager
    async def look(self, view: View) -> AsyncIterator[View]:
        """What a worker would see, after another moment."""
        await asyncio.sleep(0)
        self.seen.append(None if view.pidfd is None else await run_blocking(os.pread, view.pidfd, 100, 0))
        yield view


@pytest.fixture
async def case(database: Database, tmp_path: Path) -> AsyncIterator[Case]:
    made = Case(database, tmp_path)
    await made.registry.add(made.container)
    yield made
    made.process.forget()
    made.keeper.close()


async def test_a_worker_never_gets_the_process_of_another_container(case: Case) -> None:
    """security: the number of a closed descriptor is the next container's."""
    case.files.ends = case.process
    async with case.files._entered(case.container, case.look) as view:
        assert view.pidfd is not None
        copy = view.pidfd
        assert case.seen == [OWN]
        assert await run_blocking(os.pread, copy, 100, 0) == OWN, "it is kept for as long as the files are worked on"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copy)


async def test_a_container_that_has_ended_is_entered_when_its_end_is_settled(case: Case) -> None:
    """Not before: what follows from the end needs the lock that a stopped container's files are worked on with."""
    run = case.runs.of(case.container.id)
    case.process.finish(ExitRecord(exit_code=0, finished_at_ns=1))

    async def settle() -> None:
        await asyncio.sleep(0.01)
        async with run.lock:
            assert case.seen == []
            run.process = None
        run.settled.set()

    settling = asyncio.ensure_future(settle())
    async with case.files._entered(case.container, case.look):
        assert case.seen == [None]
    await settling


async def test_a_container_that_ends_before_its_root_is_entered_is_waited_for(case: Case) -> None:
    run = case.runs.of(case.container.id)
    fds = len(await run_blocking(os.listdir, "/proc/self/fd"))

    @asynccontextmanager
    async def gone_at_first(view: View) -> AsyncIterator[View]:
        if view.pidfd is not None:
            run.process = None
            asyncio.get_running_loop().call_soon(run.settled.set)
            raise ContainerGone("the container has ended")
        yield view

    async with case.files._entered(case.container, gone_at_first) as view:
        assert view.pidfd is None
    assert len(await run_blocking(os.listdir, "/proc/self/fd")) == fds, "the copy of the first look is closed"


async def test_a_container_that_is_removed_meanwhile_is_not_found(case: Case) -> None:
    run = case.runs.of(case.container.id)
    await case.registry.remove(case.container)
    case.process.finish(ExitRecord(exit_code=0, finished_at_ns=1))
    run.settled.set()
    with pytest.raises(NotFound, match="No such container"):
        async with case.files._entered(case.container, case.look):
            pass


@pytest.mark.parametrize("removed", [True, False])
async def test_changes_of_a_container_that_is_removed_meanwhile_are_not_found(
    case: Case, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    """Its directory went while the worker was on its way; a directory that went otherwise is the engine's trouble."""

    async def list_changes(upper: str, lower: list[str | int]) -> list[Change]:
        if removed:
            await case.registry.remove(case.container)
        raise System(f"[Errno 2] No such file or directory: '{upper}'")

    monkeypatch.setattr(rootfs, "list_changes", list_changes)
    with pytest.raises(NotFound if removed else System, match="No such container" if removed else "No such file"):
        await case.files.changes(case.container.id)
