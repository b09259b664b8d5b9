"""The files of containers: the use cases of `docker cp`, `docker export` and `docker diff`.

A container that does not run is kept from starting while its files are worked on, as dockerd does it: two mounts of one upper directory
must not be. A running container is locked only until the worker has entered its root, so its end is noticed while a slow client reads.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar

from teul.aio import run_blocking, run_to_end
from teul.errors import Conflict, NotFound, System, TeulError
from teul.model.container import Container
from teul.model.filesystem import Change, PathStat
from teul.model.lifecycle import Status
from teul.services.containers.launch import Launcher
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.request.id_map import parse_id_map
from teul.services.containers.request.mounts import mounts_of, source_of
from teul.services.containers.run import ContainerRun, Runs
from teul.services.containers.sources import make_bind_sources, open_sources
from teul.services.containers.spec.namespaces import namespace_donors
from teul.services.events import Events, container_event
from teul.services.images.service import Images
from teul.workers import rootfs
from teul.workers.rootfs import Bind, ContainerGone, NoSuchPath, Placement, View

T = TypeVar("T")

_SETTLE_SECONDS = 10.0
_NETWORK_FILES = ("resolv.conf", "hostname", "hosts")


class FileNotInContainer(NotFound):
    """There is no such path in the container. The text is Docker's; its CLI shows it."""

    def __init__(self, path: str, reference: str) -> None:
        super().__init__(f"Could not find the file {path} in container {reference}")


