"""Layers as the worker leaves them on the disk: every kind of entry, every overlay mark, and what is refused."""

from __future__ import annotations

import asyncio
import bz2
import errno
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from kernel.workers.archive_cases import MODIFIED_AT, archive, device, directory, hard_link, member, stream, symlink
from support.needs import needs
from teul.aio import SlowWork
from teul.errors import System
from teul.linux import mounts
from teul.linux.process import PR_SET_CHILD_SUBREAPER, prctl
from teul.oci.digest import Digest
from teul.snapshots import erofs
from teul.store.layer_files import ARCHIVE_FILE, INDEX_FILE
from teul.workers.client import InvalidArchive
from teul.workers.layers import Limits, Unpacked, index_blob, ingest, split, unpack

pytestmark = needs("root")

Unpack = Callable[..., Awaitable[Unpacked]]

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}

SLOW = SlowWork()  # begins with its first work and ends with the interpreter


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "fs"
    path.mkdir()
    return path


@pytest.fixture(params=["directory", "index"])
def unpack_bytes(tmp_path_factory: pytest.TempPathFactory, root: Path, request: pytest.FixtureRequest) -> Iterator[Unpack]:
    """A layer as containers see it below `root`: unpacked, or under an index that is mounted there. One must look as the other does."""
    beside = tmp_path_factory.mktemp("beside")
    blob = beside / "blob"
    made: list[Path] = []

    async def as_directory(data: bytes, compression: str = "", limits: Limits | None = None) -> Unpacked:
        blob.write_bytes(data)
        return await unpack(str(blob), compression, str(root), limits or Limits(), SLOW, diff_id=None)

    async def as_index(data: bytes, compression: str = "", limits: Limits | None = None) -> Unpacked:
        blob.write_bytes(data)
        place = Path(tempfile.mkdtemp(dir=beside))
        known = Digest.of(data) if not compression and not limits else None
        indexed = await index_blob(str(blob), str(place), limits or Limits(), diff_id=known)
        assert indexed.unindexable == ""
        mount_fd = erofs.mount_layer(str(place / INDEX_FILE), str(blob if known else place / ARCHIVE_FILE))
        mounts.attach_at(mount_fd, str(root))
        os.close(mount_fd)
        made.append(root)
        return indexed.unpacked

    if request.param == "directory":
        yield as_directory
        return
    if reason := erofs.refusal(str(beside)):
        pytest.skip(f"this kernel mounts no index here: {reason}")
    yield as_index
    for path in made:
        mounts.detach(str(path))


def opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


async def test_every_kind_of_entry_has_its_owner_mode_and_time(unpack_bytes: Unpack, root: Path) -> None:
    data = archive(
        directory("d", mode=0o2750, uid=1, gid=2),
        member("d/f", b"content", mode=0o4755, uid=3, gid=4),
        symlink("d/l", "/outside/../anywhere"),
        member("d/h", type=tarfile.LNKTYPE, linkname="d/f", mode=0o4755, uid=3, gid=4),
        member("p", type=tarfile.FIFOTYPE, mode=0o600, uid=5),
        device("c", tarfile.CHRTYPE, 1, 3, mode=0o666),
        device("b", tarfile.BLKTYPE, 7, 300, mode=0o660, gid=6),
        member("sticky", b"", mode=0o1644),
        directory("d/sub", mode=0o700),
    )
    result = await unpack_bytes(data)
    status = {path: (root / path).lstat() for path in ("d", "d/f", "d/l", "d/h", "p", "c", "b", "sticky", "d/sub")}
    assert [(stat.filemode(s.st_mode), s.st_uid, s.st_gid) for s in status.values()] == [
        ("drwxr-s---", 1, 2),
        ("-rwsr-xr-x", 3, 4),
        ("lrwxrwxrwx", 0, 0),
        ("-rwsr-xr-x", 3, 4),
        ("prw-------", 5, 0),
        ("crw-rw-rw-", 0, 0),
        ("brw-rw----", 0, 6),
        ("-rw-r--r-T", 0, 0),
        ("drwx------", 0, 0),
    ]
    assert {s.st_mtime_ns for s in status.values()} == {MODIFIED_AT * 10**9}, "directories too, although files were made in them"
    assert (root / "d/f").read_bytes() == b"content"
    assert os.readlink(root / "d/l") == "/outside/../anywhere"
    assert status["d/f"].st_ino == status["d/h"].st_ino
    assert (os.major(status["b"].st_rdev), os.minor(status["b"].st_rdev)) == (7, 300)
    assert result.diff_id == Digest.of(data)
    assert result.size_bytes == len(b"content") + len("/outside/../anywhere"), "a file with two names counts once"


