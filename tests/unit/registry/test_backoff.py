"""Waits before something is tried again: how they are told, and that telling them takes no time of its own."""

from __future__ import annotations

import pytest

from teul.registry.backoff import Backoff, retrying_in
from unit.registry.conftest import Pauses


@pytest.mark.parametrize(
    ("seconds", "told", "slept"),
    [
        (0.0, [], []),
        (0.3, [1], [0.3]),
        (1.0, [1], [1.0]),
        (2.5, [3, 2, 1], [0.5, 1.0, 1.0]),
    ],
)
async def test_a_wait_is_counted_down(pauses: Pauses, seconds: float, told: list[int], slept: list[float]) -> None:
    heard: list[int] = []
    backoff = Backoff(sleep=pauses.sleep)
    await backoff.pause(seconds, heard.append)
    assert (heard, pauses.seconds) == (told, slept)
    pauses.seconds.clear()
    await backoff.pause(seconds)
    assert pauses.seconds == [seconds], "in one, if nobody wants to know"


def test_words() -> None:
    assert [retrying_in(seconds) for seconds in (1, 2)] == ["Retrying in 1 second", "Retrying in 2 seconds"]
