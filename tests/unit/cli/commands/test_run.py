"""`run`, `create`, `start`, `attach`, `exec` against a fake engine: the order of requests, the streams, and every exit code."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import termios
import threading
from pathlib import Path
from typing import Any

import pytest

from teul.cli.context import Streams
from teul.cli.main import run as run_command
from unit.cli.fake_engine import UPGRADED, CommandLine, FakeEngine, Request, empty, failure, frame, hijacked, reply, stream

ID = "c" * 64


def routes(output: bytes = b"", status: int = 0) -> dict[str, Any]:
    """An engine that runs one container."""
    return {
        "POST /containers/create": reply({"Id": ID, "Warnings": []}, 201),
        f"POST /containers/{ID}/attach": hijacked(output),
        f"POST /containers/{ID}/wait": reply({"StatusCode": status}),
        f"POST /containers/{ID}/start": empty(),
    }


def paths(engine: FakeEngine) -> list[str]:
    return [f"{request.method} {request.path.replace(ID, 'ID')}" for request in engine.requests]


def test_the_order_is_docker_s_and_output_is_taken_apart(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = routes(frame(1, b"out\n") + frame(2, b"err\n") + frame(1, b"more\n"), status=7)
    outcome = teul("run", "--rm", "-e", "A=1", "image", "cmd")
    assert (outcome.status, outcome.out, outcome.err) == (7, "out\nmore\n", "err\n")
    order = ["POST /containers/create", "POST /containers/ID/attach", "POST /containers/ID/wait", "POST /containers/ID/start"]
    assert paths(engine) == order
    create, attach, wait, _ = engine.requests
    assert create.json()["Env"] == ["A=1"]
    assert attach.query == {"stream": ["1"], "stdout": ["1"], "stderr": ["1"]}
    assert attach.headers["upgrade"] == "tcp"
    assert wait.query == {"condition": ["removed"]}


def test_a_container_that_stays_is_waited_for_by_its_next_exit(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = routes()
    assert teul("run", "image").status == 0
    assert engine.made("POST", f"/containers/{ID}/wait")[0].query == {"condition": ["next-exit"]}


def test_input_reaches_the_container_and_ends_with_a_half_close(engine: FakeEngine, teul: CommandLine) -> None:
    received = bytearray()
    data = os.urandom(300_000)
    engine.routes = routes() | {f"POST /containers/{ID}/attach": hijacked(frame(1, b"done"), wait_for_end_of_input=True, received=received)}
    outcome = teul("run", "-i", "image", stdin=data)
    assert outcome.out == "done"
    assert bytes(received) == data


def test_output_of_a_terminal_is_not_framed(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = routes(b"\x01raw\r\n")
    assert teul("run", "-t", "image").out == "\x01raw\r\n"


def test_detached_the_id_is_printed_before_the_start(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = routes()
    assert teul("run", "-d", "image").out == f"{ID}\n"
    assert paths(engine) == ["POST /containers/create", "POST /containers/ID/start"]
    assert engine.requests[0].json()["AttachStdout"] is False


def test_warnings_and_the_id_file(engine: FakeEngine, teul: CommandLine, tmp_path: Path) -> None:
    engine.routes = routes() | {"POST /containers/create": reply({"Id": ID, "Warnings": ["careful"]})}
    file = tmp_path / "cid"
    outcome = teul("run", "-d", "--cidfile", str(file), "--name", "n", "--platform", "linux/amd64", "image")
    assert outcome.err == "WARNING: careful\n"
    assert file.read_text() == ID
    assert engine.requests[0].query == {"name": ["n"], "platform": ["linux/amd64"]}
    again = teul("run", "-d", "--cidfile", str(file), "image")
    assert again.status == 125
    assert "container ID file found, make sure the other container isn't running or delete" in again.err
    assert "failed to create the container ID file" in teul("run", "-d", "--cidfile", str(tmp_path / "no" / "dir"), "image").err


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ('exec: "x": executable file not found in $PATH: unknown', 127),
        ("stat /x: no such file or directory", 127),
        ('exec: "/etc": permission denied: unknown', 126),
        ("exec /etc: is a directory", 126),
        ("something else", 125),
    ],
)
@pytest.mark.parametrize("extra", [[], ["-d"], ["--rm"]])
def test_a_start_that_fails(engine: FakeEngine, teul: CommandLine, message: str, status: int, extra: list[str]) -> None:
    engine.routes = routes() | {f"POST /containers/{ID}/start": failure(400, message)}
    outcome = teul("run", *extra, "image")
    assert outcome.status == status
    assert outcome.err == f"teul: Error response from daemon: {message}\n\nRun 'teul run --help' for more information\n"


def test_a_missing_image_is_pulled(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = routes(frame(1, b"hi\n")) | {
        "POST /containers/create": [failure(404, "No such image: x:latest"), reply({"Id": ID})],
        "POST /images/create": stream(
            {"status": "Pulling from library/x", "id": "latest"},
            {"status": "Downloading", "id": "abc", "progressDetail": {"current": 1, "total": 2}},
            {"status": "Status: Downloaded newer image for x:latest"},
        ),
    }
    outcome = teul("run", "x")
    assert outcome.err == (
        "Unable to find image 'x:latest' locally\nlatest: Pulling from library/x\nStatus: Downloaded newer image for x:latest\n"
    )
    assert outcome.out == "hi\n"
    assert engine.made("POST", "/images/create")[0].query == {"fromImage": ["x"], "tag": ["latest"]}


def test_a_pull_that_fails_is_the_end(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = routes() | {
        "POST /containers/create": failure(404, "No such image"),
        "POST /images/create": stream({"errorDetail": {"message": "denied"}, "error": "denied"}),
    }
    outcome = teul("run", "-q", "x")
    assert outcome.status == 125
    assert outcome.err == "teul: denied\n\nRun 'teul run --help' for more information\n"


@pytest.mark.parametrize("arguments", [["--pull", "never", "x"], ["sha256:" + "0" * 64], ["0" * 64]])
def test_what_cannot_or_may_not_be_pulled_is_not(engine: FakeEngine, teul: CommandLine, arguments: list[str]) -> None:
    engine.routes = routes() | {"POST /containers/create": failure(404, "No such image")}
    outcome = teul("run", *arguments)
    assert outcome.status == 125
    assert "Unable to find" not in outcome.err
    assert engine.made("POST", "/images/create") == []


def test_pull_always_comes_first(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = routes() | {"POST /images/create": stream({"status": "up to date"})}
    assert teul("run", "--pull", "always", "x@sha256:" + "a" * 64).err == "up to date\n"
    assert paths(engine)[0] == "POST /images/create"
    assert engine.requests[0].query["tag"] == ["sha256:" + "a" * 64]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["run", "--pull", "x", "i"],
            125,
            'teul: invalid pull option: \'x\': must be one of "always", "missing" or "never"\n\nRun \'teul run --help\'',
        ),
        (["create", "--pull", "x", "i"], 125, "Run 'teul create --help' for more information"),
        (["run", "-d", "-a", "stdin", "i"], 1, "conflicting options: cannot specify both --attach and --detach"),
        (["run", "-it", "i"], 1, "the input device is not a TTY"),
        (["run", "-t", "--detach-keys", "nope", "i"], 1, "invalid detach keys (nope)"),
        (["run", "--ulimit", "x", "i"], 125, 'invalid argument "x" for "--ulimit" flag: invalid ulimit argument: x\n\nUsage:  teul run'),
        (["create", "--ulimit", "x", "i"], 125, "Usage:  teul create"),
        (
            ["run", "--rm", "--restart", "always", "i"],
            125,
            "teul: conflicting options: cannot specify both --restart and --rm\n\nRun 'teul run --help'",
        ),
        (["exec", "-e", "=", "c", "x"], 1, "invalid environment variable: ="),
        (["exec", "-it", "c", "x"], 1, "the input device is not a TTY"),
        (["start", "-a", "x", "y"], 1, "you cannot start and attach multiple containers at once"),
    ],
)
def test_refused_before_anything_is_asked_of_the_engine(
    engine: FakeEngine, teul: CommandLine, arguments: list[str], status: int, message: str
) -> None:
    outcome = teul(*arguments)
    assert outcome.status == status
    assert message in outcome.err
    assert engine.requests == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (reply({"StatusCode": 1, "Error": {"Message": "gone wrong"}}), "Error waiting for container: gone wrong"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", "error waiting for container: "),
        (reply([]), "error waiting for container: "),
    ],
)
def test_a_wait_that_fails_is_125(engine: FakeEngine, teul: CommandLine, answer: bytes, message: str) -> None:
    def wait(_request: Request, connection: socket.socket) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)

    engine.routes = routes() | {f"POST /containers/{ID}/wait": wait}
    outcome = teul("run", "image")
    assert outcome.status == 125
    assert message in outcome.err


def test_an_engine_that_does_not_upgrade_is_an_error(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = routes() | {f"POST /containers/{ID}/attach": reply({})}
    outcome = teul("run", "image")
    assert (outcome.status, outcome.err) == (1, "unable to upgrade to tcp, received 200\n")


def test_an_error_that_the_engine_sends_in_band(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = routes(frame(1, b"a") + frame(3, b"broken"))
    outcome = teul("run", "image")
    assert (outcome.status, outcome.out, outcome.err) == (1, "a", "error from daemon in stream: broken\n")


def test_nobody_listens(teul: CommandLine) -> None:
    outcome = CommandLine(teul.directory, {"TEUL_HOST": "unix:///nosuch/docker.sock"})("run", "image")
    assert outcome.status == 125
    assert outcome.err.startswith(
        "teul: Cannot connect to the engine at unix:///nosuch/docker.sock. Is it running?\n\nRun 'teul run --help'"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_go_to_the_container(engine: FakeEngine, teul: CommandLine, number: signal.Signals) -> None:
    killed = threading.Event()

    def attach(_request: Request, connection: socket.socket) -> None:
        connection.sendall(UPGRADED)
        os.kill(os.getpid(), number)
        assert killed.wait(5)
        connection.shutdown(socket.SHUT_RDWR)

    def kill(_request: Request, connection: socket.socket) -> None:
        connection.sendall(empty())
        killed.set()

    before = signal.getsignal(number)
    engine.routes = routes(status=3) | {f"POST /containers/{ID}/attach": attach, f"POST /containers/{ID}/kill": kill}
    assert teul("run", "image").status == 3
    assert engine.made("POST", f"/containers/{ID}/kill")[0].query == {"signal": [number.name.removeprefix("SIG")]}
    assert signal.getsignal(number) is before


def test_the_third_demand_to_end_is_obeyed(engine: FakeEngine, teul: CommandLine) -> None:
    """Even when the engine does not answer any more."""
    kills: list[int] = []
    obeyed = threading.Event()

    def attach(_request: Request, connection: socket.socket) -> None:
        connection.sendall(UPGRADED)
        os.kill(os.getpid(), signal.SIGINT)
        obeyed.wait(30)  # the input ends at once, and what is heard then is not the client's leaving

    def kill(_request: Request, connection: socket.socket) -> None:
        kills.append(1)
        if len(kills) == 1:
            connection.sendall(failure(500, "not now"))
        os.kill(os.getpid(), signal.SIGINT)

    engine.routes = routes() | {f"POST /containers/{ID}/attach": attach, f"POST /containers/{ID}/kill": kill}
    outcome = teul("-D", "run", "-i", "image")
    obeyed.set()
    assert (outcome.status, len(kills)) == (1, 2)
    assert outcome.err == "Error sending signal: not now\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n"


class Terminal:
    """A command line whose three streams are one pseudo-terminal."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (24, 80))
        self.before = termios.tcgetattr(self.slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *details: object) -> None:
        os.close(self.master)
        os.close(self.slave)

    def __call__(self, *arguments: str) -> int:
        return run_command(list(arguments), self.environment, Streams(self.slave, self.slave, self.slave))

    @property
    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def type_keys(self, keys: bytes) -> None:
        """Type once the terminal is raw; before, it would treat the keys itself."""
        pause = threading.Event()
        for _ in range(2000):
            if self.is_raw:
                break
            pause.wait(0.002)
        os.write(self.master, keys)

    @property
    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before


