"""`teul serve` with failpoints: `python -m support.failing_engine ARMED_DIRECTORY [OPTIONS OF SERVE]`. See `support.arming`.

Two ways to fail are the engine's alone, beside those of `support.arming`:

cancel  The request that comes to the point loses its caller, at the worst moment: what it asks of a thread next is done, but it does not
        hear of that any more.
full    SQLite finds no room.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sqlite3
import sys
from pathlib import Path
from typing import Any

import teul.runtime.engine.supervisor
from support import arming
from teul.daemon.main import main

TESTS = Path(__file__).resolve().parents[1]
_PATIENCE_SECONDS = 5.0

_asked: set[concurrent.futures.Future[Any]] = set()  # what threads have yet to finish


def run(armed: str, arguments: list[str]) -> int:
    """The engine, until it ends."""
    arming.install(armed)
    arming.WAYS |= {"cancel": _cancel, "full": _fill}
    # The keeper has nothing on its path but the standard library and Teul.
    prefix = f"import sys; sys.path[:] = [*{{path!r}}, {str(TESTS)!r}]; from support import arming; arming.install({armed!r}); "
    teul.runtime.engine.supervisor._PROGRAM = prefix + teul.runtime.engine.supervisor._PROGRAM
    _follow_threads()
    return main(arguments)


def _follow_threads() -> None:
    submit = concurrent.futures.ThreadPoolExecutor.submit

    def follow(*arguments: Any, **keywords: Any) -> concurrent.futures.Future[Any]:
        future = submit(*arguments, **keywords)
        _asked.add(future)
        future.add_done_callback(_asked.discard)
        return future

    concurrent.futures.ThreadPoolExecutor.submit = follow  # type: ignore[method-assign]


def _cancel(_point: str) -> None:
    task = asyncio.current_task()
    assert task is not None, "only what a request does on the loop can be cancelled"
    while (waiting := _waiting_for(task)) is not None:
        task = waiting
    asyncio.get_running_loop().call_soon(_cancel_when_done, task)


def _cancel_when_done(task: asyncio.Task[Any]) -> None:
    concurrent.futures.wait(list(_asked), _PATIENCE_SECONDS)
    task.cancel()


def _waiting_for(task: asyncio.Task[Any]) -> asyncio.Task[Any] | None:
    """Who waits for `task` in `aio.run_to_end`: what can be cancelled is the caller."""
    for other in asyncio.all_tasks():
        coroutine: Any = other.get_coro()
        while (frame := getattr(coroutine, "cr_frame", None)) is not None:
            if frame.f_code.co_name == "run_to_end" and frame.f_locals.get("task") is task:
                return other
            coroutine = coroutine.cr_await
    return None


def _fill(_point: str) -> None:
    raise sqlite3.OperationalError("database or disk is full")


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
