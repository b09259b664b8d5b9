"""What takes long on the host keeps no container from being started."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from teul.aio import run_blocking
from teul.linux import cgroups
from teul.model.container import Container
from teul.runtime.engine.process import Process
from teul.runtime.engine.supervisor import PendingAttachment
from teul.services.containers import removal, service
from teul.services.containers.service import Containers
from teul.services.watching import DirectoryWatcher
from unit.services.containers.world import FakeLauncher, NoVolumes, World, until, world

MANY = 40


class Gate:
    """Blocking work that waits in its thread until the gate is opened."""

    def __init__(self) -> None:
        self.begun = 0
        self._open = threading.Event()

    def pass_through(self, *_arguments: object, **_options: object) -> int:
        self.begun += 1
        self._open.wait()
        return 0

    def open(self) -> None:
        self._open.set()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, engine: World) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr(service, "size_of_tree", made.pass_through)
    monkeypatch.setattr(removal, "discard", made.pass_through)
    monkeypatch.setattr(cgroups, "freeze", made.pass_through)
    monkeypatch.setattr(FakeLauncher, "image_size", lambda _launcher, _container: 0)

    async def launch(launcher: FakeLauncher, container: Container, attach: list[PendingAttachment]) -> Process:
        await run_blocking(int)  # as the real one does, several times
        return launcher.new_process()

    monkeypatch.setattr(FakeLauncher, "launch", launch)
    yield made
    made.open()


async def start_one(engine: World) -> None:
    start = asyncio.create_task(engine.start(await engine.add("s" * 64)))
    done, _ = await asyncio.wait([start], timeout=5)  # it is done at once, or waits until the gate is opened
    assert done


async def test_containers_start_while_sizes_are_measured(engine: World, gate: Gate) -> None:
    """However many ask for them."""
    containers = Containers(
        engine.registry,
        engine.runs,
        engine.launcher,
        engine.images,
        volumes=NoVolumes(),
        names=engine.names,
        events=engine.events,
        watcher=DirectoryWatcher(),
        slow=engine.slow,
    )
    container = await engine.add()
    sizes = [asyncio.create_task(containers.size(container)) for _ in range(MANY)]
    await until(lambda: gate.begun == engine.slow.slots, "every slot is taken")
    await start_one(engine)
    assert not any(size.done() for size in sizes)
    gate.open()
    assert await asyncio.gather(*sizes) == [(0, 0)] * MANY


async def test_containers_start_while_files_of_others_are_removed(engine: World, gate: Gate) -> None:
    for number in range(MANY):
        await engine.lifecycle.remove((await engine.add(f"{number:012x}".ljust(64, "0"))).id)
    await until(lambda: gate.begun == engine.slow.slots, "every slot is taken")
    await start_one(engine)


async def test_containers_start_while_others_are_being_frozen(engine: World, gate: Gate) -> None:
    """Which may take ten seconds each (linux/cgroups/members.py)."""
    pauses = []
    for number in range(MANY):
        container = await engine.add(f"{number:012x}".ljust(64, "0"))
        await engine.start(container)
        pauses.append(asyncio.create_task(engine.lifecycle.pause(container.id)))
    await until(lambda: gate.begun == engine.slow.slots, "every slot is taken")
    await start_one(engine)
    gate.open()
    await asyncio.gather(*pauses)
