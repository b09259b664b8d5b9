"""Numbers as people read them: sizes, durations, points in time. Pure but for the local time zone (go-units; Go's time package)."""

from __future__ import annotations

from time import localtime, strftime

from teul.model import size as sizes

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def human_size(size_bytes: float, digits: int = 4) -> str:
    """In powers of 1000: `2.746MB`."""
    return sizes.human_size(size_bytes, digits)


def binary_size(size_bytes: float) -> str:
    """In powers of 1024: `23.5GiB`."""
    return sizes.scaled_size(size_bytes, 1024.0, _BINARY, 4)


def human_duration(seconds: float) -> str:
    """`About an hour`, `3 weeks`."""
    whole = int(seconds)
    minutes, hours = whole // 60, int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    for limit, size, name in ((48, 1, "hours"), (24 * 14, 24, "days"), (24 * 60, 24 * 7, "weeks"), (24 * 730, 24 * 30, "months")):
        if hours < limit:
            return f"{hours // size} {name}"
    return f"{whole // 3600 // 24 // 365} years"


def go_time(seconds: int) -> str:
    """A point in time as Go prints it: `2006-01-02 15:04:05 -0700 MST`."""
    return strftime("%Y-%m-%d %H:%M:%S %z %Z", localtime(seconds))


def go_timestamp(text: str) -> str:
    """A point in time out of a document (RFC 3339), as Go prints it: `2006-01-02 15:04:05.123456 +0000 UTC`."""
    date, _, rest = text.partition("T")
    if rest.endswith("Z"):
        return f"{date} {rest[:-1]} +0000 UTC"
    zone = rest[-6:].replace(":", "")
    return f"{date} {rest[:-6]} {zone} {zone}"


def rfc3339(seconds: int, nanoseconds: int | None = None) -> str:
    """`2006-01-02T15:04:05+02:00` in local time, with nine decimals when `nanoseconds` are given."""
    local = localtime(seconds)
    offset = local.tm_gmtoff
    zone = "Z" if not offset else f"{'-' if offset < 0 else '+'}{abs(offset) // 3600:02}:{abs(offset) // 60 % 60:02}"
    fraction = "" if nanoseconds is None else f".{nanoseconds:09}"
    return strftime("%Y-%m-%dT%H:%M:%S", local) + fraction + zone


def ellipsis(text: str, length: int) -> str:
    """`text` cut to `length` columns, the last of them an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def short_id(identifier: str) -> str:
    """The first twelve digits of an id, without its algorithm."""
    return identifier.rpartition(":")[2][:12]
