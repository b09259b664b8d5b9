"""Volumes exported, imported and cloned: what comes back is what was there, and an archive reaches nothing but its volume."""

from __future__ import annotations

import filecmp
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images, trees
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "busybox", "overlayfs")]

_NS = 1_600_000_000_123_456_789


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        engine.load(images.busybox().docker_archive())
        yield engine


@pytest.fixture(autouse=True)
def _clean(engine: Engine) -> Iterator[None]:
    yield
    engine.remove_containers()
    for name in engine.must("volume", "ls", "-q").split():
        engine.must("volume", "rm", name)


def data(engine: Engine, name: str) -> Path:
    return engine.root / "volumes" / name / "_data"


def must(engine: Engine, *arguments: str, stdin: bytes = b"") -> str:
    output = engine.teul(*arguments, stdin=stdin)
    assert output.exit_code == 0, output.stderr
    return output.stdout


def fill(top: Path) -> None:
    """Everything that a volume can have."""
    (top / "plain").write_text("text")
    (top / "empty").write_bytes(b"")
    (top / "large").write_bytes(os.urandom(3 << 20))
    os.chown(top / "plain", 12345, 3_000_000)
    os.chmod(top / "plain", 0o6755)
    os.link(top / "plain", top / "another name")
    os.symlink("/etc/passwd", top / "away")
    os.symlink("nowhere", top / ("long" * 50))
    os.mkfifo(top / "pipe", 0o622)
    os.mknod(top / "null", 0o020666, os.makedev(1, 3))
    with (top / "sparse").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"in the middle")
        file.truncate(64 << 20)
    with (top / "hole").open("wb") as file:
        file.truncate(8 << 20)
    deep = top
    for number in range(40):
        deep = deep / f"directory-{number}"
        deep.mkdir(mode=0o2750)
    (deep / "bottom").write_text("deep")
    Path(os.fsdecode(os.fsencode(top) + b"/\xff\xfe")).write_text("no characters")
    os.setxattr(top / "plain", "user.note", b"a\0b")
    os.setxattr(top / "directory-0", "user.of", b"a directory")
    capability = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)  # cap_net_raw=ep, revision 2
    os.setxattr(top / "empty", "security.capability", capability)
    acl = b"\x02\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + who.to_bytes(4, "little")
        for tag, bits, who in ((1, 7, 2**32 - 1), (2, 6, 77), (4, 5, 2**32 - 1), (16, 7, 2**32 - 1), (32, 5, 2**32 - 1))
    )
    os.setxattr(top / "directory-0", "system.posix_acl_access", acl)
    os.utime(top / "away", ns=(_NS, _NS + 1), follow_symlinks=False)
    os.utime(top / "plain", ns=(_NS, _NS + 2))
    os.utime(top / "empty", ns=(0, -5_000_000_001))
    os.chown(top, 7, 8)
    os.chmod(top, 0o1770)
    os.utime(top, ns=(_NS, _NS + 3))


def blocks(top: Path) -> int:
    return sum(path.lstat().st_blocks for path in top.rglob("*"))


