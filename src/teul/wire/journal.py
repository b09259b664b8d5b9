"""Entries of systemd's journal, in its own protocol, with the fields of Docker's driver. docker: daemon/logger/journald. Pure."""

from __future__ import annotations

import struct

from teul.wire.jsonlog import format_time

_ERROR, _INFORMATION = "3", "6"


def entry(fields: dict[str, str], stream: int, time_ns: int, line: bytes, *, ordinal: int, partial: bool) -> bytes:
    """One datagram. `partial`: the line goes on in the next entry."""
    own = {
        "PRIORITY": _ERROR if stream == 2 else _INFORMATION,
        **fields,
        "SYSLOG_TIMESTAMP": format_time(time_ns),
        "CONTAINER_LOG_ORDINAL": str(ordinal),
    }
    if partial:
        own["CONTAINER_PARTIAL_MESSAGE"] = "true"
    return _field("MESSAGE", line) + b"".join(_field(name, value.encode("utf-8", "surrogateescape")) for name, value in own.items())


def field_name(text: str) -> str:
    """What a label or a variable is called in the journal: capitals, digits and underscores, of which none is the first."""
    return "".join(c.upper() if c.isascii() and c.isalnum() else "_" for c in text).lstrip("_")


def _field(name: str, value: bytes) -> bytes:
    """systemd: "Native Journal Protocol": with a length where the value has newlines."""
    if b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"
