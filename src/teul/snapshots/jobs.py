"""Workers seen from the engine: start one, feed it, read its report, and never outlive it.

The engine opens no archive itself (`snapshots.worker` does). A cancelled caller kills its worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from teul.aio import Tasks, run_blocking
from teul.errors import InvalidParameter, System
from teul.linux.paths import open_in_root
from teul.oci.digest import Digest

log = logging.getLogger(__name__)

# What a worker writes per line: a name, a link's target, and little else; the last line has the paths of opaque directories.
_MAX_LINE_BYTES = 64 << 20
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from teul.snapshots.worker.{program} import main; main(sys.argv[1])"


class InvalidArchive(InvalidParameter):
    """An archive that is corrupt, truncated, hostile, or larger than allowed. The message may quote names from it."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may contain before it is taken for a bomb. Bytes are those after decompression."""

    archive_bytes: int = 256 << 30
    archive_entries: int = 100_000
    layer_bytes: int = 256 << 30
    layer_entries: int = 10_000_000


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an image archive. A file's bytes are in `path`; a link has a `target` instead.

    `compression` is what its first bytes say; `is_archive` if it may be a layer.
    """

    name: str
    type: str
    path: str = ""
    target: str = ""
    size_bytes: int = 0
    digest: Digest | None = None
    compression: str = ""
    is_archive: bool = False


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A layer that lies unpacked in a directory."""

    diff_id: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Ingested:
    """A layer that was unpacked and kept while it arrived; `digest`, `blob_size_bytes` and `compression` are of what was kept."""

    unpacked: Unpacked
    digest: Digest
    blob_size_bytes: int
    compression: str


