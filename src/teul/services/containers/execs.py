"""Further processes in running containers (`docker exec`)."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from teul import failpoints
from teul.aio import Tasks, run_blocking, run_to_end
from teul.errors import Conflict, InvalidParameter, NotFound, System
from teul.linux.paths import read_foreign_file
from teul.linux.process import is_ending, open_root
from teul.linux.users import UserError, needs_no_look, resolve
from teul.model.container import Container
from teul.model.exec import Exec, ExecConfig
from teul.model.lifecycle import Move, Status
from teul.runtime.engine.attachment import Attachment
from teul.runtime.engine.process import Process, StartError
from teul.runtime.engine.supervisor import PendingAttachment, Supervisor
from teul.runtime.messages import Launch, Wants
from teul.services.containers import bundle as bundles
from teul.services.containers.errors import NotRunning, translate_start_error
from teul.services.containers.launch import Launcher
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.request.check import check_exec
from teul.services.containers.run import Runs
from teul.services.containers.spec.build import build_exec_spec
from teul.services.events import Events, container_event
from teul.store.atomic import remove_tree

log = logging.getLogger(__name__)

# docker: an exec can be asked for its exit code for some minutes after its end.
_KEPT_SECONDS = 300
# docker: the time that a terminal waits for its exec, as in daemon/resize.go.
_START_SECONDS = 10

T = TypeVar("T")


class Execs:
    """All execs of one engine, in memory."""

    def __init__(
        self,
        registry: ContainerRegistry,
        runs: Runs,
        *,
        launcher: Launcher,
        supervisor: Supervisor,
        events: Events,
        tasks: Tasks,
    ) -> None:
        self._registry = registry
        self._runs = runs
        self._launcher = launcher
        self._supervisor = supervisor
        self._events = events
        self._tasks = tasks
        self._execs: dict[str, Exec] = {}
        self._processes: dict[str, Process] = {}
        self._starts = asyncio.Condition()  # notified when an exec has started, or has not
        self._watches: dict[str, asyncio.Task[None]] = {}
        runs.follow(self._forget_unstarted)

    def get(self, exec_id: str) -> Exec:
        """The exec with this full id. Raises NotFound, also for an exec whose container is gone."""
        record = self._execs.get(exec_id)
        if record is None or not self._registry.exists(record.container_id):
            raise NotFound(f"No such exec instance: {exec_id}")
        return record

    def ids(self, container_id: str) -> list[str]:
        """The ids of the container's execs that run or may yet be started."""
        return [record.id for record in self._execs.values() if record.container_id == container_id and record.exit_code is None]

    def forget(self, exec_id: str) -> None:
        """Forget an exec that nobody will ask for any more. Idempotent."""
        self._execs.pop(exec_id, None)

    async def create(self, container_reference: str, config: ExecConfig) -> str:
        """Prepare an exec in a running container; returns its id. Raises Conflict, InvalidParameter."""
        container = await self._active(container_reference)
        check_exec(config)
        if not needs_no_look(config.user):
            await self._check_user(container, config.user)
        command = config.cmd or []
        record = Exec(id=secrets.token_hex(32), container_id=container.id, config=config, path=command[0], args=command[1:])
        self._execs[record.id] = record
        self._events.publish(container_event(container, f"exec_create: {' '.join(command)}", execID=record.id))
        return record.id

    async def _check_user(self, container: Container, user: str) -> None:
        """Raises InvalidParameter for who is not known in the container. docker: daemon/exec.go, ContainerExecCreate."""
        pidfd = self._own_pidfd(container)
        try:
            await run_blocking(_look_up, pidfd, user)
        except ProcessLookupError as error:
            raise NotRunning(container.id) from error
        except UserError as error:
            raise InvalidParameter(str(error)) from error
        finally:
            os.close(pidfd)

    async def start(self, exec_id: str, *, detach: bool, terminal: bool) -> Attachment | None:
        """Run an exec; unless detached, returns its streams. Raises Conflict when it ran before, and what a failing start raises."""
        record = self.get(exec_id)
        if record.started:
            detail = "is already running" if record.running else "has already run"
            raise Conflict(f"exec command {exec_id} {detail}")
        container = await self._active(record.container_id)
        record.started = record.running = True
        record.config.tty = record.config.tty or terminal
        attachment: Attachment | None = None
        pending: list[PendingAttachment] = []
        # From here on whatever fails ends the exec: one that is marked as running and of which nobody keeps watch would run for ever.
        try:
            failpoints.reach("containers.exec.marked")
            if not detach:
                wants: Wants = {
                    "stdin": record.config.attach_stdin,
                    "stdout": record.config.attach_stdout,
                    "stderr": record.config.attach_stderr,
                }
                attachment, far = await Attachment.pending(terminal=record.config.tty, wants=wants)
                pending.append(PendingAttachment(far, wants))
            self._events.publish(container_event(container, f"exec_start: {' '.join([record.path, *record.args])}", execID=exec_id))
            process = await self._run(container, record, pending)
        except StartError as error:
            failure, record.exit_code = translate_start_error(error, for_exec=True)
            await run_to_end(self._failed(record, attachment))
            raise failure from error
        except BaseException:
            for each in pending:
                each.connection.close()
            record.exit_code = 126
            await run_to_end(self._failed(record, attachment))
            raise
        failpoints.reach("containers.exec.running")
        record.pid = process.pid
        self._processes[exec_id] = process
        self._watches[exec_id] = self._tasks.start(self._watch(container, record, process), name=f"watch exec {exec_id[:12]}")
        return attachment

    async def wait(self, exec_id: str) -> int | None:
        """Return the exit code when the exec has ended and its end was told; None if it never ran."""
        record = self.get(exec_id)
        if (watch := self._watches.get(exec_id)) is not None:
            await asyncio.shield(watch)
        return record.exit_code

    def kill(self, exec_id: str) -> None:
        """End an exec by force, if it runs. `wait` tells when it is over."""
        if (process := self._processes.get(exec_id)) is not None:
            process.signal(signal.SIGKILL)

    async def resize(self, exec_id: str, *, height: int, width: int) -> None:
        """Set the size of an exec's terminal; waits for one that is about to start, as clients do not.

        docker: raises Conflict for one that has ended, InvalidParameter for one that could not start, System if ten seconds pass.
        """
        record = self.get(exec_id)
        try:
            async with asyncio.timeout(_START_SECONDS), self._starts:
                await self._starts.wait_for(lambda: exec_id in self._processes or record.exit_code is not None)
        except TimeoutError:
            raise System("timeout waiting for exec session ready") from None
        process = self._processes.get(exec_id)
        if process is None:
            raise NotRunning(record.container_id) if record.pid else InvalidParameter("exec process is not started")
        process.resize(height, width)

    def _forget_unstarted(self, container: Container, move: Move) -> None:
        """docker: an exec that was prepared in a container and not started is gone with the container's run."""
        if move in (Move.EXITED, Move.RESTARTING):
            unstarted = [record.id for record in self._execs.values() if record.container_id == container.id and not record.started]
            for exec_id in unstarted:
                self.forget(exec_id)

    async def _active(self, reference: str) -> Container:
        """The container, if execs can be started in it. Raises Conflict, which calls one that is paused as the caller did."""
        container = self._registry.get(reference)
        await self._runs.of(container.id).start_is_over()
        match container.state.status:
            case Status.RUNNING:
                return container
            case Status.PAUSED:
                raise Conflict(f"Container {reference} is paused, unpause the container before exec")
            case Status.RESTARTING:
                raise Conflict(f"container {container.id} is restarting, wait until the container is running")
            case _:
                raise NotRunning(container.id)

    async def _run(self, container: Container, record: Exec, pending: list[PendingAttachment]) -> Process:
        pidfd = self._own_pidfd(container)
        try:
            linked = self._launcher.links.environment(container)
            launch = await run_to_end(self._unless_ending(container, pidfd, run_blocking(self._prepare, container, record, linked)))
            return await self._unless_ending(container, pidfd, self._supervisor.start(launch, attach=pending, donors=[pidfd]))
        finally:
            os.close(pidfd)

    def _own_pidfd(self, container: Container) -> int:
        """The pidfd of the container's first process, for the caller to close. Raises NotRunning.

        security: a copy, taken now. The container may end while we prepare, and the descriptor's number be another container's by then.
        """
        process = self._runs.of(container.id).process
        if process is None or process.pidfd < 0:
            raise NotRunning(container.id)
        return os.dup(process.pidfd)

    @staticmethod
    async def _unless_ending(container: Container, pidfd: int, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns. Raises what it raises, but NotRunning where the cause may be that the container behind `pidfd` ends."""
        try:
            return await work
        except (StartError, OSError) as error:
            if not _is_for_the_user(error) and await run_blocking(is_ending, pidfd):
                raise NotRunning(container.id) from error
            raise

    def _prepare(self, container: Container, record: Exec, linked: list[str]) -> Launch:
        """Make the exec's directory; returns what the keeper needs. Blocking."""
        directories = self._launcher.directories
        spec, launch = bundles.read_bundle_files(directories.bundle(container.id))
        exec_spec = build_exec_spec(container, record.config, spec, self._launcher.host, linked=linked)
        directory = directories.exec(container.id, record.id)
        os.mkdir(directory, 0o700)
        bundles.write_exec_config(directory, exec_spec)
        failpoints.reach("containers.exec.prepared")
        config = record.config
        rows, columns = config.console_size or (0, 0)
        prepared: Launch = {
            "kind": "exec",
            "id": record.id,
            "keyring": launch["keyring"],
            "directory": directory,
            "spill_directory": directories.container(container.id),
            "terminal": config.tty,
            "rows": rows,
            "columns": columns,
            "stdin": "once" if config.attach_stdin else "null",
            "log": None,
            "cgroup": launch["cgroup"],
            "kill_cgroup": False,
            "new_pids": False,
            "joins": ["container"],
            "mounts": 0,
            "networks": [],
        }
        if "runtime" in launch:
            prepared["runtime"] = launch["runtime"]
        return prepared

    async def _failed(self, record: Exec, attachment: Attachment | None) -> None:
        record.running = False
        await self._tell_of_start()
        if attachment is not None:
            await attachment.close()
        await self._retire(record)

    async def _tell_of_start(self) -> None:
        async with self._starts:
            self._starts.notify_all()

    async def _watch(self, container: Container, record: Exec, process: Process) -> None:
        await self._tell_of_start()
        ended = await asyncio.shield(process.exit)
        record.exit_code = ended.exit_code
        record.running = False  # docker: its Pid goes on being told
        self._processes.pop(record.id, None)
        self._watches.pop(record.id, None)
        self._events.publish(container_event(container, "exec_die", execID=record.id, exitCode=str(ended.exit_code)))
        await self._retire(record)

    async def _retire(self, record: Exec) -> None:
        """The exec has ended: its files go at once, its exit code a while later."""
        record.can_remove = True
        asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._execs.pop, record.id, None)
        try:
            await run_blocking(remove_tree, self._launcher.directories.exec(record.container_id, record.id))
        except OSError as error:
            log.error("the files of exec %s stay until its container ends: %s", record.id[:12], error)


def _look_up(pidfd: int, user: str) -> None:
    root_fd = open_root(pidfd)
    try:
        resolve(root_fd, user, [], read_foreign_file)
    finally:
        os.close(root_fd)


def _is_for_the_user(error: StartError | OSError) -> bool:
    """Whether the exec failed of what it was asked to run, so that it does not matter how its container is."""
    return isinstance(error, StartError) and error.kind in ("UserError", "ProgramError")
