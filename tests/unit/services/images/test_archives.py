"""Images as archives, as far as no worker is needed: saving."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.stored_images import StoredImages
from teul.errors import InvalidParameter, NotFound


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    yield stored
    await stored.close()


async def test_a_saved_image_has_its_blobs_and_both_indexes(stored: StoredImages) -> None:
    image_id = await stored.add("a:1", layers=[b"layer"])
    data = b"".join([chunk async for chunk in stored.archives.save(["a:1"])])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
    assert f"blobs/sha256/{image_id.hex}" in names
    assert {"index.json", "manifest.json", "oci-layout", "repositories"} <= set(names)


async def test_every_saved_image_is_announced_once(stored: StoredImages) -> None:
    first = await stored.add("a:1", "a:2", layers=[b"one"])
    second = await stored.add("b:1", layers=[b"two"])
    async for _ in stored.archives.save(["a", "b:1", str(first)]):
        pass
    assert stored.log.events == [("save", str(first)), ("save", str(second))]


async def test_what_cannot_be_saved_is_refused_before_anything_is_sent(stored: StoredImages) -> None:
    with pytest.raises(NotFound, match="No such image: nothing:latest"):
        stored.archives.save(["nothing"])
    with pytest.raises(InvalidParameter, match="no images to save"):
        stored.archives.save([])
    assert stored.log.events == []
