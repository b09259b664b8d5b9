"""Looking images up, listing them, and their history."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from support.stored_images import StoredImages
from teul.errors import Integrity, InvalidParameter, NotFound
from teul.model.filter import Filters
from teul.model.moment import parse_until_ns
from teul.oci.digest import Digest
from teul.oci.image_config import History
from teul.oci.platform import Platform
from teul.oci.reference import parse_reference
from teul.services.images.listing import ImageQuery
from teul.services.images.service import Images

SECOND = 1_000_000_000
NOW = 1_704_164_645 * SECOND


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    yield stored
    await stored.close()


def listed(images: Images, **filters: str | list[str]) -> list[str]:
    query = ImageQuery(Filters({key: [value] if isinstance(value, str) else value for key, value in filters.items()}))
    return [" ".join(tag.familiar for tag in summary.tags) or "<none>" for summary in images.list(query)]


async def test_an_image_is_found_by_every_spelling_of_its_name_and_id(stored: StoredImages) -> None:
    image_id = await stored.add("busybox:1", "busybox")
    for text in (
        "busybox:1",
        "busybox",
        "library/busybox",
        "docker.io/library/busybox:latest",
        str(image_id),
        image_id.hex,
        image_id.short,
        f"sha256:{image_id.hex[:8]}",
    ):
        assert stored.images.resolve(text).image_id == image_id


async def test_a_digest_decides_over_a_tag(stored: StoredImages) -> None:
    image_id = await stored.add("busybox:1")
    await stored.store.tag(stored.images.get(image_id), parse_reference(f"busybox@{image_id}"))
    assert stored.images.resolve(f"busybox:whatever@{image_id}").image_id == image_id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "No such image: nothing:latest"),
        ("nothing:1", "No such image: nothing:1"),
        ("example.test/nothing", "No such image: example.test/nothing:latest"),
        ("0" * 64, "No such image: sha256:" + "0" * 64),
        ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
    ],
)
async def test_what_is_not_there_is_named_as_docker_names_it(stored: StoredImages, text: str, message: str) -> None:
    with pytest.raises(NotFound) as caught:
        stored.images.resolve(text)
    assert caught.value.message == message


async def test_the_beginning_of_two_ids_is_nobodys(stored: StoredImages) -> None:
    ids = [await stored.add(layers=[str(number).encode()]) for number in range(20)]
    first = next(one.hex[0] for one in ids if sum(other.hex[0] == one.hex[0] for other in ids) > 1)
    with pytest.raises(NotFound):
        stored.images.resolve(first)


async def test_a_wanted_platform_must_fit(stored: StoredImages) -> None:
    await stored.add("a:1")
    stored.images.resolve("a:1", Platform(os="linux", architecture="amd64"))
    with pytest.raises(NotFound) as caught:
        stored.images.resolve("a:1", Platform(os="linux", architecture="arm64"))
    assert caught.value.message == (
        "image with reference a:1 was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)"
    )


async def test_the_list_is_sorted_by_age(stored: StoredImages) -> None:
    await stored.add("old:1", layers=[b"1"], created="2023-01-01T00:00:00Z")
    await stored.add("new:1", "new:2", layers=[b"2"], created="2024-01-01T00:00:00Z")
    await stored.add("ageless:1", layers=[b"3"], created=None)
    await stored.add(layers=[b"4"], created="2025-01-01T00:00:00Z")
    assert listed(stored.images) == ["<none>", "new:1 new:2", "old:1", "ageless:1"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"dangling": "true"}, ["<none>"]),
        ({"dangling": "false"}, ["web:2", "web:1 x/db:1"]),
        ({"reference": "web"}, ["web:2", "web:1"]),
        ({"reference": "web:1"}, ["web:1"]),
        ({"reference": ["x/*", "*:2"]}, ["web:2", "x/db:1"]),
        ({"label": "tier"}, ["web:2", "web:1 x/db:1"]),
        ({"label": "tier=back"}, ["web:1 x/db:1"]),
        ({"label": ["tier", "none"]}, []),
        ({"before": "web:2"}, ["web:1 x/db:1"]),
        ({"since": "web:1"}, ["<none>", "web:2"]),
        ({"since": "web:1", "before": "web:2"}, []),
        ({"until": "2024-06-01"}, ["web:1 x/db:1"]),
        ({"until": "1700000000"}, []),
        ({"until": "1h"}, ["<none>", "web:2", "web:1 x/db:1"]),
    ],
)
async def test_filters(stored: StoredImages, filters: dict[str, str | list[str]], expected: list[str]) -> None:
    await stored.add("web:1", "x/db:1", layers=[b"1"], created="2024-01-01T00:00:00Z", labels={"tier": "back"})
    await stored.add("web:2", layers=[b"2"], created="2024-07-01T00:00:00Z", labels={"tier": "front"})
    await stored.add(layers=[b"3"], created="2025-01-01T00:00:00Z")
    assert listed(stored.images, **filters) == expected


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"nonsense": "1"}, "invalid filter 'nonsense'"),
        ({"dangling": "maybe"}, r"invalid filter 'dangling=\[maybe\]'"),
        ({"until": "soon"}, 'failed to parse value as time or duration: "soon"'),
        ({"reference": "["}, "syntax error in pattern"),
    ],
)
async def test_wrong_filters_are_refused(stored: StoredImages, filters: dict[str, str], message: str) -> None:
    await stored.add("a:1")
    with pytest.raises(InvalidParameter, match=message):
        listed(stored.images, **filters)


async def test_containers_and_shared_sizes_are_counted(stored: StoredImages) -> None:
    first = await stored.add("a:1", layers=[b"base", b"a"])
    await stored.add("b:1", layers=[b"base", b"bb"])
    stored.use(first, "c" * 64, running=True)
    summaries = {summary.tags[0].familiar: summary for summary in stored.images.list(ImageQuery(shared_size=True))}
    assert [(summaries[name].containers, summaries[name].shared_size_bytes) for name in ("a:1", "b:1")] == [(1, 4), (0, 4)]
    assert stored.images.list(ImageQuery())[0].shared_size_bytes == -1
    assert stored.images.count() == 2


async def test_history_runs_from_the_newest_step(stored: StoredImages) -> None:
    history = [
        History(created="2024-01-01T00:00:00Z", created_by="base"),
        History(created_by="ENV A=1", empty_layer=True),
        History(created_by="top", comment="made"),
    ]
    image_id = await stored.add("a:1", layers=[b"base", b"t"], history=history)
    items = stored.images.history(stored.images.resolve("a:1"))
    assert [(item.created_by, item.size_bytes, item.image_id, len(item.tags)) for item in items] == [
        ("top", 1, image_id, 1),
        ("ENV A=1", 0, None, 0),
        ("base", 4, None, 0),
    ]
    assert items[2].created_ns == 1_704_067_200 * SECOND


async def test_a_history_of_more_layers_than_there_are_is_refused(stored: StoredImages) -> None:
    await stored.add("a:1", history=[History(), History()])
    with pytest.raises(Integrity, match="too many non-empty layers in History section"):
        stored.images.history(stored.images.resolve("a:1"))
    await stored.add("b:1", layers=[b"b"], history=None)
    assert stored.images.history(stored.images.resolve("b:1")) == []


async def test_tagging_takes_a_name_from_another_image(stored: StoredImages) -> None:
    first, second = await stored.add("a:1", layers=[b"1"]), await stored.add("b:1", layers=[b"2"])
    assert stored.images.tagged_at_ns(stored.images.get(second)) == 0
    await stored.images.tag(stored.images.get(second), parse_reference("a:1"))
    assert stored.images.resolve("a:1").image_id == second
    assert stored.images.references(stored.images.get(first)) == []
    assert stored.images.tagged_at_ns(stored.images.get(second)) > 0
    assert stored.log.events == [("tag", "a:1")]
    with pytest.raises(InvalidParameter, match="refusing to create an ambiguous tag using digest algorithm as name"):
        await stored.images.tag(stored.images.get(second), parse_reference("sha256:abc"))


async def test_a_store_that_fails_half_way_leaves_nothing(stored: StoredImages, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("teul.store.metadata.images.save_tag", fail)
    with pytest.raises(OSError, match="no space"):
        await stored.add("a:1")
    assert not any((await stored.rows()).values())
    assert list((stored.root / "snapshots").iterdir()) == []
    assert list((stored.root / "blobs/sha256").iterdir()) == []
    assert stored.images.count() == 0


async def test_an_image_whose_layer_vanished_is_not_stored(stored: StoredImages) -> None:
    """Somebody removed the only other image with the layer while this one was being prepared."""
    image, _ = stored.prepare("a:1", layers=[b"gone"])
    assert not await stored.store.commit([image], {}, tagged_at_ns=0)
    assert not any((await stored.rows()).values())
    with pytest.raises(NotFound):
        stored.images.get(Digest.of(b"x"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10s", NOW - 10 * SECOND),
        ("1h30m", NOW - 5400 * SECOND),
        ("1.5h", NOW - 5400 * SECOND),
        ("100ms", NOW - SECOND // 10),
        ("1700000000", 1_700_000_000 * SECOND),
        ("1700000000.25", 1_700_000_000 * SECOND + SECOND // 4),
        ("2024-01-02T03:04:05Z", NOW),
        ("2024-01-02T05:04:05+02:00", NOW),
        ("2024-01-02T03:04:05.5Z", NOW + SECOND // 2),
        ("2024-01-02", 1_704_153_600 * SECOND),
    ],
)
def test_moments_in_filters(text: str, expected: int) -> None:
    assert parse_until_ns(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "10 parsecs", "2024-13-01"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_until_ns(text, NOW)


async def test_the_work_of_a_list_grows_as_the_images_do(stored: StoredImages) -> None:
    """Four times the images, tags and containers are four times the steps: a list is made on the event loop, and others wait."""
    steps = []
    for count in (20, 80):
        for number in range(len(list(stored.store.catalog.shown())), count):
            image_id = await stored.add(f"image-{number}:1", f"image-{number}:2", layers=[b"%d" % number])
            stored.use(image_id, f"{number:064x}")
        steps.append(steps_of(lambda: stored.images.list(ImageQuery(shared_size=True))))
    few, many = steps
    assert many < 5 * few


async def test_a_name_that_moves_is_the_new_image_s_alone(stored: StoredImages) -> None:
    first, second = await stored.add("name:1", layers=[b"1"]), await stored.add("name:2", layers=[b"2"])
    await stored.store.tag(stored.images.get(second), parse_reference("name:1"))
    names = {image_id: [name.familiar for name in stored.images.references(stored.images.get(image_id))] for image_id in (first, second)}
    assert names == {first: [], second: ["name:1", "name:2"]}
    await stored.store.untag([parse_reference("name:1"), parse_reference("name:2")])
    assert stored.images.references(stored.images.get(second)) == []


def steps_of(work: Callable[[], object]) -> int:
    """How many instructions of Python `work` takes, which is the same on every machine."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count
