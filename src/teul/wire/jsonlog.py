"""Docker's json-file log lines: bytes of a stream to text lines, and back.

Writing: a line longer than 16 KiB is cut into partial entries without a newline, as the reader expects. Bytes that are no
UTF-8 become U+FFFD, as in Docker. stdlib only, since the keeper loads it.
"""

from __future__ import annotations

import time
from json.encoder import encode_basestring as quote

PARTIAL_BYTES = 16 * 1024  # moby daemon/logger/copier.go, defaultBufSize


def format_time(time_ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds, trailing zeros cut as Go does."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    t = time.gmtime(seconds)
    stamp = f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}T{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    fraction = f".{nanoseconds:09}".rstrip("0").rstrip(".")
    return f"{stamp}{fraction}Z"


class LineEncoder:
    """One stream's bytes to log lines; keeps the unfinished last line until its end comes."""

    __slots__ = ("_attrs", "_pending", "_stream")

    def __init__(self, stream: str, attrs: str = "") -> None:
        self._stream = stream
        self._attrs = f',"attrs":{attrs}' if attrs else ""
        self._pending = b""

    def feed(self, data: bytes, time_ns: int) -> bytes:
        """The log lines that `data` completes."""
        end = data.rfind(b"\n") + 1
        if end == 0:
            self._pending += data
            return self._cut(time_ns) if len(self._pending) >= PARTIAL_BYTES else b""
        whole = self._pending + data[:end]
        self._pending = data[end:]
        lines_raw = whole.split(b"\n")[:-1]
        if len(whole) > PARTIAL_BYTES and max(map(len, lines_raw)) >= PARTIAL_BYTES:
            pieces = [
                raw[at : at + PARTIAL_BYTES] for line in lines_raw for raw in (line + b"\n",) for at in range(0, len(raw), PARTIAL_BYTES)
            ]
            texts = [piece.decode("utf-8", "replace") for piece in pieces]
        else:
            texts = [line + "\n" for line in whole.decode("utf-8", "replace").split("\n")[:-1]]
        lines = self._render(texts, time_ns)
        return lines + self._cut(time_ns) if len(self._pending) >= PARTIAL_BYTES else lines

    def finish(self, time_ns: int) -> bytes:
        """The last line, if it had no newline."""
        rest, self._pending = self._pending, b""
        return self._render([rest.decode("utf-8", "replace")], time_ns) if rest else b""

    def _cut(self, time_ns: int) -> bytes:
        texts: list[str] = []
        while len(self._pending) >= PARTIAL_BYTES:
            texts.append(self._pending[:PARTIAL_BYTES].decode("utf-8", "replace"))
            self._pending = self._pending[PARTIAL_BYTES:]
        return self._render(texts, time_ns)

    def _render(self, texts: list[str], time_ns: int) -> bytes:
        tail = f',"stream":"{self._stream}"{self._attrs},"time":"{format_time(time_ns)}"}}\n'
        return "".join(['{"log":' + quote(text) + tail for text in texts]).encode("utf-8", "surrogatepass")
