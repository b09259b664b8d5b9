"""A container that swaps directories and symbolic links in the way of whatever the engine does with paths in it: nothing outside is touched.

TEUL_ATTACK_ROUNDS says how often each is tried, 20 times if nothing does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

ROUNDS = int(os.environ.get("TEUL_ATTACK_ROUNDS", "20"))
SECRET = "of the host only"
# `way` is by turns a directory and a symbolic link to where the host has its secret.
SWAP = """
cd {place} && mkdir -p honest/deep && echo own > honest/deep/file && ln -s {victim} lure
while :; do
  mv honest way; mv way honest; mv lure way; mv way lure
done 2>/dev/null
"""


@pytest.fixture
def victim() -> Iterator[Path]:
    """A directory of the host, at which links in the container aim; the container has nothing at its path."""
    place = Path(f"/teul-victim-{os.getpid()}")
    (place / "deep").mkdir(parents=True)
    (place / "deep/file").write_text(SECRET)
    yield place
    left = {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}
    mounted = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(place) in line]
    (place / "deep/file").unlink(missing_ok=True)
    for path in sorted(place.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    place.rmdir()
    assert left == {"deep/file": SECRET}, "DANGER: files of the host were changed"
    assert mounted == [], "DANGER: something was mounted on the host"


@pytest.fixture
def swapper(engine: Engine, victim: Path) -> Iterator[str]:
    """A container that swaps in its root and in its volume `swapped`."""
    script = f"({SWAP.format(place='/v', victim=victim)}) & mkdir /r; {SWAP.format(place='/r', victim=victim)}"
    yield engine.must("run", "-d", "--cpus", "0.5", "-v", "swapped:/v", "busybox", "sh", "-c", script)
    engine.remove_containers()
    engine.must("volume", "rm", "swapped")


def test_places_in_a_volume(engine: Engine, swapper: str) -> None:
    """A start finds the container's own directory, or says that there is none or that it leads out."""
    for _ in range(ROUNDS):
        mount = "type=volume,src=swapped,dst=/m,volume-subpath=way/deep"
        output = engine.docker("run", "--rm", "--network", "none", "--mount", mount, "busybox", "cat", "/m/file")
        assert SECRET not in output.stdout, "DANGER: a place in a volume led to the host"
        if output.exit_code == 0:
            assert output.stdout == "own\n"
        else:
            assert "cannot access path" in output.stderr or "escapes the base directory" in output.stderr, output.stderr
    assert swapper in engine.must("ps", "-q", "--no-trunc")


def test_live_mounts(engine: Engine, swapper: str, tmp_path: Path) -> None:
    """What is mounted is in the container, wherever that is there, and can be taken away, or nothing is taken away."""
    (tmp_path / "source").mkdir()
    with engine.api(timeout_seconds=120) as api:
        for number in range(ROUNDS):
            place = f"/r/way/deep/{number}"
            added = api.request("POST", f"/teul/containers/{swapper}/mounts", {"Binds": [f"{tmp_path}/source:{place}"]})
            assert added.status in (200, 500), added.message
            if added.status == 200:
                removed = api.request("POST", f"/teul/containers/{swapper}/mounts", {"Remove": [place], "Force": True})
                assert removed.status in (200, 400), removed.message
    assert list((tmp_path / "source").iterdir()) == []


@pytest.mark.parametrize("place", ["/r", "/v"])
def test_cp(engine: Engine, swapper: str, tmp_path: Path, place: str) -> None:
    """What comes out is the container's own, and what goes in stays in."""
    (tmp_path / "file").write_text("planted")
    for number in range(ROUNDS):
        got = tmp_path / f"got-{number}"
        if engine.docker("cp", f"{swapper}:{place}/way/deep/file", str(got)).exit_code == 0:
            assert SECRET not in got.read_text(), "DANGER: cp read a file of the host"
        engine.docker("cp", str(tmp_path / "file"), f"{swapper}:{place}/way/deep/planted")


def test_working_directories(engine: Engine, swapper: str) -> None:
    for _ in range(ROUNDS):
        output = engine.docker("exec", "-w", "/r/way/deep", swapper, "cat", "file")
        assert SECRET not in output.stdout, "DANGER: an exec began in a directory of the host"
