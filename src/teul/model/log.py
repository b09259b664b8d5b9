"""What a container wrote, and which part of it a client wants to read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which entries to read. Times are nanoseconds since the epoch, None for no bound; `tail` None for all."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    since_ns: int | None = None
    until_ns: int | None = None
    tail: int | None = None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line (or piece of a long line), with its newline if it had one. `stream` is 1 for stdout, 2 for stderr."""

    stream: int
    time_ns: int
    data: bytes
    attrs: dict[str, str] | None = None
