"""A start that nobody wants any more ends, whatever the keeper has to say of it, before the one who gave it up hears that."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Coroutine
from typing import Any, cast

import pytest

from teul.aio import Tasks
from teul.linux import cgroups
from teul.runtime.engine import supervisor as module
from teul.runtime.engine.process import Process, StartError
from teul.runtime.engine.supervisor import Supervisor
from teul.runtime.messages import Launch, Request
from teul.wire import monitor as wire

LAUNCH = cast("Launch", {"kind": "create", "directory": "/nowhere", "terminal": False, "cgroup": {"path": "/c"}})
FAILED = {"step": "fork", "errno": None, "message": "no", "kind": "OSError"}
EXITED = {"exit_code": 137, "finished_at_ns": 1, "oom_killed": False}


class Keeper(Supervisor):
    """A keeper that says what the test says."""

    line: socket.socket

    def __init__(self) -> None:
        super().__init__(Tasks())
        self.asked = asyncio.Event()

    async def _send(self, request: Request, descriptors: list[int]) -> None:
        self.line = socket.socket(fileno=socket.dup(descriptors[0]))
        self.asked.set()

    def say(self, kind: int, document: dict[str, Any]) -> None:
        self.line.send(wire.frame(kind, json.dumps(document).encode()))

    def guarded(self) -> int:
        return len(self._guarded)


class Case:
    """A start that is cancelled while the keeper is at work, and the signals that its process got."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keeper = Keeper()
        self.signals: list[int] = []
        self.killed_cgroups = 0
        self.starting: asyncio.Task[Process] | None = None
        monkeypatch.setattr(Process, "signal", lambda _process, number: self.signals.append(number))
        monkeypatch.setattr(Process, "_open_pidfd", lambda _process: None)
        monkeypatch.setattr(cgroups, "kill", self._kill)
        monkeypatch.setattr(module, "_WITHDRAWAL_SECONDS", 0.01)

    def _kill(self, _plan: cgroups.Plan) -> None:
        self.killed_cgroups += 1

    async def cancel(self) -> asyncio.Task[Process]:
        self.starting = asyncio.get_running_loop().create_task(self.keeper.start(LAUNCH, attach=[]))
        await self.keeper.asked.wait()
        await asyncio.sleep(0)
        self.starting.cancel()
        await self.until(lambda: self.killed_cgroups > 0)
        self.starting.cancel()  # whoever hurries it once more does not keep it from being undone
        return self.starting

    @staticmethod
    async def until(check: Any) -> None:
        async with asyncio.timeout(10):
            while not check():
                await asyncio.sleep(0.001)


@pytest.fixture
async def case(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Case]:
    made = Case(monkeypatch)
    yield made
    made.keeper.line.close()


async def cancelled(task: Coroutine[Any, Any, Any] | asyncio.Task[Process]) -> None:
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await task


async def test_the_process_that_came_of_it_all_the_same_is_ended(case: Case) -> None:
    starting = await case.cancel()
    assert not starting.done(), "nothing is known of the start yet"
    case.keeper.say(wire.STARTED, {"pid": 1, "kept": []})
    await case.until(lambda: case.signals == [signal.SIGKILL])
    assert not starting.done(), "the process has yet to end"
    case.keeper.say(wire.EXITED, EXITED)
    await cancelled(starting)
    assert case.keeper.guarded() == 0


async def test_a_start_that_fails_is_over(case: Case) -> None:
    starting = await case.cancel()
    case.keeper.say(wire.FAILED, FAILED)
    await cancelled(starting)
    assert (case.signals, case.keeper.guarded()) == ([], 0)


async def test_what_a_lost_keeper_had_made_is_ended(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Launch] = []
    monkeypatch.setattr(module, "_end_started", ended.append)
    starting = await case.cancel()
    case.keeper.line.close()
    await cancelled(starting)
    assert (ended, case.keeper.guarded()) == ([LAUNCH], 0)


async def test_a_start_that_never_ends_is_given_up(case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "_LAST_WITHDRAWAL_SECONDS", 0.05)
    await cancelled(await case.cancel())
    assert "a start that was cancelled does not end: /nowhere" in caplog.text


async def test_a_start_that_fails_by_itself_says_why(case: Case) -> None:
    starting = asyncio.get_running_loop().create_task(case.keeper.start(LAUNCH, attach=[]))
    await case.keeper.asked.wait()
    case.keeper.say(wire.FAILED, FAILED)
    with pytest.raises(StartError, match="no"):
        await starting
    assert (case.killed_cgroups, case.keeper.guarded()) == (0, 0)
