"""Clients that do not wait: what they ask while a start is on its way is answered as if it were over."""

from __future__ import annotations

import json
import socket

from support.docker_host import DockerHost
from support.needs import needs
from support.unix_http import Client

pytestmark = [needs("root", "busybox", "overlayfs")]

_TRIES = 20


def test_a_terminals_size_right_behind_the_answer_to_an_execs_start(engine: DockerHost) -> None:
    """The connection is the client's as soon as the 101 has come, and the program starts a little later."""
    container = engine.must("run", "-d", "busybox", "sleep", "1000").strip()
    start = json.dumps({"Tty": True}).encode()
    with Client(str(engine.socket_path)) as client:
        for _ in range(_TRIES):
            asked = {"Cmd": ["sh", "-c", "read x; stty size"], "Tty": True, "AttachStdin": True, "AttachStdout": True}
            exec_id = client.expect(201, "POST", f"/containers/{container}/exec", asked).json()["Id"]
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(engine.socket_path))
                head = f"POST /v1.41/exec/{exec_id}/start HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
                head += f"Content-Type: application/json\r\nContent-Length: {len(start)}\r\n\r\n"
                connection.sendall(head.encode() + start)
                assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
                client.expect(200, "POST", f"/exec/{exec_id}/resize?h=33&w=99")
                connection.sendall(b"\n")
                output = b"".join(iter(lambda: connection.recv(4096), b""))
                assert b"33 99" in output
