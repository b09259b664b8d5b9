"""Taking a container away: its record first, then everything else."""

from __future__ import annotations

import logging

from teul import failpoints
from teul.aio import SlowWork, Tasks, run_to_end
from teul.errors import TeulError
from teul.model import lifecycle
from teul.model.container import Container, ContainerExit
from teul.oci.digest import Digest
from teul.services.containers.bundle import remove_bundle
from teul.services.containers.directories import EngineDirectories, discard, empty_upper
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.run import NEXT_EXIT, NOT_RUNNING, REMOVED, ContainerRun, Runs
from teul.services.containers.volumes import ContainerVolumes
from teul.services.events import Events, container_event
from teul.services.images.service import Images
from teul.services.networks.endpoints import Endpoints
from teul.store.metadata.database import DiskFull

log = logging.getLogger(__name__)


class Removal:
    """Removes containers that do not run, for whoever has decided it: a client, or `--rm`."""

    def __init__(
        self,
        registry: ContainerRegistry,
        runs: Runs,
        *,
        directories: EngineDirectories,
        images: Images,
        volumes: ContainerVolumes,
        endpoints: Endpoints,
        events: Events,
        tasks: Tasks,
        slow: SlowWork,
    ) -> None:
        self._registry = registry
        self._runs = runs
        self._directories = directories
        self._images = images
        self._volumes = volumes
        self._endpoints = endpoints
        self._events = events
        self._tasks = tasks
        self._slow = slow

    async def remove_locked(self, container: Container, run: ContainerRun, *, volumes: bool) -> None:
        """Remove a container that does not run, with `volumes` also those that nobody has named; the caller holds the lock of `run`.

        If its record cannot be removed nothing has happened. Runs to its end even if the caller is cancelled.
        """
        await run_to_end(self._remove(container, run, volumes=volumes))

    async def _remove(self, container: Container, run: ContainerRun, *, volumes: bool) -> None:
        former = container.state
        container.state = lifecycle.removing(former)
        # The record goes first: a container without a record does not exist, and its files are swept if the engine dies here.
        try:
            failpoints.reach("containers.remove.marked")
            try:
                await self._registry.remove(container)
            except DiskFull:
                # What was kept for this is used up, by a container that still runs. What this one has written is not wanted any more.
                await self._slow.run(empty_upper, self._directories, container.id)
                await self._registry.remove(container)
        except BaseException:
            container.state = former
            raise
        failpoints.reach("containers.remove.recorded")
        run.drop_pending()
        if volumes:
            # docker: whoever waits for the container to be gone finds them gone.
            await self._volumes.discard(container)
        self._events.publish(container_event(container, "destroy"))
        # docker: a removal wakes whoever waits, for an exit that there will be no more as well.
        run.notify(ContainerExit(status_code=container.state.exit_code), REMOVED, NOT_RUNNING, NEXT_EXIT)
        self._runs.forget(container.id)
        try:
            await self._endpoints.release(container.id)  # nothing is held any more, unless the disk was full when the container ended
        except TeulError as error:
            log.warning("the addresses of %s are freed later: %s", container.name, error.message)
        self._tasks.start(self._slow.run(self._discard, container.id), name=f"remove files of {container.name}")
        for image_id in container.image_ids:
            await self._images.release(Digest(image_id))

    def _discard(self, container_id: str) -> None:
        """All files. There is still a bundle if the disk was full when the container ended. Blocking."""
        remove_bundle(self._directories, container_id)
        discard(self._directories, container_id)
