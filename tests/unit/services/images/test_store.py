"""What is being stored or deleted is stored or deleted to its end, whatever becomes of the one who asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.stored_images import StoredImages


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    yield stored
    await stored.close()


async def test_a_cancelled_deletion_is_over_when_its_caller_is(stored: StoredImages) -> None:
    """Then the database may be closed: nobody works on it behind the caller's back."""
    image_id = await stored.add(layers=[b"layer"])
    image = stored.images.get(image_id)
    caller = asyncio.get_running_loop().create_task(stored.store.delete(image, keep_layers=False))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not any((await stored.rows()).values())
    assert list((stored.root / "snapshots").iterdir()) == []
    assert stored.images.count() == 0


async def test_a_cancelled_commit_is_over_when_its_caller_is(stored: StoredImages) -> None:
    image, _ = stored.prepare("a:1", layers=[])
    caller = asyncio.get_running_loop().create_task(stored.store.commit([image], {}, tagged_at_ns=0))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await stored.rows() == {"blobs": 2, "snapshots": 0, "images": 1, "tags": 1}
    assert stored.images.resolve("a:1").image_id == image.image_id
