"""Workers seen from the engine: start a worker, feed it, read its report, and end it with its caller.

The engine opens no archive itself (`workers.program` does). A caller that is cancelled kills its worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from teul.aio import Tasks, run_to_end
from teul.errors import InvalidParameter, System, TeulError

if TYPE_CHECKING:
    from teul.workers.program.messages import EnteredLine, Failure, FailureKind, Order

log = logging.getLogger(__name__)

# The longest line of a report is the last one of an unpacked layer, which lists the paths of its opaque directories.
_MAX_LINE_BYTES = 64 << 20
_PIECE_BYTES = 1 << 16
_ARCHIVE_PIECE_BYTES = 1 << 18
# kernel: /proc/sys/fs/pipe-max-size, as it is by default. A pipe is born with a sixteenth: each turn of the loop moves so much.
_PIPE_BYTES = 1 << 20
# A worker takes and drops a piece of a megabyte at a time. As glibc is made, each would be a mapping of its own: new pages, zeroed by the
# kernel, and their removal, which costs more than what is done with the bytes.
_ENVIRONMENT = {"GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={32 << 20}:glibc.malloc.trim_threshold={64 << 20}"}
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from teul.workers.program.{program} import main; main(sys.argv[1])"


class InvalidArchive(InvalidParameter):
    """An archive that is corrupt, truncated, hostile, or larger than allowed. The message may quote names from it."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


@dataclass(frozen=True, slots=True)
class Program:
    """A program that workers run, the module `name` of `workers.program`, and what is raised when it fails.

    `errors` has the error for each kind of failure that the program knows; a kind that is not there is a bug in it, of which clients are
    told `bug`. `death` is told of a worker that ended without a word; "{pid}" in it becomes its process id.
    """

    name: str
    errors: Mapping[FailureKind, Callable[[str], TeulError]]
    death: str
    bug: str


class Worker:
    """A worker. Signals go through a pidfd: asyncio's own `kill` may take the exit status from under its own feet.

    The process is the outer one of two (`program.confine`): it holds nothing, and ends when the inner one has ended.
    """

    def __init__(self, process: asyncio.subprocess.Process, program: Program) -> None:
        self.pid = process.pid
        self.stdin = process.stdin
        self._process = process
        self._program = program
        self._stdout = process.stdout
        try:
            self._pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self._pidfd = -1  # the process has ended and been reaped already

    def kill(self) -> None:
        """End the worker, whatever it is doing. Idempotent, also when it has ended.

        By SIGTERM, for which the outer process kills the inner one, reaps it and ends; SIGKILL would leave the inner one's last moments and
        its exit status to nobody.
        """
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)

    async def line(self) -> Any:
        """The next line of the report, of the type that `program.messages` has for the job. A failure is raised as the error it means."""
        message = await self._message()
        if "missing_namespaces" in message:
            _log_missing(tuple(message["missing_namespaces"]))
            message = await self._message()
        if "error" in message:
            raise self._error(message)
        return message

    async def entered(self) -> None:
        """Wait until the worker is shut into what it works on."""
        line: EnteredLine = await self.line()
        assert line["entered"]

    async def result(self) -> Any:
        """The result in the last line of the report, of the type that `program.messages` has for the job. Raises as `line`."""
        return (await self.line())["done"]

    async def ended(self) -> None:
        """Wait until the process has ended, and the inner one as well, which closes its report last."""
        assert self._stdout is not None
        await self._process.wait()
        while await self._stdout.read(_PIECE_BYTES):
            pass

    async def _message(self) -> Any:
        assert self._stdout is not None
        line = await self._stdout.readline()
        if not line.endswith(b"\n"):
            death = self._program.death.format(pid=self.pid)
            raise System(death, hint="was it killed, by the kernel for want of memory?")
        return json.loads(line)

    def _error(self, failure: Failure) -> TeulError:
        make = self._program.errors.get(failure["kind"])
        if make is not None:
            return make(printable(failure["error"]))
        log.error("worker %d failed:\n%s", self.pid, failure["error"])
        return System(f"{self._program.bug}: the engine's log has the details")


