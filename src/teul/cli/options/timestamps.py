"""`--since` and `--until`: a duration before now, a date, or seconds, to what the API takes (moby api/types/time)."""

from __future__ import annotations

from time import time

from teul.cli.options.values import parse_duration_ns


def parse_timestamp(text: str, now: float | None = None) -> str:
    """Seconds since the epoch, with nanoseconds after a point. Raises `ValueError`."""
    try:
        duration_ns = parse_duration_ns(text) if text != "0" else None
    except ValueError:
        duration_ns = None
    if duration_ns is not None:
        return str(int((time() if now is None else now) - duration_ns / 1e9))
    seconds, _, fraction = text.partition(".")
    if seconds.lstrip("-").isdigit() and (not fraction or fraction.isdigit()) and "-" not in seconds[1:]:
        return text
    return _parse_date(text)


def _parse_date(text: str) -> str:
    """RFC 3339, with parts left off from the end; without a zone it is local time."""
    from datetime import datetime

    moment, fraction = text, ""
    whole, point, rest = text.partition(".")
    if point:
        digits = next((index for index, character in enumerate(rest) if not character.isdigit()), len(rest))
        fraction, moment = rest[:digits], whole + rest[digits:]
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        raise ValueError(f'failed to parse value as time or duration: "{text}"') from None
    seconds = int(parsed.timestamp())
    return f"{seconds}.{fraction[:9]:0<9}"
