"""An engine of threads and canned answers on a unix socket, and a way to run a command line against it.

Each connection is served by a thread; a route's answer is bytes of HTTP, or a function that gets the connection after the request.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from teul.cli.context import Streams
from teul.cli.main import run


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Answer = bytes | Callable[[Request, socket.socket], None]


def reply(document: Any, status: int = 200) -> bytes:
    body = json.dumps(document).encode()
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def failure(status: int, message: str) -> bytes:
    return reply({"message": message}, status)


def empty(status: int = 204) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status


def stream(*messages: Any) -> bytes:
    """JSON lines in chunks, then the end."""
    lines = [json.dumps(message).encode() + b"\r\n" for message in messages]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in lines)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def frame(number: int, data: bytes) -> bytes:
    return bytes((number, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"


def hijacked(output: bytes, *, wait_for_end_of_input: bool = False, received: bytearray | None = None) -> Answer:
    """Upgrade, perhaps read all input, write `output`, end."""

    def answer(_request: Request, connection: socket.socket) -> None:
        connection.sendall(UPGRADED)
        while wait_for_end_of_input and (data := connection.recv(65536)):
            if received is not None:
                received.extend(data)
        connection.sendall(output)
        connection.shutdown(socket.SHUT_RDWR)

    return answer


class FakeEngine:
    """`routes` maps "METHOD /path" to an answer, or to a list of answers for one call after the other."""

    def __init__(self, directory: Path, routes: dict[str, Answer | list[Answer]]) -> None:
        self.routes = routes
        self.requests: list[Request] = []
        # An engine that answers after so many bytes of a body, and closes.
        self.refuse_body_after: int | None = None
        # A socket's path has room for 107 bytes; pytest's directories are longer.
        self._directory = tempfile.TemporaryDirectory(prefix="fake-", dir="/tmp")
        self.path = f"{self._directory.name}/docker.sock"
        self.work_directory = directory
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(16)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._connections: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *details: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(5)
        self._directory.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(10)  # a test that waits for nothing fails instead
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        try:
            while (request := _read_request(reader, self.refuse_body_after)) is not None:
                self.requests.append(request)
                answer = self._answer(request)
                if callable(answer):
                    answer(request, connection)
                    continue
                connection.sendall(answer)
                if self.refuse_body_after is not None:
                    return
        except OSError:
            return
        finally:
            reader.close()
            connection.close()

    def _answer(self, request: Request) -> Answer:
        found = self.routes.get(f"{request.method} {request.path}")
        if isinstance(found, list):
            return found.pop(0)
        return found if found is not None else failure(404, f"no route {request.method} {request.path}")

    def made(self, method: str, path: str) -> list[Request]:
        return [request for request in self.requests if (request.method, request.path) == (method, path)]


def _read_request(reader: Any, limit: int | None) -> Request | None:
    line = reader.readline()
    if not line:
        return None
    method, target, _ = line.decode().split(" ")
    headers: dict[str, str] = {}
    while (header := reader.readline().strip()) != b"":
        name, _, value = header.decode().partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(reader.readline(), 16):
            body += reader.read(size)
            reader.readline()
            if limit is not None and len(body) > limit:
                return Request(method, target.partition("?")[0], {}, headers, body)
        reader.readline()
    else:
        body = reader.read(int(headers.get("content-length", "0")))
    url = urlsplit(target)
    return Request(method, url.path, parse_qs(url.query, keep_blank_values=True), headers, body)


@dataclass
class Outcome:
    status: int
    out: str
    err: str


@dataclass
class CommandLine:
    """Runs `teul` in this process, with files for its streams."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Outcome:
        paths = [self.directory / name for name in ("stdin", "stdout", "stderr")]
        paths[0].write_bytes(stdin)
        fds = [os.open(paths[0], os.O_RDONLY), *(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for path in paths[1:])]
        try:
            status = run(list(arguments), {"HOME": str(self.directory), **self.environment}, Streams(*fds))
        finally:
            for fd in fds:
                os.close(fd)
        return Outcome(status, paths[1].read_bytes().decode(), paths[2].read_bytes().decode())
