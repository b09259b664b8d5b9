"""Containers: which there are, making them, and what goes on in them. `lifecycle` moves them from state to state."""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from teul import failpoints
from teul.aio import SlowWork, run_blocking, run_to_end, undoing
from teul.errors import Conflict, InvalidParameter, NotFound, NotImplementedHere
from teul.linux import cgroups
from teul.model.container import Container, ContainerExit, CreateContainer, CreatedContainer
from teul.model.host_config import HostConfig, LogConfig
from teul.model.image import Image
from teul.model.lifecycle import Status
from teul.model.log import LogEntry, LogQuery
from teul.model.mount import PlannedMount
from teul.model.network_config import EndpointSettings
from teul.model.renewal import Replacing
from teul.oci.platform import parse_platform
from teul.runtime.engine.attachment import Attachment
from teul.runtime.engine.supervisor import PendingAttachment
from teul.runtime.messages import Wants
from teul.services.containers.directories import discard, make_container_directories
from teul.services.containers.errors import NotRunning
from teul.services.containers.launch import Launcher
from teul.services.containers.log_plan import kept_log
from teul.services.containers.logs import read_log
from teul.services.containers.names import Names
from teul.services.containers.processes import Listing, list_processes
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.request.check import check_name, check_request, platform_warnings
from teul.services.containers.request.complete import complete
from teul.services.containers.request.log_drivers import JSON_FILE, with_defaults
from teul.services.containers.request.mounts import inherit, mounts_of, parse_volumes_from
from teul.services.containers.run import NOT_RUNNING, ContainerRun, Runs
from teul.services.containers.sources import choose_images
from teul.services.containers.spec.namespaces import namespace_donors
from teul.services.containers.volumes import ContainerVolumes
from teul.services.events import Events, container_event
from teul.services.images.service import Images
from teul.services.watching import DirectoryWatcher
from teul.store.tree_size import blocks_of_tree, size_of_tree

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Succession:
    """What a new container gets of the one whose place it is to take: its mounts and networks, and an image, whatever its name means now.

    The networks are all that it has: who was disconnected from each of them is on none, whatever was asked for at first.
    """

    replacing: Replacing
    image: Image
    mounts: Sequence[PlannedMount]
    attachments: Mapping[str, EndpointSettings]

    def hand_over(self, container: Container) -> None:
        """Note it in the new record. Volumes that nobody has named go over, where nothing else is asked for."""
        container.replacing = self.replacing
        container.attachments = dict(self.attachments)
        names = {mount.destination: mount.name for mount in self.mounts if mount.type == "volume" and mount.is_anonymous}
        container.planned = [
            msgspec.structs.replace(mount, name=names[mount.destination])
            if mount.type == "volume" and not mount.name and mount.destination in names
            else mount
            for mount in container.planned or ()
        ]


