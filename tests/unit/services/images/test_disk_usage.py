"""What images take: every file once, whoever has it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.stored_images import StoredImages
from teul.aio import run_blocking
from teul.oci.digest import Digest
from teul.services.images.disk_usage import Contents, ImageUsage, measure
from teul.store.tree_size import BLOCK_BYTES, blocks_of_tree


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    yield stored
    await stored.close()


def blocks(*paths: Path) -> int:
    return sum(path.stat().st_blocks for path in paths) * BLOCK_BYTES


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    """An uncompressed layer is one file with its blob, and one with the same layer above another one."""
    blob, first, second = tmp_path / "blob", tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    blob.write_bytes(os.urandom(50_000))
    for directory in (first, second):
        os.link(blob, directory / "layer.tar")
    (first / "index").write_bytes(os.urandom(5000))
    one, other = Digest.of(b"one"), Digest.of(b"other")
    usage = measure(
        Contents([str(blob)], [str(first), str(second)]),
        {one: Contents([str(blob)], [str(first)]), other: Contents([str(blob)], [str(second)])},
    )
    assert usage.total_bytes == blocks(blob, first, second, first / "index")
    assert usage.images[one] == ImageUsage(blocks(blob, first, first / "index"), blocks(blob))
    assert usage.images[other] == ImageUsage(blocks(blob, second), blocks(blob))


def test_what_takes_no_blocks_takes_nothing(tmp_path: Path) -> None:
    """A sparse file is large for its readers only."""
    hole = tmp_path / "hole"
    with hole.open("wb") as file:
        file.truncate(1 << 30)
    assert measure(Contents([str(hole)], []), {}).total_bytes == blocks(hole) < 1 << 20
    assert blocks_of_tree(str(tmp_path)) == blocks(hole)


def test_what_vanishes_meanwhile_takes_nothing(tmp_path: Path) -> None:
    gone = Digest.of(b"gone")
    there = Contents([str(tmp_path / "blob")], [str(tmp_path / "layer")])
    usage = measure(there, {gone: there})
    assert (usage.total_bytes, usage.images[gone]) == (0, ImageUsage(0, 0))


async def test_layers_of_several_images_are_shared(stored: StoredImages) -> None:
    base, top = os.urandom(60_000), os.urandom(20_000)
    lower = await stored.add("lower:1", layers=[base])
    upper = await stored.add("upper:1", layers=[base, top])
    usage = await stored.images.disk_usage()
    assert set(usage.images) == {lower, upper}
    assert usage.images[lower].shared_size_bytes == usage.images[upper].shared_size_bytes >= 120_000
    unique = {image_id: found.size_bytes - found.shared_size_bytes for image_id, found in usage.images.items()}
    assert usage.total_bytes == sum(unique.values()) + usage.images[lower].shared_size_bytes
    held = await run_blocking(lambda: sum(blocks_of_tree(str(stored.root / name)) for name in ("blobs", "snapshots")))
    empty = await run_blocking(blocks, *(path for path in (stored.root / "blobs").iterdir()))
    assert usage.total_bytes == held - empty


async def test_an_image_deleted_under_containers_still_counts(stored: StoredImages) -> None:
    image_id = await stored.add("a:1", layers=[os.urandom(60_000)])
    stored.use(image_id, "c" * 64)
    await stored.remover.remove("a:1", force=True)
    usage = await stored.images.disk_usage()
    assert usage.images == {}
    assert usage.total_bytes >= 60_000
