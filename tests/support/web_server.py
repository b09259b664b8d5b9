"""A web server with the files and the troubles that an import from a URL may find, as a program: it runs in any network namespace.

`/ok`, `/nolength`, `/short`, `/bad`, `/empty` are archives in various states, `/moved`, `/loop`, `/file` redirects, `/statusNNN` refusals.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REDIRECTS = {"/moved": "/ok", "/loop": "/loop", "/file": "file:///etc/passwd", "/odd": "http://[::1"}


def archive() -> bytes:
    """A root file system of one file, the same every time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as members:
        member = tarfile.TarInfo("file")
        member.size, member.mtime = 200_000, 1_700_000_000
        members.addfile(member, io.BytesIO(b"x" * member.size))
    return buffer.getvalue()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, whole = self.path.partition("?")[0], archive()
        if path in REDIRECTS:
            self._answer(302, b"", Location=REDIRECTS[path])
        elif path.startswith("/status"):
            self._answer(int(path.removeprefix("/status")), b" what the body says\n")
        elif path == "/bad":
            self._answer(200, b"this is no archive" * 100)
        elif path == "/empty":
            self._answer(200, b"", **{"Content-Length": "0"})
        elif path in {"/ok", "/short"}:
            self._answer(200, whole if path == "/ok" else whole[:1000], **{"Content-Length": str(len(whole))})
        elif path == "/nolength":
            self._answer(200, whole)
        else:
            self._answer(404, b"nothing here")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Nobody reads it."""


@contextmanager
def web_server(*, network_of: int | None = None) -> Iterator[str]:
    """The server, on the loopback of the process `network_of` if one is given; yields its `host:port`."""
    entering = ["nsenter", "--net", "--target", str(network_of)] if network_of is not None else []
    with subprocess.Popen([*entering, sys.executable, __file__], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        print(f"127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()
