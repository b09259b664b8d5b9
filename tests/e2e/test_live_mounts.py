"""`teul mount`: what a container has mounted, changed while it runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    place = tmp_path / "source"
    place.mkdir()
    (place / "file").write_text("of the host\n")
    return place


def teul(engine: Engine, *arguments: str) -> str:
    output = engine.teul(*arguments)
    assert output.exit_code == 0, output.stderr
    return output.stdout.strip()


def run(engine: Engine, *options: str) -> str:
    return engine.must("run", "-d", *options, "busybox", "sleep", "1000")


def test_a_bind_comes_and_goes(engine: Engine, source: Path) -> None:
    container = run(engine)
    assert teul(engine, "mount", "add", container, f"{source}:/new/place", f"{source}/file:/etc/note:ro") == container
    assert engine.must("exec", container, "cat", "/new/place/file", "/etc/note") == "of the host\nof the host"
    engine.must("exec", container, "touch", "/new/place/made")
    assert (source / "made").exists()
    assert "Read-only" in engine.docker("exec", container, "sh", "-c", "echo >> /etc/note").stderr
    lines = [line.split() for line in teul(engine, "mount", "ls", container).splitlines()]
    assert lines[1:] == [["/etc/note", "bind", f"{source}/file", "ro"], ["/new/place", "bind", str(source), "rw"]]
    engine.must("restart", "-t", "0", container)
    assert engine.must("exec", container, "cat", "/new/place/file") == "of the host"
    teul(engine, "mount", "rm", container, "/new/place", "/etc/note")
    assert engine.must("exec", container, "sh", "-c", "ls -A /new/place; grep -c -e /new/place -e /etc/note /proc/self/mountinfo; :") == "0"
    assert engine.inspect(container)["Mounts"] == []
    assert (source / "file").read_text() == "of the host\n"


def test_a_container_that_does_not_run_gets_it_at_its_start(engine: Engine, source: Path) -> None:
    container = engine.must("create", "busybox", "cat", "/m/file")
    teul(engine, "mount", "add", container, f"{source}:/m")
    assert engine.must("start", "-a", container) == "of the host"
    teul(engine, "mount", "rm", container, "/m")
    assert "can't open" in engine.docker("start", "-a", container).stderr


def test_volumes_are_used_as_long_as_they_are_mounted(engine: Engine) -> None:
    container = run(engine)
    teul(engine, "mount", "add", container, "live:/v", "live:/again")
    engine.must("exec", container, "touch", "/v/made")
    assert engine.must("exec", container, "ls", "/again") == "made"
    assert "volume is in use" in engine.docker("volume", "rm", "live").stderr
    teul(engine, "mount", "rm", container, "/v")
    assert "volume is in use" in engine.docker("volume", "rm", "live").stderr
    teul(engine, "mount", "rm", container, "/again")
    engine.must("volume", "rm", "live")


def test_places_images_and_other_owners(engine: Engine, source: Path) -> None:
    os.chown(source / "file", 4321, 4321)
    os.chown(source, 4321, 4321)
    container = run(engine, "-u", "33:44", "-v", "live:/v")
    engine.must("exec", "-u", "0", container, "sh", "-c", "mkdir /v/a && echo deep > /v/a/file")
    teul(engine, "mount", "add", "--mount", "type=volume,src=live,dst=/a,volume-subpath=a", container)
    teul(engine, "mount", "add", "--mount", "type=image,src=judge/layers:1,dst=/i", container)
    teul(engine, "mount", "add", container, f"{source}:/m:idmap")
    assert engine.must("exec", container, "cat", "/a/file", "/i/opaque/shown") == "deep\nshown"
    assert engine.must("exec", container, "stat", "-c", "%u:%g", "/m/file") == "33:44"
    assert "is using its referenced image" in engine.docker("rmi", "judge/layers:1").stderr
    engine.must("cp", f"{container}:/a/file", str(source / "got"))
    assert (source / "got").read_text() == "deep\n"
    teul(engine, "mount", "rm", container, "/a", "/i", "/m")
    assert [mount["Destination"] for mount in engine.inspect(container)["Mounts"]] == ["/v"]
    engine.remove_containers()
    engine.must("volume", "rm", "live")


def test_what_is_in_use_stays_unless_it_is_forced(engine: Engine, source: Path) -> None:
    container = run(engine)
    teul(engine, "mount", "add", container, f"{source}:/m")
    engine.must("exec", "-d", "-w", "/m", container, "sleep", "1000")
    refused = engine.teul("mount", "rm", container, "/m")
    assert refused.exit_code == 1
    assert "the mount at /m is in use" in refused.stderr
    assert engine.must("exec", container, "cat", "/m/file") == "of the host"
    teul(engine, "mount", "rm", "--force", container, "/m")
    assert engine.must("exec", container, "ls", "-A", "/m") == ""


def test_another_engine_knows_of_it(fresh_engine: Engine, source: Path) -> None:
    engine = fresh_engine
    container = run(engine)
    teul(engine, "mount", "add", container, f"{source}:/m", "kept:/v")
    engine.kill9()
    engine.start()
    assert engine.must("exec", container, "cat", "/m/file") == "of the host"
    assert "volume is in use" in engine.docker("volume", "rm", "kept").stderr
    teul(engine, "mount", "rm", container, "/m", "/v")
    assert engine.inspect(container)["Mounts"] == []


@pytest.mark.parametrize(("specification", "text"), [
    ("{source}:/m/", "Duplicate mount point: /m"),
    ("{source}:/proc", "cannot be mounted because it is inside /proc or /sys"),
    ("{source}:/proc/sys", "cannot be mounted because it is inside /proc or /sys"),
    ("{source}:/sys/firmware", "cannot be mounted because it is inside /proc or /sys"),
    ("{source}:/", "destination can't be '/'"),
    ("{source}/file/below:/n", "error while creating mount source path"),
    ("{source}/file:/tmp", "mount a file over directory"),
])  # fmt: skip
def test_what_cannot_be_leaves_nothing(engine: Engine, source: Path, specification: str, text: str) -> None:
    container = run(engine, "-v", f"{source}:/m")
    before = engine.must("exec", container, "cat", "/proc/mounts")
    refused = engine.teul("mount", "add", container, specification.format(source=source))
    assert refused.exit_code != 0
    assert text in refused.stderr
    assert engine.must("exec", container, "cat", "/proc/mounts") == before
    assert len(engine.inspect(container)["Mounts"]) == 1


def test_what_is_not_there_cannot_be_taken_away(engine: Engine) -> None:
    container = run(engine)
    for place in ("/m", "/proc", "/etc/hosts", "/"):
        assert f"no mount of container {container} is at {place}" in engine.teul("mount", "rm", container, place).stderr


@pytest.fixture
def hidden(source: Path, tmp_path: Path) -> Path:
    """What a client has covered in a directory that it has bound."""
    for name in ("a/secret", "b/secret"):
        (source / name).mkdir(parents=True)
        (source / name / "key").write_text(name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    return source


def test_nothing_else_is_taken_away(engine: Engine, hidden: Path, tmp_path: Path) -> None:
    """security: the container renames what is above, so that another mount has the place of the one that is to go."""
    container = run(engine, "-v", f"{hidden}:/h", "-v", f"{tmp_path}/empty:/h/b/secret")
    teul(engine, "mount", "add", container, f"{tmp_path}/other:/h/a/secret")
    engine.must("exec", container, "sh", "-c", "mv /h/a /h/c && mv /h/b /h/a")
    refused = engine.teul("mount", "rm", "--force", container, "/h/a/secret")
    assert "is not what was mounted there" in refused.stderr
    assert engine.must("exec", container, "ls", "-A", "/h/a/secret") == "", "DANGER: what was covered can be seen"
    engine.must("exec", container, "sh", "-c", "mkdir /way && ln -s /h/a /way/there")
    teul(engine, "mount", "add", container, f"{tmp_path}/other:/x/secret")
    engine.must("exec", container, "sh", "-c", "mv /x /y && ln -s /h/a /x")
    assert "is not what was mounted there" in engine.teul("mount", "rm", "--force", container, "/x/secret").stderr
    assert engine.must("exec", container, "ls", "-A", "/h/a/secret") == ""


def test_nothing_is_mounted_on_the_host(engine: Engine, source: Path) -> None:
    before = subprocess.run(["cat", "/proc/self/mounts"], check=True, capture_output=True).stdout.count(b"source")
    container = run(engine)
    teul(engine, "mount", "add", container, f"{source}:/m")
    assert subprocess.run(["cat", "/proc/self/mounts"], check=True, capture_output=True).stdout.count(b"source") == before
