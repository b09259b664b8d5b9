"""The engine's view of one process: a monitor in the keeper guards the process, and the engine has a control connection to the monitor."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from teul.errors import Integrity, System
from teul.linux.process import open_pidfd
from teul.linux.resolver import ResolverSockets
from teul.runtime.engine.attachment import Attachment
from teul.runtime.messages import EXIT_FILE, SOCKET_FILE, ExitDocument, Failure, Role, Running, TerminalSize, Wants
from teul.wire import monitor as wire

_RECEIVE_BYTES = 64 * 1024
_MAX_KEPT = 4
_MAX_RECEIVED = _MAX_KEPT + 2  # and the resolver's sockets
_RESCUE_MEMORY_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How a process ended, as its monitor wrote it down."""

    exit_code: int
    finished_at_ns: int
    oom_killed: bool = False
    signal: int | None = None
    error: str | None = None

    @classmethod
    def parse(cls, data: bytes | str) -> ExitRecord:
        """Read the monitor's JSON."""
        record: ExitDocument = json.loads(data)
        error = record.get("error") or record.get("log_error") or record.get("cgroup_error")
        return cls(record["exit_code"], record["finished_at_ns"], record["oom_killed"], record.get("signal"), error)


class StartError(System):
    """The process was not started. `step` says where the start ended, `kind` what class of trouble it was, `errno` the kernel's word."""

    def __init__(self, report: Failure) -> None:
        super().__init__(report["message"])
        self.step = report["step"]
        self.kind = report["kind"]
        self.errno = report["errno"]


class KeeperLost(StartError):
    """The keeper ended before it could say what became of the start."""

    def __init__(self) -> None:
        super().__init__(
            {"step": "start", "errno": None, "message": "the keeper ended before it could start the process", "kind": "OSError"}
        )


class KeeperSilent(StartError):
    """The keeper does not say what has become of the start, nor anything else."""

    def __init__(self) -> None:
        super().__init__({"step": "start", "errno": None, "message": "the keeper does not answer", "kind": "OSError"})


