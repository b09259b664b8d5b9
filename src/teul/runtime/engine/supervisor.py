"""The engine's end of the runtime: has a keeper, starts processes through it, and takes over the processes that an earlier engine left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import teul
from teul import failpoints
from teul.aio import Tasks, run_blocking, run_to_end
from teul.errors import Integrity, System
from teul.linux import cgroups, mounts
from teul.linux.process import PR_SET_CHILD_SUBREAPER, kill_and_wait, open_pidfd, prctl, started_at
from teul.runtime.engine.attachment import connect_socket
from teul.runtime.engine.line import KeeperLine
from teul.runtime.engine.process import ExitRecord, KeeperLost, KeeperSilent, Process, StartError
from teul.runtime.messages import PROCESS_FILE, SOCKET_FILE, Launch, ProcessFile, Request, Resumption, Wants
from teul.wire import monitor as wire

log = logging.getLogger(__name__)

_PROGRAM = "import sys; sys.path[:] = {path!r}; from teul.runtime.keeper.keeper import main; main()"
_MAX_RESCUES = 20
# How long a start that nobody wants any more may go on by itself, since most are over in no time; and how long its end is waited for.
_WITHDRAWAL_SECONDS = 0.1
_LAST_WITHDRAWAL_SECONDS = 10.0
# How long the keeper may be silent before it is asked whether it is there, and then how long it has to answer. It answers in a millisecond;
# on a host that swaps, or whose disks are slow, in seconds. What keeps it for longer is not going to be over soon.
_PATIENCE_SECONDS = 10.0
_LOST = ExitRecord(exit_code=255, finished_at_ns=0, error="the process ended while nobody was watching")


@dataclass(frozen=True, slots=True)
class PendingAttachment:
    """The monitor's end of an attachment that is made before its process, and what the attachment wants."""

    connection: socket.socket
    wants: Wants


