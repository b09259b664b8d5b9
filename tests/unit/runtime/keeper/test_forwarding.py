"""The keeper's queue to who sends lines to a log server."""

from __future__ import annotations

import os
from typing import Any

from teul.linux.loop import HANGUP, Loop
from teul.runtime.keeper.forwarding import Forwarder


class Stalled(Forwarder):
    """Has a process that takes nothing: a pipe that nobody reads."""

    def _start(self) -> None:
        self.other_end, self._line = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.watch(self._line, HANGUP, self._ready)


def test_a_program_waits_for_a_process_that_has_taken_nothing_since_its_pipe_was_full() -> None:
    plan: Any = {"buffer_bytes": None}
    loop = Loop(lambda _owner, _error: None)
    switched: list[bool] = []
    forwarder = Stalled(plan, loop, expect_end=lambda _pid: None, switch=lambda: switched.append(forwarder.is_behind), busy=set())
    for _ in range(20):
        forwarder.write(1, b"x" * 20_000)
    assert forwarder.is_behind
    assert switched == [True]
    os.close(forwarder.other_end)
    forwarder._end()
