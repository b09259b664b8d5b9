"""Every kind of file damaged: the check names it, a repair has it again where there is something to have it from, and nothing else stops."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kernel.services.images.host import BASE, MERGED, TOP, Host, tree
from kernel.services.images.test_indexed_layers import blob, compressed_image, layer
from kernel.services.images.test_load import load
from kernel.workers.archive_cases import saved_image
from support.needs import needs
from teul.errors import Conflict
from teul.oci.digest import Digest
from teul.services.images.check import ImageCheck
from teul.services.images.damage import Finding, Outcome
from teul.store.layer_files import ARCHIVE_FILE, INDEX_FILE
from teul.store.metadata import images as rows
from teul.workers.layers import Limits

pytestmark = needs("root")


@pytest.fixture
def form() -> str:
    return "erofs"


async def check(host: Host, *, repair: bool = False) -> tuple[list[Finding], Outcome]:
    reports = [report async for report in ImageCheck(host.store).run(repair=repair)]
    assert isinstance(reports[-1], Outcome)
    findings = [report for report in reports if isinstance(report, Finding)]
    assert (reports[-1].damaged, reports[-1].repaired) == (len(findings), sum(bool(finding.repaired) for finding in findings))
    assert host.files()["tmp"] == []
    return findings, reports[-1]


async def found(host: Host, *, repair: bool = False) -> list[tuple[str, tuple[str, ...], str, str]]:
    """Kind, images, damage and repair of each finding."""
    return [(one.kind, one.images, one.damage, one.repaired) for one in (await check(host, repair=repair))[0]]


def flip(path: Path, position: int = 600) -> None:
    """One bit of the file as it is: every name of it, and every mount, has the damage."""
    with path.open("r+b") as file:
        file.seek(position)
        [byte] = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 1]))


DIFFERENT = "its bytes have another digest"


async def test_nothing_is_wrong_with_what_was_stored(host: Host) -> None:
    await load(host, saved_image(BASE, TOP, tags=["app:1"]))
    await load(host, compressed_image(BASE, name="base:1"))
    await load(host, saved_image(TOP, BASE, tags=["turned:1"]))
    findings, outcome = await check(host)
    assert findings == []
    assert (outcome.blobs, outcome.layers) == (host.rows()["blobs"], 4)
    assert await found(host, repair=True) == []


async def test_an_archive_comes_back_from_its_compressed_blob(host: Host) -> None:
    await load(host, compressed_image(BASE, name="base:1"))
    await load(host, saved_image(TOP, tags=["other:1"]))
    archive = layer(host, "base:1") / ARCHIVE_FILE
    flip(archive)
    [finding] = (await check(host))[0]
    assert finding == Finding("archive", str(Digest.of(BASE)), str(archive), DIFFERENT, ("base:1",))
    [finding] = (await check(host, repair=True))[0]
    [came_as] = host.images.resolve("base:1").chosen.layers
    assert finding.repaired == f"restored from blob {came_as.digest}"
    assert archive.read_bytes() == BASE
    assert await found(host) == []
    assert tree(host.images, host.images.resolve("base:1")) == {"bin/sh": b"#!", "etc/passwd": b"root"}


async def test_a_mount_that_is_held_gives_way_to_the_repaired_layer(host: Host) -> None:
    """The engine holds a layer's mount for all its containers: those that start next must not get the damaged one."""
    await load(host, compressed_image(BASE, name="base:1"))
    image = host.images.resolve("base:1")
    position = (layer(host, "base:1") / ARCHIVE_FILE).read_bytes().index(b"root")
    flip(layer(host, "base:1") / ARCHIVE_FILE, position)
    assert tree(host.images, image)["etc/passwd"] == b"soot"
    await check(host, repair=True)
    assert tree(host.images, image)["etc/passwd"] == b"root"


