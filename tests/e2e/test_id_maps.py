"""`idmap`: mounts that show other owners of files than their source has. Docker has none of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engine import Engine
from support.images import directory, file, pack, symlink
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

CALLER = (4321, 8765)
LOOK = "stat -c '%u:%g %n' . file; touch made; stat -c '%u:%g %n' made"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory of somebody's, with a file of theirs, and one of root's."""
    place = tmp_path / "source"
    place.mkdir()
    (place / "file").write_text("mine\n")
    (place / "roots").write_text("root's\n")
    for path in (place, place / "file"):
        os.chown(path, *CALLER)
    return place


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


@pytest.mark.parametrize("option", ["-v {source}:/m:idmap", "--mount type=bind,src={source},dst=/m,idmap"])
@pytest.mark.parametrize(("user", "seen"), [("0", "0:0"), ("33:44", "33:44"), ("judge", "1234:2345")])
def test_what_belongs_to_the_owner_of_the_source_is_the_users(engine: Engine, source: Path, option: str, user: str, seen: str) -> None:
    """And what the user makes is the owner's."""
    arguments = option.format(source=source).split()
    output = engine.teul("run", "--rm", "-u", user, *arguments, "-w", "/m", "--entrypoint", "sh", "judge/layers:1", "-c", LOOK)
    assert output.stdout.splitlines() == [f"{seen} .", f"{seen} file", f"{seen} made"], output.stderr
    assert owner(source / "made") == CALLER


def test_nobody_elses_files_are_anybodys(engine: Engine, source: Path) -> None:
    """security: a container's root makes no file of the host's root there, and changes none."""
    script = "stat -c %u:%g roots; echo x >> roots; touch made; chown 0:0 made; chmod u+s made; chown 1:1 made; :"
    output = engine.docker("run", "--rm", "-v", f"{source}:/m:idmap", "-w", "/m", "busybox", "sh", "-c", script)
    assert output.stdout.strip() == "65534:65534"
    assert output.stderr.count("denied") >= 1
    assert (source / "roots").read_text() == "root's\n"
    assert owner(source / "made") == CALLER


def test_ranges_say_which_ids_are_shown(engine: Engine, source: Path) -> None:
    mapping = f"idmap=uids={CALLER[0]}-70-2#0-90-1;gids=0-0-10000"
    bind = f"{source}:/m:{mapping}"
    assert engine.must("run", "--rm", "-v", bind, "-w", "/m", "busybox", "stat", "-c", "%u:%g", "file", "roots").split() == [
        f"70:{CALLER[1]}",
        "90:0",
    ]
    engine.must("run", "--rm", "-u", "71", "-v", f"{source}:/m:{mapping},ro", "busybox", "true")
    os.chmod(source, 0o777)
    engine.must("run", "--rm", "-u", "71", "-v", bind, "busybox", "touch", "/m/made")
    assert owner(source / "made") == (CALLER[0] + 1, 0)


def test_inspection_shows_it_where_it_was_asked_for(engine: Engine, source: Path) -> None:
    container = engine.must("create", "-v", f"{source}:/m:ro,idmap", "-v", f"{source}:/plain", "busybox", "true")
    mounts = {mount["Destination"]: mount for mount in engine.inspect(container)["Mounts"]}
    assert (mounts["/m"]["Mode"], mounts["/m"]["IdMap"], mounts["/m"]["RW"]) == ("ro,idmap", "owner", False)
    assert "IdMap" not in mounts["/plain"]


def test_volumes_and_places_in_them(engine: Engine) -> None:
    engine.must("run", "--rm", "-v", "mapped:/v", "busybox", "sh", "-c", "mkdir -p /v/a && touch /v/a/file && chown -R 4321:8765 /v/a")
    mount = "type=volume,src=mapped,dst=/m,volume-subpath=a,idmap"
    output = engine.teul("run", "--rm", "-u", "55:66", "--mount", mount, "busybox", "stat", "-c", "%u:%g", "/m/file")
    assert output.stdout.strip() == "55:66", output.stderr
    engine.must("volume", "rm", "mapped")


