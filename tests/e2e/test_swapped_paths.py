"""A container that swaps directories and symbolic links in the way of whatever the engine does with paths in it: nothing outside is touched.

TEUL_ATTACK_ROUNDS says how often each is tried, 20 times if nothing does.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.engine import Engine
from support.images import directory, file, pack
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
    (place / "deep/file").chmod(0o640)
    before = _owners_and_modes(place)
    yield place
    after = _owners_and_modes(place)
    left = {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}
    mounted = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(place) in line]
    (place / "deep/file").unlink(missing_ok=True)
    for path in sorted(place.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    place.rmdir()
    assert left == {"deep/file": SECRET}, "DANGER: files of the host were changed"
    assert mounted == [], "DANGER: something was mounted on the host"
    assert after == before, "DANGER: something was made on the host, or an owner or a mode was changed"


def _owners_and_modes(place: Path) -> dict[str, tuple[int, int, int]]:
    """Of all that is there; who unpacks an archive sets them, of directories that are there already, too (CVE-2021-41089)."""
    found = {str(path): path.lstat() for path in (place, *place.rglob("*"))}
    return {path: (status.st_mode, status.st_uid, status.st_gid) for path, status in found.items()}


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


@pytest.mark.parametrize("place", ["/r", "/v"])
def test_cp_of_trees_both_ways_at_once(engine: Engine, swapper: str, place: str) -> None:
    """CVE-2018-15664. Archives of many files in few directories, with other owners and modes, go in while others come out."""
    entries = [directory("deep", 0o777, uid=1234, gid=1234)]
    entries += [file(f"deep/planted-{number}", "planted", 0o777, uid=1234, gid=1234) for number in range(40)]
    entries += [directory("deep/below", 0o777), *(file(f"deep/below/{number}", "planted") for number in range(40))]
    archive = pack(entries)
    ended = threading.Event()

    placed: list[int] = []

    def place_again_and_again() -> None:
        with engine.api(timeout_seconds=120) as api:
            while not ended.is_set():
                if api.request("PUT", f"/containers/{swapper}/archive?path={place}/way", archive).status == 200:
                    placed.append(len(placed))

    taken = 0
    with ThreadPoolExecutor(1) as pool, engine.api(timeout_seconds=120) as api:
        placing = pool.submit(place_again_and_again)
        try:
            for number in range(50 * ROUNDS):
                if number >= ROUNDS and taken and placed:
                    break
                path = f"{place}/way/deep" if number % 2 else f"{place}/way/."
                try:
                    answer = api.request("GET", f"/containers/{swapper}/archive?path={path}")
                except EOFError:  # what was being read has been swapped away: the archive breaks off
                    api.close()
                    continue
                assert SECRET.encode() not in answer.body, "DANGER: cp read a file of the host"
                taken += answer.status == 200
        finally:
            ended.set()
    placing.result()
    assert placed
    assert taken > 0


@pytest.mark.parametrize("kind", ["volume", "bind", "tmpfs"])
def test_mounts_below_a_volume(engine: Engine, swapper: str, victim: Path, tmp_path: Path, kind: str) -> None:
    """CVE-2019-19921, CVE-2021-30465, CVE-2024-45310: a mount's target lies in a volume in which another container swaps.

    Its directories are made where the volume's are, or not at all, and what is mounted is seen there, or nowhere.
    """
    source = {"volume": "src=mounted,", "bind": f"src={tmp_path},", "tmpfs": ""}[kind]
    mount = f"type={kind},{source}dst=/v/way/deep/mounted/below"
    look = "cat /proc/self/mountinfo; ls /v/way/deep/mounted; cat /v/way/deep/file; cat /teul-victim-*/deep/file; :"
    ran = 0
    for _ in range(ROUNDS):
        output = engine.docker("run", "--rm", "--network", "none", "-v", "swapped:/v", "--mount", mount, "busybox", "sh", "-c", look)
        assert SECRET not in output.stdout, "DANGER: a mount in a volume led to the host"
        ran += output.exit_code == 0
    assert ran > 0
    assert swapper in engine.must("ps", "-q", "--no-trunc")
    engine.docker("volume", "rm", "mounted")


SWAP_DEVICES = """
mknod /d/good-null c 1 3; mknod /d/good-console c 1 3
ln -s /proc/sys/kernel/core_pattern /d/bad-null; ln -s /proc/sys/kernel/core_pattern /d/bad-console
while :; do
  for name in null console; do
    mv /d/good-$name /d/$name; mv /d/$name /d/good-$name; mv /d/bad-$name /d/$name; mv /d/$name /d/bad-$name
  done
done 2>/dev/null
"""
# What gives a container the host: the program that the kernel starts for a core file, and what is hidden.
LOOK_AT_PROC = """
grep -E ' /proc/sys/kernel/core_pattern | /proc/sysrq-trigger/' /proc/self/mountinfo && echo DANGER: mounted
echo '|/danger' 2>/dev/null > /proc/sys/kernel/core_pattern && echo DANGER: written
for file in /proc/keys /proc/timer_list /proc/kcore; do
  [ "$(head -c 1 $file 2>/dev/null | wc -c)" = 0 ] || echo DANGER: $file is shown
done
echo looked
"""


@pytest.mark.parametrize("options", [(), ("-t", "-v", "/dev/pts:/dev/pts")], ids=["pipes", "terminal"])
def test_devices_that_are_swapped(engine: Engine, options: tuple[str, ...]) -> None:
    """CVE-2025-31133, CVE-2025-52565: what hides files of the kernel's, and the console, do not lead to what is at /dev/null or /dev/console.

    Another container has the same /dev, and swaps these two for links to the kernel's own files.
    """
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    engine.must("run", "-d", "--name", "swaps", "--cpus", "0.5", "-v", "devices:/d", "busybox", "sh", "-c", SWAP_DEVICES)
    looked = 0
    try:
        for _ in range(ROUNDS):
            command = ("run", "--rm", "--network", "none", *options, "-v", "devices:/dev", "busybox", "sh", "-c", LOOK_AT_PROC)
            output = engine.docker(*command)
            assert "DANGER" not in output.stdout, output.stdout
            looked += "looked" in output.stdout
        assert looked > 0
    finally:
        assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern, "DANGER: a container has changed what the host runs"
        engine.remove_containers()
        engine.must("volume", "rm", "devices")


def test_working_directories(engine: Engine, swapper: str) -> None:
    for _ in range(ROUNDS):
        output = engine.docker("exec", "-w", "/r/way/deep", swapper, "cat", "file")
        assert SECRET not in output.stdout, "DANGER: an exec began in a directory of the host"
