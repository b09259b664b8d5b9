"""Services that keep everything in memory: the API is tested over them, on a real unix socket."""

from __future__ import annotations

import asyncio
import signal as signals
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any

from support.image_models import image_of
from teul import errors
from teul.errors import Conflict, InvalidParameter, NotFound, NotImplementedHere
from teul.linux.cgroups import Layout
from teul.model.config import ContainerConfig
from teul.model.container import Container, ContainerEndpoint, ContainerExit, CreateContainer, CreatedContainer
from teul.model.exec import Exec, ExecConfig
from teul.model.filter import Filters
from teul.model.host_config import HostConfig, LogConfig
from teul.model.image import Image
from teul.model.lifecycle import ContainerState, Move, Status, exited, paused, started, unpaused
from teul.model.log import LogEntry, LogQuery
from teul.model.signals import parse_signal
from teul.model.volume import CreateVolume, Volume, VolumeUsage
from teul.oci.digest import Digest
from teul.oci.image_config import ImageDocument, RootFS
from teul.oci.platform import Platform
from teul.oci.reference import parse_reference, parse_reference_or_id
from teul.runtime.engine.attachment import Attachment
from teul.services.containers.commits import Commits
from teul.services.containers.connections import Connections
from teul.services.containers.errors import AlreadyStarted, AlreadyStopped, NotRunning
from teul.services.containers.execs import Execs
from teul.services.containers.explanations import Explanations
from teul.services.containers.processes import Listing
from teul.services.containers.pruning import ContainerPruning
from teul.services.containers.registry import NameTaken, NoSuchContainer
from teul.services.containers.renewal import Renewals
from teul.services.containers.request.check import check_exec, check_name
from teul.services.containers.resources import ContainerResources
from teul.services.containers.run import NEXT_EXIT, NOT_RUNNING, REMOVED, Runs
from teul.services.containers.service import Containers
from teul.services.events import Events, container_event
from teul.services.images.archives import ImageArchives
from teul.services.images.check import ImageCheck
from teul.services.images.disk_usage import DiskUsage, ImageUsage
from teul.services.images.listing import ImageQuery, ImageSummary
from teul.services.images.measuring import ImageTrees
from teul.services.images.moving import ImageMoves
from teul.services.images.pull import ImagePuller
from teul.services.images.push import ImagePusher
from teul.services.images.registries import RemoteRegistries
from teul.services.images.remove import ImageRemover
from teul.services.images.service import Images
from teul.services.networks.service import Networks
from teul.services.system import EngineFacts, System
from teul.services.volumes.archives import VolumeArchives
from teul.services.volumes.request import NoSuchVolume
from teul.services.volumes.service import Volumes

IMAGE_ID = "sha256:" + "1" * 64
NOW_NS = 1_700_000_000_123_456_789
SECOND_NS = 1_000_000_000
RUNNING = started(ContainerState(), pid=4242, now_ns=NOW_NS)


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

    def __init__(self, *, terminal: bool = False, stdin_once: bool = True) -> None:
        super().__init__(terminal=terminal, wants={})
        self.stdin_once = stdin_once
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
        if not self.refuses_input:
            self.stdin += data

    async def close_stdin(self) -> None:
        if self.stdin_once:
            self.stdin_closed.set()

    def cut_input(self) -> None:
        self.input_cut = True

    async def close(self) -> None:
        if not self.input_cut:
            await self.close_stdin()
        self.closed.set()