async def test_what_a_links_entry_says_of_the_file_holds(unpack_bytes: Unpack, root: Path) -> None:
    """docker: owner, mode, time and attributes are set by its name like by any other. The file's capabilities need not be repeated."""
    capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    headers = {"SCHILY.xattr.security.capability": capability.decode("latin-1"), "SCHILY.xattr.user.a": "1", "SCHILY.xattr.user.b": "1"}
    link, _ = symlink("l", "nowhere")
    link.uid = 1
    await unpack_bytes(
        archive(
            member("f", b"x", mode=0o600, uid=1, gid=2, pax_headers=headers),
            member("g", type=tarfile.LNKTYPE, linkname="f", mode=0o4711, uid=3, gid=4, mtime=5, pax_headers={"SCHILY.xattr.user.b": "2"}),
            (link, b""),
            member("m", type=tarfile.LNKTYPE, linkname="l", uid=7, gid=8),
        )
    )
    status, linked = (root / "f").stat(), (root / "l").lstat()
    assert (stat.filemode(status.st_mode), status.st_uid, status.st_gid, status.st_mtime) == ("-rws--x--x", 3, 4, 5)
    assert os.getxattr(root / "f", "security.capability") == capability
    if _keeps_user_attributes(root.parent):
        assert (os.getxattr(root / "f", "user.a"), os.getxattr(root / "f", "user.b")) == (b"1", b"2")
    assert (stat.S_ISLNK(linked.st_mode), linked.st_uid, linked.st_gid) == (True, 7, 8)


async def test_a_link_to_itself_has_the_last_word_as_well(unpack_bytes: Unpack, root: Path) -> None:
    await unpack_bytes(
        archive(
            *(directory("a"), symlink("l", "a"), member("a/f", b"x"), member("l/f", type=tarfile.LNKTYPE, linkname="a/f", uid=1)),
            *(member("g", b"y"), member("g", type=tarfile.LNKTYPE, linkname="./g", mode=0o600)),
        )
    )
    assert ((root / "a/f").read_bytes(), (root / "a/f").stat().st_uid) == (b"x", 1)
    assert ((root / "g").read_bytes(), stat.S_IMODE((root / "g").stat().st_mode)) == (b"y", 0o600)


async def test_a_whiteout_is_no_file_to_link_to(unpack_bytes: Unpack) -> None:
    with pytest.raises(InvalidArchive, match='invalid hardlink "h" -> "f": the layer has no such file'):
        await unpack_bytes(archive(member(".wh.f"), hard_link("h", "f")))


async def test_a_file_in_the_place_of_a_removed_whiteout_is_none(unpack_bytes: Unpack, root: Path) -> None:
    names = [f"f{number}" for number in range(200)]
    whiteouts = [member(f".wh.{name}") for name in names]
    await unpack_bytes(archive(*whiteouts, *map(member, names), *(hard_link(f"{name}-h", name) for name in names), *map(directory, names)))
    assert not any(opaque(root / name) for name in names)


async def test_a_mode_and_an_access_control_list_agree(unpack_bytes: Unpack, root: Path) -> None:
    """The mode, which comes last, has a say in the list; a list that says no more than a mode is none."""

    def headers(acl: bytes, which: str = "access") -> dict[str, str]:
        return {f"SCHILY.xattr.system.posix_acl_{which}": acl.decode(errors="surrogateescape")}

    long, minimal = _acl((1, 6, -1), (2, 7, 1000), (4, 4, 5), (16, 7, -1), (32, 0, -1)), _acl((1, 6, -1), (4, 4, -1), (32, 0, -1))
    await unpack_bytes(
        archive(
            member("f", mode=0o751, pax_headers=headers(long)),
            member("g", mode=0o4400, uid=1, pax_headers=headers(minimal)),
            member("p", type=tarfile.FIFOTYPE, mode=0o604, pax_headers=headers(long)),
            directory("d", mode=0o2750, pax_headers=headers(long)),
            directory("d", mode=0o700),
            directory("e", pax_headers=headers(long, "default")),
            member("e/f", mode=0o644),
            directory("e/d", mode=0o755),
            member("e/new/f", mode=0o666),
            symlink("l", "f"),
            member("n", pax_headers=headers(long, "default")),
            member("none", pax_headers=headers(b"")),
            member("old", pax_headers=headers(b"\1\0\0\0")),
        )
    )
    names = ("f", "g", "p", "d", "e", "e/f", "e/d", "e/new", "e/new/f", "n", "none", "old")
    modes = [oct(stat.S_IMODE((root / name).lstat().st_mode)) for name in names]
    assert modes == ["0o751", "0o4400", "0o604", "0o700", "0o755", "0o644", "0o755", "0o755", "0o666", "0o644", "0o644", "0o644"]
    assert {name for name in names if "system.posix_acl_access" in os.listxattr(root / name)} == {"f", "p", "d"}
    assert {name for name in names if "system.posix_acl_default" in os.listxattr(root / name)} == {"e"}
    expected = {
        mode: _acl((1, mode >> 6, -1), (2, 7, 1000), (4, 4, -1), (16, mode >> 3 & 7, -1), (32, mode & 7, -1)) for mode in (0o751, 0o700)
    }
    assert os.getxattr(root / "f", "system.posix_acl_access") == expected[0o751]
    assert os.getxattr(root / "d", "system.posix_acl_access") == expected[0o700]


