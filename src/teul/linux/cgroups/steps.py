"""Work on a cgroup that the kernel may not be ready for, as steps between which a caller with an event loop does other things.

Steps are a generator: each `next` does a bounded amount of work, never sleeps, and gives the seconds to let pass before the next step (0:
only others' turn). What the work came to is the generator's value.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeVar

    T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.0002


def carry_out(steps: Generator[float, None, T]) -> T:
    """Take all steps, sleeping in between; for threads and processes that have nothing else to do. Raises what a step raises."""
    while True:
        try:
            pause_seconds = next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
        time.sleep(pause_seconds)


def pauses(timeout_seconds: float, *, longest_seconds: float) -> Generator[float, None, None]:
    """Pauses between tries, longer and longer, that come to `timeout_seconds` in all.

    The pauses are counted, not the time: a host that is too busy to let anybody try has not used up anybody's tries.
    """
    pause_seconds = _FIRST_PAUSE_SECONDS
    while timeout_seconds > 0:
        yield pause_seconds
        timeout_seconds -= pause_seconds
        pause_seconds = min(pause_seconds * 2, longest_seconds)
