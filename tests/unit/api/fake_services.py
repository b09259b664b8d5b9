"""Services that keep everything in memory: the API is tested over them, on a real unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any

from teul.errors import Conflict, NotFound, NotModified
from teul.linux.cgroups import Layout
from teul.model.config import ContainerConfig
from teul.model.container import Container, ContainerEndpoint, ContainerExit, CreateContainer, CreatedContainer
from teul.model.exec import Exec, ExecConfig
from teul.model.host_config import HostConfig, LogConfig
from teul.model.image import Image
from teul.model.lifecycle import exited, started
from teul.model.log import LogEntry, LogQuery
from teul.oci.digest import Digest
from teul.oci.image_config import ImageDocument
from teul.oci.platform import Platform
from teul.runtime.engine.attachment import Attachment
from teul.services.containers.execs import Execs
from teul.services.containers.processes import Listing
from teul.services.containers.resources import ContainerResources
from teul.services.containers.service import Containers
from teul.services.events import Events, container_event
from teul.services.images.archives import ImageArchives
from teul.services.images.listing import ImageQuery, ImageSummary
from teul.services.images.remove import ImageRemover
from teul.services.images.service import Images
from teul.services.networks.service import Networks
from teul.services.system import EngineFacts, System

IMAGE_ID = "sha256:" + "1" * 64
NOW_NS = 1_700_000_000_123_456_789
SECOND_NS = 1_000_000_000


def make_container(name: str = "box", *, identifier: str | None = None, **changes: Any) -> Container:
    """A container as the service would have made it."""
    config = ContainerConfig(hostname="box", image="busybox", cmd=["sh", "-c", "echo hi"], env=["A=b"], labels={"tier": "web"})
    host_config = HostConfig(network_mode="bridge", log_config=LogConfig(type="json-file", config={}), runtime="teul")
    fields: dict[str, Any] = {
        "id": identifier or (name.encode().hex() + "0" * 64)[:64],
        "name": name,
        "created_at_ns": NOW_NS,
        "image_id": IMAGE_ID,
        "image_reference": "busybox",
        "path": "sh",
        "args": ["-c", "echo hi"],
        "config": config,
        "host_config": host_config,
    }
    return Container(**{**fields, **changes})


def attached_endpoint() -> ContainerEndpoint:
    """What the network service fills in at start."""
    return ContainerEndpoint(
        network_name="bridge",
        network_id="n" * 64,
        endpoint_id="e" * 64,
        ipv4="172.17.0.2",
        ipv4_prefix=16,
        gateway="172.17.0.1",
        mac="02:42:ac:11:00:02",
    )


class FakeAttachment(Attachment):
    """A process whose output the test feeds and whose input it reads."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__(terminal=terminal, wants={})
        self.output: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self.stdin = bytearray()
        self.stdin_closed = asyncio.Event()
        self.closed = asyncio.Event()
        self.input_cut = False
        self.room = asyncio.Event()
        self.room.set()
        self.refuses_input = False

    def feed(self, *pieces: tuple[int, bytes]) -> None:
        for piece in pieces:
            self.output.put_nowait(piece)

    def end(self) -> None:
        self.output.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        while (piece := await self.output.get()) is not None:
            yield piece

    async def write(self, data: bytes) -> None:
        await self.room.wait()
        if self.refuses_input:
            raise BrokenPipeError
        self.stdin += data

    async def close_stdin(self) -> None:
        self.stdin_closed.set()

    def cut_input(self) -> None:
        self.input_cut = True

    async def close(self) -> None:
        self.closed.set()


