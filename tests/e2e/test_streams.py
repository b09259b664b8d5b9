"""Attach, logs and exec on the wire: hijacked connections, multiplexed frames, half-closed stdin, terminals."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any

from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from support.unix_http import StatusError, demultiplex

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

ATTACH_ALL = "stream=1&stdin=1&stdout=1&stderr=1"


def create(engine: Engine, *command: str, **config: Any) -> str:
    body = {"Image": "busybox", "Cmd": list(command), "AttachStdout": True, "AttachStderr": True, **config}
    with engine.api() as api:
        return str(api.expect(201, "POST", "/containers/create", body).json()["Id"])


def start(engine: Engine, container: str) -> None:
    with engine.api() as api:
        api.expect(204, "POST", f"/containers/{container}/start")


def read_all(stream: socket.socket) -> bytes:
    data = b""
    while chunk := stream.recv(65536):
        data += chunk
    return data


def read_until(stream: socket.socket, wanted: bytes, data: bytes = b"") -> bytes:
    deadline = time.monotonic() + 15
    while wanted not in data:
        assert time.monotonic() < deadline, f"{wanted!r} never came; there was {data!r}"
        chunk = stream.recv(65536)
        assert chunk, f"{wanted!r} never came; there was {data!r} and the end"
        data += chunk
    return data


def start_again(engine: Engine, exec_id: str) -> bytes:
    with engine.api() as api:
        try:
            with api.hijack("POST", f"/exec/{exec_id}/start", {"Detach": False, "Tty": False}) as stream:
                return read_all(stream)
        except StatusError as refused:
            return f"{refused.response.status} {refused.response.message}".encode()


def test_attach_before_start_misses_nothing(engine: Engine) -> None:
    """The first byte of the command reaches who attached to the created container."""
    container = create(engine, "sh", "-c", "echo first; echo second >&2")
    with engine.api() as api, api.hijack("POST", f"/containers/{container}/attach?{ATTACH_ALL}") as stream:
        start(engine, container)
        assert demultiplex(read_all(stream)) == (b"first\n", b"second\n")


def test_hijacked_connection_answers_101_to_an_upgrade(engine: Engine) -> None:
    """Clients that ask for an upgrade get one, with the media type of what follows."""
    container = create(engine, "cat", OpenStdin=True)
    start(engine, container)
    stream = socket.socket(socket.AF_UNIX)
    with stream:
        stream.settimeout(15)
        stream.connect(str(engine.socket_path))
        request = (
            f"POST /v1.41/containers/{container}/attach?{ATTACH_ALL} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        stream.sendall(request.encode())
        head = read_until(stream, b"\r\n\r\n").lower()
    assert head.startswith(b"http/1.1 101 ")
    assert b"upgrade: tcp" in head
    assert b"content-type: application/vnd.docker.raw-stream" in head or b"application/vnd.docker.multiplexed-stream" in head


def test_half_closed_stdin_ends_the_commands_input_and_nothing_else(engine: Engine) -> None:
    """`echo x | docker run -i cat`: the client shuts its sending side; the output still comes back."""
    container = create(engine, "sh", "-c", "cat; echo input ended", OpenStdin=True, StdinOnce=True, AttachStdin=True)
    with engine.api() as api, api.hijack("POST", f"/containers/{container}/attach?{ATTACH_ALL}") as stream:
        start(engine, container)
        stream.sendall(b"some input\n")
        stream.shutdown(socket.SHUT_WR)
        assert demultiplex(read_all(stream))[0] == b"some input\ninput ended\n"


def test_stdin_stays_open_for_the_next_client_without_stdin_once(engine: Engine) -> None:
    """A container started with `-d -i` outlives the clients that type into it."""
    container = create(engine, "sh", "-c", "while read line; do echo got $line; done", OpenStdin=True)
    start(engine, container)
    for text in (b"one", b"two"):
        with engine.api() as api, api.hijack("POST", f"/containers/{container}/attach?{ATTACH_ALL}") as stream:
            stream.sendall(text + b"\n")
            read_until(stream, b"got " + text)
    assert engine.inspect(container)["State"]["Running"] is True


def test_every_attached_client_sees_the_same(engine: Engine) -> None:
    container = create(engine, "sh", "-c", "read line; seq 1 1000", OpenStdin=True)
    start(engine, container)
    with engine.api() as api:
        streams = [api.hijack("POST", f"/containers/{container}/attach?{ATTACH_ALL}") for _ in range(5)]
        streams[0].sendall(b"go\n")
        seen = [demultiplex(read_all(stream))[0] for stream in streams]
        for stream in streams:
            stream.close()
    assert seen == ["".join(f"{number}\n" for number in range(1, 1001)).encode()] * 5


def test_client_that_leaves_does_not_end_the_container(engine: Engine) -> None:
    container = create(engine, "sh", "-c", "while :; do echo tick; sleep 0.02; done")
    start(engine, container)
    with engine.api() as api, api.hijack("POST", f"/containers/{container}/attach?stream=1&stdout=1") as stream:
        read_until(stream, b"tick")
    before = engine.must("logs", container)
    eventually(lambda: len(engine.must("logs", container)) > len(before), "it goes on")


def test_attach_with_logs_repeats_what_was_said_before(engine: Engine) -> None:
    container = create(engine, "sh", "-c", "echo early; read line; echo late", OpenStdin=True)
    start(engine, container)
    eventually(lambda: engine.must("logs", container) == "early", "the command is up")
    with engine.api() as api, api.hijack("POST", f"/containers/{container}/attach?{ATTACH_ALL}&logs=1") as stream:
        stream.sendall(b"go\n")
        assert demultiplex(read_all(stream))[0] == b"early\nlate\n"


def test_terminal_output_is_raw(engine: Engine) -> None:
    """With a terminal there are no frames, and newlines are the terminal's."""
    container = create(engine, "sh", "-c", "echo out; echo err >&2", Tty=True)
    with engine.api() as api, api.hijack("POST", f"/containers/{container}/attach?{ATTACH_ALL}") as stream:
        start(engine, container)
        assert read_all(stream) == b"out\r\nerr\r\n"


