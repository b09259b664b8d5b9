"""Task supervision and the ways from the event loop to code that blocks.

The loop never blocks: whatever may wait on the kernel or the disk goes through `run_blocking`, and what may take long through the engine's
`SlowWork`, so that nothing that somebody waits for at a start stands behind it. Every task belongs to a `Tasks`
group owned by a component; leaving the group's `async with` cancels and awaits what is left. What must not stop half-way is a task of
its caller, who waits for it: `run_to_end`; what is taken back when something fails, `undoing`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from teul.errors import TeulError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_executor = ThreadPoolExecutor(max_workers=16, thread_name_prefix="teul")


async def run_blocking(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in a worker thread and return its result.

    A cancelled caller stops waiting; the function itself runs to its end, so it must leave things whole by itself.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_executor, functools.partial(function, *args, **kwargs))


class SlowWork:
    """Threads for what may take long: walks of trees, archives, what waits for other processes or a whole file system. One per engine.

    No more than `slots` of it run at once, and the rest waits for them. Leaving the `async with` waits for what has begun; what waits for
    a slot by then is not begun.
    """

    def __init__(self, slots: int = 8) -> None:
        self.slots = slots
        self._executor = ThreadPoolExecutor(max_workers=slots, thread_name_prefix="teul-slow")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        await run_to_end(run_blocking(self._executor.shutdown, wait=True, cancel_futures=True))

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run_blocking`."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, functools.partial(function, *args, **kwargs))


async def run_to_end(coroutine: Coroutine[object, object, T]) -> T:
    """Run `coroutine` as a task of its own and return its result, or raise its exception.

    A cancelled caller waits for it all the same, and only then is cancelled: nothing goes on behind the caller's back. The result is then
    given up, and an exception is logged, for the cancellation is what goes on. For commits and clean-up, whose length is bounded.
    """
    task = asyncio.get_running_loop().create_task(coroutine)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is None:
        return task.result()
    if not task.cancelled() and (failure := task.exception()) is not None:
        if isinstance(failure, TeulError):
            log.info("a caller that has left would have been told: %s", failure.message)
        else:
            log.error("%s failed while its caller was cancelled", coroutine, exc_info=failure)
    raise cancellation


@asynccontextmanager
async def undoing(undo: Callable[[], Coroutine[object, object, None]], lest: str) -> AsyncIterator[None]:
    """Have `undo` done, to its end, when what is inside fails or is cancelled; that is raised, whatever becomes of the undoing.

    A failure to undo is noted with the error, after `lest`, which says what holds then: "and its files stay".
    """
    try:
        yield
    except BaseException as error:
        try:
            await run_to_end(undo())
        except Exception as failure:  # noqa: BLE001 - told with the first error, which it must not hide
            error.add_note(f"{lest}: {failure}")
        raise


async def together(work: Iterable[Coroutine[object, object, None]]) -> None:
    """Do all of it at once; the first failure ends the rest, and is raised."""
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in work:
                group.create_task(coroutine)
    except ExceptionGroup as failed:
        failure = failed.exceptions[0]
    if failure is not None:
        raise failure


class Tasks:
    """Background tasks of one component. A failing task is logged and does not take its siblings down."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        await self.cancel()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, coroutine: Coroutine[object, object, None], *, name: str) -> asyncio.Task[None]:
        """Start `coroutine`; the group keeps it alive, logs its failure, and cancels it at the end."""
        task = asyncio.get_running_loop().create_task(self._supervise(coroutine, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task cancelled before its first step never begins its coroutine, which would complain of that.
        task.add_done_callback(lambda _task: coroutine.close())
        return task

    async def cancel(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    async def _supervise(coroutine: Coroutine[object, object, None], name: str) -> None:
        try:
            await coroutine
        except Exception:
            log.exception("task %s failed", name)
