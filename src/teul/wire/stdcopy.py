"""The frames by which one byte stream carries a process's stdout and stderr.

Each frame is an eight-byte header (stream number, three zero bytes, payload size as big-endian 32 bits) and the payload.
Sans-I/O: bytes in, frames out. Standard library only: the CLI's fast path loads this.
Source: Docker Engine API, "Stream format" of ContainerAttach; moby api/pkg/stdcopy.
"""

from __future__ import annotations

from teul.errors import Integrity

STDIN = 0
STDOUT = 1
STDERR = 2
# docker: an error text that the engine sends in band; the client prints it as its own error.
SYSTEM_ERROR = 3

HEADER_BYTES = 8


def header(stream: int, size_bytes: int) -> bytes:
    """The header that goes before `size_bytes` of payload."""
    return bytes((stream, 0, 0, 0)) + size_bytes.to_bytes(4, "big")


def frame(stream: int, data: bytes) -> bytes:
    """`data` as one frame of `stream`."""
    return header(stream, len(data)) + data


class Demultiplexer:
    """Takes the stream apart again, however the network cut it."""

    def __init__(self) -> None:
        self._stream = STDOUT
        self._left_bytes = 0
        self._header = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The pieces of payload in `data`, as (stream, bytes), in order.

        A frame's payload may come in several pieces, so that nothing is held back: memory is bounded by what is fed.
        Raises Integrity for a stream number that does not exist; the connection is of no further use then.
        """
        pieces: list[tuple[int, bytes]] = []
        position = 0
        while position < len(data):
            if not self._left_bytes:
                missing = HEADER_BYTES - len(self._header)
                self._header += data[position : position + missing]
                position += missing
                if len(self._header) == HEADER_BYTES:
                    self._begin()
                continue
            piece = data[position : position + self._left_bytes]
            position += len(piece)
            self._left_bytes -= len(piece)
            pieces.append((self._stream, piece))
        return pieces

    def _begin(self) -> None:
        stream = self._header[0]
        if stream > SYSTEM_ERROR:
            raise Integrity(f"Unrecognized input header: {stream}")
        self._stream = stream
        self._left_bytes = int.from_bytes(self._header[4:], "big")
        self._header = b""