def _acl(*entries: tuple[int, int, int]) -> bytes:
    """linux/posix_acl_xattr.h: tag, permissions, id."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("system.posix_acl_access", b"\2"),
        ("system.posix_acl_access", _acl((1, 6, -1))),
        ("system.posix_acl_access", _acl((1, 6, -1), (4, 4, -1), (32, 8, -1))),
        ("system.posix_acl_access", _acl((1, 6, -1), (2, 4, 5), (4, 4, -1), (32, 0, -1))),
        ("system.posix_acl_access", _acl((1, 6, -1), (2, 4, -1), (4, 4, -1), (16, 7, -1), (32, 0, -1))),
        ("security.capability", b"\1\0\0\1" + bytes(8)),
        ("security.capability", b"\1\0\0\2" + bytes(20)),
        ("security.capability", b"\1\0\0\3" + bytes(16) + b"\xff" * 4),
        ("user.", b"x"),
        ("user." + "n" * 251, b"x"),
        ("user.large", b"x" * 65537),
    ],
)
async def test_attributes_that_no_kernel_takes_are_refused(unpack_bytes: Unpack, name: str, value: bytes) -> None:
    with pytest.raises(InvalidArchive, match="invalid attribute"):
        await unpack_bytes(archive(member("f", b"x", pax_headers={f"SCHILY.xattr.{name}": value.decode(errors="surrogateescape")})))


async def test_labels_are_the_hosts_to_give(unpack_bytes: Unpack, root: Path) -> None:
    headers = {f"SCHILY.xattr.security.{name}": "x" for name in ("selinux", "ima", "evm")} | {"SCHILY.xattr.security.capability": ""}
    await unpack_bytes(archive(member("f", pax_headers=headers)))
    assert os.listxattr(root / "f") == []


async def test_times_far_off(unpack_bytes: Unpack, root: Path) -> None:
    times = ("9000000000.25", "9223372036.854775807", "9223372037", "-2147483648", "-2147483649", "-0.5")
    await unpack_bytes(archive(*(member(str(number), pax_headers={"mtime": time}) for number, time in enumerate(times))))
    last, first = (1 << 63) - 1, -(1 << 31) * 10**9
    expected = [9_000_000_000_250_000_000, last, last, first, first, -500_000_000]
    assert [(root / str(number)).stat().st_mtime_ns for number in range(len(times))] == expected


async def test_the_roots_own_entry_counts(unpack_bytes: Unpack, root: Path) -> None:
    await unpack_bytes(archive(directory("./", mode=0o711, uid=7), member("./f")))
    status = root.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime) == (0o711, 7, MODIFIED_AT)


async def test_times_have_nanoseconds(unpack_bytes: Unpack, root: Path) -> None:
    await unpack_bytes(
        archive(member("f", pax_headers={"mtime": "1600000000.123456789"}), member("old", mtime=-1), member("far", mtime=2**40))
    )
    assert (root / "f").stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert (root / "old").stat().st_mtime == -1
    assert (root / "far").stat().st_mtime > MODIFIED_AT


async def test_missing_parents_are_roots_0755(unpack_bytes: Unpack, root: Path) -> None:
    await unpack_bytes(archive(member("a/b/c", uid=9)))
    for path in (root / "a", root / "a/b"):
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (0o755, 0)


async def test_names_of_any_length_and_any_bytes(unpack_bytes: Unpack, root: Path) -> None:
    deep = "/".join(["d" * 200] * 15)
    await unpack_bytes(archive(member(deep), member("é\udcff\n "), member("n" * 255)))
    assert (root / deep).exists()
    assert b"\xc3\xa9\xff\n " in os.listdir(os.fsencode(root))


async def test_absolute_names_stay_inside(unpack_bytes: Unpack, root: Path) -> None:
    """docker: builders in wide use write them; they mean the layer's own root."""
    await unpack_bytes(archive(member("/app/program", b"x"), hard_link("/app/other", "/app/program"), directory("/")))
    assert (root / "app/other").read_bytes() == b"x"


def _keeps_user_attributes(directory: Path) -> bool:
    """A tmpfs does since Linux 6.6."""
    try:
        os.setxattr(directory, "user.probe", b"")
    except OSError as error:
        assert error.errno == errno.ENOTSUP
        return False
    os.removexattr(directory, "user.probe")
    return True


async def test_extended_attributes_are_kept_but_overlays_own_never(unpack_bytes: Unpack, root: Path, tmp_path: Path) -> None:
    """An image that could set trusted.overlay.redirect or .opaque would decide what other layers show."""
    capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    headers = {
        "SCHILY.xattr.user.note": "kept",
        "SCHILY.xattr.security.capability": capability.decode("latin-1"),
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.trusted.anything": "1",
    }
    await unpack_bytes(archive(member("f", b"x", uid=1, pax_headers=headers), directory("d", pax_headers=headers), symlink("l", "f")))
    kept = ["security.capability", "user.note"] if _keeps_user_attributes(tmp_path) else ["security.capability"]
    assert sorted(os.listxattr(root / "f")) == kept
    assert os.getxattr(root / "f", "security.capability") == capability
    assert "trusted.overlay.opaque" not in os.listxattr(root / "d")
    assert "user.note" in os.listxattr(root / "d")


