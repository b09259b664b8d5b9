"""One process's guardian: owns its standard streams, log, exit status, and the socket by which any engine reaches it.

Forked from the spawner for every container and every exec, single-threaded, built on poll(2). It outlives the engine. The order
at the end is a promise: the output is read to its end and logged, the cgroup is removed, the exit record is on disk, and only
then anybody is told.
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import time
from typing import NoReturn

from teul.linux import cgroups, process, pty
from teul.runtime.launch import EXIT_FILE, PROCESS_FILE, SOCKET_FILE, receive_message
from teul.runtime.logfile import LogFile
from teul.runtime.outbox import Outbox
from teul.runtime.starter import Started, StartFailed, start
from teul.wire import monitor as wire

_READ_BYTES = 64 * 1024
_DRAIN_BYTES = 64 << 20  # what a background process of an ended exec may still have in the pipe, and more
_INPUT_BYTES = 256 * 1024


class _Client:
    """One connection: the engine itself, or an attachment it made for somebody."""

    __slots__ = ("control", "outbox", "reader", "socket", "stderr", "stdin", "stdout")

    def __init__(self, connection: socket.socket, spill_directory: str) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.reader = wire.FrameReader()
        self.outbox = Outbox(spill_directory)
        self.control = self.stdin = self.stdout = self.stderr = False

    def hello(self, wants: dict) -> None:  # type: ignore[type-arg]
        self.control = bool(wants.get("control"))
        self.stdin, self.stdout, self.stderr = (bool(wants.get(name)) for name in ("stdin", "stdout", "stderr"))

    def send(self, data: bytes) -> None:
        """Send, or keep for later. Raises `OSError` when the peer is gone."""
        if not self.outbox:
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        self.outbox.put(data)

    def flush(self) -> None:
        """Send what waits, as far as the peer takes it."""
        while data := self.outbox.peek():
            try:
                self.outbox.drop(self.socket.send(data))
            except BlockingIOError:
                return


class Monitor:
    """The event loop around one process."""

    def __init__(self, message: dict, started: Started, log: LogFile | None) -> None:  # type: ignore[type-arg]
        self._message = message
        self._started = started
        self._directory: str = message["directory"]
        self._clients: dict[int, _Client] = {}
        self._poll = select.poll()
        self._listener: socket.socket | None = None
        self._input_fd: int = started.input_fd
        self._outputs: dict[int, int] = dict(started.outputs)  # descriptor → stream
        self._input = bytearray()
        self._log = log

    def open(self, connections: list[socket.socket]) -> None:
        """Listen, and take over the control connection and the attachments of the message."""
        self._listen()
        wants = [{"control": True}, *(self._message.get("attach") or [])]
        for connection, want in zip(connections, wants, strict=True):
            self._adopt(connection).hello(want)

    def guard(self) -> None:
        """Say that it runs, and guard the process to its end."""
        self._announce_start()
        self._poll.register(self._started.pidfd, select.POLLIN)
        for fd in self._outputs:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)
        if self._input_fd >= 0:
            os.set_blocking(self._input_fd, False)
        while not self._turn():
            pass
        self._finish()

    def _turn(self) -> bool:
        """Handle one round of events; True when the process has ended."""
        ended = False
        for fd, events in self._poll.poll():
            if fd == self._started.pidfd:
                ended = True
            elif fd in self._outputs and not (fd == self._input_fd and not events & ~select.POLLOUT):
                self._read_output(fd)
            elif self._listener is not None and fd == self._listener.fileno():
                self._adopt(self._listener.accept()[0])
            elif fd in self._clients:
                self._serve(self._clients[fd], events)
            if fd == self._input_fd and events & (select.POLLOUT | select.POLLERR):
                self._write_input()
        return ended

    # -- connections

    def _listen(self) -> None:
        # By way of a descriptor: a socket's path may have 107 bytes only.
        directory_fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        temporary, final = f"/proc/self/fd/{directory_fd}/{SOCKET_FILE}.new", f"{self._directory}/{SOCKET_FILE}"
        self._listener.bind(temporary)
        self._listener.listen(64)
        os.rename(f"{self._directory}/{SOCKET_FILE}.new", final)
        os.close(directory_fd)
        self._poll.register(self._listener.fileno(), select.POLLIN)

    def _adopt(self, connection: socket.socket) -> _Client:
        client = _Client(connection, self._message.get("spill_directory") or self._directory)
        self._clients[connection.fileno()] = client
        self._poll.register(connection.fileno(), select.POLLIN)
        return client

    def _announce_start(self) -> None:
        for client in list(self._clients.values()):
            if client.control:
                self._send_started(client)

    def _send_started(self, client: _Client) -> None:
        """Tell the engine, and leave copies of the streams' descriptors with it: if this monitor dies, another one goes on."""
        kept = [fd for fd in (self._input_fd, *self._outputs) if fd >= 0]
        kept = list(dict.fromkeys(kept))
        roles = [self._role(fd) for fd in kept]
        payload = json.dumps({"pid": self._started.pid, "kept": roles}).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", kept))] if kept else []
        try:
            client.socket.sendmsg([wire.frame(wire.STARTED, payload)], rights)
        except OSError:
            self._drop(client)

    def _role(self, fd: int) -> str:
        if self._started.terminal:
            return "terminal"
        return "stdin" if fd == self._input_fd else ("", "stdout", "stderr")[self._outputs[fd]]

    def _drop(self, client: _Client) -> None:
        fd = client.socket.fileno()
        if self._clients.pop(fd, None) is None:
            return
        self._poll.unregister(fd)
        client.outbox.close()
        client.socket.close()

    def _serve(self, client: _Client, events: int) -> None:
        try:
            if events & select.POLLOUT:
                client.flush()
                self._watch(client)
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
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

    def _watch(self, client: _Client) -> None:
        """Listen for what this client may do now: write when it has something waiting, read unless the input is full."""
        reading = 0 if client.stdin and len(self._input) >= _INPUT_BYTES else select.POLLIN
        self._poll.modify(client.socket.fileno(), reading | (select.POLLOUT if client.outbox else 0))

    def _obey(self, client: _Client, kind: int, payload: bytes) -> None:
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
        elif kind == wire.RESIZE and self._started.terminal and self._input_fd >= 0:
            size = json.loads(payload)
            pty.set_size(self._input_fd, size["rows"], size["columns"])

    # -- streams

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
        framed = wire.frame(stream, data)
        for client in list(self._clients.values()):
            if client.stdout if stream == wire.STDOUT else client.stderr:
                try:
                    client.send(framed)
                    if client.outbox:
                        self._watch(client)
                except OSError:
                    self._drop(client)
        return len(data)

    def _close_output(self, fd: int) -> None:
        del self._outputs[fd]
        self._poll.unregister(fd)
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
        writing = select.POLLOUT if self._input else 0
        if self._input_fd in self._outputs:
            self._poll.modify(self._input_fd, select.POLLIN | writing)
        elif writing:
            self._poll.register(self._input_fd, writing)
        else:
            try:
                self._poll.unregister(self._input_fd)
            except KeyError:
                pass  # nothing had to wait
            if self._message["stdin"] == "closing":
                self._close_input()

    def _end_input(self) -> None:
        """A client's input is over: with "once" so is the process's, after it has taken what waits."""
        if self._message["stdin"] != "once" or self._started.terminal or self._input_fd < 0:
            return
        self._message["stdin"] = "closing"
        if not self._input:
            self._close_input()

    def _close_input(self) -> None:
        os.close(self._input_fd)
        self._input_fd = -1
        for client in list(self._clients.values()):
            if client.control:
                self._send_or_drop(client, wire.frame(wire.INPUT_CLOSED))

    def _send_or_drop(self, client: _Client, data: bytes) -> None:
        try:
            client.send(data)
        except OSError:
            self._drop(client)

    # -- the end

    def _finish(self) -> None:
        status = self._started.wait()
        finished_at_ns = time.time_ns()
        for fd in list(self._outputs):
            left = _DRAIN_BYTES
            while left > 0 and (count := self._read_output(fd)):
                left -= count
        if self._log is not None:
            self._log.close()
        record = {**_exit_code(status), "finished_at_ns": finished_at_ns, "oom_killed": False}
        plan = self._message.get("cgroup")
        if plan and self._message.get("resumed_kind", self._message["kind"]) == "create":
            record["oom_killed"] = cgroups.oom_kills(plan) > 0
            if self._message.get("kill_cgroup"):
                cgroups.kill(plan)
            record["cgroup_error"] = _remove_cgroup(plan)
        if self._log is not None and self._log.error is not None:
            record["log_error"] = f"{self._log.lost_bytes} bytes of log lost: {self._log.error}"
        _write_record(self._directory, record)
        exited = wire.frame(wire.EXITED, json.dumps(record).encode())
        for client in list(self._clients.values()):
            self._send_or_drop(client, exited)
        self._linger()

    def _linger(self) -> None:
        """Stay until every client has what is theirs and has gone.

        Not only until all is sent: a client that still writes into a socket that was closed under it loses what it has not read.
        """
        if self._listener is not None:
            self._poll.unregister(self._listener.fileno())
            self._listener.close()
        for fd in {self._started.pidfd, *self._outputs}:
            self._poll.unregister(fd)
        if self._input and self._input_fd not in self._outputs:
            self._poll.unregister(self._input_fd)
        self._input.clear()
        self._input_fd = -1  # from now on, input is read to be forgotten
        while self._clients:
            for client in self._clients.values():
                self._watch(client)
            for fd, events in self._poll.poll():
                if fd in self._clients:
                    self._serve(self._clients[fd], events)