class FakeContainers(Containers):
    """Records what was asked of it in `calls`."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.records: dict[str, Container] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.attachments: dict[str, FakeAttachment] = {}
        self.entries: list[LogEntry | Exception] = []
        self.follow_entries: asyncio.Queue[LogEntry] = asyncio.Queue()
        self.log_queries: list[LogQuery] = []
        self.entries_read = 0
        self.logs_closed = asyncio.Event()
        self.exits: dict[str, asyncio.Future[ContainerExit]] = {}
        self.failure: Exception | None = None

    def add(self, container: Container) -> Container:
        self.records[container.id] = container
        return container

    async def create(self, request: CreateContainer) -> CreatedContainer:
        self._note("create", request)
        name = request.name or "quiet_fox"
        container = self.add(make_container(name, config=request.config, host_config=request.host_config, networking=request.networking))
        self.events.publish(container_event(container, "create"))
        return CreatedContainer(id=container.id, warnings=["one warning"])

    def get(self, reference: str) -> Container:
        wanted = reference.removeprefix("/")
        for container in self.records.values():
            if container.name == wanted or container.id.startswith(wanted):
                return container
        raise NotFound(f"No such container: {reference}")

    def list(self) -> Sequence[Container]:
        return sorted(self.records.values(), key=lambda container: -container.created_at_ns)

    async def start(self, reference: str) -> None:
        self._note("start", reference)
        container = self.get(reference)
        if container.state.counts_as_running:
            raise NotModified("already running")
        container.state = started(container.state, pid=4242, now_ns=NOW_NS)
        container.endpoints = {"bridge": attached_endpoint()}
        self.events.publish(container_event(container, "start"))

    async def stop(self, reference: str, *, signal: str | None = None, timeout_seconds: int | None = None) -> None:
        self._note("stop", reference, signal, timeout_seconds)
        container = self.get(reference)
        if not container.state.counts_as_running:
            raise NotModified("not running")
        self.exit(reference, 137)

    async def restart(self, reference: str, *, signal: str | None = None, timeout_seconds: int | None = None) -> None:
        self._note("restart", reference, signal, timeout_seconds)

    async def kill(self, reference: str, *, signal: str = "KILL") -> None:
        self._note("kill", reference, signal)
        container = self.get(reference)
        if not container.state.counts_as_running:
            raise Conflict(f"container {container.id} is not running")

    async def pause(self, reference: str) -> None:
        self._note("pause", reference)

    async def unpause(self, reference: str) -> None:
        self._note("unpause", reference)

    async def rename(self, reference: str, name: str) -> None:
        self._note("rename", reference, name)

    async def remove(self, reference: str, *, force: bool = False, volumes: bool = False, link: bool = False) -> None:
        self._note("remove", reference, force, volumes, link)
        del self.records[self.get(reference).id]

    def wait(self, reference: str, condition: str) -> Awaitable[ContainerExit]:
        self._note("wait", reference, condition)
        future = asyncio.get_running_loop().create_future()
        self.exits[self.get(reference).id] = future
        return future

    def exit(self, reference: str, code: int, *, error: str | None = None) -> None:
        """End the container, and what waits for it."""
        container = self.get(reference)
        if container.state.has_process:
            container.state = exited(container.state, exit_code=code, oom_killed=False, now_ns=NOW_NS)
        if (future := self.exits.pop(container.id, None)) is not None and not future.done():
            future.set_result(ContainerExit(status_code=code, error=error))

    async def attach(self, reference: str, *, stdin: bool, stdout: bool, stderr: bool) -> FakeAttachment:
        self._note("attach", reference, stdin, stdout, stderr)
        container = self.get(reference)
        return self.attachments.setdefault(container.id, FakeAttachment(terminal=container.config.tty))

    async def logs(self, reference: str, query: LogQuery) -> AsyncIterator[LogEntry]:
        self._note("logs", reference)
        self.log_queries.append(query)
        return self._entries(query)

    async def _entries(self, query: LogQuery) -> AsyncIterator[LogEntry]:
        try:
            for entry in self.entries:
                if isinstance(entry, Exception):
                    raise entry
                self.entries_read += 1
                yield entry
            while query.follow:
                yield await self.follow_entries.get()
        finally:
            self.logs_closed.set()

    async def resize(self, reference: str, *, height: int, width: int) -> None:
        self._note("resize", reference, height, width)

    async def top(self, reference: str, ps_args: str) -> Listing:
        self._note("top", reference, ps_args)
        return ["PID", "CMD"], [["1", "sh"]]

    async def size(self, container: Container) -> tuple[int, int]:
        return 12, 3456

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure


class FakeExecs(Execs):
    """Execs of running containers."""

    def __init__(self) -> None:
        self.records: dict[str, Exec] = {}
        self.attachments: dict[str, FakeAttachment] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None

    async def create(self, container_reference: str, config: ExecConfig) -> str:
        identifier = f"{len(self.records):064x}"
        command = config.cmd or []
        container = make_container(container_reference)
        self.records[identifier] = Exec(id=identifier, container_id=container.id, config=config, path=command[0], args=command[1:])
        self.attachments[identifier] = FakeAttachment(terminal=config.tty)
        return identifier

    async def start(self, exec_id: str, *, detach: bool, terminal: bool) -> FakeAttachment | None:
        self.calls.append(("start", exec_id, detach, terminal))
        if self.failure is not None:
            raise self.failure
        return None if detach else self.attachments[exec_id]

    def get(self, exec_id: str) -> Exec:
        try:
            return self.records[exec_id]
        except KeyError:
            raise NotFound(f"No such exec instance: {exec_id}") from None

    def ids(self, container_id: str) -> list[str]:
        return [record.id for record in self.records.values() if record.container_id == container_id and record.running]

    async def resize(self, exec_id: str, *, height: int, width: int) -> None:
        self.calls.append(("resize", exec_id, height, width))


class FakeImages(Images):
    """`names` maps what clients write to image ids."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def resolve(self, reference: str, platform: Platform | None = None) -> Image:
        try:
            return _image(Digest(self.names[reference]))
        except KeyError:
            raise NotFound(f"No such image: {reference}") from None

    def get(self, image_id: Digest) -> Image:
        if str(image_id) not in self.names.values():
            raise NotFound(f"No such image: {image_id}")
        return _image(image_id)

    def layer_directories(self, image: Image) -> list[str]:
        return ["/root/snapshots/top/fs", "/root/snapshots/bottom/fs"]

    def count(self) -> int:
        return len(self.names)

    def layers_size_bytes(self) -> int:
        return 4096

    def list(self, query: ImageQuery) -> Sequence[ImageSummary]:
        return []


def _image(image_id: Digest) -> Image:
    return Image(image_id, None, b"", ImageDocument(), (), (), 0, NOW_NS)


@dataclass
class FakeServices:
    """Takes the place of `teul.api.http.context.Services`; a test may replace each of them while the API is served."""

    events: Events = field(default_factory=Events)
    execs: FakeExecs = field(default_factory=FakeExecs)
    images: Images = field(default_factory=lambda: FakeImages({"busybox": IMAGE_ID}))
    image_archives: ImageArchives = field(init=False)
    image_remover: ImageRemover = field(init=False)
    networks: Networks = field(init=False)
    resources: ContainerResources = field(init=False)
    containers: FakeContainers = field(init=False)
    system: System = field(init=False)

    @property
    def lifecycle(self) -> FakeContainers:
        """One fake serves as both doors to containers."""
        return self.containers

    def __post_init__(self) -> None:
        self.containers = FakeContainers(self.events)
        facts = EngineFacts(
            engine_id="11111111-2222-3333-4444-555555555555",
            version="0.1.0",
            root="/root",
            run_root="/run/teul",
            cgroups=Layout({}, (), "/sys/fs/cgroup", frozenset({"cpu", "memory", "pids", "cpuset"})),
        )
        self.system = System(facts, self.containers, self.images, self.events)
