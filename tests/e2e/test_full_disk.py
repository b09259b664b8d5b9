"""A container fills the disk that the engine's root is on: the container can be removed, and an engine starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images
from support.docker_host import Output
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from teul.store.ballast import BALLAST_BYTES, free_bytes

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

SOON = {"teul.daemon.engine._BALLAST_SECONDS": 0.1}  # room is kept again
_DISK = "size=200m"
_FILL = "dd if=/dev/zero of=/fill bs=4k 2>/dev/null; while :; do echo x >>/more 2>/dev/null; sleep 0.01; done"
_GNAW = "while :; do dd if=/dev/zero bs=64k count=1 2>/dev/null >>/more; sleep 0.01; done"


class _SmallEngine(Engine):
    """Its root has a disk of its own."""

    def __init__(self, reserve: str = "0") -> None:
        """What the engine keeps for bad days is looked at with nothing else kept."""
        super().__init__(hurried=SOON, extra=("--disk-reserve", reserve))

    def start(self, *, timeout_seconds: float = 30.0) -> None:
        if not self.root.exists():
            self.root.mkdir(mode=0o711)
            mounted = self.run(["mount", "-t", "tmpfs", "-o", _DISK, "small", str(self.root)])
            assert mounted.exit_code == 0, mounted.stderr
        super().start(timeout_seconds=timeout_seconds)

    def sweep(self) -> None:
        unmounted: Output = self.run(["umount", str(self.root)])
        assert unmounted.exit_code == 0, unmounted.stderr
        super().sweep()


@pytest.fixture
def engine() -> Iterator[_SmallEngine]:
    with _SmallEngine() as engine:
        engine.load(images.busybox().docker_archive())
        eventually((engine.root / "ballast").exists, "room is kept for bad days")
        yield engine


def _fill(engine: Engine) -> str:
    container = engine.must("run", "-d", "--name", "filler", "busybox", "sh", "-c", _FILL)
    eventually(lambda: free_bytes(str(engine.root)) == 0, "the disk is full", timeout_seconds=30)
    return container


def _assert_recovers(engine: Engine) -> None:
    ballast: Path = engine.root / "ballast"
    eventually(lambda: ballast.exists() and ballast.stat().st_blocks * 512 >= BALLAST_BYTES, "room is kept again", timeout_seconds=20)
    assert engine.must("run", "--rm", "busybox", "echo", "works") == "works"
    assert engine.must("ps", "-aq") == ""


def _exhaust(engine: Engine) -> None:
    """Have the engine's own file written to its last free page, so that the next transaction finds no room in it."""
    for number in range(2000):
        created = engine.docker("create", "--name", f"c{number}", "busybox", "true")
        if created.exit_code != 0:
            assert "no space left on device" in created.stderr, created.stderr
            return
    raise AssertionError("the disk is not full")


def test_container_that_filled_the_disk_can_be_removed(engine: _SmallEngine) -> None:
    _fill(engine)
    _exhaust(engine)
    assert (engine.root / "ballast").exists(), "what only takes room gets none of what is kept"
    engine.must("rm", "-f", "filler")
    for line in engine.must("ps", "-aq").split():
        engine.must("rm", line)
    _assert_recovers(engine)


def test_it_can_be_removed_though_another_one_takes_all_the_room_there_is(engine: _SmallEngine) -> None:
    """What was kept is gone, and the other goes on writing: the room is the removed container's own."""
    engine.must("run", "-d", "--name", "another", "busybox", "sh", "-c", _GNAW)
    _fill(engine)
    _exhaust(engine)
    (engine.root / "ballast").unlink()
    eventually(lambda: free_bytes(str(engine.root)) == 0, "the disk is full again", timeout_seconds=30)
    engine.must("rm", "-f", "filler")
    engine.must("rm", "-f", *engine.must("ps", "-aq").split())
    _assert_recovers(engine)


@pytest.mark.parametrize("way", ["stop", "kill9"])
def test_engine_starts_on_a_full_disk(engine: _SmallEngine, way: str) -> None:
    container = _fill(engine)
    _exhaust(engine)
    getattr(engine, way)()
    eventually(lambda: free_bytes(str(engine.root)) == 0, "the disk is full again", timeout_seconds=30)
    engine.start()
    assert json.loads(engine.must("inspect", container))[0]["State"]["Running"] is True
    engine.must("rm", "-f", *engine.must("ps", "-aq").split())
    _assert_recovers(engine)


def test_nothing_new_is_taken_when_little_is_left(tmp_path: Path) -> None:
    """Removals, stops and starts work all the time, and what was refused is taken when there is room again."""
    archive = tmp_path / "large.tar"
    large = images.Image(("large:1",), (*images.busybox().layers, images.pack([images.file("noise", b"x" * (8 << 20))])), {"Cmd": ["sh"]})
    archive.write_bytes(large.docker_archive())
    with _SmallEngine("48m") as engine:
        engine.load(images.busybox().docker_archive())
        engine.must("create", "--name", "idle", "busybox", "sleep", "1000")
        engine.must("run", "-d", "--name", "filler", "busybox", "sh", "-c", "head -c 165000000 /dev/zero >/fill; sleep 1000")
        eventually(lambda: free_bytes(str(engine.root)) < 48 << 20, "little is left", timeout_seconds=30)
        (tmp_path / "file").write_text("x")
        for arguments in (
            ("create", "busybox", "true"),
            ("volume", "create", "more"),
            ("load", "-i", str(archive)),
            ("import", str(archive)),
            ("cp", str(tmp_path / "file"), "idle:/"),
        ):
            refused = engine.docker(*arguments)
            assert refused.exit_code != 0, arguments
            assert "no space left on device: " in refused.stderr, (arguments, refused.stderr)
        assert "no space left on device: " in engine.teul("load", "-i", str(archive)).stderr
        assert "no space left on device: " in engine.teul("create", "busybox", "true").stderr
        assert free_bytes(str(engine.root)) > 16 << 20, "nothing of what was refused is there"
        engine.must("start", "idle")
        engine.must("exec", "idle", "touch", "/own")
        engine.must("rm", "-f", "filler")
        eventually(lambda: free_bytes(str(engine.root)) > 48 << 20, "there is room again")
        engine.must("load", "-i", str(archive))
        engine.must("rm", "-f", "idle")
