"""The files of one container, worked on by a worker process that sees nothing else (`workers.program.rootfs`).

Every archive is a stream: the worker waits while the other side does not read or write, and ends when nobody wants it any more.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from teul.errors import InvalidParameter, NotFound, System, TeulError
from teul.model.filesystem import Change, PathStat
from teul.workers.client import Worker, feeding, log, printable, running_worker

_PROGRAM = "rootfs"
_PIPE_BYTES = 1 << 20
_PIECE_BYTES = 1 << 18


class NoSuchPath(NotFound):
    """There is nothing at the path that was asked for."""


class ContainerGone(TeulError):
    """The running container has ended before its root was entered; nothing was done."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A host path to be seen at `destination`. `asked`: by the client, who may have wanted it read-only."""

    source: str
    destination: str
    read_only: bool = False
    recursive: bool = True
    asked: bool = True


@dataclass(frozen=True, slots=True)
class View:
    """What a worker makes the container's root of: the root of the process behind `pidfd`, or if there is none the overlay.

    `stage` is a directory of the host that the worker covers in its own mount namespace.
    """

    pidfd: int | None
    lower: tuple[str, ...]
    upper: str
    work: str
    stage: str
    binds: tuple[Bind, ...] = ()


async def stat_path(view: View, path: str) -> PathStat:
    """What is at `path` in the container. Raises `NoSuchPath`, `System`, `ContainerGone`."""
    with _Passed(view) as passed:
        order = {"job": "stat", "path": path, "view": passed.view(read_only=True)}
        async with running_worker(order, stdin=asyncio.subprocess.DEVNULL, pass_fds=passed.fds, program=_PROGRAM) as worker:
            return _stat(_checked(await worker.message())["done"])


@asynccontextmanager
async def packed(view: View, path: str) -> AsyncIterator[tuple[PathStat, AsyncIterator[bytes]]]:
    """What is at `path`, and an archive of it while the `with` lasts. Raises as `stat_path`; the archive raises `System`."""
    async with _archive({"job": "pack", "path": path}, view) as (first, chunks):
        yield _stat(first["stat"]), chunks


@asynccontextmanager
async def exported(view: View) -> AsyncIterator[AsyncIterator[bytes]]:
    """An archive of everything in the container's root. Raises `System`, `ContainerGone`."""
    async with _archive({"job": "export"}, view) as (_, chunks):
        yield chunks


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an archive goes: the directory `path`. `user` is whom everything shall belong to, if not to whom the archive says.

    `no_overwrite` refuses to put a directory in the place of something else, or the other way round.
    """

    path: str
    user: str = ""
    no_overwrite: bool = False
    read_only_root: bool = False


@asynccontextmanager
async def placing(view: View, placement: Placement, stream: AsyncIterator[bytes]) -> AsyncIterator[None]:
    """Place the archive that `stream` brings: inside the `with` the container's root has been entered, its end waits for the rest.

    Raises `NoSuchPath`, `InvalidParameter`, `System`, `ContainerGone`, and what `stream` raises.
    """
    with _Passed(view) as passed:
        order = {"job": "place", **asdict(placement), "view": passed.view(read_only=placement.read_only_root)}
        async with running_worker(order, stdin=asyncio.subprocess.PIPE, pass_fds=passed.fds, program=_PROGRAM) as worker:
            _checked(await worker.message())
            async with feeding(worker, stream) as feed:
                yield
                _checked(await worker.message())
                await feed.finish()


async def list_changes(upper: str, lower: list[str]) -> list[Change]:
    """What a container has changed in its image's files, in docker's order. Raises `System`."""
    order = {"job": "changes", "upper": upper, "lower": lower}
    async with running_worker(order, stdin=asyncio.subprocess.DEVNULL, program=_PROGRAM) as worker:
        done = _checked(await worker.message())["done"]
    return [Change(kind, path) for kind, path in done["changes"]]


@asynccontextmanager
async def _archive(order: dict[str, Any], view: View) -> AsyncIterator[tuple[dict[str, Any], AsyncIterator[bytes]]]:
    """A worker that packs: its first report, and what it writes."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    async with AsyncExitStack() as stack:
        closing = stack.enter_context(ExitStack())
        closing.callback(os.close, write_fd)
        with suppress(PermissionError):  # the user's limit for pipes is used up; a small one does as well
            fcntl.fcntl(read_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        reader, transport = await _pipe_reader(read_fd)
        stack.callback(transport.close)
        with _Passed(view) as passed:
            full = {**order, "data_fd": write_fd, "view": passed.view(read_only=True)}
            fds = (write_fd, *passed.fds)
            worker = await stack.enter_async_context(running_worker(full, stdin=asyncio.subprocess.DEVNULL, pass_fds=fds, program=_PROGRAM))
        # The archive ends when the worker has closed the last descriptor.
        closing.pop_all().close()
        yield _checked(await worker.message()), _chunks(worker, reader)


async def _pipe_reader(read_fd: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader(limit=_PIECE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", buffering=0)
    )
    return reader, transport


async def _chunks(worker: Worker, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while chunk := await reader.read(_PIECE_BYTES):
        yield chunk
    _checked(await worker.message())


class _Passed:
    """A view as a worker gets it: the pidfd is a copy of its own, since the container may end meanwhile."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.fds: tuple[int, ...] = ()

    def __enter__(self) -> _Passed:
        if self._view.pidfd is not None:
            self.fds = (os.dup(self._view.pidfd),)
        return self

    def __exit__(self, *details: object) -> None:
        for fd in self.fds:
            os.close(fd)

    def view(self, *, read_only: bool) -> dict[str, Any]:
        """The order's `view`, as `workers.program.view.enter` reads it."""
        view = self._view
        return {
            "pidfd": self.fds[0] if self.fds else None,
            "overlay": {"lower": view.lower, "upper": view.upper, "work": view.work},
            "stage": view.stage,
            "binds": [asdict(bind) for bind in view.binds],
            "read_only": read_only,
        }


def _stat(document: dict[str, Any]) -> PathStat:
    return PathStat(document["name"], document["size"], document["mode"], document["mtime_ns"], document["target"])


def _checked(message: dict[str, Any] | None) -> dict[str, Any]:
    """A line of the report, or the error that it is."""
    if message is None:
        raise System("the worker that reads the container's files died", hint="was it killed, by the kernel for want of memory?")
    if "error" not in message:
        return message
    text = message["error"]
    match message["kind"]:
        case "not-found":
            raise NoSuchPath(printable(text))
        case "invalid":
            raise InvalidParameter(printable(text))
        case "gone":
            raise ContainerGone(text)
        case "system":
            raise System(printable(text))
    log.error("a worker on a container's files failed:\n%s", text)
    raise System("internal error while working on the container's files: the engine's log has the details")
