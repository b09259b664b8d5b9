"""The keeper's end of a log that goes to a server: a queue, and the process that empties it (`runtime/forwarder`).

The keeper never waits. Where the program is to wait for the server, `is_behind` says so, and no more of its output is read until the queue
is shorter; where it is not to, what the queue has no room for is lost. docker: daemon/logger/ring.go.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from teul.linux.loop import HANGUP, WRITE, Loop
from teul.wire import log_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from teul.runtime.messages import Forwarding

_PROGRAM = "import sys; sys.path[:] = {path!r}; from teul.runtime.forwarder.main import main; main()"
_FAR_BEHIND_BYTES = 256 * 1024
_KEEPS_UP_BYTES = 64 * 1024
_RESTART_SECONDS = 1.0
# How long what is left may stand still after the container's end. docker: daemon/container/monitor.go, loggerCloseTimeout.
_LAST_SECONDS = 10.0


class Forwarder:
    """Of one container's log. Its troubles are its own: a process that ends is started again, and `lost_bytes` counts."""

    def __init__(
        self,
        plan: Forwarding,
        loop: Loop,
        *,
        expect_end: Callable[[int], None],
        switch: Callable[[], None],
        busy: set[object],
    ) -> None:
        """`switch` is called when `is_behind` has changed; in `busy` it stands as long as it has something to send. Raises `OSError`."""
        self._plan = log_frames.frame(log_frames.PLAN, json.dumps(plan).encode(), 0)
        self._loop = loop
        self._expect_end = expect_end
        self._switch = switch
        self._busy = busy
        self._limit_bytes = plan["buffer_bytes"]
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._written = 0  # of the first frame
        self._line = -1
        self._is_writable = True
        self._is_closing = False
        self._moved = False
        self.is_behind = False
        self.lost_bytes = 0
        busy.add(self)
        try:
            self._start()
        except OSError:
            busy.discard(self)
            raise

    def write(self, stream: int, data: bytes) -> None:
        """Have output of `stream` (1 or 2) sent."""
        if self._limit_bytes is not None and self._queue and self._queued_bytes + len(data) > self._limit_bytes:
            self.lost_bytes += len(data)
            return
        self._queue.append(log_frames.frame(stream, data, time.time_ns()))
        self._queued_bytes += len(self._queue[-1])
        if self._is_writable:
            self._flush()
        else:
            self._measure()  # a process that takes nothing any more never lets us come to that by itself

    def close(self) -> None:
        """There is no more output. What is left is sent, as long as it moves."""
        self._is_closing = True
        if self._queue:
            self._loop.call_later(_LAST_SECONDS, self._look)
        else:
            self._end()

    def _start(self) -> None:
        """Raises `OSError`."""
        theirs, ours = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(ours, False)
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", _PROGRAM.format(path=sys.path)],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 0)],
                setsid=True,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._expect_end(pid)
        self._line = ours
        self._is_writable = True
        self._loop.watch(ours, HANGUP, self._ready)
        if not self._queue or self._queue[0] is not self._plan:
            self._queue.appendleft(self._plan)
            self._queued_bytes += len(self._plan)
        self._flush()

    def _ready(self, events: int) -> None:
        if events & HANGUP:
            self._lose()
        else:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._queue:
                first = self._queue[0]
                written = os.write(self._line, memoryview(first)[self._written :])
                self._moved = True
                self._written += written
                if self._written == len(first):
                    self._queue.popleft()
                    self._queued_bytes -= len(first)
                    self._written = 0
        except BlockingIOError:
            pass
        except OSError:
            self._lose()
            return
        self._watch()

    def _watch(self) -> None:
        is_writable = not self._queue
        if is_writable != self._is_writable:
            self._is_writable = is_writable
            self._loop.change(self._line, HANGUP if is_writable else HANGUP | WRITE)
        self._measure()
        if self._is_closing and not self._queue:
            self._end()

    def _measure(self) -> None:
        """Have the program wait, or no longer."""
        if self._limit_bytes is not None:
            return
        was_behind = self.is_behind
        self.is_behind = self._queued_bytes > (_KEEPS_UP_BYTES if was_behind else _FAR_BEHIND_BYTES)
        if was_behind != self.is_behind and not self._is_closing:
            self._switch()

    def _lose(self) -> None:
        """The process has ended, and what was in the pipe with it. What is left in the queue is the next one's."""
        self._loop.forget(self._line)
        os.close(self._line)
        self._line = -1
        self._written = 0
        self._is_writable = False
        if self._is_closing:
            self._end()
        else:
            self._loop.call_later(_RESTART_SECONDS, self._start_again)

    def _start_again(self) -> None:
        if self._line >= 0 or self not in self._busy:
            return
        try:
            self._start()
        except OSError:
            self._loop.call_later(_RESTART_SECONDS, self._start_again)

    def _look(self) -> None:
        if self not in self._busy:
            return
        if not self._moved:
            self.lost_bytes += self._queued_bytes
            self._end()
            return
        self._moved = False
        self._loop.call_later(_LAST_SECONDS, self._look)

    def _end(self) -> None:
        self._queue.clear()
        if self._line >= 0:
            self._loop.forget(self._line)
            os.close(self._line)
            self._line = -1
        self._busy.discard(self)
