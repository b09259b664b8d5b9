"""Whether anybody uses the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware


class Activity:
    """Counts requests in progress and remembers when there was none any more."""

    def __init__(self) -> None:
        self._requests = 0
        self._quiet_since = time.monotonic()

    def middleware(self) -> Middleware:
        """For the application: counts each request, hijacked sessions to their end."""

        @web.middleware
        async def count(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
            self._requests += 1
            try:
                return await handler(request)
            finally:
                self._requests -= 1
                self._quiet_since = time.monotonic()

        return count

    async def wait_until_idle(self, timeout_seconds: float, busy: Callable[[], bool]) -> None:
        """Return when there was no request and `busy` was false for `timeout_seconds`."""
        while True:
            if self._requests or busy():
                self._quiet_since = time.monotonic()
            left = self._quiet_since + timeout_seconds - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, 1.0))
