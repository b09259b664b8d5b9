"""Moments as a client may write them. Source: moby daemon/internal/timestamp."""

from __future__ import annotations

import re
from datetime import datetime

from teul.errors import InvalidParameter

_DURATION = re.compile(r"(?:([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))")
_UNITS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_UNIX_TIME = re.compile(r"([0-9]+)(?:\.([0-9]{1,9}))?")


def parse_until_ns(value: str, now_ns: int) -> int:
    """A moment as Docker's `until` filters take it: a duration before now, seconds since 1970, or a date in local time or with a zone."""
    if value and not _DURATION.sub("", value):
        return now_ns - sum(round(float(number) * _UNITS_NS[unit]) for number, unit in _DURATION.findall(value))
    if (match := _UNIX_TIME.fullmatch(value)) is not None:
        return int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise InvalidParameter(f'failed to parse value as time or duration: "{value}"') from None
    return int(moment.replace(microsecond=0).astimezone().timestamp()) * 1_000_000_000 + moment.microsecond * 1000