async def test_attributes_that_a_file_cannot_have_do_not_stop_it(unpack_bytes: Unpack, root: Path) -> None:
    """docker: user.* on a symlink, or a label of a security module."""
    info, _ = symlink("l", "f")
    info.pax_headers = {"SCHILY.xattr.user.note": "x"}
    await unpack_bytes(archive((info, b""), member("f", pax_headers={"SCHILY.xattr.security.selinux": "label"})))
    assert os.readlink(root / "l") == "f"


async def test_whiteouts_and_opaque_directories_are_overlays(unpack_bytes: Unpack, root: Path) -> None:
    await unpack_bytes(archive(member(".wh.gone"), directory("d"), member("d/.wh..wh..opq"), member("d/new"), member("e/.wh.inside")))
    assert is_whiteout(root / "gone")
    assert is_whiteout(root / "e/inside")
    assert opaque(root / "d")
    assert not opaque(root / "e")
    assert sorted(os.listdir(root / "d")) == ["new"]
    assert (root / "d").stat().st_mtime == MODIFIED_AT


async def test_a_directory_in_place_of_a_removed_one_is_opaque(unpack_bytes: Unpack, root: Path) -> None:
    """spec: a whiteout hides what lower layers have, whichever comes first in the archive."""
    members = [member(".wh.a"), directory("a", mode=0o700), member("a/x"), directory("b"), member(".wh.b"), member(".wh.c"), member("c/x")]
    await unpack_bytes(archive(*members, member("f", b"1"), member(".wh.f")))
    assert all(opaque(root / name) for name in "abc")
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o700
    assert (root / "f").read_bytes() == b"1", "the file is this layer's own"


async def test_aufs_records_are_passed_over(unpack_bytes: Unpack, root: Path) -> None:
    await unpack_bytes(archive(directory(".wh..wh.plnk"), member(".wh..wh.plnk/1.2", b"x"), member(".wh..wh.aufs"), member("f")))
    assert os.listdir(root) == ["f"]


async def test_the_later_of_two_entries_wins(unpack_bytes: Unpack, root: Path) -> None:
    result = await unpack_bytes(
        archive(
            member("f", b"first"),
            member("f", b"second!"),
            directory("d"),
            member("d/x/y", b"123"),
            member("d", b"file"),
            symlink("l", "f"),
            directory("l"),
            member("l/inside"),
            member("t", b"1"),
            hard_link("t", "t"),
            directory("same", mode=0o700),
            directory("same", mode=0o750, uid=1),
        )
    )
    assert (root / "f").read_bytes() == b"second!"
    assert (root / "d").read_bytes() == b"file"
    assert (root / "l").is_dir()
    assert not (root / "l").is_symlink()
    assert (stat.S_IMODE((root / "same").stat().st_mode), (root / "same").stat().st_uid) == (0o750, 1)
    assert result.size_bytes >= len(b"second!file1")


async def test_what_is_replaced_does_not_count(unpack_bytes: Unpack) -> None:
    """Nor does what is in a directory that is replaced, unless it has a name elsewhere."""
    result = await unpack_bytes(
        archive(
            *(member("d/f", b"1" * 10), member("d/e/g", b"2" * 100), symlink("d/l", "t" * 1000), hard_link("d/h", "d/f")),
            *(member("k", b"3" * 10_000), hard_link("d/k", "k"), member("d", b"4")),
        )
    )
    assert result.size_bytes == 10_000 + 1


async def test_nothing_is_written_through_a_name_that_was_something_else(unpack_bytes: Unpack, root: Path) -> None:
    """A file whose name was a device, a FIFO or a link replaces it; none of them is opened."""
    await unpack_bytes(
        archive(
            member("target", b"keep"),
            hard_link("h", "target"),
            member("h", b"new"),
            symlink("s", "target"),
            member("s", b"new"),
            member("p", type=tarfile.FIFOTYPE),
            member("p", b"new"),
            device("c", tarfile.CHRTYPE, 1, 3),
            member("c", b"new"),
        )
    )
    assert (root / "target").read_bytes() == b"keep"
    assert all((root / name).read_bytes() == b"new" and stat.S_ISREG((root / name).lstat().st_mode) for name in "hspc")


async def test_a_relative_symlink_inside_the_layer_may_be_a_parent(unpack_bytes: Unpack, root: Path) -> None:
    """Layers of merged-/usr distributions have `bin -> usr/bin` and then `bin/sh`."""
    await unpack_bytes(
        archive(directory("usr"), directory("usr/bin"), symlink("bin", "usr/bin"), member("bin/sh", b"x"), hard_link("h", "bin/sh"))
    )
    assert (root / "usr/bin/sh").read_bytes() == b"x"
    assert (root / "bin").is_symlink()


