"""The words the session is written in. A step is data; `player` knows how to carry it out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Compare(StrEnum):
    """How much of a step's output must be the same."""

    TEXT = "text"
    """Exit code, stdout and stderr, after normalising."""
    LINES = "lines"
    """The same, whatever the order of the lines: Docker lists what it keeps in a map in any order."""
    JSON = "json"
    """Exit code and stderr; every member of Docker's JSON must be in ours with an equal value. Newer API versions add members."""
    LABELS = "labels"
    """Exit code and stderr; every `Label:` line of Docker's output must have one in ours, whatever it says."""
    EXIT = "exit"
    """The exit code only: for output that depends on the machine."""


@dataclass(frozen=True, slots=True)
class Shows:
    """The terminal shows something that matches this pattern."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Types:
    """The person types this."""

    text: str


@dataclass(frozen=True, slots=True)
class Waits:
    """Until the command has taken the terminal over: from then on, nothing typed is lost or echoed twice."""


@dataclass(frozen=True, slots=True)
class Resizes:
    """The window gets another size."""

    rows: int
    columns: int


Turn = Shows | Types | Waits | Resizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of the session. An argument that starts with "@" is the path of one of our archives."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    dialogue: tuple[Turn, ...] | None = None
    begins: str | None = None
    ends: str | None = None
    until: str | None = None
    unlike: str | None = None
    compare: Compare = Compare.TEXT

    @property
    def title(self) -> str:
        return f"docker {' '.join(self.argv)}" if self.argv else f"(end of {self.ends})"


@dataclass(frozen=True, slots=True)
class Scene:
    """Steps that depend on each other. Every scene begins with the base images loaded and no containers."""

    name: str
    steps: tuple[Step, ...]


def docker(*argv: str, stdin: bytes = b"", compare: Compare = Compare.TEXT, until: str | None = None, unlike: str | None = None) -> Step:
    """Run to the end. With `until` (or `unlike`) repeat until stdout matches it (or no more does): for what comes true a little later."""
    return Step(argv=argv, stdin=stdin, compare=compare, until=until, unlike=unlike)


def person(*argv: str, dialogue: tuple[Turn, ...], compare: Compare = Compare.TEXT) -> Step:
    """Run at a terminal, with a person who looks and types."""
    return Step(argv=argv, dialogue=dialogue, compare=compare)


def begin(key: str, *argv: str, stdin: bytes = b"", until: str | None = None) -> Step:
    """Start in the background, send `stdin` (left open), go on when its stdout matches `until`; `end(key)` waits for its end."""
    return Step(argv=argv, begins=key, stdin=stdin, until=until)


def end(key: str) -> Step:
    """Wait for what `begin(key, …)` started and take its whole output."""
    return Step(argv=(), ends=key)