def test_a_terminal_is_raw_while_it_is_attached_and_gets_its_size(engine: FakeEngine, teul: CommandLine) -> None:
    with Terminal(teul.environment) as terminal:
        seen: list[object] = []

        def attach(_request: Request, connection: socket.socket) -> None:
            connection.sendall(UPGRADED)
            terminal.type_keys(b"\x03")
            seen.append(connection.recv(10))
            seen.append(terminal.is_raw)
            connection.sendall(b"hello\n")
            connection.shutdown(socket.SHUT_RDWR)

        resizes = [failure(500, "too early"), empty(200)]
        engine.routes = routes() | {f"POST /containers/{ID}/attach": attach, f"POST /containers/{ID}/resize": resizes}
        assert terminal("run", "-it", "image") == 0
        assert seen == [b"\x03", True]
        assert terminal.is_as_before
        # Two lines of the terminal's own: nothing was echoed, and a line feed became what a terminal needs.
        assert os.read(terminal.master, 100) == b"hello\r\n"
        create = engine.made("POST", "/containers/create")[0].json()
        assert create["HostConfig"]["ConsoleSize"] == [24, 80]
        assert engine.made("POST", f"/containers/{ID}/resize")[1].query == {"h": ["24"], "w": ["80"]}


def test_a_changed_window_is_told(engine: FakeEngine, teul: CommandLine) -> None:
    with Terminal(teul.environment) as terminal:
        resized = threading.Event()
        calls: list[dict[str, list[str]]] = []

        def attach(_request: Request, connection: socket.socket) -> None:
            connection.sendall(UPGRADED)
            assert resized.wait(5)
            connection.shutdown(socket.SHUT_RDWR)

        def resize(request: Request, connection: socket.socket) -> None:
            calls.append(request.query)
            connection.sendall(empty(200))
            if len(calls) == 1:
                termios.tcsetwinsize(terminal.slave, (30, 90))
                os.kill(os.getpid(), signal.SIGWINCH)
            else:
                resized.set()

        engine.routes = routes() | {f"POST /containers/{ID}/attach": attach, f"POST /containers/{ID}/resize": resize}
        assert terminal("run", "-it", "image") == 0
        assert calls[1] == {"h": ["30"], "w": ["90"]}


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        (["run", "-it", "--detach-keys", "ctrl-a,b", "image"], 0, b""),
        (["start", "-ai", ID], 0, b""),
        (["attach", ID], 1, b"read escape sequence\r\n"),
        (["exec", "-it", ID, "sh"], 1, b"read escape sequence\r\n"),
    ],
)
def test_the_detach_keys_leave_the_container_alone(
    engine: FakeEngine, teul: CommandLine, command: list[str], status: int, text: bytes
) -> None:
    keys = b"\x01b" if command[0] == "run" else b"\x10\x11"
    with Terminal(teul.environment) as terminal:

        def attach(_request: Request, connection: socket.socket) -> None:
            connection.sendall(UPGRADED)
            terminal.type_keys(b"ls" + keys + b"lost")
            while connection.recv(10):
                pass

        container = {"Id": ID, "Config": {"Tty": True, "OpenStdin": True}, "HostConfig": {}, "State": RUNNING}
        engine.routes = routes() | {
            f"POST /containers/{ID}/attach": attach,
            f"POST /containers/{ID}/resize": empty(200),
            f"GET /containers/{ID}/json": reply(container),
            f"POST /containers/{ID}/exec": reply({"Id": "e"}),
            "POST /exec/e/start": attach,
            "POST /exec/e/resize": empty(200),
        }
        assert terminal(*command) == status
        assert terminal.is_as_before
        if text:
            assert os.read(terminal.master, 100) == text


