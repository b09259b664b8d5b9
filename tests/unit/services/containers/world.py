"""What there is around containers, without a host: a registry on a real database, and a launcher and processes that do as they are told."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from support.container_records import container_record
from teul.aio import SlowWork, Tasks, run_blocking
from teul.errors import TeulError
from teul.linux import cgroups
from teul.model.container import Container, LinkedContainer
from teul.model.event import Event
from teul.model.host_config import HostConfig, RestartPolicy
from teul.oci.digest import Digest
from teul.runtime.engine.process import ExitRecord, Process
from teul.runtime.engine.supervisor import PendingAttachment
from teul.services.containers.directories import EngineDirectories
from teul.services.containers.launch import Launcher
from teul.services.containers.lifecycle import Lifecycle
from teul.services.containers.links import Links
from teul.services.containers.names import Names
from teul.services.containers.network_files import NetworkFiles
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.removal import Removal
from teul.services.containers.run import ContainerRun, Runs
from teul.services.containers.supervision import Supervision
from teul.services.containers.volumes import ContainerVolumes
from teul.services.events import Events
from teul.services.images.service import Images
from teul.services.networks.endpoints import Endpoints
from teul.services.networks.linked import LinkedPorts, Pairs
from teul.services.networks.ports import Ports
from teul.services.networks.service import Networks
from teul.services.usage import Usage
from teul.store.metadata.database import Database


class FakeProcess(Process):
    """A process without a keeper. `signals` are those that it got; it ends when the test says so."""

    def __init__(self, directory: str) -> None:
        near, self.keeper = socket.socketpair()
        super().__init__(directory, near, terminal=False, lost=lambda _process: None)
        self.pid = 4711
        self.signals: list[int] = []
        self.dies_of: Callable[[int], bool] = lambda _number: False

    def signal(self, number: int) -> None:
        self.signals.append(number)
        if self.dies_of(number):
            self.end(128 + number)

    def end(self, exit_code: int = 0, *, finished_at_ns: int = 1) -> None:
        self.finish(ExitRecord(exit_code, finished_at_ns))


class NoPorts(Ports):
    """No container publishes any."""

    def __init__(self) -> None:
        pass

    async def release(self, container_id: str) -> None:
        pass

    def started(self, container_id: str) -> None:
        pass


class NoNetworks(Networks):
    """These containers are on none."""

    def __init__(self) -> None:
        self.ports = NoPorts()

    def announce(self, container: Container, action: str) -> None:
        pass


class NoNames(Names):
    """These containers are found by none."""

    def __init__(self) -> None:
        pass

    async def joined(self, container: Container, process: Process) -> None:
        pass

    async def changed(self, container: Container, networks: Iterable[str]) -> None:
        pass


class NoLinkedPorts(LinkedPorts):
    """The containers of the default bridge reach one another: remembers who is linked to whom."""

    def __init__(self) -> None:
        self.pairs: set[tuple[str, str]] = set()
        self.error: TeulError | None = None

    async def follow(self, pairs: Pairs) -> None:
        if self.error is not None:
            raise self.error
        self.pairs = {(parent.id, child.id) for parent, child in pairs()}


class NoLinks(Links):
    """These containers are linked to none."""

    def __init__(self) -> None:
        pass

    async def joined(self, container: Container) -> None:
        pass

    async def open_ports(self) -> None:
        pass

    async def left(self, container: Container) -> None:
        pass

    def environment(self, container: Container) -> list[str]:
        return []

    def resolve(self, parent: str, host_config: HostConfig) -> dict[str, LinkedContainer]:
        return {}


class FakeLauncher(Launcher):
    """Starts are answered from `failures`, the next one first; with none left they succeed."""

    def __init__(self, directories: EngineDirectories) -> None:
        self.directories = directories
        self.networks = NoNetworks()
        self.links: Links = NoLinks()
        self.failures: list[Exception] = []
        self.cleaning_fails: Exception | None = None
        self.left: dict[str, Process] = {}  # what an earlier engine left, by the container's id
        self.processes: list[FakeProcess] = []
        self.cleaned: list[str] = []
        self.ended_cgroups: list[str] = []
        self.cgroups_on_host: set[str] = set()
        self.began_ns = 0

    def new_process(self) -> FakeProcess:
        self.processes.append(FakeProcess(self.directories.run))
        return self.processes[-1]

    async def launch(self, container: Container, attach: list[PendingAttachment]) -> Process:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        return self.new_process()

    async def adopt(self, container_id: str) -> Process | None:
        return self.left.get(container_id)

    async def clean_up(self, container: Container) -> None:
        self.cleaned.append(container.id)
        if self.cleaning_fails is not None:
            raise self.cleaning_fails

    def began_at_ns(self, container_id: str) -> int:
        return self.began_ns

    def cgroup_ids(self) -> set[str]:
        return self.cgroups_on_host

    def cgroup_plan(self, container: Container) -> cgroups.Plan:
        return {"path": f"/{container.id}"}  # type: ignore[typeddict-item] # nothing here carries it out

    def end_cgroup(self, plan: cgroups.Plan) -> None:
        self.ended_cgroups.append(plan["path"].removeprefix("/"))

    def has_cgroup(self, container: Container) -> bool:
        return container.id in self.cgroups_on_host


class NoImages(Images):
    """Nobody looks at the images."""

    def __init__(self) -> None:
        pass

    async def release(self, image_id: Digest) -> None:
        pass


class NoAddresses(Endpoints):
    """No container holds any; `released` are those that were asked for."""

    def __init__(self) -> None:
        self.released: list[str] = []

    async def release(self, container_id: str) -> None:
        self.released.append(container_id)


class NoVolumes(ContainerVolumes):
    """No container has any."""

    def __init__(self) -> None:
        pass

    async def provide(self, container: Container) -> None:
        pass

    async def fill(self, container: Container) -> None:
        pass

    async def discard(self, container: Container) -> None:
        pass


class HeardEvents(Events):
    """Events, and the actions that were published."""

    def __init__(self) -> None:
        super().__init__()
        self.actions: list[str] = []

    def publish(self, event: Event) -> None:
        self.actions.append(event.action)
        super().publish(event)


class World:
    """One engine's containers."""

    def __init__(self, database: Database, path: Path, tasks: Tasks, slow: SlowWork) -> None:
        self.registry = ContainerRegistry(database, image_usage=Usage(), network_usage=Usage(), volume_usage=Usage())
        self.runs = Runs()
        self.events = HeardEvents()
        self.tasks = tasks
        self.slow = slow
        self.images = NoImages()
        directories = EngineDirectories(str(path), str(path))
        self.launcher = FakeLauncher(directories)
        self.linked = NoLinkedPorts()
        self.launcher.links = Links(self.registry, self.runs, NetworkFiles(directories), self.linked)
        self.endpoints = NoAddresses()
        self.removal = Removal(
            self.registry,
            self.runs,
            directories=directories,
            images=self.images,
            volumes=NoVolumes(),
            endpoints=self.endpoints,
            events=self.events,
            tasks=tasks,
            slow=slow,
        )
        self.names = NoNames()
        self.supervision = Supervision(
            self.registry, self.runs, launcher=self.launcher, removal=self.removal, names=self.names, events=self.events, tasks=tasks
        )
        self.lifecycle = Lifecycle(
            self.registry,
            self.runs,
            launcher=self.launcher,
            removal=self.removal,
            supervision=self.supervision,
            events=self.events,
            slow=slow,
        )

    async def add(
        self, container_id: str = "c" * 64, *, policy: str = "no", retries: int = 0, auto_remove: bool = False, running: bool = False
    ) -> Container:
        container = container_record(container_id, running=running)
        container.host_config.restart_policy = RestartPolicy(name=policy, maximum_retry_count=retries)
        container.host_config.auto_remove = auto_remove
        await self.registry.add(container)
        return container

    def run(self, container: Container) -> ContainerRun:
        return self.runs.of(container.id)

    async def start(self, container: Container) -> FakeProcess:
        await self.lifecycle.start(container.id)
        return self.launcher.processes[-1]


@asynccontextmanager
async def world(path: Path) -> AsyncIterator[World]:
    """A world whose tasks end with the `with`."""
    database = await run_blocking(Database, str(path / "teul.db"))
    try:
        async with SlowWork() as slow, Tasks() as tasks:
            made = World(database, path, tasks, slow)
            await run_blocking(os.makedirs, f"{path}/containers", exist_ok=True)
            yield made
    finally:
        for process in made.launcher.processes:
            process.forget()
            process.keeper.close()
        await run_blocking(database.close)


async def until(check: Callable[[], object], what: str) -> None:
    """Let the loop run until `check` is true."""
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.001)
    assert check(), what
