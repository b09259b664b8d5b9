"""The guard of the event loop: a call that may block, made by Teul's code on a running loop, raises and is reported.

ARCHITECTURE says that the loop never blocks. blockbuster puts a check before the calls of the standard library that may: `os.stat` and
its kin, reads and writes of files, blocking sockets, locks, SQLite, `sleep`. What is allowed all the same stands in `ALLOWED`.

The exception alone would not do: a task that fails is only logged, and an `except` may catch it. So every one is reported as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import blockbuster.blockbuster as implementation
from blockbuster import BlockBuster, BlockingError

__all__ = ["ALLOWED", "BlockingError", "guarding"]

# What may be done on the loop all the same: a function, by the end of its file's path and by its name, and why. Everything that it calls
# is allowed with it, so name the innermost one.
ALLOWED = {
    ("logging/__init__.py", "emit"): "a line of the log is written where it is made",
    ("teul/runtime/engine/supervisor.py", "_children"): "files of /proc, which wait for no disk",
    ("teul/services/containers/run.py", "_has_peer"): "MSG_DONTWAIT on a socket that is otherwise a blocking one",
}


@contextmanager
def guarding(report: Callable[[BlockingError], None]) -> Iterator[None]:
    """Guard every loop of this process; `report` is told of each offence, before it is raised at the call.

    Only calls below a function of Teul's count: what a test does on its own loop is its own affair.
    """

    class Reported(BlockingError):
        def __init__(self, function: str) -> None:
            super().__init__(function)
            report(self)

    guard = BlockBuster("teul", excluded_modules=["teul.daemon.main", "teul.cli"])
    for function in guard.functions.values():
        for file, name in ALLOWED:
            function.can_block_in(file, name)
    implementation.BlockingError = Reported  # type: ignore[misc, assignment] # there is no other way to be told
    guard.activate()
    try:
        yield
    finally:
        guard.deactivate()
        implementation.BlockingError = BlockingError  # type: ignore[misc]