class Containers:
    """All containers of one engine."""

    def __init__(
        self,
        registry: ContainerRegistry,
        runs: Runs,
        launcher: Launcher,
        images: Images,
        *,
        volumes: ContainerVolumes,
        names: Names,
        events: Events,
        watcher: DirectoryWatcher,
        slow: SlowWork,
        log_defaults: LogConfig | None = None,
    ) -> None:
        self._log_defaults = log_defaults or LogConfig(type=JSON_FILE)
        self._registry = registry
        self._runs = runs
        self._launcher = launcher
        self._images = images
        self._volumes = volumes
        self._names = names
        self._events = events
        self._watcher = watcher
        self._slow = slow

    # -- looking

    def get(self, reference: str) -> Container:
        """The container with this id, name or prefix of an id. Raises NotFound."""
        return self._registry.get(reference)

    def list(self) -> Sequence[Container]:
        """All containers, newest first."""
        return self._registry.all()

    def names(self, container: Container) -> Sequence[str]:
        """All names of a container, with slashes: its own, and those that it has by links."""
        return sorted([f"/{container.name}", *(f"/{name}" for name in self._registry.links.names_of(container.id))])

    def links(self, container: Container) -> Sequence[str]:
        """The container's links on the default bridge, as an inspection shows them."""
        return self._launcher.links.shown(container)

    def running(self) -> int:
        """How many containers have a process or are about to have one."""
        return sum(1 for container in self._registry.all() if container.state.counts_as_running)

    # -- making and naming

    async def create(self, request: CreateContainer) -> CreatedContainer:
        """Check the request, complete it from the image, and record it. Nothing runs yet. Raises as Docker does."""
        return await self._create(request, None)

    async def create_successor(self, request: CreateContainer, succession: Succession) -> CreatedContainer:
        """As `create`, of a container that is to take the place of another one, as its record says from now on."""
        return await self._create(request, succession)

    async def _create(self, request: CreateContainer, succession: Succession | None) -> CreatedContainer:
        host_config = msgspec.structs.replace(
            request.host_config, log_config=with_defaults(request.host_config.log_config, self._log_defaults)
        )
        request = dataclasses.replace(request, host_config=host_config)
        checked = check_request(request, self._launcher.host, exists=os.path.lexists)
        self._check_donors(checked.host_config)
        if succession is None:
            inherited = self._inherited(checked.host_config.volumes_from or ())
            image = self._images.resolve(checked.config.image, parse_platform(request.platform) if request.platform else None)
        else:
            inherited, image = succession.mounts, succession.image
        container_id = secrets.token_hex(32)
        name = self._registry.reserve_name(checked.name, container_id)
        try:
            container = complete(
                checked,
                image,
                container_id=container_id,
                name=name,
                now_ns=time.time_ns(),
                host=self._launcher.host,
                inherited=inherited,
                find_container_id=self._find_id,
                shallow_read_only=request.shallow_read_only,
            )
            container.planned = choose_images(container.planned or (), self._images)
            container.mounts = [mount.point for mount in container.planned if mount.point is not None]
            container.links = self._launcher.links.resolve(name, container.host_config)
            if succession is not None:
                succession.hand_over(container)
        except BaseException:
            self._registry.release_name(name)
            raise
        self._volumes.name(container)
        self._registry.hold(container)
        await run_to_end(self._make(container))
        warnings = [*checked.warnings, *([] if request.platform else platform_warnings(image.document.platform, self._launcher.host))]
        return CreatedContainer(id=container_id, warnings=warnings)

    async def _make(self, container: Container) -> None:
        """Volumes, directories and record of a new container, or none, and then its reserved name is free and its image nobody's."""
        directories = self._launcher.directories
        async with undoing(partial(self._give_up, container), "and its files stay until the next engine"):
            await self._volumes.provide(container)
            await run_blocking(make_container_directories, directories, container.id)
            failpoints.reach("containers.create.directories")
            await self._volumes.fill(container)
            await self._registry.add(container)
        failpoints.reach("containers.create.recorded")
        self._events.publish(container_event(container, "create"))

    async def _give_up(self, container: Container) -> None:
        self._registry.give_up(container)
        await run_blocking(discard, self._launcher.directories, container.id)
        await self._volumes.discard(container)

    def _inherited(self, volumes_from: Sequence[str]) -> Sequence[PlannedMount]:
        """The mounts that a new container gets from others. Raises InvalidParameter."""
        found: list[PlannedMount] = []
        for text in volumes_from:
            reference, read_only = parse_volumes_from(text)
            try:
                donor = self.get(reference)
            except NotFound as error:
                raise InvalidParameter(error.message) from error  # docker: as a fault of the request
            found += inherit(mounts_of(donor), read_only=read_only)
        return found

    async def rename(self, reference: str, name: str) -> None:
        """Give the container another name. Raises as Docker does."""
        if not reference or not name:
            raise InvalidParameter("Neither old nor new names may be empty")
        container = self.get(reference)
        try:
            new_name = check_name(f"/{name.removeprefix('/')}")
        except InvalidParameter as error:
            raise InvalidParameter(f"Error when allocating new name: {error.message}") from error
        if new_name == container.name:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        async with self._runs.of(container.id).lock:
            self.get(container.id)  # the container may have been removed while we waited
            try:
                self._registry.reserve_name(new_name, container.id)
            except Conflict as error:
                raise Conflict(f"Error when allocating new name: {error.message}") from error
            await run_to_end(self._rename_locked(container, new_name))

    async def _rename_locked(self, container: Container, new_name: str) -> None:
        """Give the container the name that was reserved for it, or give that back."""
        old_name = container.name
        try:
            failpoints.reach("containers.rename.reserved")
            await self._registry.change(container, name=new_name)
        except BaseException:
            self._registry.release_name(new_name)
            raise
        self._registry.release_name(old_name)
        await self._launcher.links.renamed(container)
        await self._names.changed(container, container.endpoints)
        self._events.publish(container_event(container, "rename", oldName=f"/{old_name}"))

    # -- watching

    def wait(self, reference: str, condition: str) -> Awaitable[ContainerExit]:
        """A future for `condition`, registered now: nothing that happens after this call is missed."""
        container = self.get(reference)
        run = self._runs.of(container.id)
        waiter = run.waiter(condition)
        if condition == NOT_RUNNING and not container.state.counts_as_running:
            waiter.set_result(ContainerExit(status_code=container.state.exit_code, error=container.state.error or None))
        return waiter

    async def attach(self, reference: str, *, stdin: bool, stdout: bool, stderr: bool) -> Attachment:
        """The container's streams from now on; before a start, from the first byte on."""
        container = self.get(reference)
        run = self._runs.of(container.id)
        if container.state.status is Status.PAUSED:
            raise Conflict(f"container {reference} is paused, unpause the container before attach")
        await run.start_is_over()  # which has taken along those who had attached when it began
        if container.state.status is Status.RESTARTING:
            raise Conflict(f"container {reference} is restarting, wait until the container is running")
        attachment = await self._attach(container, run, {"stdin": stdin, "stdout": stdout, "stderr": stderr})
        self._events.publish(container_event(container, "attach"))
        return attachment

    async def _attach(self, container: Container, run: ContainerRun, wants: Wants) -> Attachment:
        process = run.process
        if process is not None:
            try:
                return await process.attach(stdin=wants["stdin"], stdout=wants["stdout"], stderr=wants["stderr"])
            except OSError:
                log.info("container %s ended while a client attached", container.name)
        attachment, far = await Attachment.pending(terminal=container.config.tty, wants=wants)
        if process is None:
            run.add_pending(PendingAttachment(far, wants))
        else:
            far.close()  # the streams that the client wanted are at their end; it did not ask for those of the next run
        return attachment

    async def logs(self, reference: str, query: LogQuery) -> AsyncIterator[LogEntry]:
        """What the container wrote, and with `follow` what it goes on to write."""
        container = self.get(reference)
        kept = kept_log(container, self._launcher.directories)
        if kept is None:
            raise NotImplementedHere("configured logging driver does not support reading")
        run = self._runs.of(container.id)
        await run.start_is_over()
        ended = run.process.exit if run.process is not None else None
        return read_log(kept.path, query, ended, self._watcher, form=kept.form)

    async def resize(self, reference: str, *, height: int, width: int) -> None:
        """Set the size of the container's terminal."""
        container = self.get(reference)
        run = self._runs.of(container.id)
        await run.start_is_over()
        if run.process is None:
            raise NotRunning(container.id)
        run.process.resize(height, width)
        self._events.publish(container_event(container, "resize", height=str(height), width=str(width)))

    async def top(self, reference: str, ps_args: str) -> Listing:
        """Titles and rows of ps for the container's processes."""
        container = self.get(reference)
        await self._runs.of(container.id).start_is_over()
        if not container.state.has_process:
            raise NotRunning(container.id)
        listing = await list_processes(ps_args, partial(cgroups.processes, self._launcher.cgroup_plan(container)))
        self._events.publish(container_event(container, "top"))
        return listing

    async def size(self, container: Container, *, on_disk: bool = False) -> tuple[int, int]:
        """Bytes of the container's own changes, and of these and its image together. `on_disk`: those that all its files take there, with
        its log among them, which is what its removal gives back.
        """
        directories = self._launcher.directories
        if on_disk:
            own = await self._slow.run(blocks_of_tree, directories.container(container.id))
        else:
            own = await self._slow.run(size_of_tree, directories.upper(container.id))
        return own, own + self._launcher.image_size(container)

    def _check_donors(self, host_config: HostConfig) -> None:
        """Raises InvalidParameter if whose processes or IPC are to be shared is not there. docker: networks are missed at start."""
        for kind, reference in namespace_donors(host_config).items():
            if kind != "network" and self._registry.find(reference) is None:
                raise InvalidParameter(f"No such container: {reference}")

    def _find_id(self, reference: str) -> str | None:
        found = self._registry.find(reference)
        return found.id if found is not None else None
