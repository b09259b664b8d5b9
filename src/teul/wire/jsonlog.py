"""Docker's json-file log lines: bytes of a stream to lines of a log.

Bytes that are no UTF-8 become U+FFFD, as in Docker. stdlib only, since the keeper loads it.
"""

from __future__ import annotations

import time
from json.encoder import encode_basestring as quote

from teul.wire.loglines import LineSplitter


def format_time(time_ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds, trailing zeros cut as Go does."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    t = time.gmtime(seconds)
    stamp = f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}T{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    fraction = f".{nanoseconds:09}".rstrip("0").rstrip(".")
    return f"{stamp}{fraction}Z"


class LineEncoder:
    """One stream's bytes to log lines; `attrs` is a JSON object that each line gets, or ""."""

    __slots__ = ("_attrs", "_lines", "_stream")

    def __init__(self, stream: str, attrs: str = "") -> None:
        self._stream = stream
        self._attrs = f',"attrs":{attrs}' if attrs else ""
        self._lines = LineSplitter()

    def feed(self, data: bytes, time_ns: int) -> bytes:
        """The log lines that `data` completes."""
        whole, pieces = self._lines.feed(data)
        texts = [line + "\n" for line in whole.decode("utf-8", "replace").split("\n")[:-1]]
        texts += [piece.decode("utf-8", "replace") for piece in pieces]
        return self._render(texts, time_ns)

    def finish(self, time_ns: int) -> bytes:
        """The last line, if it had no newline."""
        rest = self._lines.finish()
        return self._render([rest.decode("utf-8", "replace")], time_ns) if rest else b""

    def _render(self, texts: list[str], time_ns: int) -> bytes:
        if not texts:
            return b""
        tail = f',"stream":"{self._stream}"{self._attrs},"time":"{format_time(time_ns)}"}}\n'
        return "".join(['{"log":' + quote(text) + tail for text in texts]).encode("utf-8", "surrogatepass")