RUNNING = {"Running": True, "Paused": False, "Restarting": False}


def container(*, state: dict[str, bool] | None = None, tty: bool = False, remove: bool = False) -> dict[str, Any]:
    return {"Id": ID, "State": state or RUNNING, "Config": {"Tty": tty, "OpenStdin": True}, "HostConfig": {"AutoRemove": remove}}


def test_attach(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = routes(frame(1, b"x"), status=4) | {
        "GET /containers/name/json": reply(container()),
        f"GET /containers/{ID}/json": reply(container()),
    }
    outcome = teul("attach", "--no-stdin", "name")
    assert (outcome.status, outcome.out) == (4, "x")


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({"Running": False, "Paused": False, "Restarting": False}, "You cannot attach to a stopped container, start it first"),
        ({"Running": True, "Paused": True, "Restarting": False}, "You cannot attach to a paused container, unpause it first"),
        ({"Running": True, "Paused": False, "Restarting": True}, "You cannot attach to a restarting container, wait until it is running"),
    ],
)
def test_only_a_running_container_can_be_attached_to(engine: FakeEngine, teul: CommandLine, state: dict[str, bool], word: str) -> None:
    engine.routes = {"GET /containers/c/json": reply(container(state=state))}
    outcome = teul("attach", "c")
    assert (outcome.status, outcome.err) == (1, f"{word}\n")


