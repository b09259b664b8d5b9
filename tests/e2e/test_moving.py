"""Images from one engine to another, without a registry: what goes over the line, and what is there afterwards."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images
from support.docker_host import Output
from support.engine import Engine

TEUL = str(Path(sys.executable).with_name("teul"))
BIG = 3 << 20


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Engine, Engine]]:
    with Engine() as first, Engine() as second:
        yield first, second


@pytest.fixture
def engines(pair: tuple[Engine, Engine]) -> Iterator[tuple[Engine, Engine]]:
    yield pair
    for engine in pair:
        for image_id in set(engine.must("images", "-q", "--no-trunc").split()):
            engine.must("rmi", "-f", image_id)


class Line:
    """A unix socket that passes everything on to an engine's, and counts the bytes that go there. `cut_after` breaks it off."""

    def __init__(self, engine: Engine, directory: Path, *, cut_after: int | None = None) -> None:
        self.path = str(directory / "line.sock")
        self.sent = 0
        self._target = str(engine.socket_path)
        self._cut_after = cut_after
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(8)
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Line:
        self._threads[0].start()
        return self

    def __exit__(self, *details: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(10)
        self._break()
        for thread in self._threads:
            thread.join(10)
        for end in self._open:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            self._open += [near, far]
            for arguments in ((near, far, True), (far, near, False)):
                thread = threading.Thread(target=self._pass_on, args=arguments)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
                with self._lock:
                    self.sent += len(data) if counted else 0
                if self._cut_after is not None and self.sent > self._cut_after:
                    self._break()
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return  # broken off

    def _break(self) -> None:
        for end in self._open:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # that end has left


def image(*layers: bytes, name: str = "moved:1") -> images.Image:
    packed = tuple(images.pack([images.file(f"layer-{number}", data)]) for number, data in enumerate(layers))
    return images.Image((name,), packed, {"Cmd": ["/layer-0"]})


def noise(seed: int, size: int = BIG) -> bytes:
    """Bytes that do not get smaller."""
    return random.Random(seed).randbytes(size)


def identity(engine: Engine, name: str) -> tuple[str, list[str]]:
    [document] = json.loads(engine.must("image", "inspect", name))
    return document["Id"], document["RootFS"]["Layers"]


def blobs(engine: Engine) -> set[str]:
    return {path.name for path in (engine.root / "blobs/sha256").iterdir()}


def load(engine: Engine, one: images.Image, compression: str = "gzip") -> None:
    engine.must("load", stdin=one.oci_archive(compression))


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_second_push_sends_only_what_differs(engines: tuple[Engine, Engine], tmp_path: Path, compression: str) -> None:
    first, second = engines
    bottom = noise(1)
    load(first, image(bottom, noise(2, 1000)), compression)
    with Line(second, tmp_path) as line:
        told = first.teul("image", "push-to", f"unix://{line.path}", "moved:1")
        assert (told.exit_code, told.stdout) == (0, "Loaded image: moved:1\n"), told.stderr
        assert "Sending 2 of 2 blobs" in told.stderr
        assert line.sent > BIG
    assert identity(second, "moved:1") == identity(first, "moved:1")
    load(first, image(bottom, noise(3, 1000)), compression)
    os.unlink(tmp_path / "line.sock")
    with Line(second, tmp_path) as line:
        told = first.teul("image", "push-to", f"unix://{line.path}", "moved:1")
        assert told.exit_code == 0, told.stderr
        assert "Sending 1 of 2 blobs" in told.stderr
        assert line.sent < 100_000
    assert identity(second, "moved:1") == identity(first, "moved:1")
    container = second.must("create", "moved:1")
    for name, data in (("layer-0", bottom), ("layer-1", noise(3, 1000))):
        second.must("cp", f"{container}:/{name}", str(tmp_path / name))
        assert (tmp_path / name).read_bytes() == data
    second.must("rm", container)


def test_a_pull_brings_the_same_and_repeats_nothing(engines: tuple[Engine, Engine]) -> None:
    first, second = engines
    load(first, image(noise(1), noise(2)))
    first.must("tag", "moved:1", "also:1")
    told = second.teul("image", "pull-from", f"unix://{first.socket_path}", "moved:1", "also:1")
    assert (told.exit_code, sorted(told.stdout.splitlines())) == (0, ["Loaded image: also:1", "Loaded image: moved:1"]), told.stderr
    again = second.teul("image", "pull-from", f"unix://{first.socket_path}", "moved:1", "also:1")
    assert (again.exit_code, "Sending 0 of 2 blobs" in again.stderr) == (0, True)
    assert identity(second, "also:1") == identity(first, "moved:1")
    assert second.teul("system", "check").exit_code == 0


def post_archive(engine: Engine, path: Path) -> dict[str, str]:
    """What the engine answers to an archive that may leave out what it has."""
    with engine.api() as api:
        answer = api.expect(200, "POST", "/teul/images/load", path.read_bytes())
    document: dict[str, str] = json.loads(answer.body)
    return document


def with_ssh(engine: Engine, directory: Path, body: str, *arguments: str) -> Output:
    """Teul's command line where `ssh` is a shell script."""
    program = directory / "ssh"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    environment = engine.environment() | {"PATH": f"{directory}:{engine.environment()['PATH']}"}
    done = subprocess.run([TEUL, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False)
    return Output(done.returncode, done.stdout, done.stderr)


def test_over_ssh(engines: tuple[Engine, Engine], tmp_path: Path) -> None:
    first, second = engines
    load(first, image(noise(1)))
    said = tmp_path / "said"
    body = f"""echo "$@" >> {said}
while [ "$1" != -- ]; do shift; done
shift 3
TEUL_HOST=unix://{second.socket_path} exec {TEUL} "$@" """
    told = with_ssh(first, tmp_path, body, "image", "push-to", "ssh://gildong@far:2222", "moved:1")
    assert (told.exit_code, told.stdout) == (0, "Loaded image: moved:1\n"), told.stderr
    assert set(said.read_text().splitlines()) == {"-o ConnectTimeout=30 -T -l gildong -p 2222 -- far teul system dial-stdio"}
    assert identity(second, "moved:1") == identity(first, "moved:1")
    second.must("rmi", "moved:1")
    back = with_ssh(
        second, tmp_path, body.replace(str(second.socket_path), str(first.socket_path)), "image", "pull-from", "ssh://far", "moved:1"
    )
    assert back.exit_code == 0, back.stderr
    assert identity(second, "moved:1") == identity(first, "moved:1")


def test_an_ssh_that_fails_says_why(engines: tuple[Engine, Engine], tmp_path: Path) -> None:
    told = with_ssh(engines[0], tmp_path, "echo 'no way there' >&2; exit 255", "image", "push-to", "ssh://far", "moved:1")
    assert told.exit_code == 1
    assert told.stderr.splitlines()[0] == "no way there"
    assert "error during connect to ssh://far" in told.stderr


def test_a_transfer_that_breaks_off_leaves_nothing(engines: tuple[Engine, Engine], tmp_path: Path) -> None:
    first, second = engines
    load(first, image(noise(1), noise(2)))
    before = blobs(second)
    with Line(second, tmp_path, cut_after=BIG) as line:
        told = first.teul("image", "push-to", f"unix://{line.path}", "moved:1")
    assert told.exit_code == 1
    assert "Loaded" not in told.stdout
    assert second.must("images", "-q") == ""
    assert blobs(second) == before
    told = first.teul("image", "push-to", f"unix://{second.socket_path}", "moved:1")
    assert told.exit_code == 0, told.stderr
    assert identity(second, "moved:1") == identity(first, "moved:1")


def test_what_leaves_out_too_much_is_refused_and_plain_load_takes_nothing_of_its_own(
    engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    first, second = engines
    load(first, image(noise(1, 1000), noise(2, 1000)))
    with first.api() as api:
        names = {"names": ["moved:1"]}
        found = [blob["digest"] for blob in api.expect(200, "POST", "/teul/images/blobs", names).json()["blobs"]]
        partial = api.expect(200, "POST", "/teul/images/save", {**names, "without": found}).body
    archive = tmp_path / "partial.tar"
    archive.write_bytes(partial)
    with tarfile.open(archive) as members:
        assert len([name for name in members.getnames() if len(name) == len("blobs/sha256/") + 64]) == 2, "manifest and config"
    refused = post_archive(second, archive)
    assert list(refused) == ["errorDetail", "error"]
    assert re.fullmatch(r"content digest sha256:[0-9a-f]{64}: not found", refused["error"])
    assert second.must("images", "-q") == ""
    plain = first.docker("load", "-i", str(archive))
    assert plain.exit_code == 1
    assert re.fullmatch(r"content digest sha256:[0-9a-f]{64}: not found\n", plain.stderr)
    assert post_archive(first, archive) == {"stream": "Loaded image: moved:1\n"}


def test_what_is_not_there_is_told(engines: tuple[Engine, Engine]) -> None:
    first, second = engines
    told = first.teul("image", "push-to", f"unix://{second.socket_path}", "nothing")
    assert (told.exit_code, told.stderr) == (1, "Error response from daemon: No such image: nothing:latest\n")
    told = first.teul("image", "pull-from", f"unix://{second.base}/nobody.sock", "nothing")
    assert (told.exit_code, told.stderr) == (1, f"Cannot connect to the engine at unix://{second.base}/nobody.sock. Is it running?\n")
