"""Indexes of layers that are large in one way or another, read back by the kernel."""

from __future__ import annotations

import os
import random
import tarfile
from pathlib import Path

import pytest

from kernel.workers.archive_cases import archive, directory, hard_link, member
from kernel.workers.test_index import indexes_can_be_mounted, mounted
from support.needs import needs
from teul.oci.digest import Digest
from teul.store.layer_files import INDEX_FILE
from teul.workers.layers import Limits, index_blob

pytestmark = needs("root")

__all__ = ["indexes_can_be_mounted"]

ANY_DIGEST = Digest.of(b"")  # of an archive whose digest is taken for granted


async def indexed(layer_archive: Path, tmp_path: Path, limits: Limits | None = None) -> Path:
    place = tmp_path / "made"
    place.mkdir()
    result = await index_blob(str(layer_archive), str(place), limits or Limits(), diff_id=ANY_DIGEST)
    assert result.unindexable == ""
    return place / INDEX_FILE


async def test_a_directory_of_a_hundred_thousand_files(tmp_path: Path) -> None:
    """Every name is found, and none that is not there, whichever block of the directory it would be in."""
    dice = random.Random(0)
    # Of lengths that fill the blocks in all ways, and of bytes on either side of those of "." and "..".
    names = sorted(
        {bytes(dice.choices(b"!-./09AZaz~\x80\xff".replace(b"/", b""), k=dice.choice([1, 2, 3, 8, 9, 40]))) for _ in range(40_000)}
    )
    names = [name for name in names if name.strip(b".") and not name.startswith(b".wh.")]
    names += [b"%06x" % number for number in range(100_000 - len(names))]
    layer_archive = tmp_path / "layer"
    layer_archive.write_bytes(archive(*(member(f"d/{os.fsdecode(name)}", name) for name in names)))
    there = set(names)
    assert len(there) > 1 << 16
    with mounted(await indexed(layer_archive, tmp_path), layer_archive) as top:
        above = os.fsencode(f"{top}/d/")
        with os.scandir(above) as entries:
            numbers = {entry.name: entry.inode() for entry in entries}
        assert numbers.keys() == there
        assert len(set(numbers.values())) == len(there), "every file has a number of its own, more than 16 bits can tell"
        for name in dice.sample(sorted(there), 2000):
            status = os.lstat(above + name)
            assert (status.st_ino, status.st_size) == (numbers[name], len(name))
        for name in dice.sample(sorted(there), 200):
            assert Path(os.fsdecode(above + name)).read_bytes() == name
        absent = {name + b"\x01" for name in dice.sample(sorted(there), 1000)} | {name[:-1] for name in dice.sample(sorted(there), 1000)}
        for name in (absent | {b"\x01", b"\xff" * 255, b"!" * 41}) - there - {b"", b".", b".."}:
            assert not os.path.lexists(above + name), name


@pytest.mark.parametrize("gibibytes", [5, 1100])
async def test_files_larger_than_every_number_of_32_bits(tmp_path: Path, gibibytes: int) -> None:
    """The archive has holes, so that it takes no room."""
    size = (gibibytes << 30) + 7
    info = tarfile.TarInfo("large")
    info.size = size
    layer_archive = tmp_path / "layer"
    marks = {1 << 20: b"1 MiB", (1 << 31) - 2: b"2 GiB", (1 << 32) - 2: b"4 GiB", (1 << 32) + 4093: b"page", size - 3: b"end"}
    with layer_archive.open("wb") as file:
        file.write(header := info.tobuf(tarfile.PAX_FORMAT))
        for at, mark in marks.items():
            file.seek(len(header) + at)
            file.write(mark)
        file.seek(len(header) + size + -size % 512)
        file.write(archive(member("small", b"after it")))
    index = await indexed(layer_archive, tmp_path, Limits(layer_bytes=1 << 42))
    with mounted(index, layer_archive) as top:
        assert os.stat(f"{top}/large").st_size == size
        with open(f"{top}/large", "rb") as file:
            for at, mark in marks.items():
                assert os.pread(file.fileno(), len(mark) + 4, at - 2) == b"\0\0" + mark + bytes(2 if at + len(mark) < size else 0)
        assert Path(top, "small").read_bytes() == b"after it"


async def test_twenty_thousand_names_of_one_file(tmp_path: Path) -> None:
    names = [f"{number % 7}/{number}" for number in range(20_000)]
    layer_archive = tmp_path / "layer"
    layer_archive.write_bytes(archive(member("f", b"content"), *(hard_link(name, "f") for name in names), member("g", b"other")))
    with mounted(await indexed(layer_archive, tmp_path), layer_archive) as top:
        status = os.stat(f"{top}/f")
        assert status.st_nlink == len(names) + 1
        assert {os.stat(f"{top}/{name}").st_ino for name in names} == {status.st_ino}
        assert Path(top, names[-1]).read_bytes() == b"content"
        assert os.stat(f"{top}/g").st_nlink == 1


async def test_directories_two_hundred_levels_deep(tmp_path: Path) -> None:
    deep = "/".join(f"level {number}" for number in range(200))
    layer_archive = tmp_path / "layer"
    layer_archive.write_bytes(archive(directory(deep, mode=0o700), member(f"{deep}/f", b"down here"), member("level 0/up", b"up here")))
    with mounted(await indexed(layer_archive, tmp_path), layer_archive) as top:
        fd = os.open(f"{top}/{deep}", os.O_RDONLY | os.O_DIRECTORY)
        try:
            assert os.listdir(fd) == ["f"]
            # Up again by "..", which every directory has for itself.
            way = "../" * 199 + "up"
            assert os.stat(way, dir_fd=fd).st_size == len("up here")
        finally:
            os.close(fd)
        assert Path(top, deep, "f").read_bytes() == b"down here"
        assert os.stat(f"{top}/level 0").st_nlink == 3
        assert os.stat(top).st_ino, "zero is the number of no file"


async def test_a_thousand_files_with_the_same_attributes(tmp_path: Path) -> None:
    """And with attributes of so many lengths that they begin and end everywhere in the blocks."""
    headers = {"SCHILY.xattr.user.same": "the same", "SCHILY.xattr.user.long": "v" * 3000}
    same = [member(f"same-{number}", str(number).encode(), pax_headers=headers) for number in range(1000)]
    other = [member(f"other-{number}", b"x", pax_headers={"SCHILY.xattr.user.n": "v" * number}) for number in range(1000)]
    layer_archive = tmp_path / "layer"
    layer_archive.write_bytes(archive(*(info for pair in zip(same, other, strict=True) for info in pair)))
    with mounted(await indexed(layer_archive, tmp_path), layer_archive) as top:
        for number in range(1000):
            name = f"{top}/same-{number}"
            assert (os.getxattr(name, "user.same"), os.getxattr(name, "user.long")) == (b"the same", b"v" * 3000)
            assert os.listxattr(f"{top}/other-{number}") == ["user.n"]
            assert os.getxattr(f"{top}/other-{number}", "user.n") == b"v" * number
        assert Path(top, "same-999").read_bytes() == b"999"
