"""Mounts of containers: places in volumes, with the texts of Docker where there is none."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images
from support.docker_host import DockerHost
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

FILL = "mkdir -p /v/a/b && echo deep > /v/a/b/file && ln -s a/b /v/inside && ln -s /etc /v/outside && ln -s ../../.. /v/up && echo top > /v/top"


@pytest.fixture
def volume(engine: DockerHost) -> str:
    """A volume with directories, files, and links that stay inside or do not."""
    engine.docker("volume", "rm", "-f", "places")
    engine.must("run", "--rm", "-v", "places:/v", "busybox", "sh", "-c", FILL)
    return "places"


def at(volume: str, subpath: str, *more: str) -> str:
    return ",".join((f"type=volume,src={volume},dst=/m,volume-subpath={subpath}", *more))


@pytest.mark.parametrize(("subpath", "look", "output"), [
    ("a", "ls /m", "b"),
    ("a/b", "cat /m/file", "deep"),
    ("a/b/file", "cat /m", "deep"),
    ("inside", "cat /m/file", "deep"),
    ("a/../a/b", "cat /m/file", "deep"),
])  # fmt: skip
def test_a_place_in_a_volume_is_mounted(engine: DockerHost, volume: str, subpath: str, look: str, output: str) -> None:
    assert engine.must("run", "--rm", "--mount", at(volume, subpath), "busybox", "sh", "-c", look) == output


def test_what_is_written_there_is_in_the_volume_unless_it_is_read_only(engine: DockerHost, volume: str) -> None:
    engine.must("run", "--rm", "--mount", at(volume, "a"), "busybox", "touch", "/m/made")
    assert engine.must("run", "--rm", "-v", "places:/v", "busybox", "ls", "/v/a") == "b\nmade"
    refused = engine.docker("run", "--rm", "--mount", at(volume, "a", "readonly"), "busybox", "touch", "/m/other")
    assert "Read-only file system" in refused.stderr


@pytest.mark.parametrize(("subpath", "text"), [
    ("none", "cannot access path {base}/none: lstat {base}/none: no such file or directory"),
    ("a/none/more", "cannot access path {base}/a/none/more: lstat {base}/a/none: no such file or directory"),
    ("outside", "path concatenation escapes the base directory, base: {base}, subpath: outside"),
    ("up", "path concatenation escapes the base directory, base: {base}, subpath: up"),
])  # fmt: skip
def test_a_place_that_is_not_there_or_not_in_the_volume_is_refused(engine: DockerHost, volume: str, subpath: str, text: str) -> None:
    """docker: when the container starts."""
    base = engine.must("volume", "inspect", "-f", "{{.Mountpoint}}", volume)
    container = engine.must("create", "--mount", at(volume, subpath), "busybox", "true")
    with engine.api() as api:
        answer = api.request("POST", f"/containers/{container}/start")
        assert answer.json() == {"message": text.format(base=base)}
        assert answer.status == (404 if "none" in subpath else 400)
    assert engine.inspect(container)["State"]["Error"] == text.format(base=base)


def test_nothing_of_the_image_is_copied_to_a_place(engine: DockerHost, volume: str) -> None:
    assert engine.must("run", "--rm", "--mount", at(volume, "a").replace("/m", "/etc"), "busybox", "ls", "/etc").split() == [
        "b",
        "hostname",
        "hosts",
        "resolv.conf",
    ]
    assert engine.must("run", "--rm", "-v", "places:/v", "busybox", "sh", "-c", "ls /v/a; ls /v/a/b") != ""


@pytest.mark.parametrize("running", [False, True])
def test_cp_reaches_the_place_and_nothing_else(engine: DockerHost, volume: str, tmp_path: Path, *, running: bool) -> None:
    (tmp_path / "new").write_text("new")
    engine.must("create", "--name", "copied", "--mount", at(volume, "a/b"), "busybox", "sleep", "1000")
    if running:
        engine.must("start", "copied")
    engine.must("cp", "copied:/m/file", str(tmp_path / "got"))
    assert (tmp_path / "got").read_text() == "deep\n"
    engine.must("cp", str(tmp_path / "new"), "copied:/m/new")
    assert engine.must("run", "--rm", "-v", "places:/v", "busybox", "cat", "/v/a/b/new") == "new"


def test_inspection_shows_the_volume_as_docker_does(engine: DockerHost, volume: str) -> None:
    container = engine.must("create", "--mount", at(volume, "a"), "busybox", "true")
    inspected = engine.inspect(container)
    [mount] = inspected["Mounts"]
    assert (mount["Type"], mount["Name"], mount["Destination"], mount["RW"]) == ("volume", volume, "/m", True)
    assert mount["Source"] == engine.must("volume", "inspect", "-f", "{{.Mountpoint}}", volume)
    assert inspected["HostConfig"]["Mounts"][0]["VolumeOptions"]["Subpath"] == "a"


@pytest.fixture
def host_mount(tmp_path: Path) -> Iterator[Path]:
    """A mount of the host, private as it is made here."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], check=True)
    subprocess.run(["mount", "--make-private", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", "-R", str(tmp_path)], check=True)


@pytest.mark.parametrize(("word", "what"), [
    ("shared", "shared"), ("rshared", "shared"), ("slave", "shared or slave"), ("rslave", "shared or slave"),
])  # fmt: skip
def test_a_source_that_passes_no_mounts_on_is_refused(engine: DockerHost, host_mount: Path, word: str, what: str) -> None:
    (host_mount / "below").mkdir()
    container = engine.must("create", "-v", f"{host_mount}/below:/m:{word}", "busybox", "true")
    text = f"path {host_mount}/below is mounted on {host_mount} but it is not a {what} mount"
    with engine.api() as api:
        assert api.expect(500, "POST", f"/containers/{container}/start").json() == {"message": text}


def test_mounts_travel_as_docker_has_them(engine: DockerHost, host_mount: Path) -> None:
    """What the host mounts later is seen by slaves and shared mounts; what a container mounts, the host sees of shared mounts alone."""
    subprocess.run(["mount", "--make-shared", str(host_mount)], check=True)
    words = ("rprivate", "rslave", "rshared", "shared")
    binds = [f"{host_mount}:/{word}:{word}" for word in words]
    arguments = [part for bind in binds for part in ("-v", bind)]
    container = engine.must("run", "-d", "--privileged", *arguments, "busybox", "sleep", "1000")
    (host_mount / "later").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(host_mount / "later")], check=True)
    (host_mount / "later/arrived").touch()
    look = "for word in rprivate rslave rshared shared; do [ -e /$word/later/arrived ] && echo $word; done; :"
    assert engine.must("exec", container, "sh", "-c", look).split() == ["rslave", "rshared", "shared"]
    for word in words:
        engine.must("exec", container, "sh", "-c", f"mkdir /{word}/from-{word} && mount -t tmpfs tmpfs /{word}/from-{word}")
    assert [word for word in words if (host_mount / f"from-{word}").is_mount()] == ["rshared", "shared"]
    shown = {mount["Destination"]: mount["Propagation"] for mount in engine.inspect(container)["Mounts"]}
    assert shown == {f"/{word}": word for word in words}
    root = engine.must("exec", container, "sh", "-c", "grep ' / / ' /proc/self/mountinfo")
    assert " shared:" in root, "docker: the root of such a container is shared"