async def unpack(blob_path: str, compression: str, directory: str, limits: Limits, *, diff_id: Digest | None) -> Unpacked:
    """Unpack the layer in `blob_path` into the empty `directory`.

    `diff_id` is given if the file is uncompressed and its digest known; otherwise it is computed. Raises `InvalidArchive` or `System`.
    """
    order = {"job": "unpack", "root": directory, "compression": compression, "hash": diff_id is None, **_layer_limits(limits)}
    source_fd = os.open(blob_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        async with running_worker(order, stdin=source_fd) as worker:
            done = await worker.result()
    finally:
        os.close(source_fd)
    await run_blocking(_mark_opaque, directory, done["opaque"])
    return Unpacked(diff_id or Digest(done["diff_id"]), done["size"])


async def ingest(stream: AsyncIterator[bytes], keep_path: str, directory: str, limits: Limits) -> Ingested:
    """Unpack the layer that `stream` brings into the empty `directory` and keep it in the new file `keep_path`.

    Raises `InvalidArchive` or `System`, and whatever `stream` raises.
    """
    keep_fd = os.open(keep_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        order = {"job": "ingest", "root": directory, "keep_fd": keep_fd, **_layer_limits(limits)}
        async with running_worker(order, stdin=asyncio.subprocess.PIPE, pass_fds=(keep_fd,)) as worker, feeding(worker, stream) as feed:
            done = await worker.result()
            await feed.finish()
    finally:
        os.close(keep_fd)
    await run_blocking(_mark_opaque, directory, done["opaque"])
    unpacked = Unpacked(Digest(done["diff_id"]), done["size"])
    return Ingested(unpacked, Digest(done["digest"]), done["blob_size"], done["compression"])


async def split(stream: AsyncIterator[bytes], directory: str, limits: Limits) -> AsyncIterator[Member]:
    """Take the image archive that `stream` brings apart into files in the empty `directory`; each member as soon as it is whole.

    Nothing of it may be believed before the iteration ends without an error. Raises `InvalidArchive` or `System`, and whatever
    `stream` raises.
    """
    order = {"job": "split", "root": directory, "limit_bytes": limits.archive_bytes, "limit_entries": limits.archive_entries}
    async with running_worker(order, stdin=asyncio.subprocess.PIPE) as worker, feeding(worker, stream) as feed:
        while (message := await worker.message()) is not None and "member" in message:
            yield _member(message, directory)
        worker.check(message)
        await feed.finish()


def _member(message: dict[str, Any], directory: str) -> Member:
    if message["type"] != "file":
        return Member(message["member"], message["type"], target=message["target"])
    return Member(
        message["member"],
        "file",
        path=os.path.join(directory, message["file"]),
        size_bytes=message["size"],
        digest=Digest(message["digest"]),
        compression=message["compression"],
        is_archive=message["archive"],
    )


def _layer_limits(limits: Limits) -> dict[str, int]:
    return {"limit_bytes": limits.layer_bytes, "limit_entries": limits.layer_entries}


class Worker:
    """A worker process. Signals go through a pidfd: asyncio's own `kill` may take the exit status from under its own feet."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self.stdin = process.stdin
        self._stdout = process.stdout
        try:
            self._pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self._pidfd = -1  # ended and reaped already

    def kill(self) -> None:
        """Idempotent, also when it has ended."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)

    async def message(self) -> dict[str, Any] | None:
        """The next line of its report; None if it ended without one."""
        assert self._stdout is not None
        line = await self._stdout.readline()
        if not line.endswith(b"\n"):
            return None
        message: dict[str, Any] = json.loads(line)
        return message

    async def result(self) -> dict[str, Any]:
        """What it reports at its end, or the error it reports instead."""
        return self.check(await self.message())

    def check(self, message: dict[str, Any] | None) -> dict[str, Any]:
        """What the last line says, as a result or as the error it is."""
        if message is None:
            raise System(f"the worker {self.pid} that unpacks the archive died", hint="was it killed, by the kernel for want of memory?")
        if "done" in message:
            done: dict[str, Any] = message["done"]
            return done
        if message["kind"] == "bug":
            log.error("worker %d failed:\n%s", self.pid, message["error"])
            raise System("internal error while unpacking the archive: the engine's log has the details")
        if message["kind"] == "system":
            raise System(printable(message["error"]))
        raise InvalidArchive(message["error"])


@asynccontextmanager
async def running_worker(
    order: dict[str, Any], *, stdin: int, pass_fds: tuple[int, ...] = (), program: str = "main"
) -> AsyncIterator[Worker]:
    """A running worker, which is gone when the `with` ends. `program` is the module of `snapshots.worker` that carries out the order."""
    text = json.dumps({**order, "parent_pid": os.getpid()})
    # -I -S: nothing from the environment or the current directory, and a third of the start-up time.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", "-c", _BOOT.format(program=program), text),
        *(path for path in sys.path if path),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        limit=_MAX_LINE_BYTES,
        pass_fds=pass_fds,
        env={},
    )
    worker = Worker(process)
    try:
        yield worker
    finally:
        # What it had to say is said, or nobody wants to hear it.
        worker.kill()
        await process.wait()
        worker.close()


@asynccontextmanager
async def feeding(worker: Worker, stream: AsyncIterator[bytes]) -> AsyncIterator[Feed]:
    """Write `stream` to the worker while the `with` runs.

    If the stream fails, so that no whole archive will ever come, the worker is killed, and what the stream raised is raised here.
    """
    feed = Feed(worker, stream)
    async with Tasks() as tasks:
        tasks.start(feed.run(), name=f"feed worker {worker.pid}")
        try:
            yield feed
        except System:
            # Killed for want of input: the reader's complaint is the consequence, the stream's error the cause.
            feed.check()
            raise


class Feed:
    """The way of a stream into a worker."""

    def __init__(self, worker: Worker, stream: AsyncIterator[bytes]) -> None:
        self._worker = worker
        self._stream = stream
        self._error: Exception | None = None
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Ends with the stream, or when the worker ends before its input does; then its report says why."""
        assert self._worker.stdin is not None
        try:
            async for chunk in self._stream:
                if not await self._write(self._worker.stdin, chunk):
                    return
        except Exception as error:  # noqa: BLE001 - boundary: it is raised where the feed is waited for
            self._error = error
            self._worker.kill()
        finally:
            self._worker.stdin.close()
            self._ended.set()

    async def finish(self) -> None:
        """Wait for the stream's end; raises what it raised."""
        await self._ended.wait()
        self.check()

    def check(self) -> None:
        """Raise what the stream raised, if it did."""
        if self._error is not None:
            raise self._error

    @staticmethod
    async def _write(pipe: asyncio.StreamWriter, chunk: bytes) -> bool:
        try:
            pipe.write(chunk)
            await pipe.drain()
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True


def printable(text: str) -> str:
    """`text` with escapes for what is no character, or would do something to a terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _mark_opaque(directory: str, paths: list[str]) -> None:
    """Mark directories of a layer that hide what lower layers have under their names.

    Done here since it takes CAP_SYS_ADMIN, which no worker has. The layer's owner is done with it, and no path goes through a symlink:
    the worker got them from the kernel; the look-up stays inside the layer whatever they are.
    """
    if not paths:
        return
    root_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in paths:
            fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                # kernel: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"
                os.setxattr(fd, "trusted.overlay.opaque", b"y")
            finally:
                os.close(fd)
    finally:
        os.close(root_fd)
