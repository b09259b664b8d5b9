"""Health checks: probing the containers that ask for it, from their start to their end.

One task per container that is probed: it sleeps, runs the probe as an exec like any other, and notes the result. What a result
means is decided in `model.health`. A paused container is not probed. The record is saved when a result changes the verdict, so an engine
that was killed is followed by an engine that knows the same; lost are only the results that confirmed the verdict since.
Source: moby daemon/health.go.
"""

from __future__ import annotations

import asyncio
import logging
import time

from teul.aio import Tasks
from teul.errors import TeulError
from teul.model import health as states
from teul.model.container import Container
from teul.model.exec import ExecConfig
from teul.model.health import HealthStatus, Probe, ProbeResult
from teul.model.lifecycle import Move, Status
from teul.runtime.engine.attachment import Attachment
from teul.services.containers.execs import Execs
from teul.services.containers.lifecycle import Lifecycle
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.run import Runs
from teul.services.events import Events, container_event

log = logging.getLogger(__name__)


class HealthChecks:
    """The health checks of one engine. Used from the event loop only."""

    def __init__(
        self, registry: ContainerRegistry, runs: Runs, *, lifecycle: Lifecycle, execs: Execs, events: Events, tasks: Tasks
    ) -> None:
        self._lifecycle = lifecycle
        self._execs = execs
        self._registry = registry
        self._events = events
        self._tasks = tasks
        self._monitors: dict[str, asyncio.Task[None]] = {}
        runs.follow(self._moved)

    def resume(self) -> None:
        """Go on probing what an earlier engine probed. docker: dockerd begins anew with "starting"; here the verdict is kept."""
        for container in self._registry.all():
            if container.state.status is Status.RUNNING and container.id not in self._monitors:
                self._watch(container)

    def _moved(self, container: Container, move: Move) -> None:
        match move:
            case Move.STARTED:
                self._stop(container)
                if states.probe_of(container.config) is not None:
                    container.health = states.begun(container.health)
                self._watch(container)
            case Move.UNPAUSED:
                self._watch(container)
            case _:
                self._stop(container)

    def _watch(self, container: Container) -> None:
        probe = states.probe_of(container.config)
        if probe is None:
            return
        if container.health is None:
            container.health = states.begun(None)  # an engine that knew no health checks has started the container
        self._monitors[container.id] = self._tasks.start(self._monitor(container, probe), name=f"health of {container.name}")

    def _stop(self, container: Container) -> None:
        monitor = self._monitors.pop(container.id, None)
        if monitor is not None:
            monitor.cancel()
        if container.health is not None:
            container.health = states.stopped(container.health)

    async def _monitor(self, container: Container, probe: Probe) -> None:
        while container.health is not None:
            times = {"started_at_ns": container.state.started_at_ns, "now_ns": time.time_ns()}
            await asyncio.sleep(states.next_delay_ns(container.health, probe, **times) / 1e9)
            await self._note(container, probe, await self._run(container, probe))

    async def _run(self, container: Container, probe: Probe) -> ProbeResult:
        """Run one probe. A probe that cannot be run has a result, too."""
        started_at_ns = time.time_ns()
        config = ExecConfig(cmd=list(probe.command), attach_stdout=True, attach_stderr=True)
        try:
            exec_id = await self._execs.create(container.id, config)
            try:
                return await self._finish(exec_id, probe, started_at_ns)
            finally:
                self._execs.kill(exec_id)  # if the probe still runs: nobody waits for it any more
                self._execs.forget(exec_id)
        except (TeulError, OSError) as error:
            message = error.message if isinstance(error, TeulError) else str(error)
            log.warning("health check of container %s: %s", container.name, message)
            return states.failed(started_at_ns, time.time_ns(), message)

    async def _finish(self, exec_id: str, probe: Probe, started_at_ns: int) -> ProbeResult:
        attachment = await self._execs.start(exec_id, detach=False, terminal=False)
        assert attachment is not None, "a probe is attached to"
        output = bytearray()
        try:
            async with asyncio.timeout(probe.timeout_ns / 1e9):
                await _read(attachment, output)
                exit_code = await self._execs.wait(exec_id)
        except TimeoutError:
            self._execs.kill(exec_id)
            # docker: the killed probe is waited for, so that dying probes do not pile up.
            await self._execs.wait(exec_id)
            return states.timed_out(probe, started_at_ns, time.time_ns(), bytes(output))
        finally:
            await attachment.close()
        assert exit_code is not None, "it was started"
        return states.completed(started_at_ns, time.time_ns(), exit_code, bytes(output))

    async def _note(self, container: Container, probe: Probe, result: ProbeResult) -> None:
        before = container.health
        if before is None or container.state.status is not Status.RUNNING:
            return
        after = states.recorded(before, probe, result, started_at_ns=container.state.started_at_ns)
        container.health = after
        if after.status is not before.status:
            self._events.publish(container_event(container, f"health_status: {after.status}"))
            wants_restart = (container.config.labels or {}).get(states.RESTART_LABEL) == "true"
            # One that has yet to prove itself is taken away, and the one before it started: a restart would come in between.
            if after.status is HealthStatus.UNHEALTHY and wants_restart and container.replacing is None:
                # Not here: the restart ends this task.
                self._tasks.start(self._restart(container), name=f"restart unhealthy {container.name}")
        if (after.status, after.failing_streak) != (before.status, before.failing_streak):
            try:
                await self._registry.save(container)
            except Exception:
                # The container is probed all the same; what is not on record is lost only if the engine is killed.
                log.exception("the health of container %s could not be recorded", container.name)

    async def _restart(self, container: Container) -> None:
        log.warning("container %s is unhealthy and will be restarted, as its label %s asks", container.name, states.RESTART_LABEL)
        try:
            await self._lifecycle.restart(container.id)
        except TeulError as error:
            log.warning("container %s is unhealthy and could not be restarted: %s", container.name, error.message)


async def _read(attachment: Attachment, output: bytearray) -> None:
    """Read to the end of the process; `output` keeps one byte more than is shown, to know that there was more."""
    async for _stream, data in attachment:
        output += data[: states.OUTPUT_BYTES + 1 - len(output)]
