"""Indexes of layers, read back by the kernel: what `test_layers` holds both kinds of layers to is not repeated here."""

from __future__ import annotations

import os
import random
import struct
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kernel.workers.archive_cases import archive, directory, hard_link, member, stream, symlink
from support.needs import needs
from support.trees import differences, tree
from teul.aio import SlowWork
from teul.linux import mounts
from teul.oci.digest import Digest
from teul.snapshots import erofs
from teul.store.layer_files import ARCHIVE_FILE, INDEX_FILE
from teul.workers.client import InvalidArchive
from teul.workers.layers import Indexed, Limits, index_blob, index_stream, unpack

pytestmark = needs("root")

SLOW = SlowWork()
ROOTS_OWN = ((b".", "mode"), (b".", "mtime"))  # of a directory that was there before, in the one case


@pytest.fixture(autouse=True)
def indexes_can_be_mounted(tmp_path: Path) -> None:
    if reason := erofs.refusal(str(tmp_path)):
        pytest.skip(f"this kernel mounts no index here: {reason}")


@contextmanager
def mounted(index: Path, layer_archive: Path) -> Iterator[str]:
    """The layer's top directory; in no mount table."""
    fd = erofs.mount_layer(str(index), str(layer_archive))
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


async def indexed(data: bytes, tmp_path: Path) -> tuple[Indexed, Path, Path]:
    """What is made of the uncompressed layer `data`: the result, the index, and the archive."""
    place = Path(tempfile.mkdtemp(dir=tmp_path))
    blob = place / "layer"
    blob.write_bytes(data)
    (place / "made").mkdir()
    result = await index_blob(str(blob), str(place / "made"), Limits(), diff_id=Digest.of(data))
    return result, place / "made" / INDEX_FILE, blob


def _random_layer(dice: random.Random) -> bytes:
    """An archive that a careless tool could have written: names in any order, some twice, some removed, some under symlinks."""
    # Directories that others are in have names of their own: what runs through something else is refused, and that is tried elsewhere.
    names = [f"{'d/' * dice.randint(0, 3)}{dice.choice('abc')}{'x' * dice.choice([0, 0, 1, 200, 253])}" for _ in range(60)]
    members: list[tuple[tarfile.TarInfo, bytes]] = [directory("d"), directory("d/d"), directory("d/d/d"), symlink("d/link", "d/d")]
    files: list[str] = []
    makers: list[Callable[[str], tuple[tarfile.TarInfo, bytes]]] = [
        lambda name: member(name, dice.randbytes(dice.choice([0, 1, 511, 512, 513, 5000])), mode=dice.choice([0o644, 0o4755, 0])),
        lambda name: member(name, b"x", uid=dice.randint(0, 70_000), gid=70_000, mtime=dice.choice([-5, 0, 2**33])),
        lambda name: member(name, b"y", pax_headers={"SCHILY.xattr.user.n": "v" * dice.choice([0, 1, 300, 600])}),
        lambda name: symlink(name, "t" * dice.choice([1, 100, 448, 449, 3000])),
        lambda name: member(name, type=tarfile.FIFOTYPE),
        lambda name: member(name, type=tarfile.BLKTYPE, devmajor=259, devminor=1_000_000),
        lambda name: directory(name, mode=0o2711),
        lambda name: hard_link(name, dice.choice(files)) if files else member(name),
        lambda name: member(f"{os.path.dirname(name)}/.wh.{os.path.basename(name)}".lstrip("/")),
        lambda name: member(f"{os.path.dirname(name)}/.wh..wh..opq".lstrip("/")),
        lambda name: member(f"d/link/{os.path.basename(name)}", b"through a link"),
    ]
    for name in names:
        info, data = dice.choice(makers)(name)
        if info.islnk() and info.linkname == info.name:
            continue
        if info.isreg() and ".wh." not in info.name and not info.name.startswith("d/link/"):
            files.append(info.name)
        elif info.name in files:
            files.remove(info.name)
        members.append((info, data))
    return archive(*members)


@pytest.mark.parametrize("seed", range(12))
async def test_an_index_shows_what_unpacking_makes(tmp_path: Path, seed: int) -> None:
    await _shows_what_unpacking_makes(_random_layer(random.Random(seed)), tmp_path)


async def _shows_what_unpacking_makes(data: bytes, tmp_path: Path) -> None:
    root, blob = tmp_path / "fs", tmp_path / "blob"
    root.mkdir()
    blob.write_bytes(data)
    try:
        unpacked = await unpack(str(blob), "", str(root), Limits(), SLOW, diff_id=None)
    except InvalidArchive as error:
        with pytest.raises(InvalidArchive) as refused:
            await indexed(data, tmp_path)
        assert refused.value.message == error.message
        return
    result, index, layer_archive = await indexed(data, tmp_path)
    assert (result.unpacked.diff_id, result.unpacked.size_bytes) == (unpacked.diff_id, unpacked.size_bytes)
    with mounted(index, layer_archive) as top:
        assert not [one for one in differences(tree(str(root)), tree(top)) if one[:2] not in ROOTS_OWN]


@pytest.mark.parametrize("last", ["fifth", "a/fifth"])
async def test_a_directory_is_looked_up_again_once_its_path_leads_elsewhere(tmp_path: Path, last: str) -> None:
    """Entries of one directory come one after the other, and it is remembered; until an entry replaces what its path goes through."""
    data = archive(
        directory("a"),
        symlink("a/here", "."),
        member("a/here/first", b"1"),
        directory("a/here/here"),
        member("a/here/here/second", b"22"),
        directory("a/deep"),
        symlink("a/deep/up", ".."),
        member("a/deep/up/deep", b"a file, where the path to it has led through"),
        symlink("b", "a"),
        member("b/third", b"333"),
        directory("b"),
        member("b/fourth", b"4444"),
        member("a", b"a file"),
        member(last, b"55555"),
    )
    await _shows_what_unpacking_makes(data, tmp_path)