def test_resize_reaches_the_terminal(engine: Engine) -> None:
    wait_for_size = 'until [ "$(stty size 2>/dev/null)" = "51 133" ]; do :; done; echo resized'
    container = create(engine, "sh", "-c", wait_for_size, Tty=True, OpenStdin=True)
    with engine.api() as api, api.hijack("POST", f"/containers/{container}/attach?{ATTACH_ALL}") as stream, engine.api() as other:
        start(engine, container)
        other.expect(200, "POST", f"/containers/{container}/resize?h=51&w=133")
        read_until(stream, b"resized")


def test_ten_megabytes_go_through_attach_unharmed(engine: Engine) -> None:
    """In and out, both at once; the digest is computed inside."""
    data = bytes(range(256)) * 40_000
    output = engine.docker("run", "--rm", "-i", "busybox", "sh", "-c", "tee /copy | wc -c; md5sum < /copy", stdin=data)
    assert output.stdout.split()[0] == str(len(data))
    echoed = engine.run(
        ["sh", "-c", "head -c 10240000 /dev/zero | docker run --rm -i busybox cat | cmp -n 10240000 - /dev/zero && echo same"]
    )
    assert echoed.stdout == "same\n", echoed.stderr


def test_exec_streams_both_ways_and_reports_its_code(engine: Engine) -> None:
    container = create(engine, "sleep", "1000")
    start(engine, container)
    with engine.api() as api:
        body = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Cmd": ["sh", "-c", "cat; echo err >&2; exit 17"]}
        key = api.expect(201, "POST", f"/containers/{container}/exec", body).json()["Id"]
        assert api.expect(200, "GET", f"/exec/{key}/json").json()["Running"] is False
        with api.hijack("POST", f"/exec/{key}/start", {"Detach": False, "Tty": False}) as stream:
            stream.sendall(b"in and out")
            stream.shutdown(socket.SHUT_WR)
            assert demultiplex(read_all(stream)) == (b"in and out", b"err\n")
        state = api.expect(200, "GET", f"/exec/{key}/json").json()
        assert (state["Running"], state["ExitCode"], state["ContainerID"]) == (False, 17, container)
        # docker: over a hijacked connection the refusal comes as text, else as 409; both name the reason.
        assert re.match(rb"(409 )?.*has already run", start_again(engine, key), re.DOTALL)


def test_exec_that_is_still_running_dies_with_its_container(engine: Engine) -> None:
    container = create(engine, "sleep", "1000")
    start(engine, container)
    with engine.begin("exec", container, "sh", "-c", "echo up; sleep 1000") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        engine.must("kill", container)
        assert running.wait(20) == 137


def test_following_logs_ends_when_the_container_does(engine: Engine) -> None:
    container = create(engine, "sh", "-c", "echo one; while [ ! -e /go ]; do sleep 0.02; done; echo two")
    start(engine, container)
    with engine.begin("logs", "-f", container) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"one\n"
        engine.must("exec", container, "touch", "/go")
        assert follower.stdout.readline() == b"two\n"
        assert follower.wait(15) == 0


def test_events_tell_a_containers_life_in_order(engine: Engine) -> None:
    """Compose and testcontainers wait for these."""
    since = time.time()
    container = engine.must("run", "--name", "told", "-d", "busybox", "true")
    engine.must("wait", container)
    engine.must("rm", container)
    with engine.api() as api:
        path = f"/events?since={since:.9f}&until={time.time():.9f}"
        lines = api.expect(200, "GET", path + "&filters=" + json.dumps({"type": {"container": True}}).replace(" ", "")).body.splitlines()
    actions = [json.loads(line)["Action"] for line in lines if json.loads(line)["Actor"]["ID"] == container]
    assert actions == ["create", "start", "die", "destroy"]
