"""RFC 3339 times as image documents carry them: parsed to nanoseconds, rendered as Go renders them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(?:\.(\d+))?(?:(Z)|([+-])(\d{2}):(\d{2}))", re.ASCII)
# What Go prints for a time that was never set.
ZERO_TIME = "0001-01-01T00:00:00Z"


def parse_time_ns(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time. Raises ValueError; digits beyond the ninth of a second are dropped."""
    moment, fraction_ns, zone = _parse(text)
    return int((moment.replace(tzinfo=zone) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000_000 + fraction_ns


def normalize_time(text: str) -> str:
    """The RFC 3339 time `text` as Go's RFC3339Nano writes it: no trailing zeros in the fraction, `Z` for UTC. Raises ValueError."""
    moment, fraction_ns, zone = _parse(text)
    return moment.isoformat(timespec="seconds") + _fraction(fraction_ns) + _zone(zone)


def render_time(time_ns: int) -> str:
    """The time `time_ns` after the beginning of 1970, in UTC, as Go's RFC3339Nano writes it."""
    seconds, fraction_ns = divmod(time_ns, 1_000_000_000)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + _fraction(fraction_ns) + "Z"


def _parse(text: str) -> tuple[datetime, int, timezone]:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f'parsing time "{text}" as RFC 3339: no such time')
    date, clock, fraction, utc, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}")
        offset = timedelta(0) if utc else timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
        zone = timezone(offset)
    except ValueError as error:
        raise ValueError(f'parsing time "{text}" as RFC 3339: {error}') from None
    return moment, int((fraction or "0")[:9].ljust(9, "0")), zone


def _fraction(fraction_ns: int) -> str:
    return f".{fraction_ns:09}".rstrip("0") if fraction_ns else ""


def _zone(zone: timezone) -> str:
    minutes = int(zone.utcoffset(None).total_seconds()) // 60
    if not minutes:
        return "Z"
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
