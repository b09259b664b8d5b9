"""What somebody meets who has just installed Teul: without root, with closed streams, on a full device."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "busybox", "overlayfs")]

TEUL = str(Path(sys.executable).with_name("teul"))
_NOBODY = 65534
# The interpreter may lie below a directory that only root can enter; reading is no privilege at a socket.
_AS_NOBODY = ["setpriv", f"--reuid={_NOBODY}", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as started:
        started.load(images.busybox().docker_archive())
        yield started


def as_nobody(*arguments: str, group: int, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [*_AS_NOBODY, f"--regid={group}", "--clear-groups", *arguments]
    return subprocess.run(command, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, timeout=60, check=False)


def test_the_group_of_the_socket_is_enough(engine: Engine) -> None:
    """Whoever is in it needs no root; whoever is not learns what to do about it."""
    os.chown(engine.socket_path, 0, 4711)
    for directory in (engine.base, engine.run_root):
        directory.chmod(0o755)
    environment = {"TEUL_RUN_ROOT": str(engine.socket_path.parent)}
    member = as_nobody(TEUL, "ps", "-q", group=4711, environment=environment)
    assert (member.returncode, member.stdout, member.stderr) == (0, "", "")
    stranger = as_nobody(TEUL, "ps", "-q", group=_NOBODY, environment=environment)
    assert stranger.returncode == 1
    assert stranger.stderr.startswith(
        f"permission denied while trying to connect to the engine's socket at unix://{engine.socket_path}\nhint: "
    )


def test_without_root_there_is_a_sentence_and_no_traceback(tmp_path: Path) -> None:
    found = as_nobody(TEUL, "ps", group=_NOBODY, environment={"TEUL_RUN_ROOT": str(tmp_path)})
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == (
        f"Cannot connect to the engine at unix://{tmp_path}/docker.sock. Is it running?\n"
        'hint: only root can start an engine, which does not run without root yet: run "sudo teul version", or become root\n'
    )
    served = as_nobody(TEUL, "serve", "--root", str(tmp_path), group=_NOBODY, environment={})
    assert (served.returncode, served.stderr) == (1, "teul serve: the engine needs root: without it no container can be started yet\n")


def shell(engine: Engine, line: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "TEUL_HOST": f"unix://{engine.socket_path}", "HOME": str(engine.base)}
    return subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_as_one_that_leads_nowhere(engine: Engine, closed: str) -> None:
    """As with docker. Otherwise the connection to the engine would get the stream's number, and the engine what was meant for a reader."""
    said = shell(engine, f"{TEUL} ps -q {closed}; echo $? >&2; {TEUL} run --rm -i busybox cat {closed}; echo $?")
    assert said.stdout == "0\n"
    assert said.stderr.strip() in ("0", "")
    assert "does not speak HTTP" not in engine.log_path.read_text()


def test_a_full_device_is_an_error(engine: Engine) -> None:
    for command in ("ps", "version", "--help", "images", "inspect busybox", "run --rm busybox echo said"):
        said = shell(engine, f"{TEUL} {command} >/dev/full")
        assert (said.returncode, said.stderr) == (1, "write /dev/stdout: no space left on device\n"), command
    assert shell(engine, f"{TEUL} ps --nope >/dev/full 2>/dev/full").returncode == 125


_MISTAKES = (
    "run --rm busybox nosuch",
    "run --rm -w /etc/passwd busybox true",
    "run --rm -u nobodyknows busybox true",
    "run --rm --device /dev/nope busybox true",
    "run --rm --sysctl net.foo=1 busybox true",
    "run --rm --tmpfs /x:size=foo busybox true",
    f"run --rm --hostname {'a' * 100} busybox true",
    "run --rm --ulimit nofile=9999999999 busybox true",
    "run --rm -m 1k busybox true",
    "inspect nosuch",
    "load",
)


def test_the_mistakes_of_users_are_no_errors_of_the_engine(engine: Engine) -> None:
    """Its log is for who looks after the host, and has nothing to do about these."""
    before = len(engine.log_path.read_text())
    for mistake in _MISTAKES:
        assert shell(engine, f"echo no archive | {TEUL} {mistake}").returncode != 0, mistake
    shell(engine, f"{TEUL} save busybox | head -c 100; timeout 0.3 {TEUL} events")
    written = engine.log_path.read_text()[before:]
    assert "ERROR" not in written
    assert "Traceback" not in written


def test_a_packed_python_starts(engine: Engine) -> None:
    """With modules in C, and with the libraries that those need."""
    python = os.path.realpath(sys.executable)
    assert shell(engine, f"{TEUL} image pack -t local/python {python}").returncode == 0
    said = shell(engine, f"{TEUL} run --rm local/python {python} -c 'import json, ssl, ctypes, socket; print(json.dumps([1]))'")
    assert (said.returncode, said.stdout) == (0, "[1]\n"), said.stderr
    assert not engine.inspect("local/python")["Created"].startswith("1970")
