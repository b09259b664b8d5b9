"""Whether a container that has just been started is good: healthy, or, if it has no health check, there still after a while."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import suppress

from teul.errors import Refusal, TeulError
from teul.model.container import Container
from teul.model.event import Event
from teul.model.health import NO_HEALTH, HealthStatus
from teul.model.log import LogQuery
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.service import Containers
from teul.services.events import Events

_CALM_SECONDS = 5.0
_LOG_LINES = 10
_LONGEST_LINE = 500


class Trial:
    """Watches new containers. Used from the event loop only."""

    def __init__(self, registry: ContainerRegistry, containers: Containers, events: Events) -> None:
        self._registry = registry
        self._containers = containers
        self._events = events

    async def pass_(self, container: Container, *, healthy_seconds: float) -> None:
        """Return when the container is healthy, or has run for some seconds without a health check.

        Raises `Refusal` with what is known of the reason, the last lines of its log among it, when it ends, is unhealthy, or is not
        healthy in time.
        """
        is_probed = container.health_status != NO_HEALTH
        seconds = healthy_seconds if is_probed else _CALM_SECONDS
        with self._events.subscribe(until_ns=time.time_ns() + int(seconds * 1e9)) as news:
            if self._is_good(container) or await self._anything(container, news):
                return
        problem = self._problem(container)
        if problem is None and not is_probed:
            return
        text = problem or f"its successor was not healthy within {seconds:g} s"
        raise Refusal("\n".join([text, *self._probes(container), *await self._last_lines(container)]))

    async def _anything(self, container: Container, news: AsyncIterator[Event]) -> bool:
        """Whether it turns out good before it turns out bad, or the time is up."""
        async for _event in news:
            if self._problem(container) is not None:
                return False
            if self._is_good(container):
                return True
        return False

    def _is_good(self, container: Container) -> bool:
        return container.health_status == HealthStatus.HEALTHY and self._problem(container) is None

    def _problem(self, container: Container) -> str | None:
        if not self._registry.exists(container.id):
            return "its successor was removed"
        state = container.state
        if not state.has_process or container.restart_count:
            return f"its successor ended with exit code {state.exit_code}" + (f": {state.error}" if state.error else "")
        return "its successor is unhealthy" if container.health_status == HealthStatus.UNHEALTHY else None

    def _probes(self, container: Container) -> list[str]:
        """What the last probe said, if it failed."""
        last = container.health.log[-1] if container.health is not None and container.health.log else None
        if last is None or last.exit_code == 0:
            return []
        return [f"the last probe ended with {last.exit_code}: {last.output.strip()[:_LONGEST_LINE]}"]

    async def _last_lines(self, container: Container) -> list[str]:
        lines: list[str] = []
        with suppress(TeulError, OSError):  # there is no log to read, or no container any more: the reason is told without it
            entries = await self._containers.logs(container.id, LogQuery(tail=_LOG_LINES))
            lines = [f"  {entry.data.decode(errors='replace').rstrip()[:_LONGEST_LINE]}" async for entry in entries]
        return ["its last lines:", *lines] if lines else []
