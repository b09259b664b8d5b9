"""What must not stop half-way is waited for, whatever happens to its caller."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine

import pytest

from teul.aio import SlowWork, run_blocking, run_to_end, undoing
from teul.errors import Conflict


class Work:
    """Begins, waits until it may end, and then returns or raises."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.is_over = False
        self._failure = failure

    async def run(self) -> str:
        self.begun.set()
        await self.may_end.wait()
        self.is_over = True
        if self._failure is not None:
            raise self._failure
        return "done"


async def let_others_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def start(work: Work, caller: Callable[[Work], Coroutine[object, object, object]]) -> asyncio.Task[object]:
    task = asyncio.get_running_loop().create_task(caller(work))
    await work.begun.wait()
    return task


async def wait_for(work: Work) -> object:
    return await run_to_end(work.run())


async def test_a_caller_gets_the_result() -> None:
    work = Work()
    work.may_end.set()
    assert await run_to_end(work.run()) == "done"


async def test_a_caller_gets_the_exception() -> None:
    work = Work(LookupError("no"))
    work.may_end.set()
    with pytest.raises(LookupError, match="no"):
        await run_to_end(work.run())


async def test_a_cancelled_caller_waits_and_is_cancelled_then() -> None:
    work = Work()
    caller = await start(work, wait_for)
    caller.cancel()
    await let_others_run()
    assert not caller.done(), "the work is not over, so neither is the wait for it"
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.is_over


async def test_who_cancels_twice_waits_no_less() -> None:
    work = Work()
    caller = await start(work, wait_for)
    for _ in range(2):
        caller.cancel()
        await let_others_run()
        assert not caller.done()
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.is_over


async def test_who_was_cancelled_before_the_first_step_runs_the_work_too() -> None:
    """Whoever began to store something has it stored, or not at all: there is no moment at which half of it is dropped."""
    work = Work()
    work.may_end.set()

    async def cancelled_at_once(work: Work) -> object:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        return await run_to_end(work.run())

    with pytest.raises(asyncio.CancelledError):
        await (await start(work, cancelled_at_once))
    assert work.is_over


async def test_a_time_limit_of_the_caller_stays_a_time_limit() -> None:
    work = Work()

    async def limited(work: Work) -> object:
        async with asyncio.timeout(0):
            return await run_to_end(work.run())

    caller = await start(work, limited)
    await let_others_run()
    work.may_end.set()
    with pytest.raises(TimeoutError):
        await caller
    assert work.is_over


async def test_a_failure_that_no_caller_hears_of_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The cancellation goes on, so the log is the only one who can be told."""
    work = Work(LookupError("the disk is full"))
    caller = await start(work, wait_for)
    caller.cancel()
    await let_others_run()
    work.may_end.set()
    with caplog.at_level(logging.ERROR), pytest.raises(asyncio.CancelledError):
        await caller
    assert "the disk is full" in caplog.text
    assert "Work.run" in caplog.text, "it says what failed"


async def test_work_that_is_cancelled_itself_cancels_its_caller() -> None:
    """When a loop ends, asyncio cancels every task there is."""
    work = Work()
    caller = await start(work, wait_for)
    for task in asyncio.all_tasks() - {asyncio.current_task(), caller}:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not work.is_over


async def test_slow_work_has_its_own_threads_and_no_more_than_its_slots() -> None:
    """Whatever waits for them, other blocking work does not; the end waits for what has begun, and what has not begun never does."""
    may_end = threading.Event()
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        may_end.wait()
        return number

    async with SlowWork(slots=2) as slow:
        callers = [asyncio.get_running_loop().create_task(slow.run(work, number)) for number in range(3)]
        while len(begun) < 2:
            await run_blocking(int)
        assert begun == [0, 1]
        asyncio.get_running_loop().call_later(0.01, may_end.set)
    with pytest.raises(asyncio.CancelledError):
        await callers[2]
    assert [await caller for caller in callers[:2]] == [0, 1]
    assert begun == [0, 1]


async def test_what_was_begun_is_undone_though_the_caller_is_cancelled_twice() -> None:
    begun, undoing_it, go_on, undone = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def undo() -> None:
        undoing_it.set()
        await go_on.wait()
        undone.set()

    async def work() -> None:
        async with undoing(undo, "and it stays"):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.get_running_loop().create_task(work())
    await begun.wait()
    task.cancel()
    async with asyncio.timeout(10):
        await undoing_it.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone.is_set()


async def test_a_failure_to_undo_is_told_with_the_error_and_hides_nothing() -> None:
    async def undo() -> None:
        raise OSError("no way back")

    with pytest.raises(ValueError, match="the reason") as caught:
        async with undoing(undo, "and it stays"):
            raise ValueError("the reason")
    assert caught.value.__notes__ == ["and it stays: no way back"]


async def test_what_succeeds_is_not_undone() -> None:
    async def undo() -> None:
        raise AssertionError("there is nothing to undo")

    async with undoing(undo, "and it stays"):
        pass


async def test_what_nobody_is_there_to_be_told_is_no_failure_of_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go_on.wait()
        raise Conflict("container x is not running")

    with caplog.at_level(logging.INFO):
        task = asyncio.get_running_loop().create_task(run_to_end(work()))
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("INFO", None)]
    assert "container x is not running" in caplog.text