def assert_same(theirs: Path, ours: Path) -> None:
    assert trees.differences(trees.tree(str(theirs)), trees.tree(str(ours))) == []
    assert blocks(ours) <= blocks(theirs) + 64, "the holes were filled"


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_what_is_exported_comes_back(engine: Engine, tmp_path: Path, compression: str) -> None:
    must(engine, "volume", "create", "vol")
    fill(data(engine, "vol"))
    options = ("--compress", compression) if compression else ()
    must(engine, "volume", "export", *options, "-o", str(tmp_path / "archive"), "vol")
    magic = {"": b"./", "gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}[compression]
    assert (tmp_path / "archive").read_bytes().startswith(magic) or not compression
    assert must(engine, "volume", "import", "--create", "copy", str(tmp_path / "archive")).strip() == "copy"
    assert_same(data(engine, "vol"), data(engine, "copy"))


def test_clone_is_the_same(engine: Engine) -> None:
    must(engine, "volume", "create", "vol")
    fill(data(engine, "vol"))
    assert must(engine, "volume", "clone", "vol", "copy").strip() == "copy"
    assert_same(data(engine, "vol"), data(engine, "copy"))
    (data(engine, "copy") / "plain").write_text("other")
    assert (data(engine, "vol") / "plain").read_text() == "text"


@needs("btrfs")
def test_a_clone_shares_what_is_in_its_files_where_the_filesystem_can_have_it(tmp_path: Path) -> None:
    image = tmp_path / "btrfs"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True)
    here = Engine()
    here.root.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(here.root)], check=True)
    try:
        with here:
            must(here, "volume", "create", "vol")
            (data(here, "vol") / "large").write_bytes(os.urandom(64 << 20))
            before = _used_bytes(here.root)
            must(here, "volume", "clone", "vol", "copy")
            assert filecmp.cmp(data(here, "vol") / "large", data(here, "copy") / "large", shallow=False)
            assert _used_bytes(here.root) - before < 16 << 20
    finally:
        subprocess.run(["umount", str(here.root)], check=True)
        shutil.rmtree(here.base, ignore_errors=True)


def _used_bytes(place: Path) -> int:
    """After all that was written is where it will be."""
    subprocess.run(["sync", "-f", str(place)], check=True)
    return shutil.disk_usage(place).used


def test_other_programs_read_the_archive(engine: Engine, tmp_path: Path) -> None:
    """GNU tar, and Python's; and the other way round."""
    must(engine, "volume", "create", "vol")
    fill(data(engine, "vol"))
    must(engine, "volume", "export", "-o", str(tmp_path / "archive"), "vol")
    (tmp_path / "there").mkdir()
    subprocess.run(["tar", "-xpf", "archive", "--xattrs", "--xattrs-include=*", "-C", "there"], cwd=tmp_path, check=True)
    assert (tmp_path / "there" / "sparse").read_bytes() == (data(engine, "vol") / "sparse").read_bytes()
    assert (tmp_path / "there" / "plain").stat().st_uid == 12345
    with tarfile.open(tmp_path / "archive") as archive:
        found = archive.extractfile("./sparse")
        assert found is not None
        assert found.read()[5 << 20 :].startswith(b"in the middle")
    subprocess.run(["tar", "-cSpf", "theirs", "--format=posix", "-C", "there", "."], cwd=tmp_path, check=True)
    must(engine, "volume", "import", "--create", "copy", str(tmp_path / "theirs"))
    assert (data(engine, "copy") / "sparse").read_bytes() == (data(engine, "vol") / "sparse").read_bytes()


def test_pipes(engine: Engine) -> None:
    engine.must("run", "--rm", "-v", "vol:/x", "busybox", "sh", "-c", "echo hello > /x/file")
    archive = subprocess.run([*_teul(), "volume", "export", "vol"], env=engine.environment(), capture_output=True, check=True).stdout
    must(engine, "volume", "import", "--create", "copy", "-", stdin=gzip.compress(archive))
    assert engine.must("run", "--rm", "-v", "copy:/x", "busybox", "cat", "/x/file").strip() == "hello"


def _teul() -> list[str]:
    return [str(Path(sys.executable).with_name("teul"))]


