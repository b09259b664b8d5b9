"""Waiting for what must come true: poll with a deadline, never sleep for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(check: Callable[[], T], what: str, *, timeout_seconds: float = 10.0, interval_seconds: float = 0.02) -> T:
    """Return the first truthy result of `check`; fail with `what` and the last result when the deadline passes first."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_seconds:g} s; last seen: {result!r}")
        time.sleep(interval_seconds)
