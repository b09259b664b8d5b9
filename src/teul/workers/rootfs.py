"""The files of one container, worked on by a worker process that sees nothing else (`workers.program.rootfs`).

Every archive is a stream: the worker waits while the client does not read or write, and ends when nobody wants the archive any more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from teul.errors import InvalidParameter, NotFound, System, TeulError
from teul.model.filesystem import Change, PathStat
from teul.oci.digest import Digest
from teul.oci.runtime_spec import IdMap
from teul.workers.client import Program, archiving_worker, feeding, running_worker

if TYPE_CHECKING:
    from teul.workers.program.messages import (
        BindMount,
        ChangesetOrder,
        ChangesetResult,
        ChangesOrder,
        ChangesResult,
        ExportOrder,
        PackOrder,
        PlaceOrder,
        PopulateOrder,
        PopulateResult,
        RootView,
        Stat,
        StatLine,
        StatOrder,
    )


class NoSuchPath(NotFound):
    """There is nothing at the path that was asked for."""


class ContainerGone(TeulError):
    """The running container has ended before its root was entered; nothing was done."""


_PROGRAM = Program(
    "rootfs",
    errors={"not-found": NoSuchPath, "invalid": InvalidParameter, "gone": ContainerGone, "system": System},
    death="the worker that reads the container's files died",
    bug="internal error while working on the container's files",
)


@dataclass(frozen=True, slots=True)
class Bind:
    """A host path, or a detached mount by its descriptor, to be seen at `destination`.

    `asked`: by the client, who may have wanted it read-only. `id_map`: which owners of files are seen there.
    """

    source: str | int
    destination: str
    read_only: bool = False
    recursive: bool = True
    asked: bool = True
    id_map: IdMap | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What a worker makes the container's root of: the root of the process behind `pidfd`, or if there is no process the overlay.

    `pidfd`, and the descriptors of mounts in `lower` and `binds`, belong to whoever made the view, and must be open for as long as the view
    is used. `user` is the container's, for `id_map`. `stage` is a directory of the host that the worker covers in its own mount namespace.
    """

    pidfd: int | None
    lower: tuple[str | int, ...]
    upper: str
    work: str
    stage: str
    binds: tuple[Bind, ...] = ()
    user: str = ""


async def stat_path(view: View, path: str) -> PathStat:
    """What is at `path` in the container. Raises `NoSuchPath`, `System`, `ContainerGone`."""
    order: StatOrder = {"job": "stat", "parent_pid": os.getpid(), "view": _root_view(view, read_only=True), "path": path}
    async with running_worker(_PROGRAM, order, stdin=asyncio.subprocess.DEVNULL, pass_fds=_passed(view)) as worker:
        return _stat(await worker.result())


@asynccontextmanager
async def packed(view: View, path: str) -> AsyncIterator[tuple[PathStat, AsyncIterator[bytes]]]:
    """What is at `path`, and an archive of it while the `with` lasts. Raises as `stat_path`; the archive raises `System`."""

    def order(data_fd: int) -> PackOrder:
        root = _root_view(view, read_only=True)
        return {"job": "pack", "parent_pid": os.getpid(), "view": root, "path": path, "data_fd": data_fd}

    async with archiving_worker(_PROGRAM, order, pass_fds=_passed(view)) as (worker, chunks):
        line: StatLine = await worker.line()
        yield _stat(line["stat"]), chunks


