"""Containers: the use cases of `docker create`, `start`, `stop`, `kill`, `wait`, `rm` and their kin.

One lock per container orders what happens to it; reading needs none. The record in memory is changed by `model.lifecycle` only and
saved before the lock is released, so an engine killed at any line leaves a record that the next one can continue from.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal as signals
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from teul.aio import Tasks, run_blocking
from teul.errors import Conflict, InvalidParameter, NotImplementedHere, TeulError
from teul.linux import cgroups
from teul.model import lifecycle
from teul.model.container import Container, ContainerExit, CreateContainer, CreatedContainer
from teul.model.lifecycle import Move, Status
from teul.model.log import LogEntry, LogQuery
from teul.model.signals import parse_signal
from teul.oci.digest import Digest
from teul.oci.platform import parse_platform
from teul.runtime.engine.attachment import Attachment
from teul.runtime.engine.process import ExitRecord, Process, StartError
from teul.runtime.engine.supervisor import PendingAttachment
from teul.runtime.messages import Wants
from teul.services.containers.directories import discard, make_container_directories, size_of_tree
from teul.services.containers.errors import AlreadyStarted, AlreadyStopped, NotRunning, translate_start_error
from teul.services.containers.launch import Launcher
from teul.services.containers.logs import read_log
from teul.services.containers.processes import Listing, list_processes
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.request.check import check_name, check_request
from teul.services.containers.request.complete import complete
from teul.services.containers.restart_policy import decide_restart
from teul.services.containers.run import NEXT_EXIT, NOT_RUNNING, REMOVED, ContainerRun
from teul.services.events import Events, container_event
from teul.services.images.service import Images

log = logging.getLogger(__name__)

Follower = Callable[[Container, Move], None]

_DEFAULT_STOP_SECONDS = 10
_FORCE_STOP_SECONDS = 3


class Containers:
    """All containers of one engine."""

    def __init__(self, registry: ContainerRegistry, launcher: Launcher, images: Images, events: Events, tasks: Tasks) -> None:
        self._registry = registry
        self._launcher = launcher
        self._images = images
        self._events = events
        self._tasks = tasks
        self._runs: dict[str, ContainerRun] = {}
        self._followers: list[Follower] = []
        self._closing = False

    def follow(self, follower: Follower) -> None:
        """Have `follower` called when a container has started, ended, or was paused or unpaused: before its record is saved."""
        self._followers.append(follower)

    # -- the engine's own start and end

    async def open(self) -> None:
        """Take over what an earlier engine left: running containers, and containers that ended while nobody looked."""
        for container in self._registry.all():
            await self._take_over(container)

    async def start_by_policy(self, *, rebooted: bool) -> None:
        """Start what its restart policy wants running. docker: daemon/daemon.go, restore.

        docker: "always" forgets a manual stop when the daemon starts. An engine that comes and goes by itself must not undo it, so
        here only a restart of the machine counts.
        """
        for container in self._registry.all():
            policy = container.host_config.restart_policy.name
            forgets = policy == "always" and rebooted
            wanted = policy in ("always", "unless-stopped") and (forgets or not container.manually_stopped)
            ended = container.state.status is Status.EXITED and container.state.started_at_ns > 0
            if container.state.status is Status.RESTARTING or (ended and wanted):
                self._schedule_restart(container, self.run_of(container.id), delay_seconds=0)

    def close(self) -> None:
        """Let go of all processes; they go on."""
        self._closing = True
        for run in self._runs.values():
            run.drop_pending()
            if run.process is not None:
                run.process.forget()

    # -- looking

    def get(self, reference: str) -> Container:
        """By id, name or prefix. Raises NotFound."""
        return self._registry.get(reference)

    def exists(self, container_id: str) -> bool:
        """Whether there is one with this full id."""
        return self._registry.exists(container_id)

    def list(self) -> Sequence[Container]:
        """Newest first."""
        return self._registry.all()

    def running(self) -> int:
        """How many have a process or are about to."""
        return sum(1 for container in self._registry.all() if container.state.counts_as_running)

    def run_of(self, container_id: str) -> ContainerRun:
        """The in-memory side of a container."""
        return self._runs.setdefault(container_id, ContainerRun())

    # -- creating and removing

    async def create(self, request: CreateContainer) -> CreatedContainer:
        """Check the request, complete it from the image, and record it. Nothing runs yet. Raises as Docker does."""
        checked = check_request(request, self._launcher.host)
        image = self._images.resolve(checked.config.image, parse_platform(request.platform) if request.platform else None)
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
                find_container_id=self._find_id,
            )
            await run_blocking(make_container_directories, self._launcher.directories, container_id)
            await self._registry.add(container)
        except BaseException:
            self._registry.release_name(name)
            raise
        self._events.publish(container_event(container, "create"))
        return CreatedContainer(id=container_id, warnings=checked.warnings)

    def _find_id(self, reference: str) -> str | None:
        found = self._registry.find(reference)
        return found.id if found is not None else None

    async def remove(
        self,
        reference: str,
        *,
        force: bool = False,
        volumes: bool = False,  # noqa: ARG002 - containers have no anonymous volumes to remove yet
        link: bool = False,
    ) -> None:
        """Remove a stopped container, or with `force` any."""
        container = self.get(reference)
        if link:
            raise NotImplementedHere("removing a link is not supported: containers have no legacy links here")
        run = self.run_of(container.id)
        if container.state.status is Status.REMOVING:
            raise Conflict(f"removal of container {reference} is already in progress")
        while True:
            if container.state.counts_as_running:
                if not force:
                    raise _still_running(container)
                container.manually_stopped = True
                await self._kill_and_wait(container, run)
            async with run.lock:
                if self._registry.find(container.id) is None:
                    return
                if container.state.counts_as_running:
                    continue  # it was being started when we came
                await self._remove_locked(container, run)
                return

    async def _remove_locked(self, container: Container, run: ContainerRun) -> None:
        container.state = lifecycle.removing(container.state)
        run.drop_pending()
        # The record goes first: what is not in the database does not exist, and its files are swept if we die here.
        try:
            await self._registry.remove(container)
        except Exception as error:
            container.state = lifecycle.remove_failed(container.state, error=str(error))
            raise
        self._events.publish(container_event(container, "destroy"))
        run.notify(ContainerExit(status_code=container.state.exit_code), REMOVED, NOT_RUNNING)
        self._runs.pop(container.id, None)
        self._tasks.start(run_blocking(discard, self._launcher.directories, container.id), name=f"remove files of {container.name}")
        await self._images.release(Digest(container.image_id))

    # -- running

    async def start(self, reference: str) -> None:
        """Start it; returns when its program runs. Raises NotModified when it does already."""
        container = self.get(reference)
        run = self.run_of(container.id)
        async with run.lock:
            match container.state.status:
                case Status.RUNNING:
                    raise AlreadyStarted
                case Status.PAUSED:
                    raise Conflict("cannot start a paused container, try unpause instead")
                case Status.REMOVING | Status.DEAD:
                    raise Conflict("container is marked for removal and cannot be started")
            if run.restart is not None:
                run.restart.cancel()
                run.restart = None
            container.manually_stopped = False
            run.restart_delay_seconds = 0
            container.restart_count = 0
            await self._start_locked(container, run)

    async def stop(self, reference: str, *, signal: str | None = None, timeout_seconds: int | None = None) -> None:
        """Ask it to end, wait, and kill it if it did not. A negative timeout waits for ever. Raises NotModified."""
        container = self.get(reference)
        if not container.state.counts_as_running:
            raise AlreadyStopped
        await self._stop(container, signal, timeout_seconds)

    async def restart(self, reference: str, *, signal: str | None = None, timeout_seconds: int | None = None) -> None:
        """Stop it if it runs, and start it."""
        container = self.get(reference)
        if container.state.counts_as_running:
            run = self.run_of(container.id)
            run.kept = True  # docker: --rm does not apply to the stop in the middle
            try:
                await self._stop(container, signal, timeout_seconds)
            finally:
                run.kept = False
        await self.start(container.id)
        self._events.publish(container_event(container, "restart"))

    async def kill(self, reference: str, *, signal: str = "KILL") -> None:
        """Send a signal; KILL also waits for the end. Raises Conflict when it does not run."""
        number = parse_signal(signal)
        container = self.get(reference)
        run = self.run_of(container.id)
        if not container.state.counts_as_running:
            raise NotRunning(container.id)
        if container.state.status is Status.PAUSED and number != signals.SIGKILL:
            raise Conflict(f"container {container.id} is paused. Unpause the container before stopping or killing")
        if number in (signals.SIGKILL, self._stop_signal(container)):
            container.manually_stopped = True
        if number == signals.SIGKILL:
            await self._kill_and_wait(container, run)
        elif run.process is not None:
            self._signal(container, run.process, number)

    async def pause(self, reference: str) -> None:
        """Freeze all its processes."""
        container = self.get(reference)
        run = self.run_of(container.id)
        async with run.lock:
            if container.state.status is Status.PAUSED:
                raise Conflict(f"container {container.id} is already paused")
            if container.state.status is Status.RESTARTING:
                raise Conflict(f"container {container.id} is restarting, wait until the container is running")
            if container.state.status is not Status.RUNNING:
                raise NotRunning(container.id)
            await run_blocking(cgroups.freeze, self._launcher.cgroup_plan(container))
            container.state = lifecycle.paused(container.state)
            self._tell(container, Move.PAUSED)
            await self._registry.save(container)
        self._events.publish(container_event(container, "pause"))

    async def unpause(self, reference: str) -> None:
        """Let its processes go on."""
        container = self.get(reference)
        run = self.run_of(container.id)
        async with run.lock:
            if container.state.status is not Status.PAUSED:
                raise Conflict(f"container {container.id} is not paused")
            await run_blocking(cgroups.thaw, self._launcher.cgroup_plan(container))
            container.state = lifecycle.unpaused(container.state)
            self._tell(container, Move.UNPAUSED)
            await self._registry.save(container)
        self._events.publish(container_event(container, "unpause"))

    async def rename(self, reference: str, name: str) -> None:
        """Give it another name. Raises as Docker does."""
        if not reference or not name:
            raise InvalidParameter("Neither old nor new names may be empty")
        container = self.get(reference)
        try:
            new_name = check_name(f"/{name.removeprefix('/')}")
        except InvalidParameter as error:
            raise InvalidParameter(f"Error when allocating new name: {error.message}") from error
        if new_name == container.name:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        async with self.run_of(container.id).lock:
            self.get(container.id)  # it may have been removed while we waited
            old_name = container.name
            try:
                self._registry.reserve_name(new_name, container.id)
            except Conflict as error:
                raise Conflict(f"Error when allocating new name: {error.message}") from error
            container.name = new_name
            await self._registry.save(container)
            self._registry.release_name(old_name)
        self._events.publish(container_event(container, "rename", oldName=f"/{old_name}"))

    # -- watching

    def wait(self, reference: str, condition: str) -> Awaitable[ContainerExit]:
        """A future for `condition`, registered now: nothing that happens after this call is missed."""
        container = self.get(reference)
        run = self.run_of(container.id)
        waiter = run.waiter(condition)
        if condition == NOT_RUNNING and not container.state.counts_as_running:
            waiter.set_result(ContainerExit(status_code=container.state.exit_code, error=container.state.error or None))
        return waiter

    async def attach(self, reference: str, *, stdin: bool, stdout: bool, stderr: bool) -> Attachment:
        """Its streams from now on; before a start, from its first byte."""
        container = self.get(reference)
        run = self.run_of(container.id)
        if container.state.status is Status.PAUSED:
            raise Conflict(f"container {container.id} is paused, unpause the container before attach")
        if container.state.status is Status.RESTARTING:
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")
        attachment: Attachment | None = None
        if run.process is not None:
            try:
                attachment = await run.process.attach(stdin=stdin, stdout=stdout, stderr=stderr)
            except OSError:
                log.info("container %s ended while a client attached", container.name)
        if attachment is None:
            wants: Wants = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
            attachment, far = await Attachment.pending(terminal=container.config.tty, wants=wants)
            run.add_pending(PendingAttachment(far, wants))
        self._events.publish(container_event(container, "attach"))
        return attachment

    async def logs(self, reference: str, query: LogQuery) -> AsyncIterator[LogEntry]:
        """What it wrote, and with `follow` what it goes on to write."""
        container = self.get(reference)
        if container.host_config.log_config.type == "none":
            raise NotImplementedHere("configured logging driver does not support reading")
        run = self.run_of(container.id)
        return read_log(self._launcher.directories.log(container.id), query, run.process.exit if run.process is not None else None)

    async def resize(self, reference: str, *, height: int, width: int) -> None:
        """Set its terminal's size."""
        container = self.get(reference)
        run = self.run_of(container.id)
        if run.process is None:
            raise NotRunning(container.id)
        run.process.resize(height, width)
        self._events.publish(container_event(container, "resize", height=str(height), width=str(width)))

    async def top(self, reference: str, ps_args: str) -> Listing:
        """Titles and rows of ps for its processes."""
        container = self.get(reference)
        if not container.state.has_process:
            raise NotRunning(container.id)
        pids = await run_blocking(cgroups.processes, self._launcher.cgroup_plan(container))
        return await list_processes(ps_args, pids)

    async def size(self, container: Container) -> tuple[int, int]:
        """Bytes of its own changes, and with its image's."""
        own = await run_blocking(size_of_tree, self._launcher.directories.upper(container.id))
        return own, own + self._launcher.image_size(container)

    # -- inside

    def _tell(self, container: Container, move: Move) -> None:
        for follower in self._followers:
            follower(container, move)

    async def _start_locked(self, container: Container, run: ContainerRun) -> None:
        pending = run.take_pending()
        try:
            process = await self._launcher.launch(container, pending)
        except StartError as error:
            failure, exit_code = translate_start_error(error)
            await self._start_failed(container, run, failure.message, exit_code)
            raise failure from error
        except (TeulError, OSError) as error:
            await self._start_failed(container, run, str(error), 128)
            raise
        run.process = process
        container.state = lifecycle.started(container.state, pid=process.pid, now_ns=time.time_ns())
        self._start_watching(container, run, process)
        self._tell(container, Move.STARTED)
        await self._registry.save(container)
        self._events.publish(container_event(container, "start"))

    async def _start_failed(self, container: Container, run: ContainerRun, message: str, exit_code: int) -> None:
        container.state = lifecycle.start_failed(container.state, exit_code=exit_code, error=message)
        await self._registry.save(container)
        if container.host_config.auto_remove:
            await self._remove_locked(container, run)

    def _start_watching(self, container: Container, run: ContainerRun, process: Process) -> None:
        run.process = process
        run.settled = asyncio.Event()
        self._tasks.start(self._watch(container, run, process, run.settled), name=f"watch {container.name}")

    async def _watch(self, container: Container, run: ContainerRun, process: Process, settled: asyncio.Event) -> None:
        try:
            record = await asyncio.shield(process.exit)
            if self._closing:
                return
            async with run.lock:
                if run.process is process:
                    await self._ended(container, run, record)
        finally:
            settled.set()

    async def _ended(self, container: Container, run: ContainerRun, record: ExitRecord) -> None:
        """Everything that follows from the end of PID 1, under the lock."""
        run.process = None
        now_ns = record.finished_at_ns or time.time_ns()
        if record.error:
            log.warning("container %s: %s", container.name, record.error)
        lasted_ns = max(0, now_ns - container.state.started_at_ns)
        decision = decide_restart(container, record, lasted_ns=lasted_ns, last_delay_seconds=run.restart_delay_seconds)
        if decision.again:
            container.state = lifecycle.restarting(container.state, exit_code=record.exit_code, oom_killed=record.oom_killed, now_ns=now_ns)
            container.restart_count += 1
        else:
            container.state = lifecycle.exited(
                container.state, exit_code=record.exit_code, oom_killed=record.oom_killed, now_ns=now_ns, error=record.error or ""
            )
        container.endpoints = {}
        self._tell(container, Move.RESTARTING if decision.again else Move.EXITED)
        if record.oom_killed:
            self._events.publish(container_event(container, "oom"))
        seconds = str(lasted_ns // 1_000_000_000)
        self._events.publish(container_event(container, "die", exitCode=str(record.exit_code), execDuration=seconds))
        run.notify(ContainerExit(status_code=record.exit_code), NOT_RUNNING, NEXT_EXIT)
        await asyncio.gather(self._registry.save(container), self._launcher.clean_up(container))
        if decision.again:
            self._schedule_restart(container, run, delay_seconds=decision.delay_seconds)
        elif container.host_config.auto_remove and not run.kept:
            await self._remove_locked(container, run)

    def _schedule_restart(self, container: Container, run: ContainerRun, *, delay_seconds: float) -> None:
        if run.restart is not None:
            run.restart.cancel()
        run.restart_delay_seconds = delay_seconds
        run.restart = self._tasks.start(self._restart_later(container, run, delay_seconds), name=f"restart {container.name}")

    async def _restart_later(self, container: Container, run: ContainerRun, delay_seconds: float) -> None:
        await asyncio.sleep(delay_seconds)
        async with run.lock:
            run.restart = None
            if self._registry.find(container.id) is None or container.state.has_process:
                return
            try:
                await self._start_locked(container, run)
            except TeulError as error:
                log.warning("container %s could not be restarted: %s", container.name, error.message)

    async def _stop(self, container: Container, signal: str | None, timeout_seconds: int | None) -> None:
        number = parse_signal(signal) if signal else self._stop_signal(container)
        if timeout_seconds is None:
            configured = container.config.stop_timeout
            timeout_seconds = _DEFAULT_STOP_SECONDS if configured is None else configured
        run = self.run_of(container.id)
        container.manually_stopped = True
        if await self._cancel_restart(container, run):
            return
        process = run.process
        if process is not None:
            self._signal(container, process, number)
            if container.state.status is Status.PAUSED:
                await self.unpause(container.id)
            if not await _ends_within(process, None if timeout_seconds < 0 else timeout_seconds):
                await self._kill_and_wait(container, run)
            await run.wait_settled()
        self._events.publish(container_event(container, "stop"))

    async def _cancel_restart(self, container: Container, run: ContainerRun) -> bool:
        """Stop a container that is between two runs; False if it is not."""
        async with run.lock:
            if container.state.status is not Status.RESTARTING:
                return False
            if run.restart is not None:
                run.restart.cancel()
                run.restart = None
            container.state = lifecycle.restart_cancelled(container.state)
            await self._registry.save(container)
        return True

    async def _kill_and_wait(self, container: Container, run: ContainerRun) -> None:
        if await self._cancel_restart(container, run):
            return
        process = run.process
        if process is None:
            return
        self._signal(container, process, signals.SIGKILL)
        if container.state.status is Status.PAUSED:
            # kernel: a frozen v1 cgroup does not deliver even SIGKILL before it is thawed.
            await run_blocking(cgroups.thaw, self._launcher.cgroup_plan(container))
        await asyncio.shield(process.exit)
        await run.wait_settled()

    def _signal(self, container: Container, process: Process, number: int) -> None:
        process.signal(number)
        self._events.publish(container_event(container, "kill", signal=str(number)))

    def _stop_signal(self, container: Container) -> int:
        return parse_signal(container.config.stop_signal or "SIGTERM")

    async def _take_over(self, container: Container) -> None:
        run = self.run_of(container.id)
        process = await self._launcher.adopt(container.id)
        if process is not None and process.exit.done() and not container.state.has_process:
            process = None  # its end is on record already; only its bundle was left
            await self._launcher.clean_up(container)
        if process is not None and not container.state.has_process:
            # The engine died between the start and its record.
            container.state = lifecycle.started(_startable(container.state), pid=process.pid, now_ns=time.time_ns())
            self._tell(container, Move.STARTED)
            await self._registry.save(container)
        if process is not None:
            self._start_watching(container, run, process)
        elif container.state.has_process:
            async with run.lock:
                await self._ended(container, run, ExitRecord(255, 0, error="the host or the container's monitor went away"))
        elif container.state.status is Status.REMOVING or (container.state.status is Status.EXITED and container.host_config.auto_remove):
            async with run.lock:
                await self._remove_locked(container, run)


def _startable(state: lifecycle.ContainerState) -> lifecycle.ContainerState:
    return state if state.status is not Status.REMOVING else lifecycle.remove_failed(state, error="")


async def _ends_within(process: Process, seconds: float | None) -> bool:
    try:
        await asyncio.wait_for(asyncio.shield(process.exit), seconds)
    except TimeoutError:
        return False
    return True


def _still_running(container: Container) -> Conflict:
    status = container.state.status
    advice = (
        "container is paused and must be unpaused first"
        if status is Status.PAUSED
        else (f"container is {status}: stop the container before removing or force remove")
    )
    return Conflict(f'cannot remove container "/{container.name}": {advice}')