class FakeContainers(Containers):
    """Both doors to containers, without processes. Records what was asked of it in `calls`; the test is the container's program."""

    def __init__(self, events: Events, images: Images) -> None:
        self.events = events
        self.images = images
        self.runs = Runs()
        self.records: dict[str, Container] = {}
        self.linked_names: list[str] = []
        self.shown_links: list[str] = []
        self.calls: list[tuple[Any, ...]] = []
        self.attachments: dict[str, FakeAttachment] = {}
        self.entries: list[LogEntry | Exception] = []
        self.has_news = asyncio.Event()
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
        self.images.resolve(request.config.image)
        name = self._free_name(request.name or "quiet_fox")
        container = self.add(make_container(name, config=request.config, host_config=request.host_config, networking=request.networking))
        self.events.publish(container_event(container, "create"))
        return CreatedContainer(id=container.id, warnings=["one warning"])

    def get(self, reference: str) -> Container:
        wanted = reference.removeprefix("/")
        for container in self.records.values():
            if container.name == wanted or container.id.startswith(wanted):
                return container
        raise NoSuchContainer(reference)

    def names(self, container: Container) -> Sequence[str]:
        return [f"/{container.name}", *self.linked_names]

    def links(self, container: Container) -> Sequence[str]:
        return self.shown_links

    def _free_name(self, name: str) -> str:
        bare = check_name(name)
        for container in self.records.values():
            if container.name == bare:
                raise NameTaken(bare, container.id)
        return bare

    def _running(self, reference: str) -> Container:
        container = self.get(reference)
        if not container.state.counts_as_running:
            raise NotRunning(container.id)
        return container

    def list(self) -> Sequence[Container]:
        return sorted(self.records.values(), key=lambda container: -container.created_at_ns)

    async def start(self, reference: str) -> None:
        self._note("start", reference)
        container = self.get(reference)
        if container.state.status is Status.PAUSED:
            raise Conflict("cannot start a paused container, try unpause instead")
        if container.state.counts_as_running:
            raise AlreadyStarted
        container.state = started(container.state, pid=4242, now_ns=NOW_NS)
        container.endpoints = {"bridge": attached_endpoint()}
        self.events.publish(container_event(container, "start"))

    async def stop(self, reference: str, *, signal: str | None = None, timeout_seconds: int | None = None) -> None:
        self._note("stop", reference, signal, timeout_seconds)
        container = self.get(reference)
        if not container.state.counts_as_running:
            raise AlreadyStopped
        self.exit(reference, 137)

    async def restart(self, reference: str, *, signal: str | None = None, timeout_seconds: int | None = None) -> None:
        self._note("restart", reference, signal, timeout_seconds)
        if self.get(reference).state.counts_as_running:
            self.exit(reference, 137)
        await self.start(reference)

    async def kill(self, reference: str, *, signal: str = "KILL") -> None:
        self._note("kill", reference, signal)
        number = parse_signal(signal)
        container = self._running(reference)
        if container.state.status is Status.PAUSED and number != signals.SIGKILL:
            container.state = unpaused(container.state)
        if number == signals.SIGKILL:
            self.exit(reference, 137)

    async def pause(self, reference: str) -> None:
        self._note("pause", reference)
        container = self._running(reference)
        if container.state.status is Status.PAUSED:
            raise Conflict(f"container {container.id} is already paused")
        container.state = paused(container.state)

    async def unpause(self, reference: str) -> None:
        self._note("unpause", reference)
        container = self.get(reference)
        if container.state.status is not Status.PAUSED:
            raise Conflict(f"container {container.id} is not paused")
        container.state = unpaused(container.state)

    async def rename(self, reference: str, name: str) -> None:
        self._note("rename", reference, name)
        if not reference or not name:
            raise InvalidParameter("Neither old nor new names may be empty")
        container = self.get(reference)
        if name.removeprefix("/") == container.name:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        try:
            container.name = self._free_name(f"/{name.removeprefix('/')}")
        except (InvalidParameter, Conflict) as error:
            error.message = f"Error when allocating new name: {error.message}"
            raise

    async def remove(self, reference: str, *, force: bool = False, volumes: bool = False, link: bool = False) -> None:
        self._note("remove", reference, force, volumes, link)
        container = self.get(reference)
        if link:
            raise errors.Conflict("Conflict, cannot remove the default link name of the container")
        if container.state.counts_as_running and not force:
            is_paused = container.state.status is Status.PAUSED
            advice = "must be unpaused first" if is_paused else "running: stop the container before removing or force remove"
            advice = f"container is {'paused and ' if is_paused else ''}{advice}"
            raise Conflict(f'cannot remove container "/{container.name}": {advice}')
        self.exit(reference, 137)
        del self.records[container.id]
        self.runs.of(container.id).notify(ContainerExit(status_code=container.state.exit_code), REMOVED, NOT_RUNNING)

    def wait(self, reference: str, condition: str) -> Awaitable[ContainerExit]:
        self._note("wait", reference, condition)
        container = self.get(reference)
        future = self.exits[container.id] = self.runs.of(container.id).waiter(condition)
        if condition == NOT_RUNNING and not container.state.counts_as_running:
            future.set_result(ContainerExit(status_code=container.state.exit_code, error=container.state.error or None))
        return future

    def exit(self, reference: str, code: int) -> None:
        """End the container's program, if it runs, and what goes on with it."""
        container = self.get(reference)
        if not container.state.has_process:
            return
        container.state = exited(container.state, exit_code=code, oom_killed=False, now_ns=NOW_NS)
        self.runs.tell(container, Move.EXITED)
        self.runs.of(container.id).notify(ContainerExit(status_code=code), NOT_RUNNING, NEXT_EXIT)
        self.has_news.set()
        if (attachment := self.attachments.pop(container.id, None)) is not None:
            attachment.end()

    async def attach(self, reference: str, *, stdin: bool, stdout: bool, stderr: bool) -> FakeAttachment:
        self._note("attach", reference, stdin, stdout, stderr)
        container = self.get(reference)
        if container.state.status is Status.PAUSED:
            raise Conflict(f"container {reference} is paused, unpause the container before attach")
        return self.attachments.setdefault(container.id, FakeAttachment(terminal=container.config.tty))

    async def logs(self, reference: str, query: LogQuery) -> AsyncIterator[LogEntry]:
        self._note("logs", reference)
        self.log_queries.append(query)
        container = self.get(reference)
        if container.host_config.log_config.type == "none":
            raise NotImplementedHere("configured logging driver does not support reading")
        return self._entries(container, query)

    def log(self, *entries: LogEntry) -> None:
        """Have followers of the log see these, too."""
        self.entries += entries
        self.has_news.set()

    async def _entries(self, container: Container, query: LogQuery) -> AsyncIterator[LogEntry]:
        position = 0 if query.tail is None else max(0, len(self.entries) - query.tail)
        try:
            while True:
                self.has_news.clear()
                for entry in self.entries[position:]:
                    position += 1
                    if isinstance(entry, Exception):
                        raise entry
                    self.entries_read += 1
                    if query.stdout if entry.stream == 1 else query.stderr:
                        yield entry
                if not query.follow or not container.state.has_process:
                    return
                await self.has_news.wait()
        finally:
            self.logs_closed.set()

    async def resize(self, reference: str, *, height: int, width: int) -> None:
        self._note("resize", reference, height, width)
        self._running(reference)

    async def top(self, reference: str, ps_args: str) -> Listing:
        self._note("top", reference, ps_args)
        self._running(reference)
        return ["PID", "CMD"], [["1", "sh"]]

    async def size(self, container: Container, *, on_disk: bool = False) -> tuple[int, int]:
        return (8192, 11636) if on_disk else (12, 3456)

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure


