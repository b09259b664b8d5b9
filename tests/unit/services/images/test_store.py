"""What is being stored or deleted is stored or deleted to its end, whatever becomes of the one who asked."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.stored_images import StoredImages
from teul.errors import NotFound
from teul.model.image import Image
from teul.oci.digest import Digest, chain_ids
from teul.oci.reference import parse_reference
from teul.store.metadata.database import DiskFull


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    yield stored
    await stored.close()


def layers_are_there(stored: StoredImages, image: Image) -> bool:
    return all(Path(directory).is_dir() for directory in stored.images.layer_directories(image))


async def test_a_cancelled_deletion_is_over_when_its_caller_is(stored: StoredImages) -> None:
    """Then the database may be closed: nobody works on it behind the caller's back."""
    image_id = await stored.add(layers=[b"layer"])
    image = stored.images.get(image_id)
    caller = asyncio.get_running_loop().create_task(stored.store.delete(image, is_used=lambda _id: False))
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


@pytest.mark.parametrize("verb", ["tag", "untag"])
async def test_a_name_is_the_same_in_the_rows_and_in_memory_when_its_caller_leaves_half_way(
    stored: StoredImages, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """The caller is cancelled between the two: it waits until both are done."""
    image = stored.images.get(await stored.add("a:1", layers=[]))
    transact = stored.database.transact

    async def then_cancel(*arguments: Any, **options: Any) -> Any:
        result = await transact(*arguments, **options)
        caller.cancel()
        await asyncio.sleep(0)
        return result

    monkeypatch.setattr(stored.database, "transact", then_cancel)
    if verb == "tag":
        caller = asyncio.get_running_loop().create_task(stored.store.tag(image, parse_reference("b:1")))
    else:
        caller = asyncio.get_running_loop().create_task(stored.store.untag([parse_reference("a:1")]))
    with pytest.raises(asyncio.CancelledError):
        await caller
    expected = ["a:1", "b:1"] if verb == "tag" else []
    assert (await stored.rows())["tags"] == len(expected)
    assert [name.familiar for name in stored.images.references(image)] == expected


async def test_what_goes_is_found_by_nobody_before_it_has_gone(stored: StoredImages, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that is made of it while its row is being deleted would have no layers."""
    image_id = await stored.add(layers=[b"layer"])
    transact = stored.database.transact

    async def meanwhile(*arguments: Any, **options: Any) -> Any:
        with pytest.raises(NotFound):
            stored.images.resolve(str(image_id))
        return await transact(*arguments, **options)

    monkeypatch.setattr(stored.database, "transact", meanwhile)
    assert await stored.store.delete(stored.images.get(image_id), is_used=lambda _id: False) == chain_ids([Digest.of(b"layer")])


async def test_what_cannot_be_forgotten_is_found_again(stored: StoredImages, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = await stored.add(layers=[b"layer"])

    async def full(*_arguments: Any, **_options: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(stored.database, "transact", full)
    with pytest.raises(OSError, match="full"):
        await stored.store.delete(stored.images.get(image_id), is_used=lambda _id: False)
    assert layers_are_there(stored, stored.images.resolve(str(image_id)))


async def test_what_a_full_disk_keeps_from_being_forgotten_keeps_no_engine_from_opening(
    stored: StoredImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = await stored.add(layers=[b"layer"])
    [container] = stored.use(image_id, "c" * 64)
    await stored.store.delete(stored.images.get(image_id), is_used=stored.usage.is_used)
    stored.usage.withdraw(container)
    with monkeypatch.context() as context:

        async def full(*_arguments: Any, **_options: Any) -> None:
            raise DiskFull("teul.db")

        context.setattr(stored.database, "transact", full)
        await stored.images.release_unused()
    assert layers_are_there(stored, stored.images.get(image_id))
    await stored.images.release_unused()
    assert not any((await stored.rows()).values())


async def test_who_uses_an_image_is_asked_when_nobody_else_changes_images(stored: StoredImages) -> None:
    """Between the question and the lock, a container could be made."""
    image_id = await stored.add("a:1", layers=[b"layer"])
    image = stored.images.get(image_id)
    await stored.store.untag([parse_reference("a:1")])
    async with stored.store._lock:
        deletion = asyncio.get_running_loop().create_task(stored.store.delete(image, is_used=stored.usage.is_used))
        await asyncio.sleep(0.01)
        [container] = stored.use(image_id, "c" * 64)
    assert await deletion == []
    assert layers_are_there(stored, stored.images.get(image_id))
    stored.usage.withdraw(container)
    await stored.images.release(image_id)
    assert not any((await stored.rows()).values())
