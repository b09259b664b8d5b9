"""Nobody starts the engine, nobody looks after it: the first command does, and it leaves when it has nothing to do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images, processes
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from support.unix_http import Client

pytestmark = [needs("root", "busybox", "overlayfs")]

TEUL = str(Path(sys.executable).with_name("teul"))


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory for an engine that no one has started; whatever was started in it is ended."""
    directory = Path(tempfile.mkdtemp(prefix="teul-demand-", dir="/tmp"))
    yield directory
    for pid in engines(directory):
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not processes.belonging_to(str(directory)), "the engines are gone", timeout_seconds=20.0)
    shutil.rmtree(directory)


def environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TEUL_ROOT": f"{home}/root", "TEUL_RUN_ROOT": f"{home}/run", "LANG": "C.UTF-8"}


def engines(home: Path) -> list[int]:
    """Processes that serve this home and were not started by another such process (as a keeper is)."""
    serving = [pid for pid in processes.mentioning(str(home)) if " serve " in processes.command_line(pid)]
    return [pid for pid in serving if processes.parent_of(pid) not in serving and not _is_below(pid, serving)]


def _is_below(pid: int, others: list[int]) -> bool:
    parent = processes.parent_of(pid)
    while parent and parent != 1:
        if parent in others:
            return True
        parent = processes.parent_of(parent)
    return False


def test_eight_commands_at_once_agree_on_one_engine(home: Path) -> None:
    """All of them work, and when the dust has settled there is one engine."""
    commands = [
        subprocess.Popen([TEUL, "ps", "-a"], env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for command in commands:
        stdout, stderr = command.communicate(timeout=60)
        assert (command.returncode, stderr) == (0, "")
        assert stdout.startswith("CONTAINER ID")
    eventually(lambda: len(engines(home)) == 1, "one engine is left")


def test_engine_that_was_killed_is_started_again_by_the_next_command(home: Path) -> None:
    """A stale socket and stale locks do not stop it; the container from before is still there."""
    archive = home / "busybox.tar"
    archive.write_bytes(images.busybox().docker_archive())

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([TEUL, *arguments], env=environment(home), capture_output=True, text=True, timeout=60, check=False)

    assert run("load", "-i", str(archive)).returncode == 0
    container = run("run", "-d", "busybox", "sleep", "1000").stdout.strip()
    for pid in engines(home):
        os.kill(pid, signal.SIGKILL)
    assert run("ps", "-q", "--no-trunc").stdout.strip() == container
    assert run("exec", container, "echo", "reached").stdout == "reached\n"
    assert run("rm", "-f", container).returncode == 0


def test_idle_engine_leaves() -> None:
    """With no container, no client and its time passed, the engine ends by itself with 0 and takes its socket along."""
    with Engine(idle_timeout_seconds=0.5) as engine:
        process = engine._process
        assert process is not None
        assert process.wait(20) == 0
        assert not engine.answers()
        assert not engine.processes(), "the keeper outlives its engine"


def test_engine_with_a_client_or_a_container_stays() -> None:
    """It waits for the last container's end, not for the last request."""
    with Engine(idle_timeout_seconds=0.5) as engine:
        engine.load(images.busybox().docker_archive())
        container = engine.must("run", "-d", "busybox", "sleep", "3")
        pid = engine.init_pid(container)
        process = engine._process
        assert process is not None
        assert process.wait(30) == 0
        assert not processes.is_alive(pid), "the engine left while its container was running"
        engine.start()
        assert engine.inspect(container)["State"]["ExitCode"] == 0
        engine.must("rm", container)


def test_client_that_stays_connected_keeps_the_engine() -> None:
    """`docker events` is a client, however quiet."""
    with Engine(idle_timeout_seconds=0.5) as engine:
        with Client(str(engine.socket_path)) as api:
            started = time.monotonic()
            api.expect(200, "GET", f"/events?since=0&until={time.time() + 2:.3f}")
            assert time.monotonic() - started > 1.5
        process = engine._process
        assert process is not None
        assert process.wait(20) == 0