class Filesystems:
    """The files of all containers of one engine."""

    def __init__(self, registry: ContainerRegistry, runs: Runs, launcher: Launcher, images: Images, events: Events) -> None:
        self._registry = registry
        self._runs = runs
        self._launcher = launcher
        self._images = images
        self._events = events

    async def stat(self, reference: str, path: str) -> PathStat:
        """What is at `path` in the container. Raises NotFound, also as `FileNotInContainer`, and System."""
        container = self._registry.get(reference)

        @asynccontextmanager
        async def begin(view: View) -> AsyncIterator[PathStat]:
            yield await rootfs.stat_path(view, path)

        async with self._entered(container, begin, told=(path, reference)) as found:
            return found

    @asynccontextmanager
    async def archive(self, reference: str, path: str) -> AsyncIterator[tuple[PathStat, AsyncIterator[bytes]]]:
        """What is at `path` in the container, and a tar archive of it. Raises as `stat`."""
        container = self._registry.get(reference)
        async with self._entered(container, lambda view: rootfs.packed(view, path), told=(path, reference)) as (found, chunks):
            self._publish(container, "archive-path")
            yield found, chunks

    async def extract(
        self, reference: str, path: str, stream: AsyncIterator[bytes], *, copy_owner: bool = False, no_overwrite: bool = False
    ) -> None:
        """Place the tar archive that `stream` brings in the directory `path`.

        With `copy_owner` everything will belong to the container's user; with `no_overwrite` a directory and something else do not
        take each other's place. Raises NotFound, InvalidParameter, System, and what `stream` raises; entries placed before that stay.
        """
        container = self._registry.get(reference)
        placement = Placement(
            path,
            user=container.config.user if copy_owner else "",
            no_overwrite=no_overwrite,
            read_only_root=container.host_config.readonly_rootfs,
        )
        async with self._entered(container, lambda view: rootfs.placing(view, placement, stream), told=(path, reference)):
            pass
        self._publish(container, "extract-to-dir")

    @asynccontextmanager
    async def export(self, reference: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Everything in the container's root as a tar archive, without what is mounted there. Raises NotFound, Conflict, System."""
        container = self._registry.get(reference)
        if container.state.status is Status.DEAD:
            raise Conflict(f"You cannot export container {container.id} which is Dead")
        if container.state.status is Status.REMOVING:
            raise Conflict(f"You cannot export container {container.id} which is being removed")
        try:
            async with self._entered(container, rootfs.exported, binds=False) as chunks:
                yield chunks
        except System as error:
            raise System(f"Error exporting container {reference}: {error.message}", hint=error.hint) from error
        self._publish(container, "export")

    async def changes(self, reference: str) -> list[Change]:
        """What the container changed in its image's files. Raises NotFound, System."""
        container = self._registry.get(reference)
        try:
            async with AsyncExitStack() as stack:
                return await rootfs.list_changes(self._launcher.directories.upper(container.id), await self._lower(container, stack))
        except System:
            self._registry.get(container.id)  # a container that was removed meanwhile is not found
            raise

    def _publish(self, container: Container, action: str) -> None:
        self._events.publish(container_event(container, action))

    @asynccontextmanager
    async def _entered(
        self,
        container: Container,
        begin: Callable[[View], AbstractAsyncContextManager[T]],
        *,
        binds: bool = True,
        told: tuple[str, str] | None = None,
    ) -> AsyncIterator[T]:
        """What `begin` makes of a view of the container, with the container's lock as the top of this module says.

        `told` is the path and container that a client will hear of if there is no such path.
        """
        try:
            async with AsyncExitStack() as stack:
                yield await self._enter(container, begin, stack, binds=binds)
        except NoSuchPath as error:
            raise FileNotInContainer(*told) if told is not None else error from error

    async def _enter(
        self, container: Container, begin: Callable[[View], AbstractAsyncContextManager[T]], stack: AsyncExitStack, *, binds: bool
    ) -> T:
        run = self._runs.of(container.id)
        while True:
            async with AsyncExitStack() as attempt, AsyncExitStack() as locked:
                await locked.enter_async_context(run.lock)
                self._registry.get(container.id)  # the container may have been removed while we waited
                settled = run.settled
                if run.process is None or run.process.pidfd >= 0:
                    pidfd = _own_pidfd(run, attempt)
                    if binds:
                        await attempt.enter_async_context(self._launcher.volumes.lent(container))
                    lower = await self._lower(container, attempt) if pidfd is None else []
                    view = await self._view(container, pidfd, lower, attempt, binds=binds)
                    if pidfd is None:
                        attempt.push_async_exit(locked.pop_all())
                    with suppress(ContainerGone):
                        entered = await attempt.enter_async_context(begin(view))
                        stack.push_async_exit(attempt.pop_all())
                        return entered
            # The first process has ended, and all that follows from this has yet to happen. Paused processes keep that from happening.
            try:
                async with asyncio.timeout(_SETTLE_SECONDS):
                    await settled.wait()
            except TimeoutError:
                raise Conflict(f"container {container.id} is ending, and some of its processes are paused: unpause or kill it") from None

    async def _lower(self, container: Container, owner: AsyncExitStack) -> list[str | int]:
        """The layers below the container's own, for as long as `owner` holds them."""
        lower = self._images.lower(self._images.of(container))
        try:
            return [*await run_to_end(run_blocking(owner.enter_context, lower)), self._launcher.directories.lowest_layer]
        except OSError as error:
            raise System(f"the layers of container {container.id} cannot be mounted: {error}") from error

    async def _view(self, container: Container, pidfd: int | None, lower: list[str | int], owner: AsyncExitStack, *, binds: bool) -> View:
        """The descriptors in it are `owner`'s."""
        directories = self._launcher.directories
        return View(
            pidfd=pidfd,
            lower=tuple(lower),
            upper=directories.upper(container.id),
            work=f"{directories.container(container.id)}/work",
            stage=f"{directories.root}/tmp",
            binds=await run_to_end(run_blocking(self._binds, container, owner)) if binds else (),
            user=container.config.user,
        )

    def _binds(self, container: Container, owner: AsyncExitStack) -> tuple[Bind, ...]:
        """The binds of the container, or those it would have if it ran; those with fewer path components first. Blocking."""
        planned = mounts_of(container)
        try:
            make_bind_sources(planned)
        except OSError as error:
            raise System(str(error)) from error
        sources = owner.enter_context(open_sources(planned, self._images))
        found = [
            Bind(
                sources.get(mount.destination, source_of(mount)),
                mount.destination,
                read_only=mount.read_only,
                recursive=not mount.non_recursive,
                id_map=parse_id_map(mount.id_map) if mount.id_map else None,
            )
            for mount in planned
            if mount.type != "tmpfs"
        ]
        taken = {mount.destination for mount in planned}
        directory = self._network_directory(container)
        found += [
            Bind(f"{directory}/{name}", f"/etc/{name}", read_only=container.host_config.readonly_rootfs, asked=False)
            for name in _NETWORK_FILES
            if f"/etc/{name}" not in taken and os.path.exists(f"{directory}/{name}")
        ]
        return tuple(sorted(found, key=lambda bind: bind.destination.count("/")))

    def _network_directory(self, container: Container) -> str:
        """Where the container's network files are: in another container's directory, if it uses the network of that container."""
        donor = namespace_donors(container.host_config).get("network")
        with suppress(TeulError):  # a donor that is gone has no network files
            if donor is not None:
                return self._launcher.directories.container(self._registry.get(donor).id)
        return self._launcher.directories.container(container.id)


def _own_pidfd(run: ContainerRun, owner: AsyncExitStack) -> int | None:
    """The pidfd of the container's first process, a copy that `owner` closes; None for a container that does not run.

    security: the copy is made in the step that looks. A container may end at any await, and the number of the engine's own descriptor then
    be another container's.
    """
    if run.process is None:
        return None
    pidfd = os.dup(run.process.pidfd)
    owner.callback(os.close, pidfd)
    return pidfd
