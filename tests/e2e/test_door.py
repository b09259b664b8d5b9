"""An engine on demand that leaves by itself leaves a door behind: whoever connects, at whatever moment, is served."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import processes
from support.needs import needs
from support.polling import eventually
from support.unix_http import Client

pytestmark = [needs("root", "overlayfs")]

_PING = b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Home:
    """The directories of one engine, and the processes that belong to them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root, self.run_root = directory / "root", directory / "run"
        self.path = self.run_root / "docker.sock"
        self.log = directory / "log"
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str, asking: bool = True) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "teul", "serve", "--root", str(self.root), "--run-root", str(self.run_root), *options]
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started.append(process)
        if asking:
            eventually(self.answers, "the engine answers")
        return process

    def start_on_demand(self, idle_seconds: str = "0.3") -> subprocess.Popen[bytes]:
        return self.start("--on-demand", "--idle-timeout", idle_seconds)

    def answers(self) -> bool:
        try:
            return self.ask() == b"OK"
        except OSError:
            return False

    def ask(self) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(self.path))
            client.sendall(_PING)
            answer = b""
            while data := client.recv(65536):
                answer += data
        return answer.rpartition(b"\r\n\r\n")[2]

    def is_door(self, process: subprocess.Popen[bytes]) -> bool:
        return "door.py" in processes.command_line(process.pid)

    def wait_for_door(self, process: subprocess.Popen[bytes]) -> None:
        eventually(lambda: self.is_door(process), "the engine has become a door", timeout_seconds=20.0)


@pytest.fixture
def home() -> Iterator[Home]:
    made = Home(Path(tempfile.mkdtemp(prefix="teul-door-", dir="/tmp")))
    yield made
    for process in made.started:
        if process.poll() is None:
            process.terminate()
            process.wait(20)
    eventually(lambda: not processes.belonging_to(str(made.directory)), "all are gone", timeout_seconds=20.0)
    shutil.rmtree(made.directory, ignore_errors=True)


def test_who_comes_after_an_idle_engine_is_served(home: Home) -> None:
    """Again and again, and by the same process, which is an engine or a door."""
    process = home.start_on_demand()
    for _ in range(3):
        home.wait_for_door(process)
        assert home.ask() == b"OK"
        assert "door.py" not in processes.command_line(process.pid)
    home.wait_for_door(process)
    eventually(lambda: not processes.children_of(process.pid), "the engine's helpers are reaped")


def test_a_door_is_small(home: Home) -> None:
    process = home.start_on_demand()
    home.wait_for_door(process)
    eventually(lambda: Path(f"/proc/{process.pid}/wchan").read_text() not in ("", "0"), "it waits")
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    private_kb = sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))
    assert private_kb < 6 * 1024
    descriptors = {int(fd) for fd in os.listdir(f"/proc/{process.pid}/fd")}
    assert descriptors == {0, 1, 2, 3}, "the standard streams, and one socket"


def test_nobody_is_lost_while_engine_and_door_take_turns(home: Home) -> None:
    """Clients that come at every moment of many turns are all answered."""
    process = home.start_on_demand("0.05")
    failures: list[Exception] = []
    answered = [0, 0, 0]
    end = time.monotonic() + 8

    def ask(number: int) -> None:
        pause_seconds = 0.0
        while time.monotonic() < end:
            try:
                assert home.ask() == b"OK"
                answered[number] += 1
            except (OSError, AssertionError) as error:
                failures.append(error)
                return
            pause_seconds = (pause_seconds + 0.0137) % 0.41
            time.sleep(pause_seconds)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(answered))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures, home.log.read_text()
    assert min(answered) > 3
    assert home.log.read_text().count(" answers at ") > 2, "there were turns"
    assert process.poll() is None


def test_who_is_connected_and_has_not_asked_yet_is_served(home: Home) -> None:
    """An engine does not leave under a client that has just come."""
    home.start_on_demand("0.5")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(home.path))
        time.sleep(1.0)  # the engine's time has passed
        client.sendall(_PING)
        assert b" 200 OK" in client.recv(65536)


