"""An exec that could not be started has ended, and one in a container that is ending says so."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from teul.aio import run_blocking
from teul.errors import Conflict
from teul.model.container import Container
from teul.model.exec import Exec, ExecConfig
from teul.runtime.engine.attachment import Attachment
from teul.runtime.engine.process import Process, StartError
from teul.runtime.engine.supervisor import PendingAttachment, Supervisor
from teul.runtime.messages import Launch
from teul.services.containers import execs as module
from teul.services.containers.errors import NotRunning, StartFailure
from teul.services.containers.execs import Execs
from unit.services.containers.world import World, world


class FailingSupervisor(Supervisor):
    """No exec is started; `failure` says why."""

    failure: Exception

    async def start(
        self, launch: Launch, *, attach: list[PendingAttachment], donors: Sequence[int] = (), mounts: Sequence[int] = ()
    ) -> Process:
        for pending in attach:
            pending.connection.close()
        raise self.failure


class UnpreparedExecs(Execs):
    """Needs no bundle."""

    def _prepare(self, container: Container, record: Exec, linked: list[str]) -> Launch:
        return {}  # type: ignore[typeddict-item] # nobody looks at it


def start_error(step: str, message: str, *, kind: str = "OSError") -> StartError:
    return StartError({"step": step, "errno": None, "message": message, "kind": kind})


class Case:
    def __init__(self, world: World) -> None:
        self.world = world
        self.supervisor = FailingSupervisor(world.tasks)
        self.execs = UnpreparedExecs(
            world.registry,
            world.runs,
            launcher=world.launcher,
            supervisor=self.supervisor,
            events=world.events,
            tasks=world.tasks,
        )

    async def exec(self) -> str:
        container = await self.world.add()
        process = await self.world.start(container)
        process.pidfd = os.pidfd_open(os.getpid())
        return await self.execs.create(container.id, ExecConfig(cmd=["true"], attach_stdout=True))


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    async with world(tmp_path) as made:
        yield Case(made)


async def test_an_exec_for_which_there_is_no_descriptor_does_not_run_for_ever(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    exec_id = await case.exec()

    async def pending(**options: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Attachment, "pending", pending)
    with pytest.raises(OSError, match="Too many open files"):
        await case.execs.start(exec_id, detach=False, terminal=False)
    record = case.execs.get(exec_id)
    assert (record.running, record.exit_code, record.can_remove) == (False, 126, True)


async def test_an_exec_whose_directory_cannot_be_removed_has_ended_all_the_same(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    exec_id = await case.exec()

    def remove_tree(path: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module, "remove_tree", remove_tree)
    case.supervisor.failure = start_error("exec", "no such thing", kind="OSError")
    with pytest.raises(StartFailure, match="no such thing"):
        await case.execs.start(exec_id, detach=True, terminal=False)
    assert not case.execs.get(exec_id).running


@pytest.mark.parametrize(
    "failure",
    [
        start_error("enter the pid namespace", "No such process"),
        start_error("fork", "Cannot allocate memory"),
        start_error("monitor", "[Errno 2] No such file or directory: '/run/teul/containers/…/exec-0123456789abcdef'"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
    ],
)
async def test_an_exec_in_a_container_that_is_ending_is_a_conflict(case: Case, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    """Whatever it met: the pid namespace, the cgroup and the bundle go one after the other."""
    exec_id = await case.exec()
    container_id = case.execs.get(exec_id).container_id
    monkeypatch.setattr(module, "is_ending", lambda pidfd: True)
    case.supervisor.failure = failure
    with pytest.raises(NotRunning, match=f"container {container_id} is not running"):
        await case.execs.start(exec_id, detach=True, terminal=False)
    assert not case.execs.get(exec_id).running


async def test_a_program_that_is_not_there_is_not_there_in_an_ending_container_too(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    exec_id = await case.exec()
    monkeypatch.setattr(module, "is_ending", lambda pidfd: True)
    case.supervisor.failure = start_error("exec", 'exec: "nothing": executable file not found in $PATH', kind="ProgramError")
    with pytest.raises(Exception, match="executable file not found") as caught:
        await case.execs.start(exec_id, detach=True, terminal=False)
    assert not isinstance(caught.value, Conflict)


async def test_no_descriptor_is_left_of_an_exec_that_could_not_be_started(case: Case) -> None:
    exec_id = await case.exec()
    case.supervisor.failure = start_error("fork", "Resource temporarily unavailable")
    before = len(await run_blocking(os.listdir, "/proc/self/fd"))
    with pytest.raises(StartFailure):
        await case.execs.start(exec_id, detach=False, terminal=False)
    async with asyncio.timeout(5):
        while len(await run_blocking(os.listdir, "/proc/self/fd")) > before:
            await asyncio.sleep(0.001)
