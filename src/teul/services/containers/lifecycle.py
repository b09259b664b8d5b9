"""The life of a container as its user commands it: start, stop, restart, kill, pause, unpause, remove.

One lock per container orders what happens to it. What somebody wants is in the row before it is in memory (`registry.change`); what has
happened by itself is in memory at once and saved before the lock is released. So an engine killed at any line leaves a record that the
next engine can continue from.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal as signals
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from teul import failpoints
from teul.aio import SlowWork, run_blocking, run_to_end, undoing
from teul.errors import Conflict, System
from teul.linux import cgroups
from teul.model import lifecycle
from teul.model.container import Container
from teul.model.lifecycle import Move, Status
from teul.model.signals import parse_signal
from teul.runtime.engine.process import Process
from teul.services.containers.errors import AlreadyStarted, AlreadyStopped, NotRunning, SurvivesKill
from teul.services.containers.launch import Launcher
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.removal import Removal
from teul.services.containers.run import ContainerRun, Runs
from teul.services.containers.supervision import Supervision
from teul.services.events import Events, container_event

_DEFAULT_STOP_SECONDS = 10
# docker: daemon/kill.go, ten seconds and then two more.
_KILL_SECONDS = 12.0
# What is still frozen is thawed so often: the container may have a process that freezes the others again.
_THAW_SECONDS = 0.25
_NOT_TAKEN_BACK = "and it could not be taken back"


class Lifecycle:
    """What moves containers from state to state."""

    def __init__(
        self,
        registry: ContainerRegistry,
        runs: Runs,
        *,
        launcher: Launcher,
        removal: Removal,
        supervision: Supervision,
        events: Events,
        slow: SlowWork,
    ) -> None:
        self._registry = registry
        self._runs = runs
        self._launcher = launcher
        self._removal = removal
        self._supervision = supervision
        self._events = events
        self._slow = slow

    async def start(self, reference: str) -> None:
        """Start the container; returns when its program runs. Raises NotModified when it runs already."""
        container = self._registry.get(reference)
        run = self._runs.of(container.id)
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
            await self._supervision.start_locked(container, run)

    async def stop(self, reference: str, *, signal: str | None = None, timeout_seconds: int | None = None) -> None:
        """Ask the container to end, wait, and kill it if it did not. A negative timeout waits for ever. Raises NotModified."""
        container = self._registry.get(reference)
        if not container.state.counts_as_running:
            raise AlreadyStopped
        await self._stop(container, signal, timeout_seconds)

    async def restart(self, reference: str, *, signal: str | None = None, timeout_seconds: int | None = None) -> None:
        """Stop the container if it runs, and start it."""
        container = self._registry.get(reference)
        if container.state.counts_as_running:
            with self._runs.of(container.id).keeping():  # docker: --rm does not apply to the stop in the middle
                await self._stop(container, signal, timeout_seconds)
        with contextlib.suppress(AlreadyStarted):  # somebody else was faster, and it runs
            await self.start(container.id)
        self._events.publish(container_event(container, "restart"))

    async def kill(self, reference: str, *, signal: str = "KILL") -> None:
        """Send the container a signal; KILL also waits for its end. Raises Conflict when it does not run.

        docker: a container that is paused goes on, to get the signal, unless it has another one that it is to be stopped by.
        """
        number = parse_signal(signal)
        container = self._registry.get(reference)
        run = self._runs.of(container.id)
        await run.start_is_over()
        if not container.state.counts_as_running:
            raise NotRunning(container.id)
        if number in (signals.SIGKILL, _stop_signal(container)):
            container.manually_stopped = True
        if number == signals.SIGKILL:
            try:
                await self._kill_and_wait(container, run)
            except SurvivesKill as error:
                raise System(f"Cannot kill container: {reference}: {error.message}") from error
        elif run.process is not None:
            process = run.process
            self._signal(container, process, number)
            is_to_go_on = not container.config.stop_signal or number == _stop_signal(container)
            if is_to_go_on and container.state.status is Status.PAUSED:
                await self._go_on(container, run, process)

    async def pause(self, reference: str) -> None:
        """Freeze all processes of the container."""
        container = self._registry.get(reference)
        run = self._runs.of(container.id)
        async with run.lock:
            if container.state.status is Status.PAUSED:
                raise Conflict(f"container {container.id} is already paused")
            if container.state.status is Status.RESTARTING:
                raise Conflict(f"container {container.id} is restarting, wait until the container is running")
            if container.state.status is not Status.RUNNING:
                raise NotRunning(container.id)
            await run_to_end(self._pause_locked(container, run))

    async def unpause(self, reference: str) -> None:
        """Let the container's processes go on."""
        container = self._registry.get(reference)
        run = self._runs.of(container.id)
        async with run.lock:
            if container.state.status is not Status.PAUSED:
                raise Conflict(f"container {container.id} is not paused")
            await run_to_end(self._unpause_locked(container, run))

    async def remove(
        self,
        reference: str,
        *,
        force: bool = False,
        volumes: bool = False,
        link: bool = False,
    ) -> None:
        """Remove a stopped container, or with `force` also a running one, and with `volumes` the volumes of it that nobody has named.

        With `link` nothing but the link that the container has this name by is removed.
        """
        container = self._registry.get(reference)
        run = self._runs.of(container.id)
        if container.state.status is Status.REMOVING:
            raise Conflict(f"removal of container {reference} is already in progress")
        if link:
            await self._launcher.links.remove(reference)
            return
        while True:
            if container.state.counts_as_running:
                if not force:
                    raise _still_running(container)
                container.manually_stopped = True
                try:
                    await self._kill_and_wait(container, run)
                except SurvivesKill as error:
                    raise System(f'cannot remove container "/{container.name}": could not kill: {error.message}') from error
            async with run.lock:
                if self._registry.find(container.id) is None:
                    return
                if container.state.counts_as_running:
                    continue  # the container was being started when we came
                await self._removal.remove_locked(container, run, volumes=volumes)
                return

    @asynccontextmanager
    async def standing_still(self, container: Container, run: ContainerRun) -> AsyncIterator[None]:
        """Have a running container's processes stand still while the context lasts; the caller holds the lock of `run`.

        The record goes on saying that the container runs: so the next engine has it go on if this one is killed meanwhile. A container that
        is paused stays so.
        """
        if container.state.status is not Status.RUNNING:
            yield
            return
        frozen = False
        try:
            with contextlib.suppress(NotRunning):
                await run_to_end(self._change_freezer(container, run, cgroups.freeze))
                frozen = True
                failpoints.reach("containers.commit.frozen")
                self._runs.tell(container, Move.PAUSED)
                self._events.publish(container_event(container, "pause"))
            yield
        finally:
            with contextlib.suppress(NotRunning):
                await run_to_end(self._change_freezer(container, run, cgroups.thaw))
            if frozen:
                failpoints.reach("containers.commit.thawed")
                self._runs.tell(container, Move.UNPAUSED)
                self._events.publish(container_event(container, "unpause"))

    async def _pause_locked(self, container: Container, run: ContainerRun) -> None:
        await self._change_freezer(container, run, cgroups.freeze)
        async with undoing(partial(run_blocking, cgroups.thaw, self._launcher.cgroup_plan(container)), _NOT_TAKEN_BACK):
            failpoints.reach("containers.pause.frozen")
            await self._registry.change(container, state=lifecycle.paused(container.state))
        self._runs.tell(container, Move.PAUSED)
        failpoints.reach("containers.pause.recorded")
        self._events.publish(container_event(container, "pause"))

    async def _unpause_locked(self, container: Container, run: ContainerRun) -> None:
        await self._change_freezer(container, run, cgroups.thaw)
        async with undoing(partial(run_blocking, cgroups.freeze, self._launcher.cgroup_plan(container)), _NOT_TAKEN_BACK):
            failpoints.reach("containers.unpause.thawed")
            await self._registry.change(container, state=lifecycle.unpaused(container.state))
        self._runs.tell(container, Move.UNPAUSED)
        self._events.publish(container_event(container, "unpause"))

    async def _stop(self, container: Container, signal: str | None, timeout_seconds: int | None) -> None:
        number = parse_signal(signal) if signal else _stop_signal(container)
        if timeout_seconds is None:
            configured = container.config.stop_timeout
            timeout_seconds = _DEFAULT_STOP_SECONDS if configured is None else configured
        run = self._runs.of(container.id)
        container.manually_stopped = True
        if await self._supervision.cancel_restart(container, run):
            return
        process, settled = run.process, run.settled
        if process is not None:
            self._signal(container, process, number)
            await self._go_on(container, run, process)
            if not await _ends_within(process, None if timeout_seconds < 0 else timeout_seconds):
                try:
                    await self._kill_and_wait(container, run)
                except SurvivesKill as error:
                    raise System(f"cannot stop container: {container.name}: {error.message}") from error
            await settled.wait()
        self._events.publish(container_event(container, "stop"))

    async def _go_on(self, container: Container, run: ContainerRun, process: Process) -> None:
        """Unpause the container, if it is paused and `process` is still its first."""
        async with run.lock:
            if container.state.status is Status.PAUSED and run.process is process:
                with contextlib.suppress(NotRunning):
                    await run_to_end(self._unpause_locked(container, run))

    async def _kill_and_wait(self, container: Container, run: ContainerRun) -> None:
        """Kill the container, whatever keeps it from dying, and wait until its end is settled. Raises `SurvivesKill`."""
        if await self._supervision.cancel_restart(container, run):
            return
        process, settled = run.process, run.settled
        if process is None:
            return
        self._signal(container, process, signals.SIGKILL)
        deadline = asyncio.get_running_loop().time() + _KILL_SECONDS
        # Whatever the record says: an engine may have been killed while it paused, and a container may freeze its own processes.
        await run_blocking(cgroups.thaw_tree, self._launcher.cgroup_plan(container))
        while not await _ends_within(process, _THAW_SECONDS):
            if asyncio.get_running_loop().time() > deadline:
                raise SurvivesKill
            await run_blocking(cgroups.thaw_tree, self._launcher.cgroup_plan(container))
        await settled.wait()

    async def _change_freezer(self, container: Container, run: ContainerRun, change: Callable[[cgroups.Plan], None]) -> None:
        """Freeze or thaw a container whose lock is held. Raises `NotRunning` when it is ending; then the end is about to be recorded."""
        process = run.process
        if process is None or process.exit.done():
            raise NotRunning(container.id)
        # Freezing waits for every process to stand still; thawing for nobody, and it is asked for by those who end containers.
        door = self._slow.run if change is cgroups.freeze else run_blocking
        try:
            await door(change, self._launcher.cgroup_plan(container))
        except OSError as error:
            if process.exit.done() or not await run_blocking(self._launcher.has_cgroup, container):
                raise NotRunning(container.id) from error
            verb = "pause" if change is cgroups.freeze else "unpause"
            raise System(f"cannot {verb} container {container.id}: {error.strerror or error}") from error
        if process.exit.done():
            if change is cgroups.freeze:
                # What was frozen was on its way into the container, and would stand in its cgroup for ever.
                await run_blocking(cgroups.thaw_tree, self._launcher.cgroup_plan(container))
            raise NotRunning(container.id)

    def _signal(self, container: Container, process: Process, number: int) -> None:
        process.signal(number)
        self._events.publish(container_event(container, "kill", signal=str(number)))


def _stop_signal(container: Container) -> int:
    return parse_signal(container.config.stop_signal or "SIGTERM")


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
