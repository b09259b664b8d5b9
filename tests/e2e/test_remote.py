"""Other ways in than the unix socket: TCP, mutual TLS, and ssh by way of `system dial-stdio`."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from support import images
from support.certificates import Authority
from support.docker_host import Output
from support.engine import Engine
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs", "openssl")]

TEUL = str(Path(sys.executable).with_name("teul"))
CLIENTS = ("docker", TEUL)
IDS = ("docker", "teul")
NOISE = os.urandom(300_000).hex().encode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Remote:
    """An engine that listens with mutual TLS, and certificates: of a client, of a stranger, and of somebody who has none."""

    engine: Engine
    url: str
    client: Path
    stranger: Path
    nobody: Path

    def run(self, *arguments: str, certificates: Path | None, stdin: bytes = b"", timeout_seconds: float = 30.0) -> Output:
        environment = {**self.engine.environment(), "DOCKER_HOST": self.url, "TEUL_HOST": self.url}
        if certificates is not None:
            environment |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)}
        done = subprocess.run(arguments, input=stdin, capture_output=True, env=environment, timeout=timeout_seconds, check=False)
        return Output(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    directory = tmp_path_factory.mktemp("certificates")
    ours, theirs = Authority(directory, "ours"), Authority(directory, "theirs")
    server, client, stranger = ours.issue("server", server=True), ours.issue("client"), theirs.issue("stranger")
    (stranger / "ca.pem").write_bytes((client / "ca.pem").read_bytes())  # it believes in our server
    nobody = directory / "nobody"
    nobody.mkdir()
    (nobody / "ca.pem").write_bytes((client / "ca.pem").read_bytes())
    url = f"tcp://127.0.0.1:{free_port()}"
    files = ("--tlscacert", str(server / "ca.pem"), "--tlscert", str(server / "cert.pem"), "--tlskey", str(server / "key.pem"))
    with Engine(extra=("-H", url, "--tlsverify", *files)) as engine:
        engine.load(images.busybox().docker_archive())
        yield Remote(engine, url, client, stranger, nobody)


@pytest.mark.parametrize("program", CLIENTS, ids=IDS)
def test_whoever_shows_our_certificate_is_served(remote: Remote, program: str) -> None:
    output = remote.run(program, "run", "--rm", "busybox", "echo", "hello", certificates=remote.client)
    assert output == Output(0, "hello\n", "")


@pytest.mark.parametrize("program", CLIENTS, ids=IDS)
def test_the_end_of_the_input_is_not_the_end_of_the_output(remote: Remote, program: str) -> None:
    """Only the client's side is closed: what the container writes afterwards arrives."""
    script = 'cat | wc -c; i=0; while [ $i -lt 2000 ]; do echo "line $i of what comes after the end"; i=$((i+1)); done; exit 7'
    output = remote.run(program, "run", "--rm", "-i", "busybox", "sh", "-c", script, stdin=NOISE, certificates=remote.client)
    lines = output.stdout.splitlines()
    assert (output.exit_code, output.stderr, lines[0].strip(), len(lines)) == (7, "", str(len(NOISE)), 2001)


@pytest.mark.parametrize("program", CLIENTS, ids=IDS)
def test_large_streams_both_ways_at_once(remote: Remote, program: str) -> None:
    output = remote.run(program, "run", "--rm", "-i", "busybox", "cat", stdin=NOISE * 5, certificates=remote.client)
    assert (output.exit_code, len(output.stdout), output.stdout.encode() == NOISE * 5) == (0, len(NOISE) * 5, True)


@pytest.mark.parametrize("program", CLIENTS, ids=IDS)
def test_exec_and_attach(remote: Remote, program: str) -> None:
    assert remote.run(program, "run", "-d", "--name", "box", "busybox", "sleep", "1000", certificates=remote.client).exit_code == 0
    try:
        output = remote.run(program, "exec", "-i", "box", "sh", "-c", "cat; echo err >&2; exit 3", stdin=b"in", certificates=remote.client)
        assert output == Output(3, "in", "err\n")
    finally:
        remote.run(program, "rm", "-f", "box", certificates=remote.client)


