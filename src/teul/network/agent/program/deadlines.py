"""Deadlines of many things that all have the same time, none of which costs the loop a timer of its own."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from teul.linux.loop import Loop

T = TypeVar("T", bound=Hashable)


class Deadlines(Generic[T]):
    """Calls `expire` with each thing that was not removed within `seconds`, up to `_GRAIN_SECONDS` late. Keeps nothing that was removed."""

    _GRAIN_SECONDS = 0.05

    def __init__(self, loop: Loop, seconds: float, expire: Callable[[T], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._seconds = seconds
        self._expire = expire
        self._clock = clock
        self._due: OrderedDict[T, float] = OrderedDict()  # in the order in which they expire
        self._is_watching = False

    def set(self, thing: T) -> None:
        """Give it the whole time, from now on."""
        self._due[thing] = self._clock() + self._seconds
        self._due.move_to_end(thing)
        if not self._is_watching:
            self._look_later(self._seconds)

    def remove(self, thing: T) -> None:
        """Forget it, if it is there."""
        self._due.pop(thing, None)

    def _look_later(self, delay_seconds: float) -> None:
        self._is_watching = True
        self._loop.call_later(max(delay_seconds, self._GRAIN_SECONDS), self._look)

    def _look(self) -> None:
        now = self._clock()
        while self._due:
            thing, due = next(iter(self._due.items()))
            if due > now:
                self._look_later(due - now)
                return
            del self._due[thing]
            self._expire(thing)
        self._is_watching = False
