"""Logs that are followed while containers write them: through rotations, and by many at once."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

import pytest

from support.engine import Engine
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

# Some 50 lines fill a file of 4 KiB, so a burst takes two rotations, and three files hold what one burst and the rest before it are.
BURST_LINES = 90
BURSTS = 40
FOLLOWERS = 200
DEADLINE_SECONDS = 60


@contextmanager
def ended_in_time(*processes: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kills them when the `with` takes too long: who waits for their next line finds their end."""
    timers = [threading.Timer(DEADLINE_SECONDS, process.kill) for process in processes]
    for timer in timers:
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def read_numbers(process: subprocess.Popen[bytes], lines: int) -> list[int]:
    """The next `lines` of its output; fewer if it ends before."""
    assert process.stdout is not None
    return [int(line) for line in islice(process.stdout, lines)]


@pytest.mark.parametrize(
    ("kept", "more"),
    [("3", ()), ("5", ()), ("5", ("compress=true",)), ("5", ("driver=local",)), ("5", ("driver=local", "compress=false"))],
    ids=["3", "5", "compressed", "local", "local-plain"],
)
def test_a_follower_reads_every_line_of_a_log_that_is_rotated_all_the_time(engine: Engine, kept: str, more: tuple[str, ...]) -> None:
    """It keeps up with the program, which waits for it after every burst; each number comes once, and in order."""
    program = "n=0; while read more; do i=0; while [ $i -lt $more ]; do n=$((n+1)); i=$((i+1)); echo $n; done; done"
    limits = ["--log-opt", "max-size=4k", "--log-opt", f"max-file={kept}"]
    for option in more:
        limits += ["--log-driver", "local"] if option == "driver=local" else ["--log-opt", option]
    with engine.begin("run", "-i", "--name", "writer", *limits, "busybox", "sh", "-c", program) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(b"1\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == b"1\n"
        with engine.begin("logs", "-f", "writer") as follower, ended_in_time(writer, follower):
            assert follower.stdout is not None
            assert read_numbers(follower, 1) == [1]
            for burst in range(BURSTS):
                writer.stdin.write(f"{BURST_LINES}\n".encode())
                writer.stdin.flush()
                expected = list(range(burst * BURST_LINES + 2, (burst + 1) * BURST_LINES + 2))
                assert read_numbers(follower, BURST_LINES) == expected, f"in burst {burst}"
                assert read_numbers(writer, BURST_LINES) == expected
            last = BURSTS * BURST_LINES + 1
            kept_numbers = [int(line) for line in engine.must("logs", "writer").split()]
            assert kept_numbers == list(range(kept_numbers[0], last + 1))
            assert engine.must("logs", "--tail", "70", "writer").split() == [str(number) for number in range(last - 69, last + 1)]
            writer.stdin.close()
            assert follower.stdout.read() == b""
            assert follower.wait(20) == 0
        assert writer.wait(20) == 0


def follow(engine: Engine, container: str) -> socket.socket:
    """A connection that follows the log, before any answer."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(str(engine.socket_path))
    connection.sendall(f"GET /v1.41/containers/{container}/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def read_until(connection: socket.socket, wanted: bytes) -> None:
    data = b""
    while wanted not in data:
        chunk = connection.recv(65536)
        assert chunk, f"the follower's connection ended after {data!r}"
        data += chunk


def inotify_instances(pid: int) -> int:
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if os.path.islink(f"/proc/{pid}/fd/{fd}")]
    return links.count("anon_inode:inotify")


def test_two_hundred_followers_get_the_line_and_share_one_watch(engine: Engine) -> None:
    """The host gives a user 128 inotify instances, for all its programs."""
    with engine.begin("run", "-i", "--name", "writer", "busybox", "sh", "-c", "echo early; read line; echo $line; sleep 1000") as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"early\n"
        with ExitStack() as stack:
            followers = []
            for _ in range(FOLLOWERS):
                followers.append(stack.enter_context(follow(engine, "writer")))
                read_until(followers[-1], b"early\n")  # before the next one knocks: the queue before the door is shorter
            assert inotify_instances(engine.pid) == 1
            writer.stdin.write(b"to-everybody\n")
            writer.stdin.flush()
            for follower in followers:
                read_until(follower, b"to-everybody\n")
            assert inotify_instances(engine.pid) == 1
        engine.must("kill", "writer")
        writer.wait(20)


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_full_files_are_compressed_and_read_back(engine: Engine, driver: str) -> None:
    """By all of it, by its end, by time, by who followed from the beginning; and the engine is killed meanwhile."""
    last = 3000
    options = ["--log-driver", driver, "--log-opt", "max-size=20k", "--log-opt", "max-file=50", "--log-opt", "compress=true"]
    program = f"i=0; while [ $i -lt {last} ]; do i=$((i+1)); echo $i; [ $((i % 300)) = 0 ] && sleep 0.2; done; read end"
    container = engine.must("run", "-d", "-i", "--name", "packed", *options, "busybox", "sh", "-c", program).strip()
    directory = engine.root / "containers" / container
    eventually(lambda: list(directory.glob("*.gz")), "a file is compressed")
    engine.kill9()
    engine.start()
    eventually(lambda: engine.must("logs", "--tail", "1", "packed").strip() == str(last), "all is written", timeout_seconds=60)
    eventually(lambda: not [path for path in directory.glob("*.log.*") if path.suffix != ".gz"], "each full file is compressed")
    assert len(list(directory.glob("*.gz"))) > 2
    everything = [str(number) for number in range(1, last + 1)]
    assert engine.must("logs", "packed").split() == everything
    assert engine.must("logs", "--tail", "2500", "packed").split() == everything[-2500:]
    stamped = [line.split() for line in engine.must("logs", "-t", "packed").splitlines()]
    since = stamped[700][0]
    assert engine.must("logs", "--since", since, "packed").split() == [text for when, text in stamped if when >= since]
    with engine.begin("logs", "-f", "packed") as follower, ended_in_time(follower):
        assert follower.stdout is not None
        assert read_numbers(follower, last) == list(range(1, last + 1))
        engine.must("kill", "packed")
        assert follower.wait(20) == 0


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_what_goes_along_with_a_line(engine: Engine, driver: str) -> None:
    options = ["--log-driver", driver, "--label", "team=a", "--label", "tier=b", "-e", "COLOUR=red"]
    wanted = ["--log-opt", "labels-regex=^t", "--log-opt", "env=COLOUR", "--log-opt", "tag={{.Name}}"]
    engine.must("run", "--name", "adorned", *options, *wanted, "busybox", "echo", "x")
    assert engine.must("logs", "--details", "adorned") == "COLOUR=red,tag=adorned,team=a,tier=b x"
    engine.must("rm", "adorned")