@pytest.mark.parametrize("program", CLIENTS, ids=IDS)
def test_strangers_are_refused(remote: Remote, program: str) -> None:
    """Another authority's certificate, none at all, and no TLS: nothing of the API is seen."""
    wrong = remote.run(program, "version", certificates=remote.stranger)
    assert wrong.exit_code == 1
    assert "unknown" in wrong.stderr, wrong.stderr  # unknown certificate authority, in either client's words
    nothing = remote.run(program, "version", certificates=remote.nobody)
    assert (nothing.exit_code, "certificate required" in nothing.stderr) == (1, True), nothing.stderr
    plain = remote.run(program, "version", certificates=None)
    assert plain.exit_code == 1
    assert "Server" not in plain.stdout
    eventually(lambda: "TLS handshake error" in remote.engine.log_tail(), "the engine logs who was refused")


def test_the_client_refuses_an_engine_it_does_not_know(remote: Remote) -> None:
    options = ("--tlsverify", "--tlscacert", str(remote.stranger.parent / "ca.pem"))
    output = remote.run(TEUL, *options, "version", certificates=None)
    assert output.exit_code == 1
    assert "tls: failed to verify certificate" in output.stderr


class Cut:
    """A hijacked connection over TLS that can be ended as a client ends it, or as somebody on the way does."""

    def __init__(self, remote: Remote, path: str, body: object = None) -> None:
        host, port = remote.url.removeprefix("tcp://").split(":")
        context = ssl.create_default_context(cafile=str(remote.client / "ca.pem"))
        context.check_hostname = False
        context.load_cert_chain(remote.client / "cert.pem", remote.client / "key.pem")
        self._bare = socket.create_connection((host, int(port)), timeout=20)
        self.stream = context.wrap_socket(self._bare)
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n"
        self.stream.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += self.stream.recv(1)
        assert received.startswith(b"HTTP/1.1 101"), received

    def cut(self) -> None:
        self.stream.close()  # the standard library says no close_notify here


SCRIPT = "cat > /got; touch /done"