@asynccontextmanager
async def running_worker(program: Program, order: Order, *, stdin: int, pass_fds: tuple[int, ...] = ()) -> AsyncIterator[Worker]:
    """A worker that carries out the order; the process is gone when the `with` ends."""
    started: list[Worker] = []

    async def start() -> None:
        # -I -S: nothing from the environment or the current directory, and a third of the start-up time.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", "-c", _BOOT.format(program=program.name), json.dumps(order)),
            *(path for path in sys.path if path),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            limit=_MAX_LINE_BYTES,
            pass_fds=pass_fds,
            env=_ENVIRONMENT,
        )
        if process.stdin is not None:
            _widen(process.stdin)
        started.append(Worker(process, program))

    try:
        # To its end, since asyncio would end a start that is cancelled half-way by SIGKILL (see `Worker.kill`).
        await run_to_end(start())
        yield started[0]
    finally:
        # The caller has read as much of the report as it wanted.
        for worker in started:
            worker.kill()
            await run_to_end(worker.ended())
            worker.close()


@asynccontextmanager
async def archiving_worker(
    program: Program, make_order: Callable[[int], Order], *, pass_fds: tuple[int, ...] = ()
) -> AsyncIterator[tuple[Worker, AsyncIterator[bytes]]]:
    """A worker that packs, and the archive that it writes. `make_order` gets the descriptor to write the archive to."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    async with contextlib.AsyncExitStack() as stack:
        closing = stack.enter_context(contextlib.ExitStack())
        closing.callback(os.close, write_fd)
        with contextlib.suppress(PermissionError):  # the user's limit for pipes is used up; a small pipe does as well
            fcntl.fcntl(read_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        reader, transport = await _pipe_reader(read_fd)
        stack.callback(transport.close)
        running = running_worker(program, make_order(write_fd), stdin=asyncio.subprocess.DEVNULL, pass_fds=(write_fd, *pass_fds))
        worker = await stack.enter_async_context(running)
        # The worker alone holds the pipe's writing end now, so the archive ends when the worker closes it.
        closing.pop_all().close()
        yield worker, _chunks(worker, reader)


async def _pipe_reader(read_fd: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader(limit=_ARCHIVE_PIECE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", buffering=0)
    )
    return reader, transport


async def _chunks(worker: Worker, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while chunk := await reader.read(_ARCHIVE_PIECE_BYTES):
        yield chunk
    await worker.result()


def _widen(pipe: asyncio.StreamWriter) -> None:
    # kernel: a user that has many pipes already, or a smaller limit of the whole machine, gets no larger one; it is only slower then.
    with contextlib.suppress(PermissionError):
        fcntl.fcntl(pipe.get_extra_info("pipe"), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


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
            # If the stream failed, the worker was killed for it: the stream's error is the cause, and the caller's complaint about a
            # dead worker the consequence.
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
        """Ends with the stream, or when the worker ends before the stream does; then the worker's report says why."""
        assert self._worker.stdin is not None
        try:
            async for chunk in self._stream:
                if not await self._write(self._worker.stdin, chunk):
                    return
        except Exception as error:  # noqa: BLE001 - boundary: `check` raises it where the feed is waited for
            self._error = error
            self._worker.kill()
        finally:
            self._worker.stdin.close()
            self._ended.set()

    async def finish(self) -> None:
        """Wait for the stream's end; raises what the stream raised."""
        await self._ended.wait()
        self.check()

    def check(self) -> None:
        """Raise what the stream raised, if it raised anything."""
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


@cache
def _log_missing(names: tuple[str, ...]) -> None:
    """Once: the kernel is the same for all workers."""
    log.warning("this kernel has no %s namespaces; workers that open archives are confined without", ", ".join(names))


def printable(text: str) -> str:
    """`text` with escapes for bytes that are no characters, and for characters that would do something to a terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
