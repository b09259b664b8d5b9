"""A plain keep-alive HTTP/1.1 client over a unix socket, the same one for both engines; standard library only.

It is deliberately thin, so that what the benchmark measures is the engine: one `sendall` per request, one buffered reader for
the answers. It understands Content-Length, chunked bodies and bodies that end with the connection; nothing else is needed.
"""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, Self


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The engine's error text, or the raw body where there is none."""
        try:
            return str(self.json()["message"])
        except (ValueError, KeyError, TypeError):
            return self.body.decode(errors="replace")


class StatusError(AssertionError):
    """The engine answered with another status than the caller needs."""

    def __init__(self, request: str, response: Response) -> None:
        super().__init__(f"{request}: {response.status} {response.message}")
        self.response = response


class Client:
    """One connection, opened on first use, reused while the engine keeps it, reopened when it does not."""

    def __init__(self, socket_path: str, *, version: str = "v1.41", timeout_seconds: float = 120.0) -> None:
        self._socket_path = socket_path
        self._prefix = f"/{version}" if version else ""
        self._timeout_seconds = timeout_seconds
        self._socket: socket.socket | None = None
        self._reader: io.BufferedReader | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._socket is not None:
            self._socket.close()
        self._reader = self._socket = None

    def request(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> Response:
        """Send one request and read its whole answer. `body` is bytes, or a value to send as JSON."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\nHost: engine\r\nContent-Length: {len(data)}\r\n"
        head += f"Content-Type: {content_type}\r\n\r\n" if body is not None else "\r\n"
        reused = self._socket is not None
        try:
            return self._exchange(head.encode() + data, has_body=method != "HEAD")
        except (ConnectionError, EOFError):
            # An idle connection that the engine closed in the meantime looks like this; a fresh one that does is an error.
            self.close()
            if not reused:
                raise
        return self._exchange(head.encode() + data, has_body=method != "HEAD")

    def expect(self, status: int, method: str, path: str, body: Any = None, **options: Any) -> Response:
        response = self.request(method, path, body, **options)
        if response.status != status:
            raise StatusError(f"{method} {path}", response)
        return response

    def upload(self, path: str, source: BinaryIO, *, method: str = "POST", content_type: str = "application/x-tar") -> Response:
        """Send the rest of `source` in chunks; for archives that should not be held in memory."""
        stream = self._connect()
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\nHost: engine\r\n"
        head += f"Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
        stream.sendall(head.encode())
        while chunk := source.read(1 << 20):
            stream.sendall(b"%x\r\n" % len(chunk) + chunk + b"\r\n")
        stream.sendall(b"0\r\n\r\n")
        return self._read_response()

    def download(self, path: str) -> tuple[int, int]:
        """GET, and throw the body away as it comes; its status and size. For archives that should not be held in memory."""
        self._connect().sendall(f"GET {self._prefix}{path} HTTP/1.1\r\nHost: engine\r\n\r\n".encode())
        reader, status, headers = self._read_head()
        size_bytes = sum(len(piece) for piece in self._iter_body(reader, status, headers))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, size_bytes

    def hijack(self, method: str, path: str, body: Any = None) -> socket.socket:
        """Ask for an upgraded connection and return it, raw; bytes already received after the head are not lost."""
        data = b"" if body is None else json.dumps(body).encode()
        stream = self._open()
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        stream.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        # Byte by byte, so that nothing after the head is read here: what follows belongs to the caller.
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            byte = stream.recv(1)
            if not byte:
                raise EOFError("connection closed inside the response head")
            received += byte
        status = int(received.split(b" ", 2)[1])
        if status not in {101, 200}:
            rest = b"".join(iter(lambda: stream.recv(65536), b"")) if b"content-length" not in received.lower() else stream.recv(65536)
            stream.close()
            raise StatusError(f"{method} {path}", Response(status, {}, rest))
        return stream

    def _open(self) -> socket.socket:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.settimeout(self._timeout_seconds)
        try:
            stream.connect(self._socket_path)
        except OSError:
            stream.close()
            raise
        return stream

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket = self._open()
            self._reader = self._socket.makefile("rb")
        return self._socket

    def _exchange(self, data: bytes, *, has_body: bool) -> Response:
        self._connect().sendall(data)
        return self._read_response(has_body=has_body)

    def _read_response(self, *, has_body: bool = True) -> Response:
        reader, status, headers = self._read_head()
        body = b"".join(self._iter_body(reader, status, headers)) if has_body else b""
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Response(status, headers, body)

    def _read_head(self) -> tuple[io.BufferedReader, int, dict[str, str]]:
        reader = self._reader
        assert reader is not None
        status_line = reader.readline()
        if not status_line:
            raise EOFError("connection closed before the answer")
        status = int(status_line.split(b" ", 2)[1])
        headers: dict[str, str] = {}
        while (line := reader.readline()) not in {b"\r\n", b""}:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return reader, status, headers

    def _iter_body(self, reader: io.BufferedReader, status: int, headers: dict[str, str]) -> Iterator[bytes]:
        if status in {204, 304}:
            return
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := _chunk_size(reader.readline()):
                yield reader.read(size)
                reader.readline()
            while reader.readline() not in {b"\r\n", b""}:
                continue
        elif "content-length" in headers:
            yield reader.read(int(headers["content-length"]))
        else:
            yield reader.read()
            self.close()


def _chunk_size(line: bytes) -> int:
    if not line:
        raise EOFError("connection closed inside the answer")
    return int(line.split(b";")[0], 16)


def demultiplex(data: bytes) -> tuple[bytes, bytes]:
    """Split stdcopy frames into what went to stdout and what to stderr (Docker Engine API, "Stream format")."""
    streams = {1: bytearray(), 2: bytearray()}
    position = 0
    while position < len(data):
        kind, size = data[position], int.from_bytes(data[position + 4 : position + 8], "big")
        streams[kind] += data[position + 8 : position + 8 + size]
        position += 8 + size
    return bytes(streams[1]), bytes(streams[2])