async def test_sparse_files_have_holes(unpack_bytes: Unpack, root: Path, tmp_path: Path) -> None:
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        file.write(b"start")
        file.seek(8 << 20)
        file.write(b"middle")
        file.truncate(16 << 20)
    for style in ("gnu", "pax"):
        version = [] if style == "gnu" else ["--sparse-version=1.0"]
        data = subprocess.run(
            ["tar", "-C", str(tmp_path), "-cSf", "-", f"--format={style}", *version, f"--transform=s/sparse/{style}/", "sparse"],
            check=True,
            capture_output=True,
        ).stdout
        assert len(data) < 1 << 20
        await unpack_bytes(data)
        status = (root / style).stat()
        assert (root / style).read_bytes() == source.read_bytes()
        assert os.path.ismount(root) or status.st_blocks * 512 < 1 << 20, "an index tells a file's size as its blocks"
    assert (root / "pax").exists()


@pytest.mark.parametrize(
    ("compression", "compress"),
    [
        ("gzip", gzip.compress),
        ("gzip", lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:])),
        ("zstd", lambda data: zstandard.ZstdCompressor().compress(data)),
        ("zstd", lambda data: struct.pack("<II", 0x184D2A50, 3) + b"abc" + zstandard.compress(data[:99]) + zstandard.compress(data[99:])),
    ],
    ids=["gzip", "gzip of two members", "zstd", "zstd of several frames"],
)
async def test_the_diff_id_is_that_of_the_uncompressed_bytes(
    unpack_bytes: Unpack, root: Path, compression: str, compress: Callable[[bytes], bytes]
) -> None:
    content = os.urandom(3_000_000)
    data = archive(member("f", content)) + bytes(5000)
    result = await unpack_bytes(compress(data), compression)
    assert result.diff_id == Digest.of(data), "padding behind the archive counts"
    assert (root / "f").read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[:40] + bytes([data[40] ^ 255]) + data[41:],
        lambda data: data + b"garbage",
    ],
    ids=["last byte missing", "cut in half", "a bit flipped", "garbage behind"],
)
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
async def test_damaged_compression_is_refused(unpack_bytes: Unpack, compression: str, damage: Callable[[bytes], bytes]) -> None:
    data = archive(member("f", os.urandom(100_000)))
    packed = gzip.compress(data) if compression == "gzip" else zstandard.ZstdCompressor(write_checksum=True).compress(data)
    with pytest.raises(InvalidArchive):
        await unpack_bytes(damage(packed), compression)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("../evil")], 'invalid path "../evil": is outside of the layer'),
        ([member("a/../../evil")], "is outside of the layer"),
        ([directory("..")], "is outside of the layer"),
        ([member("/../evil")], "is outside of the layer"),
        ([symlink("x", "/etc"), member("x/evil")], 'invalid path: "x" is a symlink out of the layer'),
        ([symlink("x", "../.."), member("x/evil")], 'invalid path: "x" is a symlink out of the layer'),
        ([symlink("x", "."), symlink("x/y", "../.."), member("x/y/evil")], "is a symlink out of the layer"),
        ([symlink("x", "x"), member("x/evil")], "is a symlink out of the layer"),
        ([symlink("x", "missing"), member("x/evil")], "is a symlink out of the layer"),
        ([symlink("x", "/etc"), hard_link("h", "x/passwd")], "is a symlink out of the layer"),
        ([symlink("x", "/etc"), member("x/.wh..wh..opq")], "is a symlink out of the layer"),
        ([hard_link("h", "../../etc/shadow")], "is outside of the layer"),
        ([hard_link("h", "/etc/shadow")], 'invalid hardlink "h" -> "/etc/shadow": the layer has no such file'),
        ([directory("d"), hard_link("h", "d")], 'invalid hardlink "h" -> "d": not a file'),
        ([directory("d"), hard_link("d", "d")], 'invalid hardlink "d" -> "d": not a file'),
        ([member("d/f"), hard_link("d", "d/f")], 'invalid hardlink "d" -> "d/f": the layer has no such file'),
        ([member("d/f"), hard_link("h", "d/f"), hard_link("d", "d/f")], 'invalid hardlink "d" -> "d/f": the layer has no such file'),
        ([hard_link("h", "")], "invalid hardlink"),
        ([symlink("s", "")], "invalid symlink"),
        ([member("f"), member("f/below")], "f/below: not a directory"),
        ([member("n" * 256)], "file name too long"),
        ([member("d/" * 2500)], "file name too long"),
        ([device("c", tarfile.CHRTYPE, 0, 0)], "character device 0:0"),
        ([device("c", tarfile.CHRTYPE, 5000, 1)], "no device 5000:1"),
        ([member(".wh.")], "invalid whiteout"),
        ([member("d/.wh...")], "invalid whiteout"),
        ([member("f", type=b"V")], "unhandled tar header type 86"),
    ],
)
async def test_hostile_layers_are_refused_and_touch_nothing_outside(
    unpack_bytes: Unpack, tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], message: str
) -> None:
    before = sorted(os.listdir(tmp_path)), sorted(os.listdir("/etc"))
    with pytest.raises(InvalidArchive) as caught:
        await unpack_bytes(archive(*members))
    assert message in caught.value.message
    assert sorted(name for name in os.listdir(tmp_path) if name != "blob") == before[0], "written outside of the layer"
    assert sorted(os.listdir("/etc")) == before[1], "written outside of the layer"