@pytest.mark.parametrize("running", [False, True])
def test_cp_sees_the_same_owners(engine: Engine, source: Path, tmp_path: Path, *, running: bool) -> None:
    engine.must("create", "--name", "copied", "-v", f"{source}:/m:idmap", "busybox", "sleep", "1000")
    if running:
        engine.must("start", "copied")
    engine.must("cp", "-a", "copied:/m/file", str(tmp_path / "got"))
    assert owner(tmp_path / "got") == (0, 0)
    engine.must("cp", str(tmp_path / "got"), "copied:/m/new")
    assert owner(source / "new") == CALLER


IDS = "idmap=uids={0}-33-2;gids={1}-44-1"


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
@pytest.mark.parametrize("word", ["idmap", IDS.format(*CALLER)], ids=["owner", "ranges"])
def test_cp_into_a_place_of_another_user_than_root(engine: Engine, source: Path, word: str, *, running: bool) -> None:
    """Root, as which files are made, is nobody there. They are the user's in the container and the owner's on the host, whoever the
    archive says; but where it says somebody else whom the place knows, it is theirs.
    """
    engine.must("create", "--name", "copied", "-u", "33:44", "-v", f"{source}:/m:{word}", "busybox", "sleep", "1000")
    if running:
        engine.must("start", "copied")
    entries = [
        directory("d", 0o750),
        file("d/roots", "root's"),
        file("d/users", "the user's", 0o4711, uid=33, gid=44),
        file("d/others", "another's", uid=34, gid=5),
        file("missing/way", "in a directory that is made on the way"),
        symlink("d/link", "roots"),
        file("file", "replaced"),
    ]
    with engine.api() as api:
        api.expect(200, "PUT", "/containers/copied/archive?path=/m", pack(entries))
        api.expect(200, "PUT", "/containers/copied/archive?path=/m&copyUIDGID=1", pack([file("with-ids", "")]))
    names = ("d", "d/roots", "d/users", "d/others", "d/link", "missing", "missing/way", "file", "with-ids")
    owners = {name: ((source / name).lstat().st_uid, (source / name).lstat().st_gid) for name in names}
    second = (CALLER[0] + (word != "idmap"), CALLER[1])
    assert owners == dict.fromkeys(names, CALLER) | {"d/others": second}
    assert (source / "d/users").stat().st_mode & 0o7777 == 0o4711
    assert (source / "roots").stat().st_uid == 0, "what is nobody's there is as it was"
    if running:
        seen = engine.must("exec", "copied", "stat", "-c", "%u:%g", "/m/d/roots", "/m/d/users", "/m/d/others", "/m/file").split()
        assert seen == ["33:44", "33:44", "33:44" if word == "idmap" else "34:44", "33:44"]


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    """A mount of a file system that shows no other owners."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(tmp_path / "merged")], check=True)
    yield tmp_path / "merged"
    subprocess.run(["umount", str(tmp_path / "merged")], check=True)


def test_a_file_system_that_cannot_is_named(engine: Engine, overlay: Path) -> None:
    refused = engine.docker("run", "--rm", "-v", f"{overlay}:/m:idmap", "busybox", "true")
    assert f"the file system of `{overlay}` cannot show other owners (idmap)" in refused.stderr


@pytest.mark.parametrize("word", ["idmap=", "idmap=x", "idmap=uids=1-2", "idmap=uids=0-0-0", "idmap=uids=0-1-5#3-9-1", "idmap,idmap"])
def test_words_that_say_nothing_are_refused(engine: Engine, word: str) -> None:
    """The rest of what can be wrong with ranges is in the unit tests."""
    refused = engine.docker("create", "-v", f"/tmp:/m:{word}", "busybox", "true")
    assert refused.exit_code != 0
    assert "invalid idmap" in refused.stderr or "invalid mode" in refused.stderr
