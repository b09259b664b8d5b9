"""A volume plug-in: an HTTP server on a unix socket, in a thread of the test's own process, whose volumes are directories.

It writes down every call, and who called. A test may have it refuse, say nonsense or keep silent, and go away and come back.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Call:
    method: str
    arguments: dict[str, Any]
    caller_pid: int
    headers: dict[str, str] = field(default_factory=dict, compare=False)


class VolumePlugin:
    """The plug-in, at `base/NAME.sock` and wherever else it is told to listen."""

    def __init__(self, name: str, base: Path) -> None:
        self.name = name
        self.base = base
        self.path = base / f"{name}.sock"
        self.calls: list[Call] = []
        self.volumes: dict[str, dict[str, str]] = {}
        self.mounts: dict[str, list[str]] = {}
        self.scope = "global"
        self.answers: dict[str, tuple[int, bytes]] = {}  # by method: what is said in place of the answer
        self.before: dict[str, Callable[[], None]] = {}  # by method: what happens when it has been called
        self.silence = threading.Event()
        self.silent: set[str] = set()  # methods that are not answered before `silence` is set
        self.is_gone = False
        self._servers: dict[Path, _Server] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        (self.base / "volumes").mkdir(parents=True, exist_ok=True)
        self.listen(self.path)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.leave()

    def listen(self, path: Path) -> None:
        """Be at this place as well."""
        path.parent.mkdir(parents=True, exist_ok=True)
        server = self._servers[path] = _Server(str(path), self)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def leave(self) -> None:
        """End, as a program does that is killed: the sockets go, too."""
        self.is_gone = True
        self.silence.set()
        for path, server in self._servers.items():
            server.shutdown()
            server.server_close()
            path.unlink(missing_ok=True)
        self._servers.clear()

    def come_back(self) -> None:
        """Listen again where it is always."""
        self.is_gone = False
        self.silence.clear()
        self.listen(self.path)

    def directory(self, volume: str) -> Path:
        return self.base / "volumes" / volume

    def methods(self, *, since: int = 0) -> list[str]:
        """What has been called, without the names of the subsystems."""
        return [call.method.rpartition(".")[2] for call in self.calls[since:]]

    def of(self, *methods: str) -> list[Call]:
        return [call for call in self.calls if call.method.rpartition(".")[2] in methods]

    def answer(self, method: str, arguments: dict[str, Any]) -> tuple[int, bytes]:
        if method in self.answers:
            return self.answers[method]
        with self._lock:
            return 200, json.dumps(self._answer(method.rpartition(".")[2], arguments)).encode()

    def _answer(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        name = arguments.get("Name", "")
        if verb == "Activate":
            return {"Implements": ["VolumeDriver"]}
        if verb == "Capabilities":
            return {"Capabilities": {"Scope": self.scope}}
        if verb == "List":
            return {"Volumes": [{"Name": known, "Mountpoint": self._mountpoint(known)} for known in sorted(self.volumes)]}
        if verb == "Create":
            self.volumes[name] = arguments.get("Opts") or {}
            self.directory(name).mkdir(parents=True, exist_ok=True)
            return {"Err": ""}
        if name not in self.volumes:
            return {"Err": f"no such volume: {name}"}
        return self._of_volume(verb, name, arguments.get("ID", ""))

    def _of_volume(self, verb: str, name: str, mount_id: str) -> dict[str, Any]:
        if verb == "Get":
            status = {"used": len(self.mounts.get(name, []))}
            return {"Volume": {"Name": name, "Mountpoint": self._mountpoint(name), "CreatedAt": "2024-05-06T07:08:09Z", "Status": status}}
        if verb == "Mount":
            self.mounts.setdefault(name, []).append(mount_id)
            return {"Mountpoint": str(self.directory(name))}
        if verb == "Unmount":
            if mount_id not in self.mounts.get(name, []):
                return {"Err": f"{name} is not mounted for {mount_id}"}
            self.mounts[name].remove(mount_id)
            return {}
        assert verb == "Remove", verb
        if self.mounts.get(name):
            return {"Err": f"{name} is mounted"}
        del self.volumes[name]
        shutil.rmtree(self.directory(name))
        return {}

    def _mountpoint(self, name: str) -> str:
        return str(self.directory(name)) if self.mounts.get(name) else ""


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, plugin: VolumePlugin) -> None:
        super().__init__(path, _Handler)
        self.plugin = plugin


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        plugin, method = self.server.plugin, self.path.removeprefix("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        arguments = json.loads(body) if body else {}
        plugin.calls.append(Call(method, arguments, _caller(self.connection), dict(self.headers)))
        if method in plugin.before:
            plugin.before[method]()
        if method in plugin.silent:
            plugin.silence.wait(60)
            if plugin.is_gone:
                return
        status, answer = plugin.answer(method, arguments)
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.docker.plugins.v1+json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def handle(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # who asked did not wait for the answer
            super().handle()

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_args: object) -> None:
        """Nobody reads it."""


def _caller(connection: socket.socket) -> int:
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid)


def place_in(pid: int, name: str) -> Path:
    """Where a process, in a mount namespace of its own, looks for the socket of a plug-in."""
    return Path(f"/proc/{pid}/root/run/docker/plugins/{name}.sock")
