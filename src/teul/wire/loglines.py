"""A stream's bytes to lines for a log; what every format of a log has in common. stdlib only, since the keeper loads it.

A line longer than 16 KiB is cut into pieces, of which only the last one has the newline.
"""

from __future__ import annotations

PARTIAL_BYTES = 16 * 1024  # moby daemon/logger/copier.go, defaultBufSize


class LineSplitter:
    """Keeps the unfinished last line until its end comes."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> tuple[bytes, list[bytes]]:
        """What `data` completes: first whole lines in one block, none of them too long, then pieces, some of them without a newline.

        A block, because to look at each line would cost more than to write it.
        """
        end = data.rfind(b"\n") + 1
        if end == 0:
            self._pending += data
            return b"", self._cut() if len(self._pending) >= PARTIAL_BYTES else []
        whole = self._pending + data[:end]
        self._pending = data[end:]
        pieces: list[bytes] = []
        if len(whole) > PARTIAL_BYTES:
            lines = whole.split(b"\n")[:-1]
            if max(map(len, lines)) >= PARTIAL_BYTES:
                pieces = [
                    raw[at : at + PARTIAL_BYTES] for line in lines for raw in (line + b"\n",) for at in range(0, len(raw), PARTIAL_BYTES)
                ]
                whole = b""
        return whole, pieces + self._cut() if len(self._pending) >= PARTIAL_BYTES else pieces

    def finish(self) -> bytes:
        """The last line, if it had no newline."""
        rest, self._pending = self._pending, b""
        return rest

    def _cut(self) -> list[bytes]:
        pieces: list[bytes] = []
        while len(self._pending) >= PARTIAL_BYTES:
            pieces.append(self._pending[:PARTIAL_BYTES])
            self._pending = self._pending[PARTIAL_BYTES:]
        return pieces
