"""Committing containers: what one has changed becomes an image, while it stands still.

The container's lock is held while its files are read, and no longer: nobody starts, removes or unpauses it meanwhile, and the storing of
the image keeps nobody waiting.

docker: daemon/commit.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from teul.aio import run_blocking, run_to_end
from teul.dockerfile.changes import apply_changes
from teul.errors import Conflict, InvalidParameter, System
from teul.model.config import ContainerConfig, HealthConfig
from teul.model.container import Container
from teul.model.document import Empty
from teul.model.lifecycle import Status
from teul.oci.digest import Digest
from teul.oci.image_config import Healthcheck, ImageConfig
from teul.oci.reference import Reference
from teul.services.containers.launch import Launcher
from teul.services.containers.lifecycle import Lifecycle
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.request.complete import merge_image_config
from teul.services.containers.run import Runs
from teul.services.events import Events, container_event
from teul.services.images.archives import ImageArchives
from teul.services.images.commit import CommitRequest
from teul.services.images.service import Images
from teul.workers.rootfs import Changeset, write_changeset


@dataclass(frozen=True, slots=True)
class CommitOrder:
    """What `docker commit` may say. `config` takes the place of the container's, which then says what it leaves open."""

    reference: Reference | None = None
    author: str = ""
    comment: str = ""
    changes: Sequence[str] = ()
    config: ContainerConfig | None = None
    pause: bool = True


class Commits:
    """The containers of one engine on their way into images."""

    def __init__(
        self,
        registry: ContainerRegistry,
        runs: Runs,
        *,
        lifecycle: Lifecycle,
        launcher: Launcher,
        images: Images,
        archives: ImageArchives,
        events: Events,
    ) -> None:
        self._registry = registry
        self._runs = runs
        self._lifecycle = lifecycle
        self._launcher = launcher
        self._images = images
        self._archives = archives
        self._events = events

    async def commit(self, reference: str, order: CommitOrder) -> Digest:
        """Make an image of the container; its id. Raises as Docker does, and then there is none; the container goes on in any case."""
        container = self._registry.get(reference)
        _check(container)
        if order.reference is not None and order.reference.familiar_name == "sha256":
            raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
        request = CommitRequest(
            config=committed_config(container.config, order.config, order.changes),
            container_id=container.id,
            created_by=" ".join(container.config.cmd or ()),
            author=order.author,
            comment=order.comment,
            reference=order.reference,
        )

        async def write(archive_fd: int, index_fd: int | None) -> Changeset:
            return await self._write(container, archive_fd, index_fd, pause=order.pause)

        image_id = await self._archives.commit(lambda: self._images.of(container), write, request)
        name = order.reference.familiar if order.reference is not None else ""
        self._events.publish(container_event(container, "commit", comment=order.comment, imageID=str(image_id), imageRef=name))
        return image_id

    async def _write(self, container: Container, archive_fd: int, index_fd: int | None, *, pause: bool) -> Changeset:
        run = self._runs.of(container.id)
        directories = self._launcher.directories
        async with run.lock, AsyncExitStack() as stack:
            _check(self._registry.get(container.id))  # it may have been removed while we waited
            lower = self._images.lower(self._images.of(container))
            try:
                layers = await run_to_end(run_blocking(stack.enter_context, lower))
            except OSError as error:
                raise System(f"the layers of container {container.id} cannot be mounted: {error}") from error
            if pause:
                await stack.enter_async_context(self._lifecycle.standing_still(container, run))
            try:
                return await write_changeset(
                    directories.upper(container.id), [*layers, directories.lowest_layer], archive_fd=archive_fd, index_fd=index_fd
                )
            except System as error:
                raise System(f"failed to commit container {container.id}: {error.message}", hint=error.hint) from error


def _check(container: Container) -> None:
    if container.state.status is Status.DEAD:
        raise Conflict(f"You cannot commit container {container.id} which is Dead")
    if container.state.status is Status.REMOVING:
        raise Conflict(f"You cannot commit container {container.id} which is being removed")


def committed_config(own: ContainerConfig, given: ContainerConfig | None, changes: Sequence[str]) -> ImageConfig:
    """The config of an image of a container whose config is `own`: `given` in its place, changed, and completed by it.

    Raises InvalidParameter. docker: daemon/commit.go, CreateImageFromContainer.
    """
    changed = apply_changes(_as_image_config(given if given is not None else own), changes)
    return _as_image_config(merge_image_config(_as_container_config(changed), _as_image_config(own)))


def _as_image_config(config: ContainerConfig) -> ImageConfig:
    health = config.healthcheck
    return ImageConfig(
        user=config.user,
        exposed_ports=_names(config.exposed_ports),
        env=config.env,
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        volumes=_names(config.volumes),
        working_dir=config.working_dir,
        labels=config.labels,
        stop_signal=config.stop_signal,
        args_escaped=config.args_escaped,
        healthcheck=Healthcheck(
            test=health.test,
            interval_ns=health.interval,
            timeout_ns=health.timeout,
            start_period_ns=health.start_period,
            start_interval_ns=health.start_interval,
            retries=health.retries,
        )
        if health is not None
        else None,
        on_build=config.on_build,
        shell=config.shell,
    )


def _as_container_config(config: ImageConfig) -> ContainerConfig:
    health = config.healthcheck
    return ContainerConfig(
        user=config.user,
        exposed_ports={port: Empty() for port in config.exposed_ports} if config.exposed_ports is not None else None,
        env=config.env,
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        volumes={path: Empty() for path in config.volumes} if config.volumes is not None else None,
        working_dir=config.working_dir,
        labels=config.labels,
        stop_signal=config.stop_signal,
        args_escaped=config.args_escaped,
        healthcheck=HealthConfig(
            test=health.test,
            interval=health.interval_ns,
            timeout=health.timeout_ns,
            start_period=health.start_period_ns,
            start_interval=health.start_interval_ns,
            retries=health.retries,
        )
        if health is not None
        else None,
        on_build=config.on_build,
        shell=config.shell,
    )


def _names(members: dict[str, Empty] | None) -> dict[str, dict[str, object]] | None:
    return {name: {} for name in members} if members is not None else None
