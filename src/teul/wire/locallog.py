"""Lines of the `local` log, to and from bytes. stdlib only, since the keeper loads it.

    <kind><time>[<attributes>]TAB<text>NEWLINE

The kind is `o` (stdout) or `e` (stderr), in capitals where the text is a piece of a line that goes on in the next one; the time 16 hex
digits, nanoseconds since 1970; the attributes a JSON object, which has no tab and no newline in it. The text is what the program has
written, byte for byte, without its newline. So an entry is a line, as in a json-file log: it can be looked for from the end of a file,
and half of one spoils no other.
"""

from __future__ import annotations

from teul.wire.loglines import LineSplitter

_TIME_DIGITS = 16


class LineEncoder:
    """One stream's bytes to log lines; `attrs` is a JSON object that each line gets, or ""."""

    __slots__ = ("_attrs", "_lines", "_stream")

    def __init__(self, stream: str, attrs: str = "") -> None:
        self._stream = "o" if stream == "stdout" else "e"
        self._attrs = attrs
        self._lines = LineSplitter()

    def feed(self, data: bytes, time_ns: int) -> bytes:
        """The log lines that `data` completes."""
        whole, pieces = self._lines.feed(data)
        head = self._head(self._stream, time_ns)
        lines = head + whole[:-1].replace(b"\n", b"\n" + head) + b"\n" if whole else b""
        return lines + b"".join([self._piece(piece, time_ns) for piece in pieces]) if pieces else lines

    def finish(self, time_ns: int) -> bytes:
        """The last line, if it had no newline."""
        rest = self._lines.finish()
        return self._piece(rest, time_ns) if rest else b""

    def _piece(self, piece: bytes, time_ns: int) -> bytes:
        if piece.endswith(b"\n"):
            return self._head(self._stream, time_ns) + piece
        return self._head(self._stream.upper(), time_ns) + piece + b"\n"

    def _head(self, kind: str, time_ns: int) -> bytes:
        return f"{kind}{time_ns:0{_TIME_DIGITS}x}{self._attrs}\t".encode()


def decode_line(line: bytes) -> tuple[int, int, str, bytes] | None:
    """Stream (1 or 2), time, attributes ("" for none) and text, with its newline if it had one; None for what is no entry.

    `line` comes without its own newline.
    """
    head, tab, text = line.partition(b"\t")
    kind = head[:1]
    if not tab or len(head) <= _TIME_DIGITS or kind not in (b"o", b"e", b"O", b"E"):
        return None
    try:
        time_ns, attrs = int(head[1 : 1 + _TIME_DIGITS], 16), head[1 + _TIME_DIGITS :].decode()
    except ValueError:
        return None
    return (1 if kind in b"oO" else 2), time_ns, attrs, text + b"\n" if kind.islower() else text
