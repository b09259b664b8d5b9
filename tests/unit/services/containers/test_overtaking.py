"""Requests that overtake a start: whoever asks while a container or an exec is being started is answered as if it ran already."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from teul.errors import InvalidParameter, System
from teul.model.container import Container
from teul.model.exec import ExecConfig
from teul.runtime.engine.process import Process, StartError
from teul.runtime.engine.supervisor import PendingAttachment, Supervisor
from teul.runtime.messages import Launch
from teul.services.containers import execs as module
from teul.services.containers.errors import NotRunning, StartFailure
from unit.services.containers.test_execs import UnpreparedExecs, start_error
from unit.services.containers.world import FakeLauncher, FakeProcess, World, world


class SlowLauncher(FakeLauncher):
    """Starts when it is let."""

    def __init__(self, other: FakeLauncher) -> None:
        super().__init__(other.directories)
        self.processes = other.processes
        self.asked = asyncio.Event()
        self.may_start = asyncio.Event()

    async def launch(self, container: Container, attach: list[PendingAttachment]) -> Process:
        self.asked.set()
        await self.may_start.wait()
        return await super().launch(container, attach)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


@pytest.mark.parametrize("starts", [True, False])
async def test_a_signal_waits_for_the_start(here: World, starts: bool) -> None:
    container = await here.add()
    launcher = SlowLauncher(here.launcher)
    here.supervision._launcher = launcher
    starting = asyncio.create_task(here.lifecycle.start(container.id))
    await launcher.asked.wait()
    killing = asyncio.create_task(here.lifecycle.kill(container.id, signal="USR1"))
    await asyncio.sleep(0.01)
    assert not killing.done()
    if not starts:
        launcher.failures = [start_error("exec", "no such program")]
    launcher.may_start.set()
    if starts:
        await killing
        await starting
        assert launcher.processes[0].signals == [signal.SIGUSR1]
    else:
        with pytest.raises(StartFailure):
            await starting
        with pytest.raises(NotRunning):
            await killing


class SlowSupervisor(Supervisor):
    """Starts what it is let; `process` is what comes of it, or why nothing does."""

    process: FakeProcess | StartError

    async def start(
        self, launch: Launch, *, attach: list[PendingAttachment], donors: Sequence[int] = (), mounts: Sequence[int] = ()
    ) -> Process:
        await asyncio.sleep(0.01)
        if isinstance(self.process, StartError):
            raise self.process
        return self.process


class Resized(FakeProcess):
    """Notes the sizes that its terminal got."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.sizes: list[tuple[int, int]] = []

    def resize(self, height: int, width: int) -> None:
        self.sizes.append((height, width))


class Case:
    def __init__(self, world: World) -> None:
        self.world = world
        self.supervisor = SlowSupervisor(world.tasks)
        self.process = Resized(world.launcher.directories.run)
        world.launcher.processes.append(self.process)
        self.supervisor.process = self.process
        self.execs = UnpreparedExecs(
            world.registry, world.runs, launcher=world.launcher, supervisor=self.supervisor, events=world.events, tasks=world.tasks
        )

    async def exec(self) -> str:
        container = await self.world.add()
        process = await self.world.start(container)
        process.pidfd = os.pidfd_open(os.getpid())
        return await self.execs.create(container.id, ExecConfig(cmd=["sh"], tty=True))


async def test_a_terminals_size_waits_for_the_execs_start(here: World) -> None:
    case = Case(here)
    exec_id = await case.exec()
    early = asyncio.create_task(case.execs.resize(exec_id, height=24, width=80))
    await asyncio.sleep(0)
    starting = asyncio.create_task(case.execs.start(exec_id, detach=True, terminal=True))
    await asyncio.sleep(0)
    await case.execs.resize(exec_id, height=30, width=100)
    await asyncio.gather(early, starting)
    assert case.process.sizes == [(24, 80), (30, 100)]
    case.process.end()


async def test_a_terminals_size_does_not_wait_for_what_could_not_be_started(here: World) -> None:
    case = Case(here)
    exec_id = await case.exec()
    case.supervisor.process = start_error("exec", "no such program")
    early = asyncio.create_task(case.execs.resize(exec_id, height=24, width=80))
    with pytest.raises(StartFailure):
        await case.execs.start(exec_id, detach=True, terminal=True)
    with pytest.raises(InvalidParameter, match="exec process is not started"):
        await early


async def test_what_nobody_starts_is_not_waited_for_without_end(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(here)
    exec_id = await case.exec()
    monkeypatch.setattr(module, "_START_SECONDS", 0.01)
    with pytest.raises(System, match="timeout waiting for exec session ready"):
        await case.execs.resize(exec_id, height=24, width=80)
