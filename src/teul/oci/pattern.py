"""Shell patterns as Go's path.Match reads them: `*` and `?` stop at a slash, `[…]` is a class, a backslash quotes.

Source: Go, path/match.go.
"""

from __future__ import annotations

import re
from functools import lru_cache

from teul.errors import InvalidParameter


class InvalidPattern(InvalidParameter):
    """The pattern is malformed."""

    def __init__(self) -> None:
        super().__init__("syntax error in pattern")


def matches_pattern(pattern: str, text: str) -> bool:
    """Whether the whole of `text` matches `pattern`. Raises `InvalidPattern`."""
    return _compile(pattern).fullmatch(text) is not None


@lru_cache(maxsize=128)
def _compile(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "*":
            # Possessive: what a run of stars can swallow does not depend on how it is divided among them.
            while position + 1 < len(pattern) and pattern[position + 1] == "*":
                position += 1
            parts.append("[^/]*")
            position += 1
        elif character == "?":
            parts.append("[^/]")
            position += 1
        elif character == "[":
            source, position = _class(pattern, position + 1)
            parts.append(source)
        else:
            literal, position = _character(pattern, position) if character == "\\" else (character, position + 1)
            parts.append(re.escape(literal))
    return re.compile("".join(parts), re.DOTALL)


def _class(pattern: str, position: int) -> tuple[str, int]:
    """The character class that opened before `position`, as a regular expression, and where the pattern goes on."""
    negated = pattern[position : position + 1] == "^"
    position += negated
    ranges: list[str] = []
    while pattern[position : position + 1] != "]" or not ranges:
        low, position = _bound(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _bound(pattern, position + 1)
        ranges.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
    body = "".join(ranges)
    # A class of empty ranges only: no character is in it, so every character is in its complement.
    source = f"[{'^' if negated else ''}{body}]" if body else ("." if negated else "(?!)")
    return source, position + 1


def _bound(pattern: str, position: int) -> tuple[str, int]:
    if position >= len(pattern) or pattern[position] in "-]":
        raise InvalidPattern
    return _character(pattern, position)


def _character(pattern: str, position: int) -> tuple[str, int]:
    if pattern[position] == "\\":
        position += 1
        if position >= len(pattern):
            raise InvalidPattern
    return pattern[position], position + 1