async def test_one_archive_has_one_index(tmp_path: Path) -> None:
    data = archive(member("a/b", b"1"), member("c", b"2"), symlink("d", "c"), directory("e", pax_headers={"SCHILY.xattr.user.n": "v"}))
    indexes = [(await indexed(data, tmp_path))[1].read_bytes() for _ in range(2)]
    assert indexes[0] == indexes[1]


@pytest.mark.parametrize(
    "segments",
    [
        [(0, 512), (4096, 1000), (1 << 20, 7)],  # the second one ends within a block, and so the third begins within one of the archive
        [(100, 10), (200, 1000)],
        [(512 * 7, 512), (512 * 8, 512), (512 * 20, 100)],
        [(0, 0), (1 << 28, 512)],
        [(5, 1), (1023, 2), (4096, 4096)],
    ],
)
async def test_sparse_files_whose_pieces_stand_anywhere(tmp_path: Path, segments: list[tuple[int, int]]) -> None:
    size = segments[-1][0] + segments[-1][1] + 1000
    dice = random.Random(1)
    pieces = [dice.randbytes(length) for _, length in segments]
    table = "".join(f"{number}\n" for number in (len(segments), *(number for segment in segments for number in segment))).encode()
    data = table + bytes(-len(table) % 512) + b"".join(pieces)
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f", "GNU.sparse.realsize": str(size)}
    layer = archive(member("GNUSparseFile.0/f", data, pax_headers=headers), member("g", b"next"))
    _, index, layer_archive = await indexed(layer, tmp_path)
    with mounted(index, layer_archive) as top, open(f"{top}/f", "rb") as file:
        assert os.fstat(file.fileno()).st_size == size
        end = 0
        for (offset, length), piece in zip(segments, pieces, strict=True):
            between = os.pread(file.fileno(), min(offset - end, 1 << 20), end)
            assert not any(between)
            assert os.pread(file.fileno(), length, offset) == piece
            end = offset + length
        assert os.pread(file.fileno(), 5000, end) == bytes(1000)
        assert Path(top, "g").read_bytes() == b"next"


async def test_what_the_format_does_not_have_is_told(tmp_path: Path) -> None:
    """A sparse file of millions of single blocks; the layer is not wrong, and can be unpacked."""
    map_of_one = b"1\n0\n512\n"
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f", "GNU.sparse.realsize": str(1 << 34)}
    layer = archive(member("GNUSparseFile.0/f", map_of_one + bytes(512 - len(map_of_one)) + b"x" * 512, pax_headers=headers))
    result, _, _ = await indexed(layer, tmp_path)
    assert result.unindexable == "a sparse file of 33554432 pieces"


@pytest.mark.parametrize("compression", ["", "gzip"])
async def test_a_layer_that_comes_as_a_stream(tmp_path: Path, compression: str) -> None:
    """Compressed, it is kept as it came, for it is to leave so; and uncompressed, for it is to be mounted."""
    import gzip

    plain = archive(member("f", b"content" * 1000))
    data = gzip.compress(plain) if compression else plain
    place = tmp_path / "made"
    place.mkdir()
    blob = tmp_path / "blob"
    result = await index_stream(stream(data), str(blob), str(place), Limits())
    assert (result.unpacked.diff_id, result.digest, result.compression) == (Digest.of(plain), Digest.of(data), compression)
    assert (result.archive_size_bytes, result.blob_size_bytes) == (len(plain), len(data))
    assert (place / ARCHIVE_FILE).read_bytes() == plain
    assert blob.read_bytes() == data
    assert blob.samefile(place / ARCHIVE_FILE) == (not compression)
    assert sorted(os.listdir(place)) == [INDEX_FILE, ARCHIVE_FILE]
    with mounted(place / INDEX_FILE, place / ARCHIVE_FILE) as top:
        assert Path(top, "f").read_bytes() == b"content" * 1000


async def test_attributes_that_only_a_kernel_could_judge_are_judged(tmp_path: Path) -> None:
    entries = ((1, 6, -1), (2, 4, 1000), (4, 4, -1), (16, 6, -1), (32, 0, -1))  # tag, permissions, id: linux/posix_acl_xattr.h
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    headers = {"SCHILY.xattr.system.posix_acl_access": acl.decode(errors="surrogateescape")}
    layer = archive(member("f", b"secret", mode=0o660, pax_headers=headers))
    _, index, layer_archive = await indexed(layer, tmp_path)
    with mounted(index, layer_archive) as top:
        assert os.getxattr(f"{top}/f", "system.posix_acl_access") == acl
        for uid, may in ((1000, True), (1001, False)):
            child = os.fork()
            if child == 0:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                os._exit(0 if os.access(f"{top}/f", os.R_OK) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (0 if may else 1), uid


async def test_no_file_of_a_layer_can_be_written(tmp_path: Path) -> None:
    _, index, layer_archive = await indexed(archive(member("f", b"x", mode=0o666)), tmp_path)
    with mounted(index, layer_archive) as top:
        with pytest.raises(OSError, match="Read-only file system"):
            os.open(f"{top}/f", os.O_WRONLY)
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):
            mounts.set_attributes(fd, clear=mounts.MOUNT_ATTR_RDONLY)
        with pytest.raises(OSError, match="Read-only file system"):
            os.open(f"{top}/f", os.O_WRONLY)
        os.close(fd)
