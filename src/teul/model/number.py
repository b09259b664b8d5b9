"""Numbers in clients' texts, as Go reads them. Python's own `int` also takes underscores, spaces and the digits of every script."""

from __future__ import annotations

import re

_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT64_MAX = (1 << 63) - 1
_DIGITS = 19  # of the largest


def parse_int64(text: str) -> int:
    """A decimal number of 64 bits. Raises ValueError with Go's words (strconv.ParseInt)."""
    if not _INTEGER.fullmatch(text):
        raise ValueError("invalid syntax")
    # security: not before it is known to be short. Long ones take quadratic time, and beyond 4300 digits `int` raises what nobody expects.
    digits = text.lstrip("+-").lstrip("0")
    if len(digits) > _DIGITS:
        raise ValueError("value out of range")
    number = int(digits or "0") * (-1 if text.startswith("-") else 1)
    if not -_INT64_MAX - 1 <= number <= _INT64_MAX:
        raise ValueError("value out of range")
    return number