@pytest.mark.parametrize("damage", ["flipped", "cut", "absent"])
async def test_an_index_is_made_again_from_its_archive(host: Host, damage: str) -> None:
    await load(host, saved_image(BASE, tags=["base:1"]))
    await load(host, saved_image(TOP, BASE, tags=["turned:1"]))
    index = layer(host, "base:1") / INDEX_FILE
    whole = index.read_bytes()
    match damage:
        case "flipped":
            flip(index, len(whole) // 2)
        case "cut":
            os.truncate(index, 100)
        case "absent":
            index.unlink()
    why = "it is not there" if damage == "absent" else "it is not the one that its archive gives"
    names = ("base:1",) if damage == "absent" else ("base:1", "turned:1")
    assert await found(host) == [("index", names, why, "")]
    assert await found(host, repair=True) == [("index", names, why, "made again from its archive")]
    assert index.read_bytes() == whole
    assert await found(host) == []
    assert blob(host, BASE).samefile(layer(host, "base:1") / ARCHIVE_FILE), "still one file with the blob"
    await host.restart()
    assert tree(host.images, host.images.resolve("turned:1"))["bin/sh"] == b"#!"


async def test_a_blob_comes_back_from_the_archive_that_it_is(host: Host) -> None:
    await load(host, saved_image(BASE, TOP, tags=["app:1"]))
    blob(host, BASE).unlink()
    blob(host, TOP).unlink()
    blob(host, TOP).write_bytes(b"something else")
    assert sorted(await found(host)) == sorted([("blob", ("app:1",), "it is not there", ""), ("blob", ("app:1",), DIFFERENT, "")])
    assert {repaired for *_, repaired in await found(host, repair=True)} == {"restored from the layer's archive"}
    assert blob(host, BASE).read_bytes() == BASE
    assert blob(host, TOP).samefile(layer(host, "app:1") / ARCHIVE_FILE)
    assert await found(host) == []


async def test_a_document_is_written_again_from_memory(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["base:1"]))
    image = host.images.resolve("base:1")
    for digest, data in image.documents.items():
        flip(host.root / "blobs/sha256" / digest.hex, 10)
        assert await found(host, repair=True) == [("blob", ("base:1",), DIFFERENT, "written again from memory")]
        assert (host.root / "blobs/sha256" / digest.hex).read_bytes() == data
    await host.restart()
    assert host.images.resolve("base:1").image_id == image.image_id


async def test_what_is_one_file_is_lost_in_both_places(host: Host) -> None:
    """Unless another image has the archive compressed."""
    await load(host, saved_image(BASE, tags=["base:1"]))
    await load(host, saved_image(TOP, tags=["other:1"]))
    flip(blob(host, BASE))
    lost = [("archive", ("base:1",), DIFFERENT, ""), ("blob", ("base:1",), DIFFERENT, "")]
    assert await found(host) == lost
    assert await found(host, repair=True) == lost, "it is needed, so it stays"
    assert tree(host.images, host.images.resolve("other:1"))
    await load(host, compressed_image(BASE, name="again:1"))
    [archive, blob_] = await found(host, repair=True)
    assert archive[3].startswith("restored from blob sha256:")
    assert blob_[3] == "restored from the layer's archive"
    assert blob(host, BASE).read_bytes() == BASE
    assert await found(host) == []


async def test_a_compressed_blob_cannot_be_had_again(host: Host) -> None:
    """Whoever compresses the archive gets other bytes. The image goes on working; it comes back with its next load."""
    data = compressed_image(BASE, name="base:1")
    await load(host, data)
    [digest] = [descriptor.digest for descriptor in host.images.resolve("base:1").chosen.layers]
    flip(host.root / "blobs/sha256" / digest.hex, 30)
    for repair in (False, True):
        assert await found(host, repair=repair) == [("blob", ("base:1",), DIFFERENT, "")]
    assert tree(host.images, host.images.resolve("base:1"))["bin/sh"] == b"#!"
    await host.remover.remove("base:1")
    await load(host, data)
    assert await found(host) == []


async def test_what_nothing_refers_to_is_removed(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["base:1"]))
    stray = Digest.of(b"stray")
    host.database.transact_blocking(lambda connection: rows.insert_blobs(connection, [(stray, 5)], 0))
    chain = rows.SnapshotRow(Digest.of(b"chain"), None, Digest.of(b"archive"), 1)
    host.database.transact_blocking(lambda connection: rows.insert_snapshots(connection, [chain], 0))
    await host.restart()
    for name in ("a" * 64, "b" * 64 + ".1234.new"):
        (host.root / "blobs/sha256" / name).write_bytes(b"left")
    (host.root / "snapshots" / ("c" * 64)).mkdir()
    (layer(host, "base:1") / f"{ARCHIVE_FILE}.exchanged").write_bytes(b"left by a repair")
    assert sorted((one.kind, one.subject) for one in (await check(host))[0]) == [
        ("blob", str(stray)),
        ("file", "a" * 64),
        ("file", "b" * 64 + ".1234.new"),
        ("file", "c" * 64),
        ("file", f"{ARCHIVE_FILE}.exchanged"),
        ("layer", str(chain.chain_id)),
    ]
    before = host.rows()
    assert all(one.repaired.startswith("removed") for one in (await check(host, repair=True))[0])
    assert host.rows() == {**before, "blobs": before["blobs"] - 1, "snapshots": before["snapshots"] - 1}
    assert await found(host) == []


