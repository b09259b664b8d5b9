"""Watching over containers: from the start of each to all that follows from its end, and those that an earlier engine left.

A container that is between two runs, waiting for its restart, is watched over as well. What follows from an end, or from a start that
failed, are steps of which each is taken whatever becomes of the others: a step that fails is logged, and ends no container's story.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from teul import failpoints
from teul.aio import Tasks, run_blocking, run_to_end
from teul.errors import Integrity, TeulError
from teul.linux import cgroups
from teul.model import lifecycle
from teul.model.container import Container, ContainerExit
from teul.model.lifecycle import Move, Status
from teul.runtime.engine.process import ExitRecord, Process, StartError
from teul.services.containers.bundle import read_endpoints
from teul.services.containers.directories import bundle_ids
from teul.services.containers.errors import EXIT_UNKNOWN, translate_start_error
from teul.services.containers.launch import Launcher
from teul.services.containers.names import Names
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.removal import Removal
from teul.services.containers.restart_policy import RestartDecision, decide_restart
from teul.services.containers.run import NEXT_EXIT, NOT_RUNNING, ContainerRun, Runs
from teul.services.events import Events, container_event
from teul.store.metadata.database import DiskFull

log = logging.getLogger(__name__)

# How often it is tried to write down what a full disk has kept from being written down.
_SETTLING_SECONDS = 2.0
# How long a restart waits for the restarts of those that the container is linked to.
_CHILDREN_SECONDS = 5.0


class Supervision:
    """Supervises all containers of one engine."""

    def __init__(
        self,
        registry: ContainerRegistry,
        runs: Runs,
        *,
        launcher: Launcher,
        removal: Removal,
        names: Names,
        events: Events,
        tasks: Tasks,
    ) -> None:
        self._registry = registry
        self._runs = runs
        self._launcher = launcher
        self._removal = removal
        self._names = names
        self._events = events
        self._tasks = tasks
        self._closing = False

    async def open(self) -> None:
        """Take over what an earlier engine left: running containers, and containers that ended while nobody looked.

        Each by itself: one that cannot be taken over is told of in the log, and can be removed.
        """
        left = await run_blocking(self._launcher.cgroup_ids)
        bundles = await run_blocking(bundle_ids, self._launcher.directories)
        for container in self._registry.all():
            try:
                if self._registry.is_unreadable(container.id):
                    await self._launcher.end_unwatched(container)
                    await self._launcher.clean_up(container)
                else:
                    has_cgroup = container.id in left or bool(container.host_config.cgroup_parent)
                    await self._take_over(container, has_cgroup=has_cgroup, has_bundle=container.id in bundles)
            except (TeulError, OSError, sqlite3.Error) as error:
                log.error("container %s (%s) could not be taken over: %s", container.id, container.name, error)

    async def start_by_policy(self, *, rebooted: bool) -> None:
        """Start the containers that their restart policy wants running. docker: daemon/daemon.go, restore.

        docker: "always" forgets a manual stop when the daemon starts. An engine that comes and goes by itself must not undo the stop, so
        here only a restart of the machine counts.
        """
        for container in self._registry.all():
            policy = container.host_config.restart_policy.name
            forgets = policy == "always" and rebooted
            wanted = policy in ("always", "unless-stopped") and (forgets or not container.manually_stopped)
            ended = container.state.status is Status.EXITED and container.state.started_at_ns > 0
            if container.state.status is Status.RESTARTING or (ended and wanted):
                container.manually_stopped = container.manually_stopped and not forgets
                self._schedule_restart(container, self._runs.of(container.id), delay_seconds=0)

    def close(self) -> None:
        """Let go of all processes; they go on."""
        self._closing = True
        for run in self._runs.all():
            run.drop_pending()
            if run.process is not None:
                run.process.forget()

    async def start_locked(self, container: Container, run: ContainerRun, *, by_policy: bool = False) -> None:
        """Start and watch over a container; the caller holds the lock of `run`. A failing start is recorded, and raised.

        `by_policy`: it is the restart policy that wants this start, and decides whether there is another one if it fails. A caller that is
        cancelled before the program runs leaves the container as it was; after that, the container runs.
        """
        with run.starting():
            await self._start(container, run, by_policy=by_policy)

    async def _start(self, container: Container, run: ContainerRun, *, by_policy: bool) -> None:
        pending = run.take_pending()
        try:
            process = await self._launcher.launch(container, pending)
        except StartError as error:
            failure, exit_code = translate_start_error(error)
            await self._start_failed(container, run, failure.message, exit_code, by_policy=by_policy)
            raise failure from error
        except Exception as error:
            await self._start_failed(container, run, str(error), EXIT_UNKNOWN, by_policy=by_policy)
            raise
        await run_to_end(self._started(container, run, process))

    async def _started(self, container: Container, run: ContainerRun, process: Process) -> None:
        """The program runs, and nothing that fails from here on is told to be a failed start."""
        failpoints.reach("containers.start.running")
        container.state = lifecycle.started(container.state, pid=process.pid, now_ns=time.time_ns())
        self._start_watching(container, run, process)
        with _step(container, "tell of its start"):
            self._runs.tell(container, Move.STARTED)
        with _step(container, "record its start"):
            await self._registry.save(container)
            failpoints.reach("containers.start.recorded")
        with _step(container, "have its ports relayed"):
            self._launcher.networks.ports.started(container.id)
        with _step(container, "have it found by its names"):
            await self._names.joined(container, process)
        await self._launcher.links.joined(container)
        self._launcher.networks.announce(container, "connect")
        self._events.publish(container_event(container, "start"))

    async def cancel_restart(self, container: Container, run: ContainerRun) -> bool:
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

    async def _start_failed(self, container: Container, run: ContainerRun, message: str, exit_code: int, *, by_policy: bool) -> None:
        decision = RestartDecision(again=False)
        if by_policy:
            record = ExitRecord(exit_code, time.time_ns())
            decision = decide_restart(container, record, lasted_ns=0, last_delay_seconds=run.restart_delay_seconds)
        if decision.again:
            container.state = lifecycle.start_put_off(container.state, exit_code=exit_code, error=message)
            container.restart_count += 1
        else:
            container.state = lifecycle.start_failed(container.state, exit_code=exit_code, error=message)
        with _step(container, "record that its start failed"):
            await self._registry.save(container)
        await self._restart_or_remove(container, run, decision)

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
        with _step(container, "give back its ports"):
            # docker: whoever hears of the end may have them.
            await self._launcher.networks.ports.release(container.id)
        with _step(container, "give back its volumes"):
            # docker: whoever hears of the end finds them unmounted, however long a plug-in takes for that.
            await self._launcher.volumes.unmount(container)
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
        left = msgspec.structs.replace(container)
        container.endpoints = {}
        with _step(container, "tell of its end"):
            self._runs.tell(container, Move.RESTARTING if decision.again else Move.EXITED)
        with _step(container, "publish its end"):
            self._publish_end(container, record, lasted_ns=lasted_ns)
            self._launcher.networks.announce(left, "disconnect")
        with _step(container, "answer those who wait for its end"):
            run.notify(ContainerExit(status_code=record.exit_code), NOT_RUNNING, NEXT_EXIT)
        failpoints.reach("containers.end.changed")
        # The record first: the next engine reads the exit code from the bundle if it is not in the record.
        if not await self._settle(container):
            self._tasks.start(self._settle_later(container, run), name=f"record the end of {container.name}")
        failpoints.reach("containers.end.recorded")
        with _step(container, "have its names forgotten"):
            await self._names.changed(container, left.endpoints)
        await self._restart_or_remove(container, run, decision)

    async def _settle(self, container: Container) -> bool:
        """Record an end and clean up after it; False if there is no room for that. Until there is, the bundle says how it ended."""
        for what, step in (("record its end", self._registry.save), ("clean up after it", self._launcher.clean_up)):
            with _step(container, what):
                try:
                    await step(container)
                except DiskFull as error:
                    log.error("container %s: failed to %s until there is room for it: %s", container.name, what, error.message)
                    return False
        return True

    async def _settle_later(self, container: Container, run: ContainerRun) -> None:
        is_settled = False
        while not is_settled:
            await asyncio.sleep(_SETTLING_SECONDS)
            async with run.lock:
                # Another start has recorded more than the end.
                is_settled = container.state.has_process or not self._registry.exists(container.id) or await self._settle(container)

    def _publish_end(self, container: Container, record: ExitRecord, *, lasted_ns: int) -> None:
        if record.oom_killed:
            self._events.publish(container_event(container, "oom"))
        seconds = str(lasted_ns // 1_000_000_000)
        self._events.publish(container_event(container, "die", exitCode=str(record.exit_code), execDuration=seconds))

    async def _restart_or_remove(self, container: Container, run: ContainerRun, decision: RestartDecision) -> None:
        if decision.again:
            self._schedule_restart(container, run, delay_seconds=decision.delay_seconds)
        elif container.host_config.auto_remove and not run.kept and not container.is_being_renewed:
            with _step(container, "remove it"):
                await self._removal.remove_locked(container, run, volumes=True)

    def _schedule_restart(self, container: Container, run: ContainerRun, *, delay_seconds: float) -> None:
        if run.restart is not None:
            run.restart.cancel()
        run.restart_delay_seconds = delay_seconds
        run.restart = self._tasks.start(self._restart_later(container, run, delay_seconds), name=f"restart {container.name}")

    async def _restart_later(self, container: Container, run: ContainerRun, delay_seconds: float) -> None:
        await asyncio.sleep(delay_seconds)
        await self._children_restarted(container)
        async with run.lock:
            run.restart = None
            if self._registry.find(container.id) is None or container.state.has_process:
                return
            try:
                await self.start_locked(container, run, by_policy=True)
            except TeulError as error:
                log.warning("container %s could not be restarted: %s", container.name, error.message)
            except Exception:
                log.exception("container %s could not be restarted", container.name)

    async def _children_restarted(self, container: Container) -> None:
        """Wait, for a while, until those that a container is linked to have been restarted, if they are about to be.

        docker: daemon/daemon.go, restore.
        """
        restarts = [self._runs.of(linked.id).restart for linked in container.links.values() if self._registry.exists(linked.id)]
        if awaited := [restart for restart in restarts if restart is not None]:
            await asyncio.wait(awaited, timeout=_CHILDREN_SECONDS)

    async def _take_over(self, container: Container, *, has_cgroup: bool, has_bundle: bool) -> None:
        run = self._runs.of(container.id)
        process, damage = None, ""
        with _step(container, "take over its process"):
            try:
                process = await self._launcher.adopt(container.id)
            except Integrity as error:
                log.error("container %s (%s) is ended, for nobody can watch over it: %s", container.id, container.name, error.message)
                damage = error.message
                await self._launcher.end_unwatched(container)
        if has_cgroup and (process is None or process.exit.done()):
            # Whoever was to remove it may have been killed. What still runs in it, nobody watches over.
            with _step(container, "remove its cgroup"):
                await run_blocking(self._launcher.end_cgroup, self._launcher.cgroup_plan(container))
        if process is not None and process.exit.done() and not await self._is_news(container, process.exit.result()):
            process = None
            with _step(container, "clean up after it"):
                await self._launcher.clean_up(container)
        if process is not None and not container.state.has_process:
            # The engine died between the start and its record.
            with _step(container, "learn what it has of its networks"):
                container.endpoints = await run_blocking(read_endpoints, self._launcher.directories.bundle(container.id))
            container.state = lifecycle.started(_startable(container.state), pid=process.pid, now_ns=time.time_ns())
            self._runs.tell(container, Move.STARTED)
            with _step(container, "record its start"):
                await self._registry.save(container)
        if process is not None:
            if not process.exit.done():
                with _step(container, "look whether it is paused"):
                    await self._look_at_freezer(container)
            self._start_watching(container, run, process)
        elif container.state.has_process:
            async with run.lock:
                await self._ended(container, run, ExitRecord(255, 0, error=damage or "the host or the container's monitor went away"))
        else:
            if has_bundle:
                # Of a start that its engine did not live to carry out, or of one that can be told nothing about.
                with _step(container, "clean up after its start"):
                    await self._launcher.clean_up(container)
            ended_for_good = container.state.status is Status.EXITED and not container.is_being_renewed
            if container.state.status is Status.REMOVING or (ended_for_good and container.host_config.auto_remove):
                async with run.lock:
                    with _step(container, "remove it"):
                        await self._removal.remove_locked(container, run, volumes=True)

    async def _is_news(self, container: Container, end: ExitRecord) -> bool:
        """Whether this end, which the bundle tells of, is not on record yet; if it is, only the bundle was left.

        A restart is counted when the end before it is recorded. A run whose start no engine recorded has an end all the same, which has to
        be counted as well, or the container would be restarted once too often.
        """
        if container.state.has_process:
            return True
        if end.finished_at_ns:
            return end.finished_at_ns != container.state.finished_at_ns
        return await run_blocking(self._launcher.began_at_ns, container.id) > container.state.finished_at_ns

    async def _look_at_freezer(self, container: Container) -> None:
        """An engine that was killed while it paused or unpaused has left one thing on the host and the other on record.

        Then the container is to run: the client that wanted it paused was not told that it is; or it stood still for a commit, which has
        ended with that engine.
        """
        frozen = await run_blocking(cgroups.is_frozen, self._launcher.cgroup_plan(container))
        if frozen and container.state.status is Status.RUNNING:
            await run_blocking(cgroups.thaw, self._launcher.cgroup_plan(container))
        elif not frozen and container.state.status is Status.PAUSED:
            container.state = lifecycle.unpaused(container.state)
            self._runs.tell(container, Move.UNPAUSED)
            await self._registry.save(container)


def _startable(state: lifecycle.ContainerState) -> lifecycle.ContainerState:
    return state if state.status is not Status.REMOVING else lifecycle.remove_failed(state, error="")


@contextmanager
def _step(container: Container, what: str) -> Iterator[None]:
    """One of several steps that do not depend on each other: its failure is logged here, and the next step is taken."""
    try:
        yield
    except Exception:
        log.exception("container %s: failed to %s", container.name, what)
