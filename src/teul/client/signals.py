"""Signals as something to read: they arrive at a pipe, to be handled between two turns of a loop.

`_signal` instead of `signal`: the latter builds enums of all numbers, which costs more than a request to the engine.
"""

from __future__ import annotations

import os
from _signal import (  # type: ignore[import-not-found]  # CPython's own; typeshed leaves it out
    SIGABRT,
    SIGALRM,
    SIGCONT,
    SIGHUP,
    SIGINT,
    SIGIO,
    SIGPWR,
    SIGQUIT,
    SIGTERM,
    SIGTRAP,
    SIGTSTP,
    SIGUSR1,
    SIGUSR2,
    SIGVTALRM,
    SIGWINCH,
    SIGXCPU,
    SIGXFSZ,
    set_wakeup_fd,
    signal,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

__all__ = ["FORWARDED", "SIGINT", "SIGTERM", "SIGWINCH", "SignalQueue"]

# The signals that a container gets when its client gets them. Not SIGCHLD, SIGPIPE and SIGURG, which are the client's own business;
# not SIGTTIN and SIGTTOU, which belong to the job control of the client's shell; not SIGWINCH, which many servers take as "shut down"
# and which resizes the container's terminal instead.
FORWARDED = {
    SIGHUP: "HUP",
    SIGINT: "INT",
    SIGQUIT: "QUIT",
    SIGTRAP: "TRAP",
    SIGABRT: "ABRT",
    SIGUSR1: "USR1",
    SIGUSR2: "USR2",
    SIGALRM: "ALRM",
    SIGTERM: "TERM",
    SIGCONT: "CONT",
    SIGTSTP: "TSTP",
    SIGXCPU: "XCPU",
    SIGXFSZ: "XFSZ",
    SIGVTALRM: "VTALRM",
    SIGIO: "IO",
    SIGPWR: "PWR",
}


class SignalQueue:
    """Within the `with` block the signals `numbers` are queued instead of acted upon. Only in the main thread.

    `observe` is called for each signal at once, wherever the program is, and may raise to interrupt the program.
    """

    def __init__(self, numbers: list[int], observe: Callable[[int], None]) -> None:
        self._numbers = numbers
        self._observe = observe
        self._previous: list[tuple[int, Any]] = []
        self._read_fd = self._write_fd = -1

    def __enter__(self) -> Self:
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        set_wakeup_fd(self._write_fd)
        self._previous = [(number, signal(number, self._handle)) for number in self._numbers]
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._previous:
            signal(number, handler)
        set_wakeup_fd(-1)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def _handle(self, number: int, _frame: object) -> None:
        """The number is in the pipe already; the handler is there so that the default action is not taken."""
        self._observe(number)

    def fileno(self) -> int:
        return self._read_fd

    def take(self) -> list[int]:
        """The signals that have come since the last call. Does not block."""
        try:
            return list(os.read(self._read_fd, 4096))
        except BlockingIOError:
            return []