@asynccontextmanager
async def exported(view: View) -> AsyncIterator[AsyncIterator[bytes]]:
    """An archive of everything in the container's root. Raises `System`, `ContainerGone`."""

    def order(data_fd: int) -> ExportOrder:
        return {"job": "export", "parent_pid": os.getpid(), "view": _root_view(view, read_only=True), "data_fd": data_fd}

    async with archiving_worker(_PROGRAM, order, pass_fds=_passed(view)) as (worker, chunks):
        await worker.entered()
        yield chunks


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an archive goes: the directory `path`. `user`, if given, is the owner of all placed files, in place of the archive's owners.

    `no_overwrite` refuses to put a directory in the place of something else, or the other way round.
    """

    path: str
    user: str = ""
    no_overwrite: bool = False
    read_only_root: bool = False


@asynccontextmanager
async def placing(view: View, placement: Placement, stream: AsyncIterator[bytes]) -> AsyncIterator[None]:
    """Place the archive that `stream` brings. Inside the `with` the container's root has been entered; its end waits until all is placed.

    Raises `NoSuchPath`, `InvalidParameter`, `System`, `ContainerGone`, and what `stream` raises.
    """
    order: PlaceOrder = {
        "job": "place",
        "parent_pid": os.getpid(),
        "view": _root_view(view, read_only=placement.read_only_root),
        "path": placement.path,
        "user": placement.user,
        "no_overwrite": placement.no_overwrite,
        "read_only_root": placement.read_only_root,
    }
    async with running_worker(_PROGRAM, order, stdin=asyncio.subprocess.PIPE, pass_fds=_passed(view)) as worker:
        await worker.entered()
        async with feeding(worker, stream) as feed:
            yield
            await worker.result()
            await feed.finish()


async def populate(view: View, targets: Sequence[tuple[str, int]]) -> list[str]:
    """Copy what the root has at each path into a directory that is empty: pairs of the path and a descriptor of the directory's mount.

    Returns for each what was there: a directory, a file or nothing. Raises `System`.
    """
    order: PopulateOrder = {
        "job": "populate",
        "parent_pid": os.getpid(),
        "view": _root_view(view, read_only=True),
        "targets": [*targets],
    }
    pass_fds = (*_passed(view), *(mount_fd for _, mount_fd in targets))
    async with running_worker(_PROGRAM, order, stdin=asyncio.subprocess.DEVNULL, pass_fds=pass_fds) as worker:
        done: PopulateResult = await worker.result()
    return [*done["found"]]


async def list_changes(upper: str, lower: list[str | int]) -> list[Change]:
    """What a container has changed in its image's files, in docker's order. `lower` is as of a `View`. Raises `System`."""
    order: ChangesOrder = {"job": "changes", "parent_pid": os.getpid(), "upper": upper, "lower": lower}
    async with running_worker(_PROGRAM, order, stdin=asyncio.subprocess.DEVNULL, pass_fds=_descriptors(lower)) as worker:
        done: ChangesResult = await worker.result()
    return [Change(kind, path) for kind, path in done["changes"]]


@dataclass(frozen=True, slots=True)
class Changeset:
    """What a container has changed, as a layer's uncompressed archive. Without `entries`, that is nothing.

    `unindexable` says why there is no index, though one was to be made; else it is "".
    """

    diff_id: Digest
    size_bytes: int
    archive_size_bytes: int
    entries: int
    unindexable: str


async def write_changeset(upper: str, lower: list[str | int], *, archive_fd: int, index_fd: int | None) -> Changeset:
    """Write the archive of what a container has changed, and an index over it, to empty files. `lower` is as of a `View`.

    Raises `System`, and `InvalidParameter` for files that no layer can have.
    """
    order: ChangesetOrder = {
        "job": "changeset",
        "parent_pid": os.getpid(),
        "upper": upper,
        "lower": lower,
        "archive_fd": archive_fd,
        "index_fd": index_fd,
    }
    pass_fds = (*_descriptors(lower), archive_fd, *((index_fd,) if index_fd is not None else ()))
    async with running_worker(_PROGRAM, order, stdin=asyncio.subprocess.DEVNULL, pass_fds=pass_fds) as worker:
        done: ChangesetResult = await worker.result()
    return Changeset(Digest(done["diff_id"]), done["size"], done["archive_size"], done["entries"], done["unindexable"])


def _passed(view: View) -> tuple[int, ...]:
    """The descriptors that the worker needs to make this view."""
    root = _descriptors(view.lower) if view.pidfd is None else (view.pidfd,)
    return (*root, *(bind.source for bind in view.binds if isinstance(bind.source, int)))


def _descriptors(lower: Sequence[str | int]) -> tuple[int, ...]:
    return tuple(layer for layer in lower if isinstance(layer, int))


def _root_view(view: View, *, read_only: bool) -> RootView:
    """The view for an order."""
    return {
        "pidfd": view.pidfd,
        "overlay": {"lower": list(view.lower), "upper": view.upper, "work": view.work},
        "stage": view.stage,
        "binds": [_bind_mount(bind) for bind in view.binds],
        "read_only": read_only,
        "user": view.user,
    }


def _bind_mount(bind: Bind) -> BindMount:
    return {
        "source": bind.source,
        "destination": bind.destination,
        "read_only": bind.read_only,
        "recursive": bind.recursive,
        "asked": bind.asked,
        "id_map": bind.id_map,
    }


def _stat(stat: Stat) -> PathStat:
    return PathStat(stat["name"], stat["size"], stat["mode"], stat["mtime_ns"], stat["target"])