async def test_a_layer_that_is_lost_is_made_again(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["base:1"]))
    directory = layer(host, "base:1")
    for name in (INDEX_FILE, ARCHIVE_FILE):
        (directory / name).unlink()
    directory.rmdir()
    assert await found(host) == [("layer", ("base:1",), "it is not there", "")]
    assert await found(host, repair=True) == [("layer", ("base:1",), "it is not there", f"made again from blob {Digest.of(BASE)}")]
    assert tree(host.images, host.images.resolve("base:1"))["bin/sh"] == b"#!"
    assert await found(host) == []


async def test_an_image_that_was_left_out_is_named_and_keeps_what_it_needs(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["base:1"]))
    await load(host, saved_image(TOP, tags=["other:1"]))
    image = host.images.resolve("base:1")
    flip(host.root / "blobs/sha256" / image.image_id.hex, 10)
    await host.restart()
    flip(blob(host, BASE))
    before = host.rows()
    findings = await found(host, repair=True)
    assert ("image", ("base:1",), "its documents are damaged", "") in findings
    assert ("blob", ("base:1",), DIFFERENT, "") in findings
    assert all(not repaired for *_, repaired in findings)
    assert host.rows() == before, "nobody knows what a damaged image needs, so nothing is removed"


async def test_unpacked_layers_are_looked_for(host: Host) -> None:
    host.indexes = False
    await host.restart()
    await load(host, saved_image(BASE, TOP, tags=["app:1"]))
    assert await found(host) == []
    files = layer(host, "app:1")
    files.rename(files.parent / "elsewhere")
    assert [(kind, names) for kind, names, *_ in await found(host, repair=True)] == [("layer", ("app:1",))]
    assert tree(host.images, host.images.resolve("app:1")) == MERGED
    assert await found(host) == []


async def test_one_check_at_a_time(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["base:1"]))
    checks = ImageCheck(host.store)
    first = checks.run()
    await anext(first)
    with pytest.raises(Conflict, match="a check is already running"):
        checks.run()
    async for _ in first:
        pass
    assert [report async for report in checks.run()]


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
async def test_unpacked_files_are_held_against_their_archive(host: Host, compress: bool) -> None:
    """They are not repaired: a container that runs would lose them under its feet."""
    host.indexes = False
    await host.restart()
    await load(host, compressed_image(BASE, name="base:1") if compress else saved_image(BASE, tags=["base:1"]))
    await load(host, saved_image(TOP, tags=["top:1"]))
    assert await found(host) == []
    flip(layer(host, "base:1") / "etc/passwd", 0)
    for repair in (False, True):
        assert await found(host, repair=repair) == [("layer", ("base:1",), "/etc/passwd is not as in its archive", "")]
    os.unlink(layer(host, "top:1") / "etc/passwd")
    [_, finding] = sorted(await found(host), key=lambda one: one[1])
    assert finding == ("layer", ("top:1",), "/etc/passwd is not as in its archive", ""), "a whiteout is one of its files"
    assert host.files()["tmp"] == []


async def test_what_cannot_be_checked_is_told(host: Host) -> None:
    """A layer that is larger than this engine takes, say, since its limits were lowered; the check goes on to its end."""
    await load(host, saved_image(BASE, tags=["base:1"]))
    host.indexes = False
    await host.restart()
    await load(host, saved_image(TOP, tags=["top:1"]))
    checks = ImageCheck(host.store, limits=Limits(layer_bytes=1))
    findings = [report async for report in checks.run(repair=True) if isinstance(report, Finding)]
    assert sorted((one.kind, one.images, one.repaired) for one in findings) == [("index", ("base:1",), ""), ("layer", ("top:1",), "")]
    assert all(one.damage.startswith("it cannot be checked: ") for one in findings)


@pytest.mark.parametrize("indexes", [True, False])
async def test_images_that_come_and_go_meanwhile_are_no_damage(host: Host, indexes: bool) -> None:
    host.indexes = indexes
    await host.restart()
    await load(host, saved_image(BASE, tags=["base:1"]))

    async def come_and_go(number: int) -> None:
        for _ in range(6):
            await load(host, saved_image(BASE, TOP, *[BASE] * number, tags=[f"app:{number}"]))
            await host.remover.remove(f"app:{number}")

    going = asyncio.gather(*(come_and_go(number) for number in range(3)))
    checks, findings, count = ImageCheck(host.store), [], 0
    while not going.done():
        findings += [report async for report in checks.run(repair=True) if isinstance(report, Finding)]
        count += 1
    await going
    assert count
    assert findings == []
    assert await found(host) == []
