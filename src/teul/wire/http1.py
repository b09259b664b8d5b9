"""HTTP/1.1 as a client needs it: requests to bytes, bytes to a response; no sockets.

`ResponseParser` is fed whatever the socket gave, in any slicing, and keeps three things apart: the head (`status`, `headers`), the
body (`take`), and what follows the message (`leftover`): the next response on a kept connection, or the first bytes of the raw
stream after an upgrade. Interim responses (100, 103) are passed over. Bodies are framed by chunks, by length, or by the end of the
connection (RFC 9112, section 6.3). Anything else is a `ProtocolError`; no other exception leaves this module for any input.
"""

from __future__ import annotations

MAX_HEAD_BYTES = 64 * 1024
MAX_CHUNK_LINE_BYTES = 4 * 1024

LAST_CHUNK = b"0\r\n\r\n"

# States of the parser.
_HEAD, _LENGTH, _CHUNK_SIZE, _CHUNK_DATA, _CHUNK_END, _TRAILERS, _UNTIL_CLOSE, _DONE = range(8)

_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")


class ProtocolError(Exception):
    """The peer does not speak HTTP/1.1, or speaks it in a way that cannot be framed safely."""


def render_request(method: str, target: str, headers: list[tuple[str, str]]) -> bytes:
    """The head of a request. Raises `ValueError` when a part would break out of its line."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers]
    if " " in target or any("\r" in line or "\n" in line or "\0" in line for line in lines):
        raise ValueError(f"not allowed in a request head: {lines!r}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def render_chunk(data: bytes) -> bytes:
    """`data` as one chunk; nothing for no data, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class ResponseParser:
    """One response. `head_complete` and `complete` say how far it is; after `upgraded` all further bytes are in `leftover`."""

    __slots__ = ("_body", "_buffer", "_left", "_method", "_state", "_upgrade", "headers", "http10", "reason", "status", "upgraded")

    def __init__(self, method: str = "GET", *, upgrade: bool = False) -> None:
        self._method = method
        self._upgrade = upgrade
        self._state = _HEAD
        self._buffer = bytearray()
        self._body = bytearray()
        self._left = 0
        self.status = 0
        self.reason = ""
        self.headers: dict[str, str] = {}
        self.http10 = False
        self.upgraded = False

    @property
    def head_complete(self) -> bool:
        return self._state != _HEAD

    @property
    def complete(self) -> bool:
        return self._state == _DONE

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can carry another request after this response."""
        if not self.complete or self.upgraded:
            return False
        connection = self.headers.get("connection", "").lower()
        return connection == "keep-alive" if self.http10 else "close" not in connection

    @property
    def leftover(self) -> bytes:
        """What came after the end of the message. Empty until `complete`."""
        return bytes(self._buffer) if self._state == _DONE else b""

    def take(self) -> bytes:
        """The body bytes that have come since the last call."""
        body = bytes(self._body)
        self._body.clear()
        return body

    def feed(self, data: bytes) -> None:
        """Digest `data`. Raises `ProtocolError`."""
        self._buffer += data
        while self._step():
            pass

    def feed_eof(self) -> None:
        """The connection has ended. Raises `ProtocolError` when the response had not."""
        if self._state == _UNTIL_CLOSE:
            self._state = _DONE
        elif self._state != _DONE:
            where = "before the response was complete" if self.head_complete or self._buffer else "without a response"
            raise ProtocolError(f"connection closed {where}")

    def _step(self) -> bool:
        """Advance by one element; False when more bytes are needed (or nothing is left to do)."""
        state = self._state
        if state == _HEAD:
            return self._read_head()
        if state in (_LENGTH, _CHUNK_DATA):
            return self._read_counted()
        if state == _CHUNK_SIZE:
            return self._read_chunk_size()
        if state == _CHUNK_END:
            return self._read_chunk_end()
        if state == _TRAILERS:
            return self._read_trailer()
        if state == _UNTIL_CLOSE:
            self._body += self._buffer
            self._buffer.clear()
        return False

    def _read_line(self, limit: int, what: str) -> bytes | None:
        end = self._buffer.find(b"\n", 0, limit + 2)
        if end < 0:
            if len(self._buffer) > limit:
                raise ProtocolError(f"{what} is longer than {limit} bytes")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_HEAD_BYTES:
                raise ProtocolError(f"response head is longer than {MAX_HEAD_BYTES} bytes")
            if not b"HTTP/1.".startswith(self._buffer[:7]):
                raise ProtocolError(f"not an HTTP/1.1 response: {bytes(self._buffer[:60])!r}")
            return False
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        self._parse_status_line(lines[0])
        self.headers = _parse_headers(lines[1:])
        if 100 <= self.status < 200 and self.status != 101:
            return True  # interim: the real response follows
        self._choose_framing()
        return True

    def _parse_status_line(self, line: str) -> None:
        version, _, rest = line.partition(" ")
        code, _, self.reason = rest.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or len(code) != 3 or not (code.isascii() and code.isdigit()):
            raise ProtocolError(f"not an HTTP/1.1 response: {line[:60]!r}")
        self.http10 = version == "HTTP/1.0"
        self.status = int(code)

    def _choose_framing(self) -> None:
        encoding = self.headers.get("transfer-encoding")
        length = self.headers.get("content-length")
        # docker: engines before API 1.42 answer a hijack without `Upgrade` with a bare 200 and no framing.
        if self.status == 101 or (self._upgrade and self.status == 200 and encoding is None and length is None):
            if not self._upgrade:
                raise ProtocolError("the server switched protocols without being asked")
            self.upgraded = True
            self._state = _DONE
        elif self._method == "HEAD" or self.status in (204, 304):
            self._state = _DONE
        elif encoding is not None:
            if encoding.lower() != "chunked":
                raise ProtocolError(f"unknown transfer encoding {encoding!r}")
            self._state = _CHUNK_SIZE
        elif length is not None:
            if not (length.isascii() and length.isdigit()) or len(length) > 18:
                raise ProtocolError(f"invalid content length {length[:60]!r}")
            self._left = int(length)
            self._state = _LENGTH
        else:
            self._state = _UNTIL_CLOSE

    def _read_counted(self) -> bool:
        taken = self._buffer[: self._left]
        self._body += taken
        del self._buffer[: len(taken)]
        self._left -= len(taken)
        if self._left:
            return False
        self._state = _DONE if self._state == _LENGTH else _CHUNK_END
        return True

    def _read_chunk_size(self) -> bool:
        line = self._read_line(MAX_CHUNK_LINE_BYTES, "chunk size line")
        if line is None:
            return False
        digits = line.partition(b";")[0].strip()
        if not digits or len(digits) > 15 or not _HEX_DIGITS.issuperset(digits):
            raise ProtocolError(f"invalid chunk size {line[:60]!r}")
        self._left = int(digits, 16)
        self._state = _CHUNK_DATA if self._left else _TRAILERS
        return True

    def _read_chunk_end(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise ProtocolError("chunk is longer than its size says")
        del self._buffer[:2]
        self._state = _CHUNK_SIZE
        return True

    def _read_trailer(self) -> bool:
        line = self._read_line(MAX_CHUNK_LINE_BYTES, "trailer line")
        if line is None:
            return False
        if not line:
            self._state = _DONE
        return True


def _parse_headers(lines: list[str]) -> dict[str, str]:
    """The headers by name in lower case; repeated ones are joined by a comma, but lengths must agree (request smuggling)."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ProtocolError(f"invalid header line {line[:60]!r}")
        name, value = name.lower(), value.strip(" \t")
        if name in headers and name != "content-length":
            value = f"{headers[name]}, {value}"
        elif headers.get(name, value) != value:
            raise ProtocolError("two different content lengths")
        headers[name] = value
    return headers