class FakeExecs(Execs):
    """Execs of running containers; the test is their program."""

    def __init__(self, containers: FakeContainers) -> None:
        self.containers = containers
        self.records: dict[str, Exec] = {}
        self.attachments: dict[str, FakeAttachment] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        containers.runs.follow(self._end_all)

    async def create(self, container_reference: str, config: ExecConfig) -> str:
        container = self._active(container_reference)
        check_exec(config)
        identifier = f"{len(self.records):064x}"
        command = config.cmd or []
        self.records[identifier] = Exec(id=identifier, container_id=container.id, config=config, path=command[0], args=command[1:])
        self.attachments[identifier] = FakeAttachment(terminal=config.tty)
        return identifier

    async def start(self, exec_id: str, *, detach: bool, terminal: bool) -> FakeAttachment | None:
        self.calls.append(("start", exec_id, detach, terminal))
        record = self.get(exec_id)
        if record.started:
            raise Conflict(f"exec command {exec_id} {'is already running' if record.running else 'has already run'}")
        self._active(record.container_id)
        if self.failure is not None:
            raise self.failure
        record.started = record.running = True
        record.config.tty = record.config.tty or terminal
        record.pid = 4243
        return None if detach else self.attachments[exec_id]

    def exit(self, exec_id: str, code: int) -> None:
        """End its program."""
        record = self.records[exec_id]
        record.running, record.can_remove = False, True
        record.exit_code = code
        self.attachments[exec_id].end()

    def get(self, exec_id: str) -> Exec:
        record = self.records.get(exec_id)
        if record is None or record.container_id not in self.containers.records:
            raise NotFound(f"No such exec instance: {exec_id}")
        return record

    def ids(self, container_id: str) -> list[str]:
        return [record.id for record in self.records.values() if record.container_id == container_id and record.exit_code is None]

    async def resize(self, exec_id: str, *, height: int, width: int) -> None:
        self.calls.append(("resize", exec_id, height, width))
        record = self.get(exec_id)
        if not record.running:
            raise NotRunning(record.container_id) if record.started else Conflict(f"exec process is not started: {exec_id}")

    def _active(self, reference: str) -> Container:
        container = self.containers.get(reference)
        if container.state.status is Status.PAUSED:
            raise Conflict(f"Container {reference} is paused, unpause the container before exec")
        if container.state.status is not Status.RUNNING:
            raise NotRunning(container.id)
        return container

    def _end_all(self, container: Container, move: Move) -> None:
        """A container's end is that of its execs; those that never started are forgotten."""
        for record in [record for record in self.records.values() if record.container_id == container.id]:
            if record.running:
                self.exit(record.id, 137)
            elif not record.started:
                del self.records[record.id]


