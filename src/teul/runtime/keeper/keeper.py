"""The process that makes every container's processes and watches over them: forks, streams, logs, exit status.

The engine has threads and an event loop and therefore must not fork; this process is single-threaded and stands ready with the
interpreter running and everything imported that a container's first process needs. It is the parent of the processes that it starts, and
its monitors own their streams. It outlives its engine for as long as one of the processes runs; without any it leaves with the engine.

A start is made by a forked starter, so that a mount or a network link that takes its time holds up no other container's
streams. Forking costs two milliseconds that a start would have to wait for, so one starter always stands by, forked ahead; for a
request that comes while none stands by, a starter is forked at once.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

from teul import failpoints
from teul.linux import caps, process
from teul.linux.loop import READ, Loop
from teul.linux.seqpacket import Cut, receive_message, send_message
from teul.runtime.keeper import starter
from teul.runtime.keeper.children import Children
from teul.runtime.keeper.monitor import Monitor
from teul.runtime.keeper.starter import Started
from teul.runtime.messages import HERE, STAYING

if TYPE_CHECKING:
    from teul.runtime.messages import Launch, Request, StarterWord

# How long to stay quiet after a request before the next standby is forked: the process just started needs the processors more.
_STANDBY_DELAY_SECONDS = 0.008


class Keeper:
    """Starts processes on request, reaps them, and gives each a monitor."""

    def __init__(self, connection: socket.socket) -> None:
        self._loop = Loop(self._on_trouble)
        self._connection: socket.socket | None = connection
        self._monitors: set[Monitor] = set()
        self._busy: set[object] = set()  # what still sends the last lines of containers that have ended
        self._children = Children(self._loop)
        self._standby: socket.socket | None = None  # line to the starter that stands by
        self._standby_due = False
        self._title_area = process.argument_area()
        process.set_title("teul: keeper", self._title_area)

    def run(self) -> NoReturn:
        """Serve until the engine is gone and nothing is left to watch."""
        assert self._connection is not None
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._loop.watch(wake_read, READ, self._children_ended, wake_read)
        self._loop.watch(self._connection.fileno(), READ, self._serve)
        caps.last_capability()
        # Every object alive now stays: the collector never walks it again, so its pages stay shared with the children.
        gc.collect()
        gc.freeze()
        self._fork_standby()
        while True:
            self._loop.turn()
            if self._is_done():
                os._exit(0)

    def _is_done(self) -> bool:
        return self._connection is None and not self._monitors and not self._busy

    # -- the engine's requests

    def _serve(self, _events: int) -> None:
        assert self._connection is not None
        try:
            received = receive_message(self._connection)
        except (Cut, ValueError):
            return  # the request's descriptors are closed, which tells the engine that nothing was started
        except OSError:
            received = None
        if received is None:
            self._leave_engine()
        elif "question" in received[0]:
            self._answer()
        else:
            self._watch_over(*received)

    def _answer(self) -> None:
        assert self._connection is not None
        try:
            self._connection.send(HERE, socket.MSG_DONTWAIT)
        except OSError:
            return  # the engine is gone, which is read next; or it has answers enough that it has yet to read

    def _leave_engine(self) -> None:
        """The engine is gone. Its containers are not."""
        assert self._connection is not None
        self._loop.forget(self._connection.fileno())
        if self._monitors:
            try:
                self._connection.send(STAYING, socket.MSG_DONTWAIT)  # an engine that leaves in peace wants to know
            except OSError:
                pass
        self._connection.close()
        self._connection = None
        if self._standby is not None:
            self._standby.close()
            self._standby = None

    def _watch_over(self, request: Request, descriptors: list[int]) -> None:
        launch, resume = request["launch"], request["resume"]
        count = 1 + len(request["attach"])
        connections = [socket.socket(fileno=fd) for fd in descriptors[:count]]
        rest = descriptors[count:]
        monitor = Monitor(self._loop, request, connections, on_close=self._let_go, expect_end=self._children.expect_end, busy=self._busy)
        self._monitors.add(monitor)
        failpoints.reach("keeper.start.received")
        if resume is not None:
            monitor.prepare()
            before = self._children.monitor_of(resume["pid"])
            self._children.know(monitor, resume["pid"])
            monitor.status = before.status if before is not None else None
            monitor.begin(Started.resumed(resume, rest))
            return
        if monitor.is_revoked():  # this process has stood still, and who asked has not waited
            for fd in rest:
                os.close(fd)
            monitor.fail(starter.REVOKED)
            return
        line = self._hand_over(launch, rest)
        if line is None:
            line = self._fork(launch, rest, monitor)
        for fd in rest:
            os.close(fd)
        if line is not None:
            self._children.starting += 1
            # While the starter works: on two processors this costs the start no time.
            monitor.prepare()
            self._loop.watch(line.fileno(), READ, self._hear, line, monitor)

    def _hear(self, line: socket.socket, monitor: Monitor, _events: int) -> None:
        """Take a word of a starter's: first the pid of the process, then how the start ended.

        A starter may be killed before its last word, but after the program has begun, which may have done anything by then. So that is a
        start like any other, when the host says so and the streams are here; otherwise what there is of the process is ended.
        """
        try:
            received = receive_message(line)
        except (OSError, ValueError):
            received = None
        word: StarterWord = received[0] if received else {}
        if "resolver" in word and received is not None:
            monitor.take_resolver(received[1])
        elif received is not None:
            monitor.take_streams(word.get("streams", []), received[1])
        if "forked" in word:
            if monitor.pid and self._children.disown(monitor.pid) is not None:
                self._children.let_go(monitor.pid)  # it has forked the process that stays, and ends
            self._children.know(monitor, word["forked"])
        if "forked" in word or "streams" in word or "resolver" in word:
            return
        self._loop.forget(line.fileno())
        line.close()
        self._children.starting -= 1
        try:
            if "started" in word or (not word and monitor.has_begun()):
                # Not reaped before its starter is heard to the end: the pid is still its own.
                monitor.begin(Started(monitor.pid, process.open_pidfd(monitor.pid), monitor.give_streams()))
            elif "failed" in word:
                monitor.fail(word["failed"])
            else:
                monitor.abandon(starter.LOST)
        except Exception as error:  # noqa: BLE001 (told, and not forgotten)
            self._on_trouble(monitor, error)
        self._children.reap()

    # -- forks

    def _hand_over(self, launch: Launch, descriptors: list[int]) -> socket.socket | None:
        """Give the work to the starter that stands by; returns the line to the starter, None if none stands by."""
        standby, self._standby = self._standby, None
        self._plan_standby()
        if standby is None:
            return None
        try:
            send_message(standby, launch, descriptors)
        except (BrokenPipeError, ConnectionResetError):
            standby.close()  # the starter was killed
            return None
        return standby

    def _fork(self, launch: Launch, descriptors: list[int], monitor: Monitor) -> socket.socket | None:
        try:
            pid, line = self._fork_with_line()
        except OSError as error:
            monitor.fail({"step": "fork", "errno": error.errno, "message": str(error), "kind": "OSError"})
            return None
        if pid == 0:
            starter.main(line, launch, descriptors, self._title_area)
        return line

    def _plan_standby(self) -> None:
        if not self._standby_due and self._connection is not None:
            self._standby_due = True
            self._loop.call_later(_STANDBY_DELAY_SECONDS, self._fork_standby)

    def _fork_standby(self) -> None:
        self._standby_due = False
        if self._standby is not None or self._connection is None:
            return
        try:
            pid, line = self._fork_with_line()
        except OSError:
            return  # no room for one more process: a request forks a starter when it comes, and says so if that fails, too
        if pid == 0:
            starter.stand_by(line, self._title_area)
        self._standby = line

    def _fork_with_line(self) -> tuple[int, socket.socket]:
        """fork(2) with a line between the two processes; returns the pid and, in each process, its own end. Raises `OSError`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            signal.set_wakeup_fd(-1)
            return 0, theirs
        self._children.expect_end(pid)
        theirs.close()
        return pid, ours

    # -- what has ended

    def _children_ended(self, wake_fd: int, _events: int) -> None:
        os.read(wake_fd, 4096)
        self._children.reap()

    def _on_trouble(self, owner: object, error: Exception) -> None:
        """One monitor's trouble is not the other monitors': the engine hears that this one is gone, and asks for another."""
        if not isinstance(owner, Monitor):
            raise error
        sys.excepthook(type(error), error, error.__traceback__)
        self._children.disown(owner.pid)
        owner.close()
        self._children.know(owner, owner.pid)  # keeps the exit status of its process for the next monitor

    def _let_go(self, monitor: Monitor) -> None:
        self._monitors.discard(monitor)
        if self._children.disown(monitor.pid) is not None and monitor.status is None:
            self._children.let_go(monitor.pid)


def main() -> NoReturn:
    """Entry point: the connection to the engine is the descriptor named by the last argument."""
    connection = socket.socket(fileno=int(sys.argv[-1]))
    process.close_all_but({connection.fileno()})
    # security: nobody may look into a process that is about to enter a container (CVE-2016-9962); children inherit this.
    process.prctl(process.PR_SET_DUMPABLE, 0)
    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
    process.set_name("teul-keeper")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    Keeper(connection).run()
