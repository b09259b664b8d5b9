"""The resources of containers: what they use (`docker stats`), and changing what they may use (`docker update`)."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from teul import failpoints
from teul.aio import run_blocking, run_to_end, undoing
from teul.errors import Conflict, InvalidParameter, System, TeulError
from teul.linux.cgroups.usage import CgroupUsage, CpuUsage, IoEntry, IoUsage, MemoryUsage, PidsUsage, read_system_cpu
from teul.linux.netdev import read_interfaces
from teul.model.container import Container
from teul.model.host_config import HostConfig
from teul.model.lifecycle import Status
from teul.services.containers.launch import Launcher
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.run import Runs
from teul.services.containers.update import UpdateContainer, check_update, merge, plan_change
from teul.services.events import Events, container_event

__all__ = ["CgroupUsage", "ContainerResources", "CpuUsage", "IoEntry", "IoUsage", "Measurement", "MemoryUsage", "PidsUsage", "Sample"]

_PERIOD_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a container used at one moment, and what that is held against: the host's processor time and memory.

    `interfaces` is None for a container without a network of its own.
    """

    read_at_ns: int
    usage: CgroupUsage
    system_cpu_ns: int
    online_cpus: int
    memory_bytes: int
    interfaces: dict[str, dict[str, int]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A measurement of a container and the measurement before it; None while the container does not run."""

    container: Container
    now: Measurement | None
    before: Measurement | None = None


class ContainerResources:
    """The use cases around limits: what containers use of them, and changing them."""

    def __init__(self, registry: ContainerRegistry, runs: Runs, launcher: Launcher, events: Events) -> None:
        self._registry = registry
        self._runs = runs
        self._launcher = launcher
        self._events = events

    # -- using

    def check_stats(self, reference: str, *, stream: bool, one_shot: bool) -> Container:
        """The container that a client asks about. Raises NotFound, InvalidParameter."""
        container = self._registry.get(reference)
        if stream and one_shot:
            raise InvalidParameter("cannot have stream=true and one-shot=true")
        return container

    async def sample(self, container: Container, *, one_shot: bool = False) -> Sample:
        """One sample; without `one_shot` a second measurement is taken after a while, so that the two tell the use of the processor."""
        if not container.state.has_process:
            return Sample(container=container, now=None)
        first = await self._measure(container)
        if one_shot:
            return Sample(container=container, now=first)
        await asyncio.sleep(_PERIOD_SECONDS)
        return Sample(container=container, now=await self._measure(container), before=first)

    async def watch(self, container: Container) -> AsyncIterator[Sample]:
        """A sample now and one in every second, until the container is removed; empty samples while it does not run."""
        clock = asyncio.get_running_loop()
        due, before = clock.time(), None
        while self._registry.find(container.id) is not None:
            now = await self._measure(container)
            yield Sample(container=container, now=now, before=before)
            before = now
            due = max(due + _PERIOD_SECONDS, clock.time())
            await asyncio.sleep(due - clock.time())

    async def _measure(self, container: Container) -> Measurement | None:
        process = self._runs.of(container.id).process
        if not container.state.has_process or process is None:
            return None
        try:
            measurement = await run_blocking(self._read, container, process.pid)
        except (FileNotFoundError, ProcessLookupError):
            return None  # the container has ended, and `Supervision` will notice
        except OSError as error:
            raise System(f"failed to read the resource usage of container {container.id}: {error.strerror or error}") from error
        # What was read after the end may be another process's: process ids come again.
        return measurement if process.holds_pid() else None

    def _read(self, container: Container, pid: int) -> Measurement:
        usage = self._launcher.usage(container)
        # The host's time is read beside the container's, or their ratio would be noise.
        system_ns, online = read_system_cpu()
        return Measurement(
            read_at_ns=time.time_ns(),
            usage=usage,
            system_cpu_ns=system_ns,
            online_cpus=online,
            memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            interfaces=None if container.config.network_disabled else read_interfaces(pid),
        )

    # -- changing

    async def update(self, reference: str, request: UpdateContainer) -> list[str]:
        """Change limits and restart policy of a container, at once where it runs; returns warnings.

        All of it or none: a limit that the kernel refuses leaves the other limits, and the record, as they were.
        """
        wanted, warnings = check_update(request, self._launcher.host)
        container = self._registry.get(reference)
        async with self._runs.of(container.id).lock:
            self._registry.get(container.id)  # the container may have been removed while we waited
            try:
                await run_to_end(self._update_locked(container, wanted))
            except TeulError as error:
                error.message = f"Cannot update container {container.id}: {error.message}"
                raise
        self._events.publish(container_event(container, "update"))
        return warnings

    async def _update_locked(self, container: Container, wanted: HostConfig) -> None:
        if container.state.status in (Status.REMOVING, Status.DEAD):
            raise Conflict('container is marked for removal and cannot be "update"')
        former = container.host_config
        # The record goes first: should the engine die in between, the next start applies the record.
        await self._registry.change(container, host_config=merge(former, wanted))
        back = partial(self._registry.change, container, host_config=former)
        async with undoing(back, "and the record keeps what was asked for"):
            failpoints.reach("containers.update.recorded")
            change = plan_change(container.host_config, wanted)
            if change and container.state.has_process:
                await self._change_limits(container, change)

    async def _change_limits(self, container: Container, change: dict[str, Any]) -> None:
        try:
            await run_blocking(self._launcher.change_limits, container, change)
        except OSError as error:
            if error.errno == errno.ENOENT and not await run_blocking(self._launcher.has_cgroup, container):
                return  # the container has just ended; the record is what counts
            kind = {errno.EINVAL: InvalidParameter, errno.ERANGE: InvalidParameter, errno.EBUSY: Conflict}.get(error.errno or 0, System)
            raise kind(error.strerror or str(error)) from error