class FakeImages(Images):
    """`names` maps what clients write to image ids."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def resolve(self, reference: str, platform: Platform | None = None) -> Image:
        wanted = parse_reference_or_id(reference)
        text = str(wanted) if isinstance(wanted, Digest) else wanted.with_default_tag().familiar
        for name, image_id in self.names.items():
            if text in {image_id, parse_reference(name).with_default_tag().familiar} or Digest(image_id).hex.startswith(reference):
                return _image(Digest(image_id))
        raise NotFound(f"No such image: {text}")

    def get(self, image_id: Digest) -> Image:
        if str(image_id) not in self.names.values():
            raise NotFound(f"No such image: {image_id}")
        return _image(image_id)

    def layer_directories(self, image: Image) -> list[str]:
        return ["/root/snapshots/top/fs", "/root/snapshots/bottom/fs"]

    def count(self) -> int:
        return len(set(self.names.values()))

    async def disk_usage(self) -> DiskUsage:
        image_ids = set(self.names.values())
        return DiskUsage(4096 * len(image_ids), {Digest(image_id): ImageUsage(4096, 0) for image_id in image_ids})

    def list(self, query: ImageQuery) -> Sequence[ImageSummary]:
        return [ImageSummary(_image(Digest(image_id)), [], [], 0, -1) for image_id in sorted(set(self.names.values()))]


def _image(image_id: Digest) -> Image:
    """An image of two layers."""
    diff_ids = [Digest.of(b"bottom"), Digest.of(b"top")]
    document = ImageDocument(architecture="amd64", os="linux", rootfs=RootFS(diff_ids=diff_ids))
    return image_of(document, image_id=image_id, size_bytes=4096, stored_at_ns=NOW_NS)


class FakeVolumes(Volumes):
    """Volumes without files; each takes 4096 bytes, and one container has it."""

    def __init__(self) -> None:
        self.made: dict[str, Volume] = {}
        self.pruned_by: list[Filters] = []
        self.mountpoint = lambda name: f"/root/volumes/{name}/_data"

    def list(self, filters: Filters | None = None) -> Sequence[Volume]:
        return [volume for volume in self.made.values() if filters is None or filters.matches("name", volume.name)]

    def get(self, name: str) -> Volume:
        if name not in self.made:
            raise NoSuchVolume(name)
        return self.made[name]

    async def disk_usage(self) -> Sequence[VolumeUsage]:
        return [VolumeUsage(volume=volume, size_bytes=4096, containers=1) for volume in self.made.values()]

    async def create(self, request: CreateVolume) -> Volume:
        volume = Volume(name=request.name, created_at_ns=NOW_NS, options=request.driver_opts, labels=request.labels)
        return self.made.setdefault(request.name, volume)

    async def remove(self, name: str, *, force: bool = False) -> None:
        if not force:
            self.get(name)
        self.made.pop(name, None)

    async def prune(self, filters: Filters) -> tuple[Sequence[str], int]:
        self.pruned_by.append(filters)
        removed = [*self.made]
        self.made.clear()
        return removed, 4096 * len(removed)


@dataclass
class FakeServices:
    """Takes the place of `teul.api.http.context.Services`; a test may replace each of them while the API is served."""

    events: Events = field(default_factory=Events)
    execs: FakeExecs = field(init=False)
    images: Images = field(default_factory=lambda: FakeImages({"busybox": IMAGE_ID}))
    image_archives: ImageArchives = field(init=False)
    image_moves: ImageMoves = field(init=False)
    image_trees: ImageTrees = field(init=False)
    image_remover: ImageRemover = field(init=False)
    image_puller: ImagePuller = field(init=False)
    image_check: ImageCheck = field(init=False)
    image_pusher: ImagePusher = field(init=False)
    registries: RemoteRegistries = field(init=False)
    networks: Networks = field(init=False)
    commits: Commits = field(init=False)
    container_pruning: ContainerPruning = field(init=False)
    volumes: Volumes = field(default_factory=FakeVolumes)
    volume_archives: VolumeArchives = field(init=False)
    connections: Connections = field(init=False)
    resources: ContainerResources = field(init=False)
    renewals: Renewals = field(init=False)
    explanations: Explanations = field(init=False)
    containers: FakeContainers = field(init=False)
    system: System = field(init=False)

    @property
    def lifecycle(self) -> FakeContainers:
        """One fake serves as both doors to containers."""
        return self.containers

    def __post_init__(self) -> None:
        self.containers = FakeContainers(self.events, self.images)
        self.execs = FakeExecs(self.containers)
        facts = EngineFacts(
            engine_id="11111111-2222-3333-4444-555555555555",
            version="0.1.0",
            root="/root",
            run_root="/run/teul",
            snapshotter="erofs",
            cgroups=Layout({}, (), "/sys/fs/cgroup", frozenset({"cpu", "memory", "pids", "cpuset"})),
        )
        self.system = System(facts, self.containers, self.images, self.events)
