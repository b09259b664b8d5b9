"""Lines that go to a server: byte for byte, through the death of the engine and of who sends them, and kept to be read here."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from support import processes
from support.engine import Engine
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]


class Sink:
    """A syslog server: takes datagrams, or one connection after the other."""

    def __init__(self, family: int, kind: int, address: str | tuple[str, int]) -> None:
        self.socket = socket.socket(family, kind)
        self.socket.settimeout(20)
        self.socket.bind(address)
        if kind == socket.SOCK_STREAM:
            self.socket.listen()

    def lines(self, count: int) -> list[bytes]:
        """The next `count` lines, by as many datagrams, or by one connection."""
        if self.socket.type == socket.SOCK_DGRAM:
            return [self.socket.recv(65536) for _ in range(count)]
        connection, _address = self.socket.accept()
        connection.settimeout(20)
        with connection, connection.makefile("rb") as file:
            found = [line for line in (file.readline() for _ in range(count)) if line]
        # A connection that says nothing is the engine's, which has looked whether anybody is there.
        return found + self.lines(count - len(found)) if len(found) < count else found

    def close(self) -> None:
        self.socket.close()


def shape(line: bytes) -> str:
    """Without what differs from run to run."""
    text = re.sub(r"\[\d+\]:", "[PID]:", line.decode())
    text = re.sub(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d", "TIME", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)", "TIME", text)


@pytest.mark.parametrize("kind", ["udp", "tcp", "unix", "unixgram"])
def test_lines_reach_a_server(engine: Engine, tmp_path: Path, kind: str) -> None:
    stream = socket.SOCK_STREAM if kind in ("tcp", "unix") else socket.SOCK_DGRAM
    path = str(tmp_path / "log")
    sink = Sink(socket.AF_UNIX, stream, path) if kind.startswith("unix") else Sink(socket.AF_INET, stream, ("127.0.0.1", 0))
    where = f"{kind}://{path}" if kind.startswith("unix") else f"{kind}://127.0.0.1:{sink.socket.getsockname()[1]}"
    options = ["--log-driver", "syslog", "--log-opt", f"syslog-address={where}", "--log-opt", "tag={{.Name}}/x"]
    engine.must("run", "--name", f"to-{kind}", *options, "busybox", "sh", "-c", "echo one; sleep 0.2; echo two >&2; printf three")
    assert sorted(map(shape, sink.lines(3))) == sorted(
        [f"<30>TIME to-{kind}/x[PID]: one\n", f"<27>TIME to-{kind}/x[PID]: two\n", f"<30>TIME to-{kind}/x[PID]: three\n"]
    )
    assert engine.must("logs", f"to-{kind}") == "one\nthree"
    sink.close()


def test_logs_go_on_without_the_engine_and_without_who_sends_them(engine: Engine) -> None:
    """The keeper starts another process; only what the killed one had is lost."""
    sink = Sink(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
    options = ["--log-driver", "syslog", "--log-opt", f"syslog-address=udp://127.0.0.1:{sink.socket.getsockname()[1]}"]
    engine.must("run", "-d", "--name", "box", *options, "busybox", "sh", "-c", "while :; do echo line; sleep 0.1; done")
    assert sink.lines(1)[0].endswith(b": line\n")
    engine.kill9()
    pid = sink.lines(1)[0].partition(b"[")[2].partition(b"]")[0]
    os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: sink.lines(1)[0].partition(b"[")[2].partition(b"]")[0] != pid, "lines come from another process")
    engine.start()
    sink.lines(1)
    senders = {int(line.partition(b"[")[2].partition(b"]")[0]) for line in sink.lines(5)}
    engine.must("rm", "-f", "box")
    eventually(lambda: not any(map(processes.is_alive, senders)), "it has left")
    sink.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:1"), "dial tcp 127.0.0.1:1: connect: connection refused"),
        (("syslog", "--log-opt", "syslog-address=tcp+tls://127.0.0.1:1"), "dial tcp 127.0.0.1:1: connect: connection refused"),
        (("syslog", "--log-opt", "tag={{.Nope}}"), "template: log-tag:1:2: "),
    ],
)
def test_a_server_that_is_not_there_is_missed_at_the_start(engine: Engine, options: tuple[str, ...], text: str) -> None:
    done = engine.docker("run", "--rm", "--log-driver", *options, "busybox", "true")
    assert done.exit_code == 125
    assert f"failed to initialize logging driver: {text}" in done.stderr


def test_what_is_not_kept_cannot_be_read(engine: Engine) -> None:
    sink = Sink(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
    options = ["--log-driver", "syslog", "--log-opt", f"syslog-address=udp://127.0.0.1:{sink.socket.getsockname()[1]}"]
    engine.must("run", "--name", "unkept", *options, "--log-opt", "cache-disabled=true", "busybox", "echo", "x")
    assert sink.lines(1)[0].endswith(b": x\n")
    assert "configured logging driver does not support reading" in engine.docker("logs", "unkept").stderr
    sink.close()


def test_a_program_waits_for_its_log_server_or_does_not(engine: Engine, tmp_path: Path) -> None:
    """A server that takes nothing: with mode=non-blocking lines are lost, and the program comes to its end."""
    sink = Sink(socket.AF_UNIX, socket.SOCK_STREAM, str(tmp_path / "log"))
    where = ["--log-driver", "syslog", "--log-opt", f"syslog-address=unix://{tmp_path}/log"]
    program = ["busybox", "sh", "-c", "yes 0123456789 | head -c 4000000; echo done >&2"]
    free = ["--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=64k"]
    assert engine.docker("run", *where, *free, *program).stderr == "done\n"
    engine.must("run", "-d", "--name", "waits", *where, *program)
    eventually(lambda: len(engine.docker("logs", "waits").stdout) > 100_000, "it has begun")
    assert engine.inspect("waits")["State"]["Running"]
    sink.close()
    eventually(lambda: not engine.inspect("waits")["State"]["Running"], "a server that has gone holds up nobody", timeout_seconds=60)
