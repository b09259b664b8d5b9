"""Images that are removed while containers are made of them and started, and while their layers are loaded once more.

The real services of both on one database; who waits, waits at the awkward place for as long as the test says.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from support.stored_images import StoredImages
from teul.aio import SlowWork, Tasks, run_blocking
from teul.errors import NotFound
from teul.model.config import ContainerConfig
from teul.model.container import Container, CreateContainer, CreatedContainer
from teul.model.host_config import HostConfig
from teul.model.lifecycle import Status
from teul.oci.digest import Digest, chain_ids
from teul.oci.reference import Reference
from teul.runtime.engine.process import Process
from teul.runtime.engine.supervisor import PendingAttachment
from teul.services.containers.directories import EngineDirectories
from teul.services.containers.lifecycle import Lifecycle
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.removal import Removal
from teul.services.containers.run import Runs
from teul.services.containers.service import Containers
from teul.services.containers.supervision import Supervision
from teul.services.events import Events
from teul.services.images.remove import ImageInUse
from teul.services.usage import Usage
from teul.services.watching import DirectoryWatcher
from unit.services.containers.cases import HOST
from unit.services.containers.world import FakeLauncher, NoAddresses, NoNames, NoVolumes

T = TypeVar("T")


class Gate:
    """A place where somebody waits until the test lets everybody pass."""

    def __init__(self) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        async with asyncio.timeout(10):
            await self.opened.wait()


class LookingLauncher(FakeLauncher):
    """Looks its container's layers up before it waits at the gate and after that, as a start does when the child mounts them."""

    def __init__(self, directories: EngineDirectories, stored: StoredImages) -> None:
        super().__init__(directories)
        self.host = HOST
        self.gate = Gate()
        self._stored = stored

    async def launch(self, container: Container, attach: list[PendingAttachment]) -> Process:
        lower = self._stored.images.layer_directories(self._stored.images.get(Digest(container.image_id)))
        await self.gate.wait()
        for directory in lower:
            assert await run_blocking(os.listdir, directory) == ["file"]
        return await super().launch(container, attach)


class Case:
    """Images and containers of one engine."""

    def __init__(self, stored: StoredImages, path: Path, tasks: Tasks, slow: SlowWork) -> None:
        self.stored = stored
        self.directories = EngineDirectories(str(path), str(path))
        self.registry = ContainerRegistry(stored.database, image_usage=stored.usage, network_usage=Usage(), volume_usage=Usage())
        self.launcher = LookingLauncher(self.directories, stored)
        runs, events = Runs(), Events()
        self.containers = Containers(
            self.registry,
            runs,
            self.launcher,
            stored.images,
            volumes=NoVolumes(),
            names=NoNames(),
            events=events,
            watcher=DirectoryWatcher(),
            slow=slow,
        )
        self.removal = Removal(
            self.registry,
            runs,
            directories=self.directories,
            images=stored.images,
            volumes=NoVolumes(),
            endpoints=NoAddresses(),
            events=events,
            tasks=tasks,
            slow=slow,
        )
        supervision = Supervision(
            self.registry, runs, launcher=self.launcher, removal=self.removal, names=NoNames(), events=events, tasks=tasks
        )
        self.lifecycle = Lifecycle(
            self.registry, runs, launcher=self.launcher, removal=self.removal, supervision=supervision, events=events, slow=slow
        )

    async def create(self, image: str = "a:1") -> CreatedContainer:
        config = ContainerConfig(image=image, cmd=["x"])
        return await self.containers.create(CreateContainer(name="made", config=config, host_config=HostConfig()))

    def gate(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, **wanted: Any) -> Gate:
        """Have calls of `owner.name` wait, those with these keywords."""
        gate, real = Gate(), getattr(owner, name)

        async def behind(*arguments: Any, **options: Any) -> Any:
            if wanted.items() <= options.items():
                await gate.wait()
            return await real(*arguments, **options)

        monkeypatch.setattr(owner, name, behind)
        return gate

    def layers(self) -> list[str]:
        return os.listdir(self.stored.root / "snapshots")


@asynccontextmanager
async def meanwhile(coroutine: Coroutine[Any, Any, T], gate: Gate) -> AsyncIterator[asyncio.Task[T]]:
    """Inside, the task of `coroutine` waits at `gate`; behind it, it has ended."""
    task = asyncio.get_running_loop().create_task(coroutine)
    async with asyncio.timeout(10):
        await gate.reached.wait()
    yield task
    gate.opened.set()
    async with asyncio.timeout(10):
        await asyncio.wait([task])


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    stored = await StoredImages.open(tmp_path / "root")
    await run_blocking(os.mkdir, stored.root / "containers")
    async with SlowWork() as slow, Tasks() as tasks:
        made = Case(stored, stored.root, tasks, slow)
        yield made
        for process in made.launcher.processes:
            process.forget()
            process.keeper.close()
    await stored.close()