class Process:
    """A process that a monitor guards. `exit` is done when the process has ended; `pidfd` names it beyond doubt."""

    def __init__(self, directory: str, connection: socket.socket, *, terminal: bool, lost: Callable[[Process], None]) -> None:
        loop = asyncio.get_running_loop()
        self.directory = directory
        self.terminal = terminal
        self.pid = 0
        self.pidfd = -1
        self.kept: dict[Role, int] = {}  # role → our copy of the stream's descriptor, for another monitor that must take over
        self._resolver: ResolverSockets | None = None
        self.started: asyncio.Future[None] = loop.create_future()
        self._rescued_at_seconds: list[float] = []
        self.exit: asyncio.Future[ExitRecord] = loop.create_future()
        self._lost = lost
        self._connection = connection
        self._frames = wire.FrameReader()
        self.listen_to(connection)

    def listen_to(self, connection: socket.socket) -> None:
        """Take `connection` as the control connection from now on."""
        self._connection = connection
        self._frames = wire.FrameReader()
        connection.setblocking(False)
        asyncio.get_running_loop().add_reader(connection.fileno(), self._receive)

    async def attach(self, *, stdin: bool, stdout: bool, stderr: bool) -> Attachment:
        """Open a connection to its streams. Raises `OSError` when the process has just ended."""
        wants: Wants = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return await Attachment.connect(f"{self.directory}/{SOCKET_FILE}", terminal=self.terminal, wants=wants)

    def signal(self, number: int) -> None:
        """Send a signal by the pidfd, which needs no monitor and cannot hit another process. Nothing happens if the process has ended."""
        if self.pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def holds_pid(self) -> bool:
        """Whether `pid` is still this process's, if only as a zombie's: then whatever used the number so far meant no other process."""
        if self.pidfd < 0:
            return False
        try:
            signal.pidfd_send_signal(self.pidfd, 0)
        except ProcessLookupError:
            return False
        return True

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size."""
        self._say(wire.RESIZE, {"rows": rows, "columns": columns})

    def revoke(self) -> None:
        """The start is not wanted any more, whenever the keeper comes to it. Lets go of every descriptor."""
        with contextlib.suppress(OSError):  # the monitor is gone, and the start with it
            self._connection.send(wire.frame(wire.REVOKED))
        self.forget()

    def take_unheard(self, pid: int, pidfd: int) -> None:
        """It runs as this process, though its monitor has yet to say so, and to give the streams' descriptors."""
        self.pid, self.pidfd = pid, pidfd
        if not self.started.done():
            self.started.set_result(None)

    def take_resolver_sockets(self) -> ResolverSockets | None:
        """The sockets of its container's resolver that were made with it, once; they are the caller's from then on.

        None where none were asked for, where they were taken, and for a process that was adopted: then others can be made (`linux/netns`).
        """
        sockets, self._resolver = self._resolver, None
        return sockets

    def forget(self) -> None:
        """Let go of every descriptor; the process and its monitor go on."""
        for fd in self.take_resolver_sockets() or ():
            os.close(fd)
        if self._connection.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            self._connection.close()
        for fd in (*self.kept.values(), self.pidfd):
            if fd >= 0:
                os.close(fd)
        self.kept.clear()
        self.pidfd = -1

    def abandon(self, reason: str) -> None:
        """End a process that no monitor guards and none can take over, rather than let it run unseen."""
        self.signal(signal.SIGKILL)
        self.finish(ExitRecord(exit_code=255, finished_at_ns=time.time_ns(), error=reason))

    def rescues(self) -> int:
        """Count one more rescue; returns how many there were within the last minutes, this one included."""
        now = time.monotonic()
        self._rescued_at_seconds = [*(at for at in self._rescued_at_seconds if now - at < _RESCUE_MEMORY_SECONDS), now]
        return len(self._rescued_at_seconds)

    def finish(self, record: ExitRecord) -> None:
        """The process has ended, by whatever way this came to be known."""
        if not self.exit.done():
            self.exit.set_result(record)
        self.forget()

    def read_exit_file(self) -> ExitRecord | None:
        """What the monitor wrote down at the process's end; None if the monitor did not get that far. Blocking. Raises `Integrity`."""
        path = f"{self.directory}/{EXIT_FILE}"
        try:
            with open(path, "rb") as file:
                return ExitRecord.parse(file.read())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Integrity(f"{path} cannot be read: {error}") from error

    def _say(self, kind: int, payload: TerminalSize) -> None:
        if self._connection.fileno() < 0:
            return
        try:
            self._connection.send(wire.frame(kind, json.dumps(payload).encode()))
        except (BrokenPipeError, ConnectionResetError):
            return  # the end of the connection is being read already

    def _receive(self) -> None:
        try:
            data, ancillary, _flags, _address = self._connection.recvmsg(
                _RECEIVE_BYTES, socket.CMSG_LEN(_MAX_RECEIVED * 4), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionResetError:
            data, ancillary = b"", []
        descriptors = array.array("i")
        for _level, _kind, raw in ancillary:
            descriptors.frombytes(raw)
        if not data:
            self._end_of_connection()
            return
        for kind, payload in self._frames.feed(data):
            self._take(kind, payload, list(descriptors))

    def _take(self, kind: int, payload: bytes, descriptors: list[int]) -> None:
        if kind == wire.STARTED:
            report: Running = json.loads(payload)
            self.pid = report["pid"]
            for fd in self.kept.values():
                os.close(fd)
            # Fewer descriptors than named arrive only when the engine's table is full: then there is less to rescue with, and no more harm.
            self.kept = dict(zip(report["kept"], descriptors, strict=False))
            if report.get("resolver"):
                self._take_resolver(descriptors[len(report["kept"]) :])
            if self.pidfd < 0:
                self._open_pidfd()
            if not self.started.done():
                self.started.set_result(None)
        elif kind == wire.FAILED and not self.started.done():
            self.started.set_exception(StartError(json.loads(payload)))
            self.forget()
        elif kind == wire.FAILED:
            refusal: Failure = json.loads(payload)
            self.abandon(f"no monitor could take over: {refusal['message']}")
        elif kind == wire.INPUT_CLOSED:
            fd = self.kept.pop("stdin", -1)
            if fd >= 0:
                os.close(fd)
        elif kind == wire.EXITED:
            self.finish(ExitRecord.parse(payload))

    def _take_resolver(self, descriptors: list[int]) -> None:
        if len(descriptors) == len(ResolverSockets._fields):
            self._resolver = ResolverSockets(*descriptors)
        else:  # the engine's table is full: one of them is worth nothing
            for fd in descriptors:
                os.close(fd)

    def _open_pidfd(self) -> None:
        try:
            self.pidfd = open_pidfd(self.pid)
        except ProcessLookupError:
            return  # the process has ended already: EXITED is on its way
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE} or not self.kept:
                raise
            # The engine's table is full. Without the pidfd the process could not be ended; without the streams it only cannot be rescued.
            for fd in self.kept.values():
                os.close(fd)
            self.kept.clear()
            self._open_pidfd()

    def _end_of_connection(self) -> None:
        asyncio.get_running_loop().remove_reader(self._connection.fileno())
        self._connection.close()
        if not self.started.done():
            self.started.set_exception(KeeperLost())
        elif not self.exit.done():
            self._lost(self)