def test_an_engine_that_is_told_to_end_while_it_leaves_becomes_no_door(home: Home) -> None:
    """At whatever moment of its leaving: it is gone, and its socket with it or ready for the next one."""
    for number in range(6):
        process = home.start_on_demand("0.1")
        time.sleep(0.1 + 0.04 * number)
        process.terminate()
        process.wait(20)
        home.start_on_demand("30")
        home.started[-1].terminate()
        home.started[-1].wait(20)


def test_an_engine_in_the_foreground_takes_the_door_s_sockets(home: Home) -> None:
    """And those who wait in them: nobody is refused on the way."""
    door = home.start_on_demand()
    home.wait_for_door(door)
    before = home.path.stat().st_ino
    home.start(asking=False)
    assert door.wait(20) == -signal.SIGKILL
    assert home.path.stat().st_ino == before
    assert home.ask() == b"OK"
    assert not (home.run_root / "door").exists()


def test_a_door_that_is_killed_harms_nothing(home: Home) -> None:
    """The next engine finds a socket that nobody answers at and a record of nobody."""
    door = home.start_on_demand()
    home.wait_for_door(door)
    door.kill()
    door.wait(20)
    again = home.start_on_demand()
    home.wait_for_door(again)
    assert home.ask() == b"OK"


def test_a_door_that_is_told_to_end_takes_its_socket_along(home: Home) -> None:
    door = home.start_on_demand()
    home.wait_for_door(door)
    eventually(
        lambda: (Path(f"/proc/{door.pid}/status").read_text().split("SigCgt:")[1].split()[0])[-4] in "4567cdef", "it catches SIGTERM"
    )
    door.terminate()
    assert door.wait(20) == 0
    assert not home.path.exists()
    assert not (home.run_root / "door").exists()


def test_teul_system_stop_ends_engine_and_door(home: Home) -> None:
    """Whichever there is."""
    teul = [str(Path(sys.executable).with_name("teul")), "system", "stop"]
    environment = {"PATH": os.environ["PATH"], "TEUL_ROOT": str(home.root), "TEUL_RUN_ROOT": str(home.run_root), "HOME": "/"}

    def stop() -> str:
        return subprocess.run(teul, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout

    for idle_seconds in ("300", "0.3"):
        process = home.start_on_demand(idle_seconds)
        if idle_seconds == "0.3":
            home.wait_for_door(process)
        assert stop() == "Stopped\n"
        process.wait(20)
    assert stop() == "No engine runs\n"


@needs("systemd_analyze")
def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    subprocess.run([str(Path(sys.executable).with_name("teul")), "system", "install", "--destination", str(tmp_path)], check=True)
    units = [str(tmp_path / "etc/systemd/system" / name) for name in ("teul.socket", "teul.service")]
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_a_door_leaves_when_its_root_is_gone(home: Home) -> None:
    door = home.start_on_demand()
    home.wait_for_door(door)
    shutil.rmtree(home.directory)
    assert door.wait(30) == 0


def test_an_engine_that_was_told_to_end_leaves_no_door(home: Home) -> None:
    engine = home.start_on_demand("300")
    engine.terminate()
    assert engine.wait(20) == 0
    assert not home.path.exists()


def test_an_engine_takes_the_sockets_that_systemd_has_made(home: Home) -> None:
    """Descriptors from 3 on; the engine serves there, in place of its own address, and leaves the socket where it is."""
    home.run_root.mkdir()
    path = home.directory / "made.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(16)
    start = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())};"
    start += "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    options = ["--root", str(home.root), "--run-root", str(home.run_root), "--idle-timeout", "0.5"]
    command = [sys.executable, "-c", start, str(listener.fileno()), "-P", "-m", "teul", "serve", *options]
    with home.log.open("ab") as log:
        process = subprocess.Popen(command, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    home.started.append(process)
    with Client(str(path)) as client:
        client.expect(200, "GET", "/_ping")
    assert process.wait(30) == 0, "idle, and systemd listens on"
    assert path.exists()
    assert not home.path.exists()
    listener.close()
