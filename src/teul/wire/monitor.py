"""The frames that a monitor and an engine exchange: one type byte, a 32-bit length, the payload.

A connection opens with HELLO from the engine, saying what the connection is: a control connection, or an attachment to some of the
streams. The payloads' shapes stand in `teul.runtime.messages`. The monitor answers with STARTED (or FAILED), sends
output as it comes, and EXITED last. A control connection never carries output, so nothing on it waits for a slow reader.

Sans I/O: bytes in, frames out. stdlib only, since the keeper loads it.
"""

from __future__ import annotations

import struct

STDIN = 0  # engine → monitor: bytes for the process; an empty frame closes the input
STDOUT = 1  # monitor → engine
STDERR = 2
HELLO = 3  # engine → monitor: JSON: what the connection is for
STARTED = 4  # monitor → engine, control: JSON; copies of the descriptors of the process's streams ride along
FAILED = 5  # monitor → engine: JSON: nothing was started, and why
EXITED = 6  # monitor → engine: JSON, the exit record
RESIZE = 7  # engine → monitor: JSON {"rows", "columns"}
INPUT_CLOSED = 8  # monitor → engine, control: give up the kept copy of the input descriptor
INPUT_CUT = 9  # engine → monitor: the client's input broke off; empty
REVOKED = 10  # engine → monitor, control: the start is not wanted any more; empty

_HEADER = struct.Struct("!BI")
MAX_PAYLOAD_BYTES = 1 << 20


class ProtocolError(Exception):
    """The peer sent something that is no frame."""


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEADER.pack(kind, len(payload)) + payload


class FrameReader:
    """Turns bytes as they arrive into whole frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Add `data`; return the (kind, payload) frames that are complete. Raises `ProtocolError` on an impossible length."""
        buffer = self._buffer
        buffer += data
        frames: list[tuple[int, bytes]] = []
        offset = 0
        while len(buffer) - offset >= _HEADER.size:
            kind, length = _HEADER.unpack_from(buffer, offset)
            if length > MAX_PAYLOAD_BYTES:
                raise ProtocolError(f"frame of {length} bytes")
            end = offset + _HEADER.size + length
            if len(buffer) < end:
                break
            frames.append((kind, bytes(buffer[offset + _HEADER.size : end])))
            offset = end
        del buffer[:offset]
        return frames