def test_an_image_is_mounted_for_reading(engine: DockerHost) -> None:
    """docker: 28."""
    engine.must("run", "-d", "--name", "reader", "--mount", "type=image,src=judge/layers:1,dst=/m", "busybox", "sleep", "1000")
    look = "find data opaque bin -exec stat -c '%n %a %u %g %F' {} + | sort"
    own = engine.must("run", "--rm", "-u", "0", "--entrypoint", "sh", "-w", "/", "judge/layers:1", "-c", look)
    assert "opaque/shown" in own
    assert engine.must("exec", "-w", "/m", "reader", "sh", "-c", look) == own
    assert "Read-only file system" in engine.docker("exec", "reader", "touch", "/m/x").stderr
    assert "Read-only file system" in engine.docker("exec", "reader", "rm", "/m/bin/sh").stderr
    [mount] = engine.inspect("reader")["Mounts"]
    assert mount["Source"] == engine.must("image", "inspect", "-f", "{{.Id}}", "judge/layers:1")
    del mount["Source"]
    assert mount == {"Type": "image", "Name": "judge/layers:1", "Destination": "/m", "Mode": "", "RW": False, "Propagation": "rprivate"}


def test_a_place_in_an_image_is_mounted(engine: DockerHost, tmp_path: Path) -> None:
    mount = "type=image,src=busybox,dst=/opt/busybox,image-subpath=bin/busybox"
    assert engine.must("run", "--rm", "--mount", mount, "busybox", "/opt/busybox", "echo", "from the other image") == "from the other image"
    engine.must("create", "--name", "copied", "--mount", mount, "busybox", "true")
    engine.must("cp", "copied:/opt/busybox", str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes()[:4] == b"\x7fELF"
    refused = engine.docker("run", "--rm", "--mount", "type=image,src=busybox,dst=/m,image-subpath=none/more", "busybox", "true")
    assert "cannot access path busybox/none/more: lstat busybox/none: no such file or directory" in refused.stderr


def test_an_image_of_one_layer_or_none_is_mounted_as_well(engine: DockerHost) -> None:
    engine.load(images.Image(("single:1",), (images.pack([images.file("note", "alone")]),), {}).docker_archive())
    engine.load(images.Image(("empty:1",), (), {}).docker_archive())
    assert engine.must("run", "--rm", "--mount", "type=image,src=single:1,dst=/m", "busybox", "cat", "/m/note") == "alone"
    assert engine.must("run", "--rm", "--mount", "type=image,src=empty:1,dst=/m", "busybox", "ls", "-A", "/m") == ""
    engine.must("rmi", "single:1", "empty:1")


def test_an_image_that_is_mounted_is_used(engine: DockerHost) -> None:
    """The container keeps it, as it keeps the one that it stands on."""
    engine.load(images.Image(("kept:1",), (images.pack([images.file("note", "kept")]),), {}).docker_archive())
    container = engine.must("create", "--mount", "type=image,src=kept:1,dst=/m", "busybox", "cat", "/m/note")
    refused = engine.docker("rmi", "kept:1")
    assert f"container {container[:12]} is using its referenced image" in refused.stderr
    engine.must("rmi", "-f", "kept:1")
    assert engine.must("start", "-a", container) == "kept"
    engine.must("rm", container)
    asked = {"Image": "busybox", "HostConfig": {"Mounts": [{"Type": "image", "Source": "kept:1", "Target": "/m"}]}}
    with engine.api(version="v1.48") as api:
        assert api.expect(404, "POST", "/containers/create", asked).json() == {"message": "No such image: kept:1"}


def test_volumes_from_gives_images_as_well(engine: DockerHost) -> None:
    engine.must("create", "--name", "donor", "--mount", "type=image,src=judge/layers:1,dst=/m", "busybox", "true")
    assert "sh" in engine.must("run", "--rm", "--volumes-from", "donor", "busybox", "ls", "/m/bin").split()