class Supervisor:
    """Starts, adopts and rescues processes. One per engine."""

    def __init__(self, tasks: Tasks, *, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        """`patience_seconds`: how long a keeper may be silent, see above."""
        self._tasks = tasks
        self._patience_seconds = patience_seconds
        self._line: KeeperLine | None = None
        self._restart = asyncio.Lock()
        self._silent_keepers: set[int] = set()  # pids of keepers of earlier engines that have not answered
        self._guarded: dict[str, tuple[Process, Launch]] = {}  # by directory; each process with what it was started from
        self._inherits = False  # a keeper was killed: the processes that it had started are now the engine's children

    async def open(self) -> None:
        """Start the keeper."""
        await self._open_keeper()

    async def close(self) -> None:
        """Let the keeper go. It ends, unless it watches over processes: they go on, and the keeper with them.

        A keeper that does not answer is left as it is. When it goes on, it finds that its engine has left.
        """
        if self._inherits:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
            self._inherits = False
        if self._line is None:
            return
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._line.part()
        except TimeoutError:
            log.warning("the keeper, process %d, does not answer; what it watches over goes on", self.keeper_pid)
        finally:
            self._line.close()

    @property
    def keeper_pid(self) -> int:
        """The keeper's pid, 0 before it runs."""
        return self._line.keeper.pid if self._line is not None else 0

    async def start(
        self, launch: Launch, *, attach: list[PendingAttachment], donors: Sequence[int] = (), mounts: Sequence[int] = ()
    ) -> Process:
        """Start the process that `launch` describes; returns when its program runs.

        The attachments in `attach` see its output from the first byte. `donors` are pidfds, one per entry of `joins`, and `mounts`
        those that the launch counts; both stay the caller's. Raises `StartError`; then nothing is left of the process, nor is when the
        caller is cancelled. A start may take its time; it is given up only when the keeper does not answer the question whether it is there
        (`KeeperSilent`).
        """
        try:
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise System(f"the keeper cannot be reached: {error}") from error
        process = Process(launch["directory"], near, terminal=launch["terminal"], lost=self._lost)
        try:
            descriptors = [far.fileno(), *(pending.connection.fileno() for pending in attach), *donors, *mounts]
            await self._send({"launch": launch, "attach": [pending.wants for pending in attach], "resume": None}, descriptors)
        except OSError as error:
            process.forget()
            raise System(f"the keeper cannot be reached: {error}") from error
        except BaseException:
            process.forget()
            raise
        finally:
            far.close()
            for pending in attach:
                pending.connection.close()
        self._remember(process, launch)
        try:
            failpoints.reach("runtime.start.asked")
            await self._until_started(process)
        except StartError as error:
            self._forget(process)
            if isinstance(error, KeeperLost | KeeperSilent):
                await run_to_end(self._undo(launch, error))
            raise
        except BaseException:
            await run_to_end(self._withdraw(process, launch))
            raise
        return process

    async def _until_started(self, process: Process) -> None:
        while not await _is_done(process.started, self._patience_seconds):
            if await self._is_silent() and not process.started.done():
                process.revoke()
                raise KeeperSilent
        process.started.result()

    async def _is_silent(self) -> bool:
        """Ask the keeper whether it is there; True if it does not say so."""
        assert self._line is not None
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._line.ask()
        except TimeoutError:
            log.warning("the keeper, process %d, does not answer", self.keeper_pid)
            return True
        except OSError:
            pass  # it is gone, which those who wait for it hear by themselves
        return False

    async def _undo(self, launch: Launch, error: StartError) -> None:
        """End what a keeper had made that was killed, or stands still, before it said so, and whose starter had left by then."""
        try:
            await run_blocking(_end_started, launch)
        except OSError as second:
            error.add_note(f"and what it had made is left behind: {second}")

    async def _withdraw(self, process: Process, launch: Launch) -> None:
        """End a start that is under way, or the process if that runs by now; returns when nothing is left of it.

        The keeper cannot be told to stop: a starter that is at work goes on, and whatever it makes after we have looked would stay. So the
        start is waited for, and helped to its end if it takes its time, for a mount may not answer.
        """
        try:
            async with asyncio.timeout(_LAST_WITHDRAWAL_SECONDS):
                while not process.started.done():
                    await asyncio.wait([process.started], timeout=_WITHDRAWAL_SECONDS)
                    if not process.started.done() and launch["kind"] == "create" and launch["cgroup"]:
                        await run_blocking(cgroups.kill, launch["cgroup"])
                await process.started
                process.signal(signal.SIGKILL)
                await asyncio.shield(process.exit)
        except KeeperLost as error:
            self._forget(process)
            await self._undo(launch, error)
            for note in getattr(error, "__notes__", ()):
                log.error("of a start that was cancelled: %s", note)
        except StartError:
            self._forget(process)  # the start has failed, and the keeper has undone it
        except TimeoutError:
            log.error("a start that was cancelled does not end: %s", process.directory)
        except OSError as error:
            log.error("the processes of a start that was cancelled could not be ended: %s: %s", process.directory, error)

    async def adopt(self, launch: Launch) -> Process | None:
        """Take over the process that an earlier engine started from `launch`; None if its monitor never started one.

        The process may have ended meanwhile. Raises `Integrity` when nobody can say which process it is.
        """
        directory = launch["directory"]
        try:
            connection = await connect_socket(f"{directory}/{SOCKET_FILE}")
        except OSError:
            return await self._adopt_without_monitor(launch)
        process = Process(directory, connection, terminal=launch["terminal"], lost=self._lost)
        self._remember(process, launch)
        connection.send(wire.frame(wire.HELLO, json.dumps({"control": True}).encode()))
        either: tuple[asyncio.Future[None], asyncio.Future[ExitRecord]] = (process.started, process.exit)
        try:
            done, _pending = await asyncio.wait(either, timeout=await self._patience_with(process), return_when=asyncio.FIRST_COMPLETED)
            if not done:
                return await self._adopt_unheard(process)
        except Integrity:
            process.forget()
            self._forget(process)
            raise
        if process.started.done() and process.started.exception() is not None:
            process.forget()
            self._forget(process)
            return await self._adopt_without_monitor(launch)  # the monitor ended before it answered
        return process

    async def _patience_with(self, process: Process) -> float:
        """How long to wait for the monitor of a process to be adopted: not at all if its keeper has let others wait in vain."""
        facts = await run_blocking(_read_process_file, process.directory) if self._silent_keepers else None
        return 0.0 if facts is not None and facts["keeper_pid"] in self._silent_keepers else self._patience_seconds

    async def _adopt_unheard(self, process: Process) -> Process | None:
        """Take over a process whose keeper stands still: what is on disk says which it is, and the monitor says the rest when it can."""
        facts = await run_blocking(_read_process_file, process.directory)
        pidfd = -1 if facts is None else _open_process(facts)
        if process.started.done() or process.exit.done():
            if pidfd >= 0:
                os.close(pidfd)
            return process  # the monitor has spoken meanwhile
        if facts is None:
            process.revoke()  # nothing has begun that anybody knows of
            self._forget(process)
            return None
        self._silent_keepers.add(facts["keeper_pid"])
        log.warning("the keeper of process %d, process %d, does not answer", facts["pid"], facts["keeper_pid"])
        if pidfd < 0:
            process.finish(_LOST)
        else:
            process.take_unheard(facts["pid"], pidfd)
        return process

    async def _adopt_without_monitor(self, launch: Launch) -> Process | None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        process = Process(launch["directory"], near, terminal=launch["terminal"], lost=self._lost)
        try:
            record = await run_blocking(process.read_exit_file)
            facts = await run_blocking(_read_process_file, launch["directory"]) if record is None else None
        except Integrity:
            far.close()
            process.forget()
            raise
        if record is None:
            process.pidfd = -1 if facts is None else _open_process(facts)
            if facts is not None and process.pidfd >= 0:
                self._remember(process, launch)
                process.pid = facts["pid"]
                await self._take_over(process, far)
                return process
            record = None if facts is None else _LOST
        far.close()
        process.forget()
        if record is None:
            return None
        process.finish(record)
        return process

    def _remember(self, process: Process, launch: Launch) -> None:
        self._guarded[process.directory] = (process, launch)
        process.exit.add_done_callback(lambda _exit: self._forget(process))

    def _forget(self, process: Process) -> None:
        self._guarded.pop(process.directory, None)
        if self._inherits:
            self._reap_inherited()

    def _reap_inherited(self) -> None:
        """Reap what has ended among the processes that a killed keeper left to the engine; else a container's pid namespace could not end.

        Not the processes whose status the next keeper has yet to read, nor the engine's own subprocesses, which have the engine's session.
        """
        ours = {process.pid for process, _launch in self._guarded.values()} | {self.keeper_pid}
        for pid in _children():
            with contextlib.suppress(ChildProcessError, ProcessLookupError):
                if pid not in ours and os.getsid(pid) != os.getsid(0):
                    os.waitpid(pid, os.WNOHANG)

    def _lost(self, process: Process) -> None:
        self._tasks.start(self._rescue(process), name=f"rescue process {process.pid}")

    async def _rescue(self, process: Process) -> None:
        """A monitor is gone without a word: believe its exit file, or have another monitor take its place."""
        try:
            await self._find_guard(process)
        except Exception as error:
            log.exception("process %d could not be given another monitor", process.pid)
            await self._give_up(process, f"no monitor could take over: {error}")

    async def _find_guard(self, process: Process) -> None:
        record = None
        try:
            record = await run_blocking(process.read_exit_file)
        except Integrity as error:
            log.error("another monitor is to say how process %d ends: %s", process.pid, error.message)
        if record is not None:
            process.finish(record)
            return
        if process.rescues() > _MAX_RESCUES:
            await self._give_up(process, f"its monitor ended more than {_MAX_RESCUES} times in minutes")
            return
        log.warning("the monitor of process %d ended; another one takes over", process.pid)
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        process.listen_to(near)
        await self._take_over(process, far)

    async def _give_up(self, process: Process, reason: str) -> None:
        _process, launch = self._guarded.get(process.directory, (process, None))
        process.abandon(reason)
        if launch is None:
            return  # its end has become known meanwhile
        plan = launch["cgroup"]
        if plan and launch["kind"] == "create":
            try:
                await run_blocking(cgroups.remove, plan)
            except OSError as error:
                log.error("the cgroup of process %d stays: %s", process.pid, error)

    async def _take_over(self, process: Process, far: socket.socket) -> None:
        _process, launch = self._guarded[process.directory]
        with far, contextlib.ExitStack() as copies:
            resume: Resumption = {"pid": process.pid, "kept": list(process.kept)}
            # security: copies, made in the step that looks: the process may end while a keeper is started, and the numbers be reused.
            descriptors = []
            for fd in (process.pidfd, *process.kept.values()):
                descriptors.append(os.dup(fd))
                copies.callback(os.close, descriptors[-1])
            await self._send({"launch": launch, "attach": [], "resume": resume}, [far.fileno(), *descriptors])

    async def _send(self, request: Request, descriptors: list[int]) -> None:
        """Hand a request to the keeper, starting another keeper if that was killed. Raises `OSError`."""
        # A running process that nobody guards is better kept waiting than ended.
        patience_seconds = self._patience_seconds if request["resume"] is None else None
        for attempt in (1, 2):
            line = self._line
            if line is not None:
                try:
                    async with asyncio.timeout(patience_seconds):
                        await line.send(request, descriptors)
                    return
                except TimeoutError:
                    raise TimeoutError("it does not answer") from None
                except (BrokenPipeError, ConnectionResetError):
                    if attempt == 2:
                        raise
            async with self._restart:
                if self._line is line:
                    log.warning("the keeper is gone; starting another one")
                    await run_to_end(self._open_keeper())

    async def _open_keeper(self) -> None:
        # The children of a killed keeper become the engine's, so that no exit status is lost.
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        if self._line is not None:
            await run_blocking(self._line.keeper.wait)
            self._inherit()
        keeper, connection = await run_blocking(_start_keeper)
        # In one step of the loop, so that nobody meets a closed connection.
        if self._line is not None:
            self._line.close()
        self._line = KeeperLine(keeper, connection)

    def _inherit(self) -> None:
        """A keeper was killed: the processes that it had started are the engine's children from now on; it hears of each one's end."""
        if not self._inherits:
            self._inherits = True
            asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap_inherited)
        self._reap_inherited()