def _exit_code(status: int | None) -> dict[str, object]:
    if status is None:
        return {"exit_code": 255, "error": "the exit status was lost with the process's parent"}
    code = os.waitstatus_to_exitcode(status)
    return {"exit_code": code} if code >= 0 else {"exit_code": 128 - code, "signal": -code}


def _remove_cgroup(plan: cgroups.Plan) -> str | None:
    try:
        cgroups.remove(plan)
    except OSError as error:
        return str(error)
    return None


def _write_record(directory: str, record: dict[str, object]) -> None:
    """The exit record is on disk before anybody hears of it."""
    temporary = f"{directory}/{EXIT_FILE}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(record).encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, f"{directory}/{EXIT_FILE}")


def stand_by(line: socket.socket, title_area: tuple[int, int]) -> NoReturn:
    """Wait for a request from the spawner, then do as `main`; never returns. Ends with the spawner."""
    _become_monitor()
    process.set_title("teul: standby", title_area)
    received = receive_message(line)
    line.close()
    if received is None:
        os._exit(0)
    main(*received, title_area)


def main(message: dict, descriptors: list[int], title_area: tuple[int, int]) -> NoReturn:  # type: ignore[type-arg]
    """Start (or take over) the process of `message` and guard it; never returns."""
    _become_monitor()
    process.set_title(f"teul: monitor {message['id'][:12]}", title_area)
    count = 1 + len(message.get("attach") or [])
    connections = [socket.socket(fileno=fd) for fd in descriptors[:count]]
    started: Started | None = None
    try:
        log = _open_log(message)  # before there is a process: without a log it should not run
        started = start(message, descriptors[count:], title_area)
        with open(f"{message['directory']}/{PROCESS_FILE}", "w", encoding="utf-8") as file:
            json.dump({"pid": started.pid, "monitor_pid": os.getpid(), "start_time": started.start_time}, file)
        monitor = Monitor(message, started, log)
        monitor.open(connections)
    except (StartFailed, OSError, ValueError) as error:
        if started is not None and message["kind"] != "resume":
            _abandon(message, started)
        report = error.report if isinstance(error, StartFailed) else _report("monitor", error)
        connections[0].sendall(wire.frame(wire.FAILED, json.dumps(report).encode()))
    else:
        monitor.guard()
    os._exit(0)


def _open_log(message: dict) -> LogFile | None:  # type: ignore[type-arg]
    log = message.get("log")
    if not log:
        return None
    return LogFile(log["path"], max_bytes=log["max_bytes"], max_files=log["max_files"], attrs=log.get("attrs") or "")


def _abandon(message: dict, started: Started) -> None:  # type: ignore[type-arg]
    """End a process that cannot be guarded: nobody would ever learn what became of it."""
    os.kill(started.pid, signal.SIGKILL)
    os.waitpid(started.pid, 0)
    if message.get("cgroup") and message["kind"] == "create":
        _remove_cgroup(message["cgroup"])


def _report(step: str, error: Exception) -> dict[str, object]:
    number = error.errno if isinstance(error, OSError) else None
    return {"step": step, "errno": number, "message": str(error), "kind": "OSError"}


def _become_monitor() -> None:
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    process.set_name("teul-monitor")
