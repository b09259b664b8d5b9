"""Made-up requests (`requests`): the engine answers each of them, never with a failure of its own, and goes on.

The same requests in the same order in each run, as many as there is time for: TEUL_FUZZ_SECONDS=600 asks more of them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from conformance.openapi.requests import KEPT, VICTIM, VICTIM_IMAGE, Request, make_requests
from support import images
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "busybox", "overlayfs", "docker_cli")]

_SECONDS = int(os.environ.get("TEUL_FUZZ_SECONDS", "8"))
_REQUESTS = 100 * _SECONDS  # more than are asked in that time on a machine that has nothing else to do are not made up
_VICTIM = {"Image": "busybox", "Cmd": ["sleep", "100000"], "StopSignal": "KILL"}


@dataclass
class Target:
    """The engine under fire, and the container that may be ended."""

    engine: Engine
    victim: str = "none"

    def send(self, request: Request) -> tuple[int, bytes]:
        """Status and beginning of the answer, of which only the head is waited for: some go on until the client leaves."""
        if VICTIM in request.path:
            self._renew_victim()
        elif VICTIM_IMAGE.partition(":")[0] in request.path:
            self._renew_image()
        path = request.path.replace(VICTIM, self.victim)
        head = f"{request.method} /v1.51{path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n"
        if request.body is not None:
            head += f"Content-Type: {request.content_type}\r\nContent-Length: {len(request.body)}\r\n"
        received = b""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(30)
            stream.connect(str(self.engine.socket_path))
            # The engine may answer and close before it has all of a body that it refuses.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                stream.sendall(f"{head}\r\n".encode() + (request.body or b""))
            while b"\r\n\r\n" not in received and (data := stream.recv(65536)):
                received += data
            if received.startswith(b"HTTP/1.1 5"):
                with contextlib.suppress(TimeoutError, ConnectionResetError):
                    received += stream.recv(65536)
        assert received.startswith(b"HTTP/1."), f"the connection was dropped: {request}"
        return int(received.split(b" ", 2)[1]), received.partition(b"\r\n\r\n")[2]

    def _renew_victim(self) -> None:
        with self.engine.api() as api:
            if api.request("GET", f"/containers/{self.victim}/json").status != 200:
                self.victim = api.expect(201, "POST", "/containers/create", _VICTIM).json()["Id"]
                api.expect(204, "POST", f"/containers/{self.victim}/start")

    def _renew_image(self) -> None:
        with self.engine.api() as api:
            name, _, tag = VICTIM_IMAGE.partition(":")
            api.expect(201, "POST", f"/images/busybox/tag?repo={name}&tag={tag}")


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """An engine with an image and a running container."""
    with Engine(hurried={"teul.plugins.registry._LOOKING_SECONDS": 0.1}) as engine:
        engine.load(images.busybox().docker_archive())
        engine.must("run", "-d", "-t", "--name", KEPT, "busybox", "sleep", "100000")
        yield Target(engine)


def test_whatever_is_asked_is_answered(target: Target) -> None:
    engine = target.engine
    end = time.monotonic() + _SECONDS
    before = (engine.init_pid(KEPT), engine.parent_of_init(KEPT))

    @settings(
        max_examples=_REQUESTS,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(make_requests())
    def ask(request: Request) -> None:
        if time.monotonic() > end:
            return
        status, body = target.send(request)
        # docker: a registry, or a file to import, that cannot be reached is a failure; none is from here.
        if status == 500 and any(text in body for text in (b"proxyconnect tcp", b"dial tcp", b"no Host in request URL")):
            return
        # 501 is for what docs/compat.md says is not there yet (test_statuses.py holds both to that), 503 for a try later.
        assert status < 500 or (status in (501, 503) and b'{"message":' in body), f"{status} {body!r}: {request}"

    try:
        ask()
    finally:
        log = engine.log_path.read_text(errors="replace")
        assert "Traceback" not in log, log[log.index("Traceback") - 300 :][:6000]
    assert (engine.init_pid(KEPT), engine.parent_of_init(KEPT)) == before