def _start_keeper() -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    executable_fd = _open_readonly(os.path.realpath(sys.executable))
    try:
        keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM.format(path=_import_path()), str(theirs.fileno())],
            executable=f"/proc/self/fd/{executable_fd}",
            pass_fds=(theirs.fileno(), executable_fd),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={},
        )
    finally:
        theirs.close()
        os.close(executable_fd)
    return keeper, ours


async def _is_done(future: asyncio.Future[None], timeout_seconds: float) -> bool:
    done, _pending = await asyncio.wait({future}, timeout=timeout_seconds)
    return bool(done)


def _import_path() -> list[str]:
    """Only the standard library and Teul: what else is on the engine's path (a current directory, say) is nothing for the keeper."""
    library = os.path.dirname(os.__file__)
    package = os.path.dirname(os.path.dirname(os.path.abspath(teul.__file__)))
    return [library, f"{library}/lib-dynload", package]


def _open_readonly(path: str) -> int:
    """The interpreter through a read-only mount of its own.

    security: a container's process is this interpreter until it execs; through /proc/PID/exe it must not be writable
    (CVE-2019-5736).
    """
    directory_fd = mounts.clone_tree(os.path.dirname(path))
    try:
        mounts.set_attributes(directory_fd, add=mounts.MOUNT_ATTR_RDONLY)
        return os.open(os.path.basename(path), os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)
    finally:
        os.close(directory_fd)