def test_a_container_that_ended_while_it_was_attached_to(engine: FakeEngine, teul: CommandLine) -> None:
    ended = container(state={"Running": False, "Paused": False, "Restarting": False})
    engine.routes = routes() | {
        "GET /containers/c/json": reply(container()),
        f"GET /containers/{ID}/json": reply(ended),
        f"POST /containers/{ID}/attach": hijacked(b"", wait_for_end_of_input=True),
    }
    assert "stopped container" in teul("attach", "c").err


def test_start_with_streams(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = routes(frame(2, b"e"), status=5) | {"GET /containers/c/json": reply(container(remove=True))}
    outcome = teul("start", "-a", "c")
    assert (outcome.status, outcome.err) == (5, "e")
    order = ["GET /containers/c/json", "POST /containers/ID/attach", "POST /containers/ID/wait", "POST /containers/ID/start"]
    assert paths(engine) == order
    assert engine.requests[2].query == {"condition": ["removed"]}


def test_start_with_streams_that_fails(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = routes() | {"GET /containers/c/json": reply(container(remove=True)), f"POST /containers/{ID}/start": failure(409, "no")}
    outcome = teul("start", "-a", "c")
    assert (outcome.status, outcome.err) == (1, "Error response from daemon: no\n")


def test_start_of_several_goes_on_after_a_failure(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {
        "POST /containers/a/start": empty(),
        "POST /containers/b/start": failure(404, "No such container: b"),
        "POST /containers/c/start": empty(304),
    }
    outcome = teul("start", "a", "b", "c")
    assert outcome.out == "a\nc\n"
    assert outcome.err == "Error response from daemon: No such container: b\nError: failed to start containers: b\n"
    assert outcome.status == 1


def test_create_prints_the_id(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = routes()
    assert teul("create", "image").out == f"{ID}\n"


def test_exec(engine: FakeEngine, teul: CommandLine) -> None:
    received = bytearray()
    engine.routes = {
        "POST /containers/c/exec": reply({"Id": "e"}, 201),
        "POST /exec/e/start": hijacked(frame(1, b"out"), wait_for_end_of_input=True, received=received),
        "GET /exec/e/json": reply({"ExitCode": 9}),
    }
    outcome = teul("exec", "-i", "-e", "A=1", "-u", "u", "-w", "/w", "--privileged", "c", "cat", "-n", stdin=b"in")
    assert (outcome.status, outcome.out, bytes(received)) == (9, "out", b"in")
    config = json.loads(engine.requests[0].body)
    assert config["Cmd"] == ["cat", "-n"]
    assert (config["Env"], config["User"], config["WorkingDir"], config["Privileged"], config["AttachStdin"]) == (
        ["A=1"],
        "u",
        "/w",
        True,
        True,
    )
    assert engine.requests[1].json() == {"Detach": False, "Tty": False}


def test_exec_detached(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /containers/c/exec": reply({"Id": "e"}, 201), "POST /exec/e/start": empty(200)}
    assert teul("exec", "-d", "c", "true").status == 0
    assert engine.requests[1].json() == {"Detach": True, "Tty": False}


def test_exec_in_nothing(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"POST /containers/c/exec": failure(404, "No such container: c")}
    outcome = teul("exec", "c", "x")
    assert (outcome.status, outcome.err) == (1, "Error response from daemon: No such container: c\n")
