"""The single-threaded process that forks every monitor, and does nothing else.

The engine has threads and an event loop and therefore must not fork; this process stands ready with the interpreter running and
everything imported that a monitor or a container's first process needs. It dies with its engine; its children do not.

Forking costs two milliseconds that a start would have to wait for, so one monitor always stands by, forked ahead; what comes while
there is none is forked at once.

As their subreaper it also inherits the process of a monitor that was killed, and keeps its exit status for the monitor that
takes over.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from typing import NoReturn

from teul.linux import process
from teul.runtime import monitor
from teul.runtime.launch import receive_message, send_message
from teul.wire.monitor import FAILED, frame

_KEPT_STATUSES = 256
# How long to stay quiet after a request before the next standby is forked: the process just started needs the processors more.
_STANDBY_DELAY_MS = 8


class Spawner:
    """Forks monitors on request and reaps what is handed down to it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._orphans: dict[int, int] = {}  # ended pid → wait status, until somebody asks
        self._watchers: dict[int, int] = {}  # pid → pipe of the monitor that took it over
        self._standby: socket.socket | None = None  # line to the monitor that stands by
        self._title_area = process.argument_area()
        process.set_title("teul: spawner", self._title_area)

    def run(self) -> NoReturn:
        """Serve until the engine is gone."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLIN)
        poll.register(wake_read, select.POLLIN)
        # Everything alive now stays: never walked by the collector again, so its pages stay shared with the children.
        gc.collect()
        gc.freeze()
        gc.disable()
        while True:
            events = poll.poll(_STANDBY_DELAY_MS if self._standby is None else None)
            if not events:
                self._fork_standby()
            for fd, _event in events:
                if fd == wake_read:
                    os.read(wake_read, 4096)
                    self._reap()
                else:
                    self._serve()

    def _serve(self) -> None:
        try:
            received = receive_message(self._connection)
        except (OSError, ValueError):
            return  # cut off: its descriptors are closed, which tells the engine that nothing was started
        if received is None:
            os._exit(0)
        self._spawn(*received)

    def _spawn(self, message: dict, descriptors: list[int]) -> None:  # type: ignore[type-arg]
        status_read = -1
        if message["kind"] == "resume":
            status_read, status_write = os.pipe()
            self._watch(message["pid"], status_write)
            descriptors[2:2] = [status_read]  # after the control connection and the pidfd
        if not self._hand_over(message, descriptors):
            self._fork(message, descriptors)
        for fd in descriptors:
            os.close(fd)

    def _hand_over(self, message: dict, descriptors: list[int]) -> bool:  # type: ignore[type-arg]
        """Give the request to the monitor that stands by; False if there is none."""
        standby, self._standby = self._standby, None
        if standby is None:
            return False
        try:
            send_message(standby, message, descriptors)
        except (BrokenPipeError, ConnectionResetError):
            return False  # it was killed
        finally:
            standby.close()
        return True

    def _fork(self, message: dict, descriptors: list[int]) -> None:  # type: ignore[type-arg]
        try:
            pid = os.fork()
        except OSError as error:
            report = {"step": "fork", "errno": error.errno, "message": str(error), "kind": "OSError"}
            os.write(descriptors[0], frame(FAILED, json.dumps(report).encode()))
            return
        if pid == 0:
            self._leave_to_children()
            monitor.main(message, descriptors, self._title_area)

    def _fork_standby(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        try:
            pid = os.fork()
        except OSError:
            # No room for one more process: requests are forked for when they come, and say so if that fails, too.
            ours.close()
        else:
            if pid == 0:
                self._leave_to_children()
                ours.close()
                monitor.stand_by(theirs, self._title_area)
            self._standby = ours
        theirs.close()

    def _leave_to_children(self) -> None:
        """In a child: give up what is the spawner's alone."""
        signal.set_wakeup_fd(-1)
        self._connection.close()
        if self._standby is not None:
            self._standby.close()
        for fd in self._watchers.values():
            os.close(fd)

    def _watch(self, pid: int, status_fd: int) -> None:
        if pid in self._orphans:
            os.write(status_fd, str(self._orphans.pop(pid)).encode())
            os.close(status_fd)
        elif _is_child(pid):
            self._watchers[pid] = status_fd
        else:
            os.close(status_fd)  # somebody else's child: the monitor reads an end of file and asks the kernel

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            status_fd = self._watchers.pop(pid, None)
            if status_fd is None:
                self._orphans[pid] = status
                while len(self._orphans) > _KEPT_STATUSES:
                    del self._orphans[next(iter(self._orphans))]
                continue
            try:
                os.write(status_fd, str(status).encode())
            except BrokenPipeError:
                pass  # that monitor was killed as well
            os.close(status_fd)


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def main() -> NoReturn:
    """Entry point: the connection to the engine is the descriptor named by the last argument."""
    connection = socket.socket(fileno=int(sys.argv[-1]))
    process.close_all_but({connection.fileno()})
    # security: nobody may look into a process that is about to enter a container (CVE-2016-9962); children inherit this.
    process.prctl(process.PR_SET_DUMPABLE, 0)
    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
    process.set_name("teul-spawner")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    Spawner(connection).run()