@pytest.mark.parametrize(
    ("data", "compression", "limits", "message"),
    [
        (
            gzip.compress(archive(member("f", bytes(50_000_000)))),
            "gzip",
            Limits(layer_bytes=1_000_000),
            "larger than the limit of 1000000 bytes",
        ),
        (zstandard.compress(archive(member("f", bytes(50_000_000)))), "zstd", Limits(layer_bytes=1_000_000), "larger than the limit"),
        (archive(*(member(str(number)) for number in range(30))), "", Limits(layer_entries=20), "more than 20 entries"),
        (gzip.compress(archive(member("f")) + bytes(15_000_000)), "gzip", Limits(layer_bytes=1_000_000), "larger than the limit"),
        (
            archive(member("s", pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 50)})),
            "",
            Limits(),
            "larger than the limit",
        ),
    ],
    ids=["gzip bomb", "zstd bomb", "too many entries", "emptiness behind", "a sparse file of a petabyte"],
)
async def test_bombs_are_refused(unpack_bytes: Unpack, data: bytes, compression: str, limits: Limits, message: str) -> None:
    with pytest.raises(InvalidArchive, match=message):
        await unpack_bytes(data, compression, limits)


@pytest.mark.parametrize("compression", ["", "gzip", "zstd", "xz", "bzip2"])
async def test_emptiness_behind_a_layer_has_a_limit_of_its_own(unpack_bytes: Unpack, tmp_path: Path, root: Path, compression: str) -> None:
    """The padding of a tape's record is read, for it counts for the digest; gigabytes are not, whatever a layer may have in it."""
    compress = COMPRESSORS[compression]
    limits = Limits(trailing_bytes=50_000)
    padded = archive(member("f")) + bytes(20_000)
    assert (await unpack_bytes(compress(padded), compression, limits)).diff_id == Digest.of(padded)
    bomb = compress(archive(member("f")) + bytes(100_000))
    with pytest.raises(InvalidArchive, match="there are more than 50000 bytes behind the end of the archive"):
        await unpack_bytes(bomb, compression, limits)
    with pytest.raises(InvalidArchive, match="there are more than 50000 bytes behind the end of the archive"):
        await ingest(stream(bomb), str(tmp_path / "keep"), str(tmp_path), limits, SLOW)


async def test_a_zstd_bomb_runs_into_the_workers_own_memory_limit(unpack_bytes: Unpack) -> None:
    """Nested emptiness of many gigabytes is counted as it comes, in bounded pieces."""
    compressor = zstandard.ZstdCompressor().compressobj()
    header = tarfile.TarInfo("f")
    header.size = 30 << 30
    packed = [compressor.compress(header.tobuf()), *(compressor.compress(bytes(64 << 20)) for _ in range(32)), compressor.flush()]
    with pytest.raises(InvalidArchive, match="larger than the limit"):
        await unpack_bytes(b"".join(packed), "zstd", Limits(layer_bytes=1 << 30))


async def test_what_an_error_quotes_can_be_shown(unpack_bytes: Unpack) -> None:
    """A name may be no text at all, or an order to the reader's terminal."""
    with pytest.raises(InvalidArchive) as caught:
        await unpack_bytes(archive(member("../\x1b[2J\udcff\n\u00e9")))
    assert caught.value.message == 'invalid path "../\\x1b[2J\\udcff\\n\u00e9": is outside of the layer'


async def test_a_tree_deeper_than_pythons_stack_comes_and_goes(unpack_bytes: Unpack, root: Path) -> None:
    from teul.store.atomic import remove_tree

    await unpack_bytes(archive(member("d/" * 1500 + "f", b"x"), directory("other")))
    if os.path.ismount(root):
        assert sorted(os.listdir(root)) == ["d", "other"]
        return
    remove_tree(str(root))
    assert not root.exists()


async def test_more_directories_than_the_worker_keeps_open(unpack_bytes: Unpack, root: Path) -> None:
    members = [member(f"{number % 700}/{number}", str(number).encode()) for number in range(2000)]
    await unpack_bytes(archive(*members, *(directory(str(number), mtime=5) for number in range(700))))
    assert all((root / str(number % 700) / str(number)).read_text() == str(number) for number in range(2000))
    assert all((root / str(number)).stat().st_mtime == 5 for number in range(700))


