"""Output on its way from the keeper to the process that forwards it: stream, length, time, bytes. stdlib only, since the keeper loads it.

The first frame, of stream 0, says where to.
"""

from __future__ import annotations

import struct

_HEAD = struct.Struct(">BIQ")
HEAD_BYTES = _HEAD.size
PLAN = 0


def frame(stream: int, data: bytes, time_ns: int) -> bytes:
    return _HEAD.pack(stream, len(data), time_ns) + data


def parse_head(head: bytes) -> tuple[int, int, int]:
    """Stream, length of what follows, and time."""
    stream, length, time_ns = _HEAD.unpack(head)
    return stream, length, time_ns
