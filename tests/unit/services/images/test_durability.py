"""What a row counts on is on the disk before the row is: bytes and names."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.stored_images import StoredImages
from teul.aio import run_blocking
from teul.services.images import placing
from teul.services.images import store as image_store


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    yield stored
    await stored.close()


@dataclass(frozen=True)
class Moment:
    """What there was when the filesystem was synced."""

    blobs: int
    layers: int
    rows: dict[str, int]


class Disk:
    """Stands in for syncfs(2): remembers what each call found. `full` makes the next one fail."""

    def __init__(self, stored: StoredImages) -> None:
        self._stored = stored
        self.synced: list[Moment] = []
        self.full = False

    def sync(self, path: str) -> None:
        assert Path(path) == self._stored.root
        if self.full:
            raise OSError(28, "No space left on device")
        self.synced.append(self.now())

    def now(self) -> Moment:
        root = self._stored.root
        return Moment(len(os.listdir(root / "blobs/sha256")), len(os.listdir(root / "snapshots")), self._stored.rows_blocking())


@pytest.fixture
def disk(stored: StoredImages, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(stored)
    for module in (image_store, placing):
        monkeypatch.setattr(module, "sync_filesystem", disk.sync)
    return disk


NO_ROWS = {"blobs": 0, "snapshots": 0, "images": 0, "tags": 0}


async def test_names_are_synced_after_the_last_rename_and_before_the_rows(stored: StoredImages, disk: Disk) -> None:
    """The first sync takes most of the time, without the lock; the second one makes the promise. However many files, there are two."""
    await stored.add("one:1", layers=[b"bottom", b"middle", b"top"])
    assert disk.synced == [Moment(0, 0, NO_ROWS), Moment(5, 3, NO_ROWS)]
    assert await run_blocking(disk.now) == Moment(5, 3, {"blobs": 5, "snapshots": 3, "images": 1, "tags": 1})


async def test_blobs_without_a_new_layer_are_synced_as_well(stored: StoredImages, disk: Disk) -> None:
    await stored.add("one:1")
    del disk.synced[:]
    before = await stored.rows()
    image, _ = stored.prepare("two:1", layers=[b"layer"], author="somebody")
    assert await stored.store.commit([image], {}, tagged_at_ns=0)
    assert disk.synced == [Moment(5, 1, before)]


async def test_a_name_alone_waits_for_no_disk(stored: StoredImages, disk: Disk) -> None:
    await stored.add("one:1")
    del disk.synced[:]
    image, _ = stored.prepare("two:1", layers=[b"layer"], created="2024-01-02T03:04:05Z")
    assert await stored.store.commit([image], {}, tagged_at_ns=0)
    assert disk.synced == []
    assert (await stored.rows())["tags"] == 2


async def test_what_cannot_be_synced_is_taken_back(stored: StoredImages, disk: Disk) -> None:
    image, _ = stored.prepare("one:1", layers=[])
    disk.full = True
    with pytest.raises(OSError, match="No space left"):
        await stored.store.commit([image], {}, tagged_at_ns=0)
    assert await run_blocking(disk.now) == Moment(0, 0, NO_ROWS)