def test_half_a_script_is_not_run_as_if_it_were_whole(remote: Remote) -> None:
    """An exec whose input is cut is hung up on, with the processes it has started; and is not told that its input was complete."""
    engine = remote.engine
    engine.must("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    try:
        with engine.api() as api:
            config = {"Cmd": ["sh", "-c", SCRIPT], "AttachStdin": True, "AttachStdout": True}
            identifier = api.expect(201, "POST", "/containers/box/exec", config).json()["Id"]
            connection = Cut(remote, f"/exec/{identifier}/start", {})
            connection.stream.sendall(b"half a scr")
            eventually(lambda: engine.docker("exec", "box", "cat", "/got").stdout == "half a scr", "the process has what was sent")
            connection.cut()
            eventually(lambda: not api.expect(200, "GET", f"/exec/{identifier}/json").json()["Running"], "the exec ends")
            assert api.expect(200, "GET", f"/exec/{identifier}/json").json()["ExitCode"] == 128 + signal.SIGHUP
            assert engine.docker("exec", "box", "ls", "/done").exit_code == 1
            assert "cat" not in engine.must("top", "box", "-o", "pid,comm")
    finally:
        engine.must("rm", "-f", "box")


def test_a_container_waits_for_the_rest_of_an_input_that_was_cut(remote: Remote) -> None:
    """Its first client's connection broke off: the next one's end of input is the container's."""
    engine = remote.engine
    engine.must("create", "-i", "--name", "box", "busybox", "sh", "-c", SCRIPT)
    try:
        connection = Cut(remote, "/containers/box/attach?stream=1&stdin=1&stdout=1")
        engine.must("start", "box")
        connection.stream.sendall(b"first half, ")
        eventually(lambda: engine.docker("exec", "box", "cat", "/got").stdout == "first half, ", "the process has what was sent")
        connection.cut()
        assert remote.run(TEUL, "attach", "box", stdin=b"second half", certificates=remote.client) == Output(0, "", "")
        assert engine.must("wait", "box") == "0"
        assert engine.must("cp", "box:/got", "-").rstrip("\0").endswith("first half, second half")
    finally:
        engine.must("rm", "-f", "box")


def test_who_speaks_plain_http_is_told_so(remote: Remote) -> None:
    """In Go's words, and in clear text, as a client without TLS reads nothing else."""
    port = int(remote.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(10)
        client.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while data := client.recv(4096):
            answer += data
    assert answer == b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    said = remote.run("docker", "ps", certificates=None)
    assert said.exit_code == 1
    assert "Client sent an HTTP request to an HTTPS server." in said.stderr


def test_half_a_handshake_holds_up_nobody(remote: Remote) -> None:
    host, port = remote.url.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as silent, socket.create_connection((host, int(port))) as rude:
        rude.sendall(b"\x16\x03\x01garbage" * 10)
        assert remote.run(TEUL, "ps", certificates=remote.client).exit_code == 0
        silent.settimeout(0.01)
        with pytest.raises(TimeoutError):
            silent.recv(1)


def test_bare_tcp_is_warned_about(tmp_path: Path) -> None:
    """On loopback it is the user's choice, but not a secret; elsewhere it is refused."""
    url = f"tcp://127.0.0.1:{free_port()}"
    with Engine(extra=("-H", url)) as engine:
        engine.load(images.busybox().docker_archive())
        output = engine.run(["docker", "-H", url, "run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end"], stdin=b"in\n")
        assert output == Output(0, "in\nend\n", "")
        text = f"WARNING: API is accessible on http://{url.removeprefix('tcp://')} without encryption."
        assert text in engine.docker("info").stderr
        assert text.removeprefix("WARNING: ") in engine.log_tail()
        places = ("--root", str(tmp_path / "root"), "--run-root", str(tmp_path / "run"))
        refused = engine.teul("serve", "-H", "tcp://0.0.0.0:2375", *places)
        assert (refused.exit_code, "loopback only" in refused.stderr, (tmp_path / "root").exists()) == (1, True, False)


def test_web_pages_are_refused_and_clients_are_not() -> None:
    """On TCP an engine is within reach of every browser of its machine."""
    port = free_port()
    with Engine(extra=("-H", f"tcp://127.0.0.1:{port}")) as engine:
        engine.load(images.busybox().docker_archive())
        for name in ("127.0.0.1", "localhost"):
            url = f"tcp://{name}:{port}"
            assert engine.run(["docker", "-H", url, "run", "--rm", "busybox", "echo", "hello"]) == Output(0, "hello\n", "")
            with contextlib.closing(docker.DockerClient(base_url=url, version="auto")) as client:
                assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
                container = client.containers.create("busybox")
        pages = {"Host": f"rebound.example:{port}"}, {"Origin": "http://page.example"}, {"Origin": "null"}
        for headers in pages:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            with contextlib.closing(connection):
                connection.request("POST", f"/containers/{container.id}/start", headers=headers)
                answer = connection.getresponse()
                assert (answer.status, list(json.loads(answer.read()))) == (403, ["message"])
        assert engine.inspect(str(container.id))["State"]["Status"] == "created"


SSH = """#!/bin/sh
# Runs here what ssh would run there. The options that docker gives end at `--`.
while [ "$1" != -- ]; do shift; done
shift 2
exec {environment} "$@"
"""


def test_docker_comes_over_ssh(remote: Remote, tmp_path: Path) -> None:
    """DOCKER_HOST=ssh://…: docker's client runs `docker system dial-stdio` at the far end, where docker is teul."""
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir()
    far.mkdir()
    (far / "docker").symlink_to(TEUL)
    there = {"TEUL_HOST": f"unix://{remote.engine.socket_path}", "PATH": f"{far}:/usr/bin:/bin", "HOME": str(far)}
    (near / "ssh").write_text(SSH.format(environment=shlex.join(["env", "-i", *(f"{name}={value}" for name, value in there.items())])))
    (near / "ssh").chmod(0o755)
    here = {**remote.engine.environment(), "DOCKER_HOST": "ssh://somebody@far"}
    here["PATH"] = f"{near}:{here['PATH']}"

    def docker(*arguments: str, stdin: bytes = b"") -> Output:
        done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, env=here, timeout=30, check=False)
        return Output(done.returncode, done.stdout.decode(), done.stderr.decode())

    assert docker("version", "--format", "{{.Server.Version}}").exit_code == 0
    output = docker("run", "--rm", "-i", "busybox", "sh", "-c", "wc -c; echo after; exit 4", stdin=NOISE)
    assert output == Output(4, f"{len(NOISE)}\nafter\n", "")
