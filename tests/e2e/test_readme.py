"""The README's commands, each run as it stands there (README.ko.md has the same, tests/unit/test_docs.py).

What they take for granted is here: the files that they name, and a registry, asked as a mirror of the one that they mean.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.test_pull import publish
from support import images
from support.docker_registry import docker_registry
from support.engine import Engine
from support.needs import needs
from support.terminal import Terminal

pytestmark = [needs("root", "busybox", "overlayfs", "docker_cli", "docker_registry", "skopeo")]

README = Path(__file__).resolve().parents[2] / "README.md"
_SOCKET = "unix:///run/teul/docker.sock"


def blocks(title: str) -> list[list[str]]:
    """The examples below a heading: their commands, without comments."""
    section = README.read_text(encoding="utf-8").split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    found: list[list[str]] = []
    inside = False
    for line in section.splitlines():
        if line.startswith("    "):
            if not inside:
                found.append([])
            found[-1].append(line.partition("  #")[0].strip())
        inside = line.startswith("    ") or (inside and not line.strip())
    return found


class Reader:
    """Somebody who types what the README says, in a directory with the files that it names."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.directory = directory
        self.environment = engine.environment() | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        del self.environment["DOCKER_HOST"]
        self._socket = f"unix://{engine.socket_path}"
        self.following: list[subprocess.Popen[bytes]] = []

    def type(self, line: str) -> str:
        """What a command shows. One with a terminal is left by `exit`, one that follows goes on beside the next ones."""
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            assert value == _SOCKET
            self.environment[name] = self._socket
            return ""
        shell = ["sh", "-c", line]
        if " -it " in line:
            with Terminal(shell, environment=self.environment) as terminal:
                terminal.expect("[#$] ")
                terminal.send("exit\n")
                assert terminal.wait() == 0, terminal.output
                return terminal.output
        if " -f " in line:
            self.following.append(subprocess.Popen(shell, env=self.environment, cwd=self.directory, stdout=subprocess.PIPE))
            return ""
        done = subprocess.run(shell, env=self.environment, cwd=self.directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    directory = tmp_path_factory.mktemp("readme")
    with docker_registry(directory / "registry") as host, Engine(extra=("--registry-mirror", f"http://{host}")) as running:
        publish(directory, host, images.busybox(), "library/debian:latest")
        yield running


@pytest.fixture(scope="module")
def reader(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    made = Reader(engine, tmp_path_factory.mktemp("here"))
    (made.directory / "image.tar").write_bytes(images.layered().docker_archive())
    (made.directory / "rootfs.tar").write_bytes(images.rootfs())
    yield made
    for process in made.following:
        process.kill()
        process.communicate()
    engine.remove_containers()


def test_the_two_commands(reader: Reader) -> None:
    make, (pack, run) = blocks("Two commands")
    assert make == ["make demo"]
    reader.type(pack)
    output = reader.type(run)
    assert output.startswith("hello from ")
    assert os.uname().release in output, "the kernel is the host's"
    assert "uid=0" in output


def test_the_tour(reader: Reader) -> None:
    first, second = blocks("A tour")
    shown = {line: reader.type(line) for line in first}
    listed = shown["teul images"]
    assert {"debian", "judge/layers", "mine/base", "local/shell"} <= {line.split()[0] for line in listed.splitlines()[1:]}
    assert [process.wait(timeout=20) for process in reader.following] == [0], "who follows a log leaves with the container"
    shown = {line: reader.type(line) for line in second}
    assert shown["docker run --rm local/shell uname -r"] == f"{os.uname().release}\n"
    assert "CONTAINER ID" in shown["docker ps -a"]