def _children() -> set[int]:
    """Pids of all children of this process, whichever thread they hang on."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
            found.update(map(int, file.read().split()))
    return found


def _end_started(launch: Launch) -> None:
    """Kill the process that was started from `launch`, and of a container all others, and remove the container's cgroup. Blocking."""
    facts = _read_process_file(launch["directory"])
    pidfd = _open_process(facts) if facts is not None else -1
    if pidfd >= 0:
        kill_and_wait(pidfd)
    plan = launch["cgroup"]
    if plan and launch["kind"] == "create":
        cgroups.kill(plan)
        cgroups.remove(plan)


def _read_process_file(directory: str) -> ProcessFile | None:
    path = f"{directory}/{PROCESS_FILE}"
    try:
        with open(path, "rb") as file:
            facts = json.loads(file.read())
        return {"pid": int(facts["pid"]), "keeper_pid": int(facts["keeper_pid"]), "start_time": int(facts["start_time"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Integrity(f"{path} cannot be read: {error}") from error


def _open_process(facts: ProcessFile) -> int:
    """A pidfd of the process that was started, or -1 if its pid is free by now or, by the start time, another process's."""
    try:
        pidfd = open_pidfd(facts["pid"])
    except ProcessLookupError:
        return -1
    if started_at(facts["pid"]) != facts["start_time"]:
        os.close(pidfd)
        return -1
    return pidfd