def tar(*members: tuple[str, bytes, str, bytes]) -> bytes:
    """Members as name, kind, target of a link, data."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, target, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


FILE, SYMLINK, LINK, DIRECTORY = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
HOSTILE = {
    "above": tar(("../escaped", FILE, "", b"x")),
    "above, further down": tar(("a/../../escaped", FILE, "", b"x")),
    "a link to above": tar(("link", LINK, "../../../../etc/passwd", b"")),
    "not an archive": b"nonsense" * 100,
    "cut off": tar(("file", FILE, "", b"x" * 5000))[:3000],
    "cut off while compressed": gzip.compress(tar(("file", FILE, "", os.urandom(5000))))[:3000],
    "whole first, then not": tar(("file", FILE, "", b"x"), ("../escaped", FILE, "", b"x")),
}


@pytest.mark.parametrize("archive", HOSTILE.values(), ids=HOSTILE)
def test_what_is_refused_leaves_nothing(engine: Engine, archive: bytes) -> None:
    before = {path for path in engine.base.rglob("*") if "escaped" in path.name}
    for create in (("--create",), ()):
        output = engine.teul("volume", "import", *create, "vol", "-", stdin=archive)
        assert output.exit_code == 1
        assert output.stderr.startswith("Error response from daemon: ")
        assert engine.must("volume", "ls", "-q") == ("" if create else "vol")
        engine.must("volume", "create", "vol")
    assert os.listdir(data(engine, "vol")) == []
    assert os.listdir(data(engine, "vol").parent) == ["_data"]
    assert {path for path in engine.base.rglob("*") if "escaped" in path.name} == before


def test_links_lead_nowhere_but_into_the_volume(engine: Engine, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    archive = tar(
        ("way", SYMLINK, str(victim), b""),
        ("way/file", FILE, "", b"x"),
        ("up", SYMLINK, "../../../../../../../..", b""),
        ("up/escaped", FILE, "", b"y"),
        ("/absolute/file", FILE, "", b"z"),
    )
    output = engine.teul("volume", "import", "--create", "vol", "-", stdin=archive)
    assert list(victim.iterdir()) == []
    assert not Path("/escaped").exists()
    assert not Path("/absolute").exists()
    if output.exit_code == 0:
        assert (data(engine, "vol") / "absolute" / "file").read_bytes() == b"z"
        assert (data(engine, "vol") / "escaped").read_bytes() == b"y"


def test_refusals(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(tar(("file", FILE, "", b"x")))
    source = str(tmp_path / "archive")
    engine.must("volume", "create", "vol")
    (data(engine, "vol") / "work").write_text("of months")
    engine.must("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "mounted")
    for arguments, message in (
        (("export", "nosuch"), "get nosuch: no such volume"),
        (("import", "nosuch", source), "get nosuch: no such volume"),
        (("import", "vol", source), "volume vol is not empty"),
        (("import", "--create", "vol", source), "volume vol is not empty"),
        (("import", "mounted", source), "volume mounted is a mount of tmpfs: fill that place itself"),
        (("import", "--create", "x", source), "create x: volume name is too short"),
        (("clone", "nosuch", "new"), "get nosuch: no such volume"),
        (("clone", "vol", "vol"), "volume vol cannot be cloned into itself"),
        (("clone", "vol", "mounted"), "volume mounted is a mount of tmpfs: fill that place itself"),
    ):
        output = engine.teul("volume", *arguments)
        assert output.exit_code == 1
        assert message in output.stderr
    assert engine.teul("volume", "export", "--compress", "xz", "vol").stderr == 'unknown compression: "xz": must be one of "gzip", "zstd"\n'
    assert engine.teul("volume", "import", "vol", "/no/such/file").stderr == "open /no/such/file: no such file or directory\n"
    assert engine.must("volume", "ls", "-q").split() == ["mounted", "vol"]
    assert os.listdir(data(engine, "vol")) == ["work"]


def test_volume_that_is_a_mount_is_exported(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "file").write_text("x")
    engine.must("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}/place", "vol")
    must(engine, "volume", "clone", "vol", "copy")
    assert (data(engine, "copy") / "file").read_text() == "x"
    assert not os.path.ismount(data(engine, "vol"))


def test_running_container_sees_what_is_imported(engine: Engine) -> None:
    engine.must("run", "-d", "--name", "box", "-v", "vol:/x", "busybox", "sleep", "60")
    must(engine, "volume", "import", "vol", "-", stdin=tar(("file", FILE, "", b"x"), ("sub/deep", FILE, "", b"y")))
    assert engine.must("exec", "box", "cat", "/x/file", "/x/sub/deep").strip() == "xy"
