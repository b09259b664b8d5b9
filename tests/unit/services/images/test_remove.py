"""What may be removed, what forbids it, and in whose words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.stored_images import StoredImages
from teul.errors import Conflict, InvalidParameter, NotFound
from teul.model.filter import Filters
from teul.model.lifecycle import exited
from teul.oci.digest import Digest, chain_ids
from teul.oci.reference import parse_reference

STOPPED = "a1b2c3d4e5f6" + "0" * 52
RUNNING = "f6e5d4c3b2a1" + "0" * 52


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    yield stored
    await stored.close()


async def remove(stored: StoredImages, name: str, *, force: bool = False) -> list[str]:
    return [
        f"untagged {item.untagged}" if item.untagged else f"deleted {item.deleted}"
        for item in await stored.remover.remove(name, force=force)
    ]


async def test_the_last_name_takes_the_image_with_it(stored: StoredImages) -> None:
    image_id = await stored.add("a:1", layers=[b"one", b"two"])
    chain = chain_ids([Digest.of(b"one"), Digest.of(b"two")])
    assert await remove(stored, "a:1") == ["untagged a:1", f"deleted {image_id}", f"deleted {chain[1]}", f"deleted {chain[0]}"]
    assert not any((await stored.rows()).values())
    assert stored.log.events == [("untag", str(image_id)), ("delete", str(image_id))]


async def test_another_name_keeps_it(stored: StoredImages) -> None:
    await stored.add("a:1", "a:2")
    assert await remove(stored, "a:1") == ["untagged a:1"]
    stored.images.resolve("a:2")


async def test_layers_of_other_images_stay(stored: StoredImages) -> None:
    await stored.add("a:1", layers=[b"one"])
    image_id = await stored.add("b:1", layers=[b"one", b"two"])
    assert await remove(stored, "b:1") == [
        "untagged b:1",
        f"deleted {image_id}",
        f"deleted {chain_ids([Digest.of(b'one'), Digest.of(b'two')])[1]}",
    ]
    assert stored.images.layer_directories(stored.images.resolve("a:1"))


async def test_an_id_removes_a_single_name_but_not_several(stored: StoredImages) -> None:
    image_id = await stored.add("a:1")
    assert await remove(stored, image_id.short) == ["untagged a:1", f"deleted {image_id}", f"deleted {Digest.of(b'layer')}"]
    image_id = await stored.add("a:1", "b:1")
    with pytest.raises(Conflict) as caught:
        await remove(stored, str(image_id))
    assert (
        caught.value.message
        == f"conflict: unable to delete {image_id.short} (must be forced) - image is referenced in multiple repositories"
    )
    assert (await remove(stored, image_id.hex, force=True))[:3] == ["untagged a:1", "untagged b:1", f"deleted {image_id}"]


async def test_a_container_keeps_the_last_name(stored: StoredImages) -> None:
    image_id = await stored.add("a:1")
    for user in (STOPPED, RUNNING):
        stored.use(image_id, user, running=user == RUNNING)
        with pytest.raises(Conflict) as caught:
            await remove(stored, "a:1")
        assert caught.value.message == (
            f'conflict: unable to remove repository reference "a:1" (must force) - container {user[:12]} '
            f"is using its referenced image {image_id.short}"
        )


async def test_by_id_a_stopped_container_must_be_overruled(stored: StoredImages) -> None:
    image_id = await stored.add("a:1")
    stored.use(image_id, STOPPED)
    with pytest.raises(Conflict) as caught:
        await remove(stored, str(image_id))
    assert (
        caught.value.message
        == f"conflict: unable to delete {image_id.short} (must be forced) - image is being used by stopped container a1b2c3d4e5f6"
    )
    assert await remove(stored, str(image_id), force=True) == ["untagged a:1", f"deleted {image_id}"]
    assert await stored.rows() == {"blobs": 2, "snapshots": 1, "images": 1, "tags": 0}, "what the container stands on stays"


async def test_a_running_container_cannot_be_overruled(stored: StoredImages) -> None:
    image_id = await stored.add("a:1")
    stored.use(image_id, RUNNING, running=True)
    stored.use(image_id, STOPPED)
    with pytest.raises(Conflict) as caught:
        await remove(stored, str(image_id), force=True)
    assert (
        caught.value.message
        == f"conflict: unable to delete {image_id.short} (cannot be forced) - image is being used by running container f6e5d4c3b2a1"
    )
    assert await remove(stored, "a:1", force=True) == ["untagged a:1"], "the name goes, the image stays"
    stored.images.resolve(str(image_id))


async def test_a_container_forbids_as_long_as_it_runs(stored: StoredImages) -> None:
    """What forbids it is looked up when somebody asks, not when the container was made."""
    image_id = await stored.add("a:1")
    [container] = stored.use(image_id, RUNNING, running=True)
    with pytest.raises(Conflict, match="cannot be forced"):
        await remove(stored, str(image_id), force=True)
    container.state = exited(container.state, exit_code=0, oom_killed=False, now_ns=1)
    with pytest.raises(Conflict, match="must be forced"):
        await remove(stored, str(image_id))
    stored.usage.withdraw(container)
    assert (await remove(stored, str(image_id)))[:2] == ["untagged a:1", f"deleted {image_id}"]


async def test_what_was_removed_by_force_goes_with_its_last_container(stored: StoredImages) -> None:
    image_id = await stored.add("a:1")
    first, second = stored.use(image_id, STOPPED, "d" * 64)
    await remove(stored, "a:1", force=True)
    for container, left in ((first, 1), (second, 0)):
        stored.usage.withdraw(container)
        await stored.images.release(image_id)
        assert await stored.rows() == {"blobs": 2 * left, "snapshots": left, "images": left, "tags": 0}, "manifest and config"
    await stored.images.release(image_id)


async def test_an_image_with_a_name_is_not_released(stored: StoredImages) -> None:
    await stored.add("a:1")
    await stored.images.release_unused()
    assert stored.images.count() == 1


async def test_a_used_image_loses_a_name_if_it_keeps_another(stored: StoredImages) -> None:
    image_id = await stored.add("a:1", "b:1")
    stored.use(image_id, RUNNING, running=True)
    assert await remove(stored, "a:1") == ["untagged a:1"]


async def test_a_repositorys_digests_go_with_its_last_tag(stored: StoredImages) -> None:
    image_id = await stored.add("a:1", "b:1")
    pinned = parse_reference(f"a@{image_id}")
    await stored.store.tag(stored.images.get(image_id), pinned)
    assert await remove(stored, "a:1") == ["untagged a:1", f"untagged {pinned.familiar}"]
    await stored.store.tag(stored.images.get(image_id), pinned)
    assert await remove(stored, pinned.familiar) == [f"untagged {pinned.familiar}"]
    assert [name.familiar for name in stored.images.references(stored.images.get(image_id))] == ["b:1"]


async def test_what_is_not_there_cannot_be_removed(stored: StoredImages) -> None:
    with pytest.raises(NotFound, match="No such image: nothing:latest"):
        await remove(stored, "nothing")
    with pytest.raises(InvalidParameter):
        await remove(stored, "UPPER")


async def test_prune_takes_images_without_names(stored: StoredImages) -> None:
    nameless = await stored.add(layers=[b"1234"])
    await stored.add("a:1", layers=[b"other"])
    pruned = await stored.remover.prune(Filters())
    assert [item.deleted for item in pruned.removed] == [nameless, Digest.of(b"1234")]
    assert pruned.reclaimed_bytes == 4
    assert stored.log.events[-1] == ("prune", "")


async def test_prune_takes_all_that_nobody_uses_if_asked(stored: StoredImages) -> None:
    kept = await stored.add("kept:1", layers=[b"kept"])
    await stored.add("a:1", "a:2", layers=[b"other"])
    stored.use(kept, STOPPED)
    pruned = await stored.remover.prune(Filters({"dangling": ["false"]}))
    assert [item.untagged for item in pruned.removed if item.untagged] == ["a:1", "a:2"]
    assert [image.image_id for image in stored.store.catalog.shown()] == [kept]


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"until": ["2024-06-01"]}, ["new"]),
        ({"until": ["2023-01-01"]}, ["new", "old"]),
        ({"label": ["keep"]}, ["new"]),
        ({"label": ["keep=no"]}, ["new", "old"]),
        ({"label!": ["keep"]}, ["old"]),
    ],
)
async def test_prune_filters(stored: StoredImages, filters: dict[str, list[str]], left: list[str]) -> None:
    old = await stored.add(layers=[b"old"], created="2024-01-01T00:00:00Z", labels={"keep": "yes"})
    new = await stored.add(layers=[b"new"], created="2025-01-01T00:00:00Z")
    await stored.remover.prune(Filters(filters))
    names = {old: "old", new: "new"}
    assert sorted(names[image.image_id] for image in stored.store.catalog.shown()) == left


async def test_one_prune_runs_at_a_time(stored: StoredImages) -> None:
    await stored.add(layers=[b"1234"])
    first = asyncio.get_running_loop().create_task(stored.remover.prune(Filters()))
    await asyncio.sleep(0)
    with pytest.raises(Conflict, match="a prune operation is already running"):
        await stored.remover.prune(Filters())
    assert (await first).reclaimed_bytes == 4
    assert (await stored.remover.prune(Filters())).removed == []


async def test_an_unknown_prune_filter_is_refused(stored: StoredImages) -> None:
    with pytest.raises(InvalidParameter, match="invalid filter 'before'"):
        await stored.remover.prune(Filters({"before": ["x"]}))
