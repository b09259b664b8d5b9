"""One process's guardian: owns its standard streams, log, exit status, and the socket by which any engine reaches the monitor.

The keeper has a monitor for every container and every exec. The order at the end is a promise: the output is read to its end and
logged, the cgroup is removed, the exit record is on disk, and only then anybody is told.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from teul import failpoints
from teul.linux import cgroups, process, pty
from teul.linux.loop import HANGUP, READ, WRITE, Loop
from teul.runtime.keeper.client import Client
from teul.runtime.keeper.compression import Compressor
from teul.runtime.keeper.forwarding import Forwarder
from teul.runtime.keeper.hold import Hold
from teul.runtime.keeper.logs import LogFile
from teul.runtime.keeper.starter import REVOKED, Started
from teul.runtime.messages import EXIT_FILE, PROCESS_FILE, SOCKET_FILE
from teul.store.atomic import ignoring_absence, replace_file
from teul.wire import monitor as wire

if TYPE_CHECKING:
    from teul.runtime.messages import ExitDocument, Failure, ProcessFile, Request, Role, Running, TerminalSize, Wants

_READ_BYTES = 64 * 1024
_DRAIN_BYTES = 8 << 20  # more than a pipe holds, hence all that the process wrote; but a background process may go on writing
_INPUT_BYTES = 256 * 1024
# After its last process the kernel needs a moment until a cgroup can be removed. A process that hangs in the kernel may keep it for good.
_QUICK_END_SECONDS = 0.1
_CGROUP_PATIENCE_SECONDS = 3.0
_ACCEPT_PAUSE_SECONDS = 0.5
_REVOKED = wire.frame(wire.REVOKED)


class Monitor:
    """Guards one process, from the moment that process is asked for. All of a monitor's work is done in turns of the keeper's loop."""

    def __init__(
        self,
        loop: Loop,
        request: Request,
        connections: list[socket.socket],
        *,
        on_close: Callable[[Monitor], None],
        expect_end: Callable[[int], None],
        busy: set[object],
    ) -> None:
        """`busy` has what the keeper must not leave behind when its monitors have gone."""
        launch = request["launch"]
        self._loop = loop
        self._on_close = on_close
        self._expect_end = expect_end
        self._busy = busy
        self._directory = launch["directory"]
        self._spill_directory = launch["spill_directory"]
        self._log_options = launch["log"]
        # An exec's cgroup is its container's, and none of the exec's business at its end.
        self._cgroup = launch["cgroup"] if launch["kind"] == "create" else None
        self._kill_cgroup = launch["kill_cgroup"]
        self._resumed = request["resume"] is not None
        self._delegated = "runtime" in launch
        self._is_exec = launch["kind"] == "exec"
        self._closes_input = launch["stdin"] == "once"  # the process's input ends with the first client's
        self._input_ending = False  # no client will write any more; the process has yet to take what waits
        self._clients: dict[int, Client] = {}
        self._listener: socket.socket | None = None
        self._log: LogFile | None = None
        self._forwarder: Forwarder | None = None
        self._trouble: Failure | None = None  # why the process must not run, though it can be made
        self._streams: dict[Role, int] = {}  # of the process that is being made
        self._resolver: list[int] = []  # sockets on their way from the starter to the engine
        self._pidfd = -1
        self._terminal = False
        self._input_fd = -1
        self._outputs: dict[int, int] = {}  # descriptor → stream
        self._input = bytearray()
        self._input_watched = False
        self._hold = Hold(self._clients, switch=self._watch_outputs, look_later=self._look_later)
        self._ended = False
        self._closed = False
        self.pid = 0
        self.status: int | None = None  # of the ended process, when the keeper has reaped it
        engine: Wants = {"control": True}
        for connection, wants in zip(connections, [engine, *request["attach"]], strict=True):
            self._take(connection).hello(wants)

    def prepare(self) -> None:
        """Open the log and the socket. What goes wrong is told once the starter is done."""
        try:
            self._open_log()  # without its log the process should not run
            self._listen()
        except (OSError, ValueError) as error:
            self._trouble = _report("monitor", error)

    def _open_log(self) -> None:
        options = self._log_options
        if options is None:
            return
        if options["path"]:
            self._log = LogFile(
                options["path"],
                max_bytes=options["max_bytes"],
                max_files=options["max_files"],
                attrs=options["attrs"],
                form=options.get("format", "json"),
                compressor=Compressor(options["path"], self._loop, self._expect_end) if options.get("compress") else None,
            )
        forward = options.get("forward")
        if forward is not None:
            self._forwarder = Forwarder(forward, self._loop, expect_end=self._expect_end, switch=self._watch_outputs, busy=self._busy)

    def _close_log(self) -> str | None:
        """Log the last lines; returns what is to be said about lost ones."""
        told = None
        if self._forwarder is not None:
            self._forwarder.close()
            if self._forwarder.lost_bytes:
                told = f"{self._forwarder.lost_bytes} bytes of log lost: the log server was too slow"
            self._forwarder = None
        if self._log is not None:
            self._log.close()
            if self._log.error is not None:
                told = f"{self._log.lost_bytes} bytes of log lost: {self._log.error}"
            self._log = None
        return told

    def take_streams(self, roles: list[Role], descriptors: list[int]) -> None:
        """Near ends of the streams of the process that is being made; they are the monitor's from now on."""
        self._streams.update(zip(roles, descriptors, strict=True))

    def take_resolver(self, descriptors: list[int]) -> None:
        """The sockets of the container's resolver; they are handed on to the engine when the process runs, and not kept."""
        self._resolver += descriptors

    def give_streams(self) -> dict[Role, int]:
        """What `take_streams` has taken, for `begin`; it is the caller's from now on."""
        streams, self._streams = self._streams, {}
        return streams

    def has_begun(self) -> bool:
        """Whether the program of a process runs, or has run, whose starter left without saying so.

        Where that cannot be known, because the process or its streams are not known yet, or with `--init` once all has ended, it is False.
        """
        if not self.pid or not ("terminal" in self._streams or "stdout" in self._streams):
            return False
        if self._delegated:
            return process.has_executed(self.pid)  # the container's own, which is named last: what asks the runtime for it executes nothing
        # With --init the process itself stays what it is, and the program is its child.
        return any(process.has_executed(pid) for pid in (self.pid, *process.children_of(self.pid)))

    def is_revoked(self) -> bool:
        """Whether who has asked for the process does not want it any more."""
        return any(client.control and _says_revoked(client) for client in self._clients.values())

    def begin(self, started: Started) -> None:
        """The process runs: say so, and guard it to its end."""
        self._pidfd = started.pidfd
        self._terminal = started.terminal
        self._input_fd = started.input_fd
        self._outputs = started.outputs
        if self.is_revoked():
            self._trouble = REVOKED
        if self._trouble is None:
            try:
                self._write_process_file(started)
            except OSError as error:
                self._trouble = _report("monitor", error)
        if self._trouble is not None:
            self.abandon(self._trouble)
            return
        self._announce_start()
        for client in self._clients.values():
            self._listen_to(client)  # not before: what a client says is for the process
        self._loop.watch(self._pidfd, READ, self._process_ended)
        for fd in self._outputs:
            os.set_blocking(fd, False)
            self._loop.watch(fd, READ, self._output_ready, fd)
        if self._input_fd >= 0:
            os.set_blocking(self._input_fd, False)
        assert self._listener is not None
        self._loop.watch(self._listener.fileno(), READ, self._accept)

    def fail(self, report: Failure) -> None:
        """Nothing was started. The directory is the engine's again as soon as the engine hears of the failure."""
        if self._listener is not None:
            self._stop_listening()
            with ignoring_absence():  # an exec's directory goes with the bundle of a container that ends
                os.unlink(f"{self._directory}/{SOCKET_FILE}")
        failed = wire.frame(wire.FAILED, json.dumps(report).encode())
        for client in list(self._clients.values()):
            if client.control:
                self._send_or_drop(client, failed)
        self.close()

    def abandon(self, report: Failure) -> None:
        """End a process that nobody can watch over, or whose starter was killed, and say why."""
        if self._resumed:
            self.fail(report)  # a process that was to be taken over is the engine's to end
            return
        if self.pid:
            # Nobody but this keeper can have reaped the process, so the pid is still its own.
            os.kill(self.pid, signal.SIGKILL)
        plan = self._cgroup
        if plan is None:
            self.fail(report)
            return
        report = {**report}
        self._proceed(self._undo(plan, report), lambda: self.fail(report))

    def _undo(self, plan: cgroups.Plan, report: Failure) -> Generator[float, None, None]:
        """End what is in the cgroup, and remove it.

        The starter may have been killed at any line: with the cgroup half made, or with a child in it whose pid it had yet to tell.
        """
        try:
            yield from cgroups.killing(plan)
        except OSError as error:
            report["message"] += f" (and its processes could not be ended: {error})"
        try:
            yield from cgroups.removing(plan, timeout_seconds=_CGROUP_PATIENCE_SECONDS)
        except OSError as error:
            report["message"] += f" (and its cgroup stays: {error})"

    def _proceed(self, steps: Generator[float, None, None], then: Callable[[], None]) -> None:
        """Take one step, and in later turns of the loop the others; then call `then`. Other monitors get their turn in between."""
        if self._closed:
            return
        pause_seconds = next(steps, None)
        if pause_seconds is None:
            then()
        else:
            self._loop.call_later(pause_seconds, self._proceed, steps, then)

    def close(self) -> None:
        """Let go of everything, without a word."""
        self._closed = True
        for client in list(self._clients.values()):
            self._release(client)
        self._stop_listening()
        self._close_input()
        self._close_resolver()
        for fd in {self._pidfd, *self._outputs, *self.give_streams().values()}:
            if fd >= 0:
                self._loop.forget(fd)
                os.close(fd)
        self._pidfd = -1
        self._outputs.clear()
        self._close_log()
        self._on_close(self)

    def _write_process_file(self, started: Started) -> None:
        facts: ProcessFile = {"pid": started.pid, "keeper_pid": os.getpid(), "start_time": started.start_time}
        replace_file(f"{self._directory}/{PROCESS_FILE}", json.dumps(facts).encode(), durable=False)
        failpoints.reach("keeper.watch.noted")

    # -- connections

    def _listen(self) -> None:
        # By way of a descriptor: a socket's path may have 107 bytes only.
        directory_fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        temporary, final = f"/proc/self/fd/{directory_fd}/{SOCKET_FILE}.new", f"{self._directory}/{SOCKET_FILE}"
        try:
            listener.bind(temporary)
            listener.listen(64)
            os.rename(f"{self._directory}/{SOCKET_FILE}.new", final)
        except BaseException:
            listener.close()
            raise
        finally:
            os.close(directory_fd)
        self._listener = listener

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def _accept(self, _events: int) -> None:
        assert self._listener is not None
        try:
            connection = self._listener.accept()[0]
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has gone again
        except OSError:
            # The keeper's table of descriptors is full, or memory is: the next try must not come at once.
            self._loop.change(self._listener.fileno(), 0)
            self._loop.call_later(_ACCEPT_PAUSE_SECONDS, self._accept_again)
            return
        self._listen_to(self._take(connection))

    def _accept_again(self) -> None:
        if self._listener is not None:
            self._loop.change(self._listener.fileno(), READ)

    def _take(self, connection: socket.socket) -> Client:
        client = Client(connection, self._spill_directory)
        self._clients[connection.fileno()] = client
        return client

    def _listen_to(self, client: Client) -> None:
        self._loop.watch(client.socket.fileno(), READ, self._serve, client)

    def _announce_start(self) -> None:
        for client in list(self._clients.values()):
            if client.control:
                self._send_started(client)
        # Without an engine nobody takes them; the next engine makes others. Here they would keep the container's network namespace alive.
        self._close_resolver()

    def _close_resolver(self) -> None:
        while self._resolver:
            os.close(self._resolver.pop())

    def _send_started(self, client: Client) -> None:
        """Tell the engine, and leave copies of the streams' descriptors with it: if this monitor dies, another goes on with them."""
        kept = [fd for fd in (self._input_fd, *self._outputs) if fd >= 0]
        kept = list(dict.fromkeys(kept))
        roles = [self._role(fd) for fd in kept]
        running: Running = {"pid": self.pid, "kept": roles}
        if self._resolver:
            running["resolver"] = True
        descriptors = kept + self._resolver
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            client.socket.sendmsg([wire.frame(wire.STARTED, json.dumps(running).encode())], rights)
        except OSError:
            self._drop(client)

    def _role(self, fd: int) -> Role:
        if self._terminal:
            return "terminal"
        if fd == self._input_fd:
            return "stdin"
        return "stdout" if self._outputs[fd] == wire.STDOUT else "stderr"

    def _drop(self, client: Client) -> None:
        self._release(client)
        if self._ended and not self._clients:
            self.close()

    def _release(self, client: Client) -> None:
        fd = client.socket.fileno()
        if self._clients.pop(fd, None) is None:
            return
        self._loop.forget(fd)
        client.outbox.close()
        client.socket.close()
        self._hold.end_if_possible()

    def _serve(self, client: Client, events: int) -> None:
        try:
            if events & WRITE:
                client.flush()
                self._watch(client)
                self._hold.end_if_possible()
            if events & (READ | HANGUP):
                data = client.socket.recv(_READ_BYTES)
                if not data:
                    self._drop(client)
                    return
                for kind, payload in client.reader.feed(data):
                    self._obey(client, kind, payload)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, wire.ProtocolError, ValueError, KeyError):
            self._drop(client)

    def _watch(self, client: Client) -> None:
        """Listen for what this client may do now: write when it has something waiting, read unless the input is full."""
        reading = 0 if client.stdin and len(self._input) >= _INPUT_BYTES else READ
        self._loop.change(client.socket.fileno(), reading | (WRITE if client.outbox else 0))

    def _obey(self, client: Client, kind: int, payload: bytes) -> None:
        if kind == wire.HELLO:
            client.hello(json.loads(payload))
            if client.control:
                self._send_started(client)
        elif kind == wire.STDIN and client.stdin:
            if payload:
                self._input += payload
                self._write_input()
                self._watch(client)
            else:
                self._end_input()
        elif kind == wire.REVOKED and client.control:
            self._end_process(signal.SIGKILL)
        elif kind == wire.INPUT_CUT and client.stdin:
            self._hang_up()
        elif kind == wire.RESIZE and self._terminal and self._input_fd >= 0:
            size: TerminalSize = json.loads(payload)
            with contextlib.suppress(OSError):  # a size that cannot be is no reason to drop the engine's connection
                pty.set_size(self._input_fd, size["rows"], size["columns"])

    # -- streams

    def _output_ready(self, fd: int, events: int) -> None:
        if events & (READ | HANGUP):
            self._read_output(fd)
        if events & WRITE and fd == self._input_fd:
            self._write_input()

    def _input_ready(self, _events: int) -> None:
        self._write_input()

    def _read_output(self, fd: int) -> int:
        """Pass on what the process wrote; returns how much, 0 at the end of the stream or when nothing is there."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""  # EIO: the last process closed the terminal
        stream = self._outputs[fd]
        if not data:
            self._close_output(fd)
            return 0
        if self._log is not None:
            self._log.write(stream, data)
        if self._forwarder is not None:
            self._forwarder.write(stream, data)
        framed = wire.frame(stream, data)
        for client in list(self._clients.values()):
            if client.stdout if stream == wire.STDOUT else client.stderr:
                try:
                    client.send(framed)
                    if client.outbox:
                        self._watch(client)
                        self._hold.begin_for(client)
                except OSError:
                    self._drop(client)
        return len(data)

    def _look_later(self, delay_seconds: float) -> None:
        self._loop.call_later(delay_seconds, self._drop_stalled)

    def _drop_stalled(self) -> None:
        """Let go of clients that have taken nothing since the last look: the process waits for who is slow, not for who has stopped."""
        for client in self._hold.stalled(has_output=bool(self._outputs)):
            self._drop(client)

    def _watch_outputs(self) -> None:
        for fd in self._outputs:
            self._watch_output(fd)

    def _watch_output(self, fd: int) -> None:
        # What is still there when the last writer has gone is read all the same: epoll reports that unasked, and it is not much.
        waits = self._hold.is_on or (self._forwarder is not None and self._forwarder.is_behind)
        self._loop.change(fd, (0 if waits else READ) | (WRITE if fd == self._input_fd and self._input else 0))

    def _close_output(self, fd: int) -> None:
        del self._outputs[fd]
        self._loop.forget(fd)
        if fd == self._input_fd:
            self._input_fd = -1
        os.close(fd)

    def _write_input(self) -> None:
        if self._input_fd < 0:
            self._input.clear()
            return
        try:
            while self._input:
                del self._input[: os.write(self._input_fd, self._input[:_READ_BYTES])]
        except BlockingIOError:
            pass
        except OSError:
            self._input.clear()  # EPIPE: the process does not read any more
        self._watch_input()
        for client in self._clients.values():
            if client.stdin:
                self._watch(client)

    def _watch_input(self) -> None:
        if self._input_fd in self._outputs:
            self._watch_output(self._input_fd)
        elif self._input:
            if not self._input_watched:
                self._loop.watch(self._input_fd, WRITE, self._input_ready)
                self._input_watched = True
        else:
            self._loop.forget(self._input_fd)
            self._input_watched = False
            if self._input_ending:
                self._end_of_input()

    def _end_input(self) -> None:
        """A client's input is over: with "once" so is the process's, after the process has taken what waits."""
        if not self._closes_input or self._terminal or self._input_fd < 0:
            return
        self._input_ending = True
        if not self._input:
            self._end_of_input()

    def _hang_up(self) -> None:
        """A client's input broke off. To an exec no other can come: end its processes, rather than let them wait or think it complete."""
        if not self._is_exec or not self._closes_input or self._terminal or self.status is not None:
            return
        self._end_process(signal.SIGHUP)

    def _end_process(self, number: signal.Signals) -> None:
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, 0)  # raises if the pid is no longer the process's own
            # Each process is made as the leader of a session, and so of a group, which it cannot leave.
            os.killpg(self.pid, number)

    def _close_input(self) -> None:
        if self._input_fd >= 0 and self._input_fd not in self._outputs:
            self._loop.forget(self._input_fd)
            os.close(self._input_fd)
        self._input_watched = False
        self._input_fd = -1
        self._input.clear()

    def _end_of_input(self) -> None:
        self._close_input()
        for client in list(self._clients.values()):
            if client.control:
                self._send_or_drop(client, wire.frame(wire.INPUT_CLOSED))

    def _send_or_drop(self, client: Client, data: bytes) -> None:
        try:
            client.send(data)
        except OSError:
            self._drop(client)

    # -- the end

    def _process_ended(self, _events: int) -> None:
        self._loop.forget(self._pidfd)
        record = _exit_document(self._wait())
        failpoints.reach("keeper.end.reaped")
        for fd in list(self._outputs):
            left = _DRAIN_BYTES
            while left > 0 and (count := self._read_output(fd)):
                left -= count
        for fd in list(self._outputs):
            self._close_output(fd)
        self._close_input()
        if (trouble := self._close_log()) is not None:
            record["log_error"] = trouble
        plan = self._cgroup
        if plan is None:
            self._tell_end(record)
            return
        self._proceed(self._sweep(plan, record), lambda: self._tell_end(record))

    def _sweep(self, plan: cgroups.Plan, record: ExitDocument) -> Generator[float, None, None]:
        """Look what the kernel has noted of the container, end what is left of it if that is asked for, and remove its cgroup."""
        try:
            record["oom_killed"] = (yield from cgroups.counting_oom_kills(plan)) > 0
            if self._kill_cgroup:
                yield from cgroups.killing(plan)
        except OSError as error:
            record["cgroup_error"] = str(error)
        try:
            # All have ended with the pid namespace but those on their way into it, execs that are being started; one may be frozen, too.
            yield from cgroups.removing(plan, timeout_seconds=_QUICK_END_SECONDS)
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                record["cgroup_error"] = str(error)
                return
        try:
            yield from cgroups.killing(plan)
            yield from cgroups.removing(plan, timeout_seconds=_CGROUP_PATIENCE_SECONDS)
        except OSError as error:
            record["cgroup_error"] = str(error)

    def _wait(self) -> int | None:
        """The wait status of the ended process; None when nobody can know it."""
        if self.status is not None:
            return self.status
        try:
            self.status = os.waitpid(self.pid, 0)[1]
            return self.status
        except ChildProcessError:
            # Taken over from a keeper that was killed: the engine, its parent now, has it as a zombie, or the kernel remembers the status.
            return process.exit_status_of(self.pid, self._pidfd)

    def _tell_end(self, record: ExitDocument) -> None:
        """Write the record down, tell everybody, and stay until every client has all of the output and has gone.

        Not only until all is sent: a client that still writes into a socket whose other end was closed loses what it has not read.
        """
        failpoints.reach("keeper.end.swept")
        try:
            # Not durable: what it is for ends with the boot, and nobody's streams are to wait for the disk.
            replace_file(f"{self._directory}/{EXIT_FILE}", json.dumps(record).encode(), durable=False)
        except OSError as error:
            record.setdefault("cgroup_error", f"write the exit record: {error}")
        failpoints.reach("keeper.end.recorded")
        self._stop_listening()
        os.close(self._pidfd)
        self._pidfd = -1
        exited = wire.frame(wire.EXITED, json.dumps(record).encode())
        for client in list(self._clients.values()):
            self._send_or_drop(client, exited)
        self._ended = True
        for client in self._clients.values():
            self._watch(client)
        if not self._clients:
            self.close()


def _says_revoked(client: Client) -> bool:
    """Looks only: what a client says stays there until the process has begun."""
    try:
        return client.socket.recv(len(_REVOKED), socket.MSG_PEEK) == _REVOKED
    except OSError:
        return False  # nothing is there yet; or the client is gone, and the process is the next engine's


def _exit_document(status: int | None) -> ExitDocument:
    """What is known from the wait status of a process that has ended just now."""
    if status is None:
        lost = "the exit status was lost with the process's parent"
        return {"exit_code": 255, "finished_at_ns": time.time_ns(), "oom_killed": False, "error": lost}
    code = os.waitstatus_to_exitcode(status)
    record: ExitDocument = {"exit_code": code if code >= 0 else 128 - code, "finished_at_ns": time.time_ns(), "oom_killed": False}
    if code < 0:
        record["signal"] = -code
    return record


def _report(step: str, error: Exception) -> Failure:
    number = error.errno if isinstance(error, OSError) else None
    return {"step": step, "errno": number, "message": str(error), "kind": "OSError"}