async def test_an_image_that_is_removed_while_a_container_is_made_of_it_keeps_its_layers(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = await case.stored.add("a:1")
    gate = case.gate(monkeypatch, case.registry, "add")
    async with meanwhile(case.create(), gate) as creation:
        with pytest.raises(ImageInUse):
            await case.stored.remover.remove("a:1")
        await case.stored.remover.remove("a:1", force=True)
    container = case.containers.get((await creation).id)
    assert await run_blocking(case.layers) == [chain_ids([Digest.of(b"layer")])[0].hex]
    assert case.stored.images.get(image_id).deleted
    await case.lifecycle.remove(container.id)
    assert await run_blocking(case.layers) == [], "with its last container the image goes"


async def test_an_image_is_nobodys_when_its_container_could_not_be_made(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    await case.stored.add("a:1")

    async def refuse(_container: Container) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(case.registry, "add", refuse)
        with pytest.raises(OSError, match="No space left"):
            await case.create()
    assert await run_blocking(os.listdir, case.stored.root / "containers") == []
    await case.create()  # the name is free
    await case.lifecycle.remove("made")
    await case.stored.remover.remove("a:1")
    assert not any((await case.stored.rows()).values())
    assert await run_blocking(case.layers) == []


async def test_no_container_is_made_of_an_image_that_is_going(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the decision on, before the row has gone: a container that came now would lose its layers."""
    image_id = await case.stored.add()
    gate = case.gate(monkeypatch, case.stored.database, "transact", frees=True)
    async with meanwhile(case.stored.remover.remove(str(image_id)), gate) as removal:
        with pytest.raises(NotFound, match="No such image"):
            await case.create(str(image_id))
    await removal
    assert await run_blocking(case.layers) == []
    assert case.containers.list() == []


async def test_a_container_that_was_made_while_the_removal_waited_for_its_turn_can_be_started(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal had found no container: what counts is the moment at which nobody else changes images."""
    image_id = await case.stored.add()
    lock, untag = case.stored.store._lock, case.stored.store.untag

    async def untag_and_keep_others_from_their_turn(references: Sequence[Reference]) -> None:
        await untag(references)
        await lock.acquire()

    monkeypatch.setattr(case.stored.store, "untag", untag_and_keep_others_from_their_turn)
    removal = asyncio.get_running_loop().create_task(case.stored.remover.remove(str(image_id)))
    async with asyncio.timeout(10):
        while not lock._waiters:
            await asyncio.sleep(0)
    await case.create(str(image_id))
    lock.release()
    assert not any(each.deleted in chain_ids([Digest.of(b"layer")]) for each in await removal)
    case.launcher.gate.opened.set()
    await case.lifecycle.start("made")
    assert case.containers.get("made").state.status is Status.RUNNING


async def test_an_image_that_is_removed_while_a_container_starts_keeps_its_layers(case: Case) -> None:
    await case.stored.add("a:1")
    await case.create()
    async with meanwhile(case.lifecycle.start("made"), case.launcher.gate) as start:
        await case.stored.remover.remove("a:1", force=True)
    await start
    assert case.containers.get("made").state.status is Status.RUNNING


async def test_layers_that_are_going_are_not_counted_on_by_a_load(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The load had found them unpacked. It is told, and unpacks them itself."""
    image_id = await case.stored.add()
    store = case.stored.store
    image, prepared = case.stored.prepare("b:1", layers=[b"layer"], author="somebody else")
    assert store.missing(chain_ids(image.platforms[0].document.diff_ids)) == []
    gate = case.gate(monkeypatch, case.stored.database, "transact", frees=True)
    async with meanwhile(case.stored.remover.remove(str(image_id)), gate):
        loading = asyncio.get_running_loop().create_task(store.commit([image], {}, tagged_at_ns=0))
        await asyncio.sleep(0)
    assert await loading is False
    assert await store.commit([image], prepared, tagged_at_ns=0)
    [directory] = case.stored.images.layer_directories(case.stored.images.resolve("b:1"))
    assert await run_blocking(os.listdir, directory) == ["file"]
