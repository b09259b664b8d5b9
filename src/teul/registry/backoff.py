"""When to ask a registry again that broke off, was overloaded, or asked for patience."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil

from teul.registry.errors import ConnectionFailed, Refused

# Answers that say more about the moment than about the request.
_PASSING = frozenset({408, 500, 502, 503, 504})
_PATIENT = frozenset({429, 503})


# Told how many seconds are left until something is tried again; never waits.
OnWait = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often and how long to wait. docker: five attempts (distribution/xfer), there with growing multiples of five seconds.

    `sleep` and `jitter` (a number from 0 to 1) are parameters for tests. A registry that wants more patience than `longest_wait_seconds`
    gets none: the error is told at once.
    """

    attempts: int = 5
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 60.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random

    async def pause(self, seconds: float, on_wait: OnWait | None = None) -> None:
        """Wait, and tell `on_wait` how many whole seconds that still are, one after the other, as dockerd does."""
        if on_wait is None:
            await self.sleep(seconds)
            return
        for left in range(ceil(seconds), 0, -1):
            on_wait(left)
            await self.sleep(min(seconds, 1.0) if left == 1 else seconds - (left - 1))
            seconds = float(left - 1)

    def wait_seconds(self, failures: int, error: Exception) -> float | None:
        """How long to wait after the `failures`th failure in a row, which was `error`; None to give up."""
        if failures >= self.attempts:
            return None
        if isinstance(error, Refused):
            asked = error.retry_after_seconds if error.status in _PATIENT else None
            if asked is not None:
                return asked if asked <= self.longest_wait_seconds else None
            # A limit of requests (429) whose end is not told is not waited out blindly. docker: it never is.
            if error.status not in _PASSING:
                return None
        elif not isinstance(error, ConnectionFailed):
            return None
        whole = min(self.first_wait_seconds * (1 << failures - 1), self.longest_wait_seconds)
        # Half of it by chance, so that many clients of one registry do not come back together.
        return whole * (0.5 + self.jitter() / 2)


def retrying_in(seconds: int) -> str:
    """What a client is told of a wait (moby distribution/xfer)."""
    return f"Retrying in {seconds} second{'' if seconds == 1 else 's'}"


def parse_retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """The seconds that a `Retry-After` header asks for, given as such or as a date; None where it says nothing that can be read."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
