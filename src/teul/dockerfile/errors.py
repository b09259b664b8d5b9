"""What is wrong with a Dockerfile, and where: lines are counted from 1. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from teul.errors import InvalidParameter

_NEAR = 3  # edits between a word that there is not and the one that may be meant
_AROUND = 2  # lines that are shown before and after those that are wrong


class DockerfileError(InvalidParameter):
    """A Dockerfile that cannot be read. `reason` is the message without the line; it is wrong from `first_line` to `last_line`."""

    def __init__(self, reason: str, first_line: int, last_line: int | None = None) -> None:
        super().__init__(f"dockerfile parse error on line {first_line}: {reason}")
        self.reason = reason
        self.first_line = first_line
        self.last_line = max(first_line, last_line or first_line)


class InstructionError(InvalidParameter):
    """An instruction that makes no sense; whoever knows where it stands makes a `DockerfileError` of it."""


def excerpt(text: str, name: str, first_line: int, last_line: int) -> str:
    """The lines of a Dockerfile that are wrong, marked, with those around them, as buildx shows them."""
    lines = text.split("\n")
    shown = range(max(1, first_line - _AROUND), min(len(lines), last_line + _AROUND) + 1)
    rule = "-" * 20
    body = [f"{number:4} | {'>>>' if first_line <= number <= last_line else '   '} {lines[number - 1].rstrip()}" for number in shown]
    return "\n".join([f"{name}:{first_line}", rule, *body, rule])


def did_you_mean(word: str, options: Iterable[str], *, keeps_case: bool = True) -> str:
    """` (did you mean …?)` with the nearest of `options`, or nothing if none is near."""
    wanted = word if keeps_case else word.lower()
    distances = {option: _distance(wanted, option if keeps_case else option.lower()) for option in options}
    near = sorted((distance, option) for option, distance in distances.items() if 0 < distance < _NEAR)
    if not near or 0 in distances.values():
        return ""
    match = near[0][1]
    if not keeps_case:
        match = match.lower() if word.islower() else match.upper() if word.isupper() else match
    return f" (did you mean {match}?)"


def _distance(one: str, other: str) -> int:
    """Levenshtein's."""
    row = list(range(len(other) + 1))
    for at, character in enumerate(one, 1):
        before, row[0] = row[0], at
        for index, against in enumerate(other, 1):
            before, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, before + (character != against))
    return row[-1]
