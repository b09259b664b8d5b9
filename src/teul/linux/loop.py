"""The event loop of small processes: descriptors and what to call when they are ready, and calls that are due later. stdlib only.

asyncio would bring threads, a wake-up pipe and some three megabytes into the keeper, from which everything is forked, and into the agent.
"""

from __future__ import annotations

import heapq
import select
import time
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
# What epoll reports unasked when the other side is gone.
HANGUP = select.EPOLLHUP | select.EPOLLERR


class Loop:
    """Level-triggered; one call per ready descriptor and turn, so that no busy descriptor starves the others."""

    def __init__(self, on_trouble: Callable[[object, Exception], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        """`on_trouble` is told which object's method raised what; `clock` gives the time in seconds."""
        self._on_trouble = on_trouble
        self._clock = clock
        self._epoll = select.epoll()
        self._handlers: dict[int, tuple[Callable[..., None], tuple[object, ...]]] = {}
        self._later: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._calls = 0

    def watch(self, fd: int, events: int, method: Callable[..., None], *arguments: object) -> None:
        """Call `method` with the arguments and the events whenever `fd` is ready."""
        self._epoll.register(fd, events)
        self._handlers[fd] = (method, arguments)

    def change(self, fd: int, events: int) -> None:
        """Watch `fd` for other events from now on."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`, if it is watched. Before `fd` is closed: a copy in another process would keep it in epoll's list."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, delay_seconds: float, method: Callable[..., None], *arguments: object) -> None:
        """Call `method` once when so much time has passed."""
        self._calls += 1
        heapq.heappush(self._later, (self._clock() + delay_seconds, self._calls, method, arguments))

    def turn(self) -> None:
        """Wait until something is ready or due, and handle it.

        What becomes due while a turn lasts, however soon, is the next turn's: else calls that plan their next try could keep those
        whose descriptors are ready from their turn.
        """
        timeout = max(0.0, self._later[0][0] - self._clock()) if self._later else None
        for fd, events in self._epoll.poll(timeout):
            if fd in self._handlers:  # an earlier call in this turn may have forgotten `fd`
                method, arguments = self._handlers[fd]
                self._call(method, *arguments, events)
        now, due = self._clock(), []
        while self._later and self._later[0][0] <= now:
            due.append(heapq.heappop(self._later))
        for _due, _number, method, arguments in due:
            self._call(method, *arguments)

    def _call(self, method: Callable[..., None], *arguments: object) -> None:
        try:
            method(*arguments)
        except Exception as error:  # noqa: BLE001 (told, and not forgotten)
            self._on_trouble(getattr(method, "__self__", None), error)
