"""Damage on a real engine's disk: the check says what it is, the engine and the containers of other images go on, and a repair helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import images
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

_NAME = "hurt:1"


def _hurt() -> images.Image:
    base = images.busybox()
    return images.Image((_NAME,), (*base.layers, images.pack([images.file("word", "whole\n")])), base.config)


@pytest.fixture
def top(fresh_engine: Engine) -> Path:
    """The directory of the layer that the image alone has, whose blob is compressed."""
    before = set((fresh_engine.root / "snapshots").iterdir())
    fresh_engine.load(_hurt().oci_archive("gzip"))
    [directory] = set((fresh_engine.root / "snapshots").iterdir()) - before
    if not (directory / "index.erofs").exists():
        pytest.skip("layers are unpacked here")
    return directory


def _change(path: Path, old: bytes, new: bytes) -> None:
    """In the file as it is, which others may have mounted."""
    with path.open("r+b") as file:
        file.seek(file.read().index(old))
        file.write(new)


def _check(engine: Engine, *options: str) -> tuple[int, list[str]]:
    told = engine.teul("system", "check", *options)
    assert told.stderr == ""
    return told.exit_code, told.stdout.splitlines()


def test_an_archive_is_repaired_while_containers_run(fresh_engine: Engine, top: Path) -> None:
    engine = fresh_engine
    other = engine.must("run", "-d", "--name", "other", "busybox", "sleep", "1000")
    running = engine.must("run", "-d", "--name", "running", _NAME, "sleep", "1000")
    pids = {name: engine.init_pid(name) for name in (other, running)}
    assert _check(engine)[0] == 0
    _change(top / "layer.tar", b"whole", b"wrong")
    code, [finding, outcome] = _check(engine)
    assert code == 1
    assert finding.startswith("archive sha256:")
    assert finding.endswith(f" of {_NAME}: its bytes have another digest")
    assert outcome.endswith(": 1 damaged, 0 repaired")
    code, [finding, outcome] = _check(engine, "--repair")
    assert code == 0
    assert "(restored from blob sha256:" in finding
    assert outcome.endswith(": 1 damaged, 1 repaired")
    assert engine.must("run", "--rm", _NAME, "cat", "/word") == "whole"
    assert engine.must("exec", other, "echo", "here") == "here"
    assert {name: engine.init_pid(name) for name in (other, running)} == pids
    assert _check(engine)[0] == 0
    engine.must("rm", "-f", other, running)
    engine.must("rmi", _NAME)
    assert _check(engine)[0] == 0


def test_an_index_and_a_document_are_repaired_in_one_go(fresh_engine: Engine, top: Path) -> None:
    engine = fresh_engine
    image_id = str(engine.must("inspect", "--format", "{{.Id}}", _NAME)).removeprefix("sha256:")
    _change(top / "index.erofs", b"word", b"ward")
    (engine.root / "blobs/sha256" / image_id).write_bytes(b"{}")
    (engine.root / "blobs/sha256" / ("f" * 64)).write_bytes(b"left")
    code, lines = _check(engine, "--repair")
    assert code == 0, lines
    assert [line.split(" ")[0] for line in lines[:-1]] == ["index", "blob", "file"]
    assert all(f" of {_NAME}: " in line for line in lines[:2])
    engine.kill9()
    engine.start()
    assert engine.must("run", "--rm", _NAME, "cat", "/word") == "whole"
    assert _check(engine)[0] == 0


def test_damage_that_stays_keeps_nobody_else_from_anything(fresh_engine: Engine, top: Path) -> None:
    """The engine is restarted over it: the image is left out, its name is told, and other images are as usable as before."""
    engine = fresh_engine
    image_id = str(engine.must("inspect", "--format", "{{.Id}}", _NAME)).removeprefix("sha256:")
    engine.stop()
    (engine.root / "blobs/sha256" / image_id).write_bytes(b"{}")
    (top / "layer.tar").write_bytes(b"")
    engine.start()
    code, lines = _check(engine, "--repair")
    assert code == 1
    assert any(line.startswith(f"image sha256:{image_id} of {_NAME}: ") for line in lines), lines
    assert any(line.startswith("archive sha256:") for line in lines), lines
    assert engine.must("run", "--rm", "busybox", "echo", "works") == "works"


@pytest.mark.parametrize("form", ["erofs", "directory"])
def test_nothing_is_wrong_with_what_was_loaded(form: str) -> None:
    """Of every kind of entry, in either form of layers, and after containers have run on them."""
    with Engine(extra=("--snapshotter", form)) as engine:
        for image in (images.busybox(), images.layered()):
            engine.load(image.docker_archive())
        for compression in ("gzip", "zstd"):
            engine.load(images.layered().oci_archive(compression))
        engine.must("run", "--rm", "judge/layers:1", "sh", "-c", "cat /data/kept && ls -lR /bin /data")
        code, lines = _check(engine, "--repair")
        assert (code, lines[:-1]) == (0, [])