async def test_a_worker_is_shut_in(tmp_path: Path) -> None:
    """What it could do if it were taken over: its root, capabilities, limits and descriptors, seen while it waits for input."""
    gate = asyncio.Event()

    async def slow() -> object:
        yield archive(member("f", b"x" * 2000))[:512]
        await gate.wait()

    (tmp_path / "fs").mkdir()
    job = asyncio.ensure_future(ingest(slow(), str(tmp_path / "keep"), str(tmp_path / "fs"), Limits(), SLOW))  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(10):
            while not (tmp_path / "fs/f").exists():
                await asyncio.sleep(0.01)
        [outer] = _children()
        [pid] = _children(outer)
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        limits = Path(f"/proc/{pid}/limits").read_text()
        targets = {os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0] for fd in os.listdir(f"/proc/{pid}/fd")}
        assert Path(f"/proc/{pid}/root").stat().st_ino == (tmp_path / "fs").stat().st_ino
        [mount] = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        assert {"nodev", "nosuid", "noexec"} <= set(mount.split()[5].split(","))
        for namespace in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
            assert os.readlink(f"/proc/{pid}/ns/{namespace}") != os.readlink(f"/proc/self/ns/{namespace}"), namespace
        assert status["Seccomp"] == "2"
        assert status["NSpid"].split() == [str(pid), "1"]
        assert not os.listdir(f"/proc/{outer}/fd"), "who only waits holds nothing"
        # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP
        allowed = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {allowed}
        assert {int(status[name], 16) for name in ("CapInh", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"
        assert re.search(r"Max core file size +0 +0 ", limits)
        assert str(2 << 30) in limits
        stderr = os.readlink("/proc/self/fd/2").partition(":")[0]
        assert targets <= {"/", "/f", "socket", "pipe", str(tmp_path / "keep"), stderr}, "its own files are seen from its root"
    finally:
        gate.set()
        with pytest.raises(InvalidArchive, match="unexpected EOF"):
            await job


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _children(of: int = 0) -> list[int]:
    pid = of or os.getpid()
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_cancelled_job_leaves_no_worker(tmp_path: Path) -> None:
    async def endless() -> object:
        while True:
            yield bytes(512)
            await asyncio.sleep(0.001)

    (tmp_path / "fs").mkdir()
    job = asyncio.ensure_future(ingest(endless(), str(tmp_path / "keep"), str(tmp_path / "fs"), Limits(), SLOW))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        while not _children():
            await asyncio.sleep(0.01)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert not _children()


@pytest.fixture
def reaping() -> Iterator[None]:
    """This process inherits its children's children, as the engine does for the keeper's sake: nobody else reaps them."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield
    prctl(PR_SET_CHILD_SUBREAPER, 0)


@pytest.mark.parametrize("delay_seconds", [0.0, 0.001, 0.01, 0.02, 0.03, 0.04])
async def test_nothing_is_left_behind_a_cancelled_job(tmp_path: Path, reaping: None, delay_seconds: float) -> None:
    """Whenever it is cancelled, its start included: both processes are gone, and the directory stays as it is."""
    blob = tmp_path / "blob"
    blob.write_bytes(archive(*(member(f"{number}", b"x") for number in range(20_000))))
    (tmp_path / "fs").mkdir()
    job = asyncio.ensure_future(unpack(str(blob), "", str(tmp_path / "fs"), Limits(), SLOW, diff_id=None))
    await asyncio.sleep(delay_seconds)
    # The loop is late, as it may be: the worker has begun before the loop has heard of its start.
    time.sleep(0.05)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    before = os.listdir(tmp_path / "fs")
    time.sleep(0.05)  # what is left of a worker has this long to show itself
    assert os.listdir(tmp_path / "fs") == before
    assert not _children()


@pytest.mark.parametrize("inner", [False, True])
async def test_a_killed_worker_is_an_error_of_the_system(tmp_path: Path, inner: bool) -> None:
    """Whichever of its two processes it was: the other one goes too."""
    pids: list[int] = []

    async def then_killed() -> object:
        yield archive(member("f", b"x"))[:600]
        while not (_children() and _children(_children()[0])):
            await asyncio.sleep(0.01)
        pids[:] = [_children()[0], *_children(_children()[0])]
        os.kill(pids[inner], 9)
        # The stream goes on until the kill has arrived, or its end would be what the worker complains of.
        async with asyncio.timeout(10):
            while _runs(pids[1]):
                await asyncio.sleep(0.01)
        yield b""

    (tmp_path / "fs").mkdir()
    with pytest.raises(System, match="died"):
        await ingest(then_killed(), str(tmp_path / "keep"), str(tmp_path / "fs"), Limits(), SLOW)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        while any(os.path.exists(f"/proc/{pid}") for pid in pids):
            await asyncio.sleep(0.01)


async def test_what_the_stream_raises_is_what_the_caller_sees(tmp_path: Path) -> None:
    class ClientGone(Exception):
        pass

    async def breaking() -> object:
        yield archive(member("f", b"x" * 5000))[:600]
        raise ClientGone

    (tmp_path / "fs").mkdir()
    with pytest.raises(ClientGone):
        await ingest(breaking(), str(tmp_path / "keep"), str(tmp_path / "fs"), Limits(), SLOW)  # type: ignore[arg-type]
    assert not _children()


@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, zstandard.compress, lzma.compress, bz2.compress], ids=["plain", "gzip", "zstd", "xz", "bzip2"]
)
async def test_an_ingested_layer_is_kept_as_registries_can_name_it(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    data = archive(member("f", os.urandom(200_000)))
    packed = compress(data)
    (tmp_path / "fs").mkdir()
    result = await ingest(stream(packed), str(tmp_path / "keep"), str(tmp_path / "fs"), Limits(), SLOW)
    kept = (tmp_path / "keep").read_bytes()
    expected = data if compress in (lzma.compress, bz2.compress) else packed
    assert kept == expected
    assert (result.digest, result.blob_size_bytes) == (Digest.of(kept), len(kept))
    assert result.unpacked.diff_id == Digest.of(data)
    assert result.compression == {gzip.compress: "gzip", zstandard.compress: "zstd"}.get(compress, "")


@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, zstandard.compress, lzma.compress, bz2.compress], ids=["plain", "gzip", "zstd", "xz", "bzip2"]
)
async def test_an_image_archive_is_taken_apart(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    layer = archive(member("f", b"x"))
    blob = os.urandom(100)
    name = "blobs/sha512/" + hashlib.sha512(blob).hexdigest()
    data = archive(
        directory("d"),
        member("d/layer.tar", layer),
        symlink("l", "d/layer.tar"),
        hard_link("h", "d/layer.tar"),
        member("../../evil", gzip.compress(b"x")),
        member(name, blob),
    )
    members = [entry async for entry in split(stream(compress(data), 1000), str(tmp_path), Limits())]
    assert [(entry.name, entry.type, entry.target) for entry in members] == [
        ("d/layer.tar", "file", ""),
        ("l", "symlink", "d/layer.tar"),
        ("h", "link", "d/layer.tar"),
        ("../../evil", "file", ""),
        (name, "file", ""),
    ]
    first, evil, last = members[0], members[3], members[4]
    assert Path(first.path).read_bytes() == layer
    assert (first.digest, first.size_bytes, first.compression, first.is_archive) == (Digest.of(layer), len(layer), "", True)
    assert (evil.compression, evil.is_archive, os.path.dirname(evil.path)) == ("gzip", True, str(tmp_path)), "names are never paths"
    assert (last.digest, last.is_archive) == (Digest.of(blob, "sha512"), False)


@pytest.mark.parametrize(
    ("data", "limits", "message"),
    [
        (archive(device("c", tarfile.CHRTYPE, 1, 3)), Limits(), "an image archive has no devices"),
        (archive(*(member(str(number)) for number in range(30))), Limits(archive_entries=20), "more than 20 entries"),
        (gzip.compress(archive(member("f", bytes(40_000_000)))), Limits(archive_bytes=1_000_000), "larger than the limit of 1000000 bytes"),
        (gzip.compress(archive() + bytes(15_000_000)), Limits(archive_bytes=1_000_000), "larger than the limit"),
        (zstandard.compress(archive() + bytes(100_000)), Limits(trailing_bytes=50_000), "more than 50000 bytes behind the end of the arch"),
        (archive(member("f", b"x" * 5000))[:3000], Limits(), "unexpected EOF"),
        (archive(member("s", pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": "5"})), Limits(), "no sparse files"),
        (b"this is no archive" * 100, Limits(), "invalid tar header"),
        (gzip.compress(b"x" * 1000)[:-3], Limits(), "invalid tar header|unexpected EOF"),
    ],
    ids=["device", "many entries", "large", "padded", "zstd padded", "cut short", "sparse", "text", "cut gzip"],
)
async def test_wrong_image_archives_are_refused(tmp_path: Path, data: bytes, limits: Limits, message: str) -> None:
    with pytest.raises(InvalidArchive, match=message):
        _ = [entry async for entry in split(stream(data), str(tmp_path), limits)]


def test_a_worker_refuses_to_serve_another_process(tmp_path: Path) -> None:
    """An engine that died while it started a worker leaves nobody who would read the result."""
    order = json.dumps({"job": "split", "root": str(tmp_path), "parent_pid": 1, "limit_bytes": 1, "limit_entries": 1})
    boot = "import sys; from teul.workers.program.layers import main; main(sys.argv[1])"
    result = subprocess.run([sys.executable, "-c", boot, order], input=archive(member("f")), capture_output=True, check=False)
    assert (result.returncode, result.stdout, os.listdir(tmp_path)) == (1, b"", [])


def test_tarfile_is_not_what_unpacks() -> None:
    """A worker loads little: its start is part of every load."""
    heavy = {"tarfile", "asyncio", "msgspec", "dataclasses", "typing_extensions", "teul.workers.program.messages"}
    code = f"import sys; import teul.workers.program.layers; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert result.stdout == "[]\n"


def test_the_cases_are_what_they_say() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(symlink("l", "t"), hard_link("h", "f")))) as tar:
        assert [info.type for info in tar] == [tarfile.SYMTYPE, tarfile.LNKTYPE]
