"""Removing all containers that do not run: `docker container prune`."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from teul.errors import Conflict, TeulError
from teul.model.event import Event
from teul.model.filter import Filters
from teul.services.containers.filters import check_prune_filters, prune_filter
from teul.services.containers.lifecycle import Lifecycle
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.service import Containers
from teul.services.events import Events

log = logging.getLogger(__name__)


class ContainerPruning:
    """One pruning at a time. docker: daemon/prune.go."""

    def __init__(self, registry: ContainerRegistry, containers: Containers, lifecycle: Lifecycle, events: Events) -> None:
        self._registry = registry
        self._containers = containers
        self._lifecycle = lifecycle
        self._events = events
        self._is_running = False

    async def prune(self, filters: Filters) -> tuple[Sequence[str], int]:
        """Remove what does not run and `filters` do not spare: the ids, newest first, and how many bytes were the containers' own.

        Volumes stay. What cannot be removed stays as well. Raises InvalidParameter for filters that make no sense, and Conflict while
        another pruning is at work.
        """
        if self._is_running:
            raise Conflict("a prune operation is already running")
        self._is_running = True
        try:
            check_prune_filters(filters)
            is_wanted = prune_filter(filters, now_ns=time.time_ns())
            removed: list[str] = []
            freed_bytes = 0
            for container in self._registry.all():
                if container.state.counts_as_running or not is_wanted(container):
                    continue
                try:
                    own_bytes, _ = await self._containers.size(container)
                    await self._lifecycle.remove(container.id)
                except TeulError as error:
                    log.warning("container %s is not pruned: %s", container.name, error.message)
                    continue
                removed.append(container.id)
                freed_bytes += own_bytes
            self._events.publish(Event("container", "prune", "", {"reclaimed": str(freed_bytes)}))
            return removed, freed_bytes
        finally:
            self._is_running = False
