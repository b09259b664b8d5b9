"""The two forms of layers, seen by a client: the same files, whichever the engine makes; and the choice between them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from e2e.conftest import with_images
from support import images
from support.engine import Engine

IMAGE = "judge/layers:1"
FORMS = ("erofs", "directory")
_CHANGE = "rm -r /opaque; mkdir /opaque; echo new > /opaque/new; echo more >> /etc/passwd; rm /bin/vi; mv /data/kept /data/moved"

_LOOK = "find /bin/* /data /opaque /home | sort | xargs stat -c '%n %F %a %u %g %Y %t,%T'"  # no sizes of directories; and /bin is nobody's entry in the layer on top


def members(archive: Path) -> dict[str, tuple[object, ...]]:
    """What `tar` would make of it, by name; but the times of what the container has just made."""
    with tarfile.open(archive) as tar:
        return {
            entry.name: (entry.type, entry.mode, entry.uid, entry.gid, entry.linkname, entry.devmajor, entry.devminor, _content(tar, entry))
            for entry in tar
        }


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(entry) if entry.isfile() else None
    return file.read() if file is not None else b""


def test_both_forms_of_layers_look_the_same(tmp_path: Path) -> None:
    """`export`, `diff` and `cp` of a container before and after it has changed its files, and what it sees itself."""
    seen = {}
    for form in FORMS:
        with Engine(extra=("--snapshotter", form)) as running:
            with_images(running)
            assert f"Snapshotter: {form}\n" in running.must("info")
            container = running.must("create", "--user", "root", "--entrypoint", "sh", IMAGE, "-c", _CHANGE)
            archives = [tmp_path / f"{form}-{number}.tar" for number in range(2)]
            running.must("export", "-o", str(archives[0]), container)
            assert running.must("start", "-a", container) == ""
            running.must("export", "-o", str(archives[1]), container)
            running.must("cp", f"{container}:/etc", str(tmp_path / form))
            copied = {path.name: path.read_bytes() for path in (tmp_path / form).iterdir() if path.name not in {"hostname", "hosts"}}
            look = running.must("run", "--rm", "--user", "root", "--entrypoint", "sh", IMAGE, "-c", _LOOK)
            seen[form] = (
                [members(archive) for archive in archives],
                sorted(running.must("diff", container).splitlines()),
                copied,
                look.splitlines(),
                running.must("image", "inspect", "--format", "{{.Id}} {{.Size}}", IMAGE),
            )
            running.must("rm", container)
    for one, other in zip(seen["erofs"], seen["directory"], strict=True):
        assert one == other


def test_a_form_that_the_host_does_not_have_is_refused(tmp_path: Path) -> None:
    """On tmpfs no index can be mounted: insisting on it ends the engine with the reason, and `auto` unpacks."""
    place = tmp_path / "memory"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=True)
    try:
        command = [sys.executable, "-m", "teul", "serve", "--root", f"{place}/root", "--run-root", f"{place}/run", "--snapshotter", "erofs"]
        done = subprocess.run([*command, "-H", f"unix://{tmp_path}/s"], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert "layers cannot be mounted by their indexes" in done.stderr
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_privileged_container_cannot_write_a_layer(engine: Engine) -> None:
    """What it writes is its own: the next container of the image has the image's files."""
    run = ("run", "--rm", "--user", "root", "--entrypoint")
    before = engine.must(*run, "md5sum", IMAGE, "/bin/busybox", "/data/kept")
    engine.must(*run, "sh", "--privileged", IMAGE, "-c", "mount -o remount,rw /; echo x > /data/kept; cp /bin/vi /bin/new; rm /bin/busybox")
    assert engine.must(*run, "md5sum", IMAGE, "/bin/busybox", "/data/kept") == before
    mounts = engine.must(*run, "cat", "--privileged", IMAGE, "/proc/self/mountinfo")
    assert " erofs " not in mounts, "no layer is in the container's table of mounts"


@pytest.mark.parametrize("init", [(), ("--init",)], ids=["plain", "init"])
def test_no_process_of_a_container_holds_a_layer(engine: Engine, init: tuple[str, ...]) -> None:
    run = ("run", "--rm", *init, "--user", "root", "--entrypoint", "sh", IMAGE, "-c")
    links = engine.must(*run, "for p in 1 $$; do ls -l /proc/$p/fd; done")
    numbers = {line.split(" -> ")[0].split()[-1] for line in links.splitlines() if " -> " in line}
    assert numbers <= {"0", "1", "2", "3", "10"}, links


def test_layers_are_kept_once_if_told_so() -> None:
    """And leave all the same, for another engine or for this one."""
    with Engine(extra=("--compressed-layers", "drop")) as engine:
        engine.load(images.layered().oci_archive("gzip"))
        if not list((engine.root / "snapshots").glob("*/index.erofs")):
            pytest.skip("layers are unpacked here")
        assert len(list((engine.root / "blobs/sha256").iterdir())) == 2, "manifest and config"
        name = images.layered().names[0]
        before = engine.must("run", "--rm", name, "cat", "/data/kept", "/opaque/shown")
        archive = engine.base / "saved.tar"
        engine.must("save", "-o", str(archive), name)
        engine.must("rmi", name)
        assert engine.must("load", "-i", str(archive)) == f"Loaded image: {name}"
        assert engine.must("run", "--rm", name, "cat", "/data/kept", "/opaque/shown") == before
        assert engine.teul("system", "check").exit_code == 0
