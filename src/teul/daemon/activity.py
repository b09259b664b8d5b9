"""Whether anybody uses the engine: when nobody does it gives back memory, and one that was started on demand leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

_QUIET_SECONDS = 1.0


class Activity:
    """Counts the requests in progress and remembers when the last of them ended."""

    def __init__(self, on_quiet: Callable[[], None]) -> None:
        """`on_quiet` is called once after each burst of requests, from the loop."""
        self._on_quiet = on_quiet
        self._requests = 0
        self._quiet_since = time.monotonic()
        self._ended_at = self._quiet_since  # of the last request
        self._watch: asyncio.TimerHandle | None = None

    @property
    def in_use(self) -> bool:
        """Whether a request is in progress."""
        return self._requests > 0

    def middleware(self) -> Middleware:
        """What the application is to call around each request; a hijacked connection's request lasts until that connection ends."""

        @web.middleware
        async def count(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
            self._requests += 1
            try:
                return await handler(request)
            finally:
                self._requests -= 1
                self._quiet_since = self._ended_at = time.monotonic()
                if self._watch is None:
                    self._watch_for_quiet(_QUIET_SECONDS)

        return count

    def _watch_for_quiet(self, delay_seconds: float) -> None:
        self._watch = asyncio.get_running_loop().call_later(delay_seconds, self._look)

    def _look(self) -> None:
        left = self._ended_at + _QUIET_SECONDS - time.monotonic()
        if left > 0:
            self._watch_for_quiet(left)
        else:
            self._watch = None
            self._on_quiet()

    async def wait_until_idle(self, timeout_seconds: float, busy: Callable[[], bool]) -> None:
        """Return when for `timeout_seconds` no request was in progress and `busy` was false (which is asked once a second)."""
        while True:
            if self._requests or busy():
                self._quiet_since = time.monotonic()
            left = self._quiet_since + timeout_seconds - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, 1.0))
