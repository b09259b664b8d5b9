"""Pushing to the tests' own registry: what arrives there, what is told meanwhile, and what goes wrong in which words."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.image_indexes import IndexMaker, foreign_image
from support.registry import Behaviour, FakeRegistry
from support.stored_images import StoredImages
from teul.errors import InvalidParameter, NotFound, TeulError
from teul.oci.digest import Digest
from teul.oci.platform import Platform
from teul.oci.reference import Reference, parse_reference
from teul.registry.backoff import Backoff
from teul.registry.client.registry_client import RegistryClient
from teul.registry.credentials import ANONYMOUS
from teul.registry.errors import Unreachable
from teul.registry.transport import Options
from teul.services.images.origins import BlobOrigins
from teul.services.images.push import ImagePusher, LayerProgress, Message, Missing, Pushed, PushedInstead, PushEvent

BOTTOM, TOP = b"bottom" * 100_000, b"top" * 1000


@dataclass
class Place:
    """An engine's images and a registry, to which `push` pushes and tells `events`.

    When the registry is to be asked again, the next of `meanwhile` is done first.
    """

    stored: StoredImages
    registry: FakeRegistry
    pusher: ImagePusher
    events: list[PushEvent]
    meanwhile: list[Callable[[], Awaitable[None]]]

    def reference(self, name: str) -> Reference:
        return parse_reference(f"{self.registry.host}/{name}")

    def name(self, name: str) -> str:
        return f"{self.registry.host}/{name}"

    async def push(self, name: str, *, platform: Platform | None = None) -> list[PushEvent]:
        self.events.clear()
        await self.pusher.push(self.reference(name), ANONYMOUS, self.events.append, platform=platform)
        return list(self.events)

    def actions(self) -> dict[str, str]:
        """The last that was told of each layer."""
        return {event.shown: event.action for event in self.events if isinstance(event, LayerProgress)}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    stored = await StoredImages.open(tmp_path / "root")
    meanwhile: list[Callable[[], Awaitable[None]]] = []

    async def pause(_seconds: float) -> None:
        if meanwhile:
            await meanwhile.pop(0)()

    options = Options(certificate_directories=(), backoff=Backoff(sleep=pause))
    async with FakeRegistry() as registry, RegistryClient(options) as client:
        yield Place(stored, registry, ImagePusher(stored.store, client, stored.log, BlobOrigins()), [], meanwhile)
    await stored.close()


def short(data: bytes) -> str:
    return Digest.of(data).short


async def test_what_is_told_of_a_push(place: Place) -> None:
    image_id = await place.stored.add(place.name("a/b:1"), layers=[BOTTOM, TOP])
    target = place.stored.images.get(image_id).target
    events = await place.push("a/b:1")
    assert events[:3] == [
        Message(f"The push refers to repository [{place.name('a/b')}]"),
        LayerProgress(short(TOP), "Preparing"),
        LayerProgress(short(BOTTOM), "Preparing"),
    ]
    assert events[-2:] == [Message(f"1: digest: {image_id} size: {target.size_bytes}"), Pushed("1", target)]
    of_bottom = [event for event in events[3:-2] if isinstance(event, LayerProgress) and event.shown == short(BOTTOM)]
    assert of_bottom == [
        LayerProgress(short(BOTTOM), "Pushing", len(BOTTOM), len(BOTTOM)),
        LayerProgress(short(BOTTOM), "Pushed"),
    ]
    assert place.stored.log.events == [("push", place.name("a/b"))]


async def test_what_arrives_is_what_is_stored(place: Place) -> None:
    image_id = await place.stored.add(place.name("a:1"), layers=[BOTTOM, TOP])
    await place.push("a:1")
    image = place.stored.images.get(image_id)
    assert place.registry.tags == {"a": {"1": str(image_id)}}
    assert place.registry.manifests["a"] == {str(image_id): (image.target.media_type, image.documents[image_id])}
    assert image.chosen.config is not None
    assert place.registry.blobs["a"] == {
        str(Digest.of(BOTTOM)): BOTTOM,
        str(Digest.of(TOP)): TOP,
        str(image.chosen.config.digest): image.chosen.raw,
    }


async def test_nothing_travels_twice(place: Place) -> None:
    """What is there is asked for, and what another repository has is mounted: whoever was pushed to, or has the name of such an image."""
    await place.stored.add(place.name("a:1"), place.name("b:1"), layers=[BOTTOM, TOP])
    await place.push("a:1")
    await place.push("a:1")
    assert place.actions() == {short(TOP): "Layer already exists", short(BOTTOM): "Layer already exists"}
    await place.push("b:1")
    assert place.actions() == {short(TOP): "Mounted from a", short(BOTTOM): "Mounted from a"}
    assert place.registry.tags["a"] == place.registry.tags["b"]
    assert len(place.registry.requests("PATCH")) == 3


async def test_the_name_of_an_image_is_a_guess_at_where_its_layers_are(place: Place) -> None:
    await place.stored.add(place.name("elsewhere:1"), place.name("b:1"), layers=[BOTTOM])
    place.registry.add_blob("elsewhere", BOTTOM)
    await place.push("b:1")
    assert place.actions() == {short(BOTTOM): "Mounted from elsewhere"}


async def test_a_guess_may_be_wrong(place: Place) -> None:
    await place.stored.add(place.name("elsewhere:1"), place.name("b:1"), layers=[BOTTOM])
    await place.push("b:1")
    assert place.actions() == {short(BOTTOM): "Pushed"}
    assert place.registry.blobs["b"][str(Digest.of(BOTTOM))] == BOTTOM


async def test_without_a_tag_all_tags_go(place: Place) -> None:
    one = await place.stored.add(place.name("a:1"), layers=[BOTTOM])
    two = await place.stored.add(place.name("a:2"), place.name("a:3"), place.name("other:1"), layers=[BOTTOM, TOP])
    events = await place.push("a")
    assert place.registry.tags == {"a": {"1": str(one), "2": str(two), "3": str(two)}}
    assert [event.tag for event in events if isinstance(event, Pushed)] == ["1", "2", "3"]
    assert place.actions()[short(BOTTOM)] == "Layer already exists"
    assert len(place.registry.requests("HEAD", str(Digest.of(BOTTOM)))) == 1, "what was just pushed is not asked for"


async def test_an_index_goes_whole(place: Place) -> None:
    maker = IndexMaker(place.stored)
    amd64 = maker.add("amd64", BOTTOM)
    statement = maker.add_attestation(amd64, b"a statement")
    inner = maker.nest()
    arm64 = maker.add("arm64", BOTTOM, TOP)
    target = await maker.store(place.name("multi:1"))
    await place.push("multi:1")
    registry = place.registry
    assert registry.tags == {"multi": {"1": str(target.digest)}}
    assert set(registry.manifests["multi"]) == {str(one.digest) for one in (amd64, statement, inner, arm64, target)}
    assert {str(Digest.of(data)) for data in (BOTTOM, TOP, b"a statement")} <= set(registry.blobs["multi"])
    put = [seen.path.rpartition("/")[2] for seen in registry.requests("PUT", "/manifests/")]
    assert put[-2:] == [str(inner.digest), "1"], "no index before what it leads to"


async def test_of_an_index_that_came_in_part_the_manifest_goes_and_that_is_told(place: Place) -> None:
    maker = IndexMaker(place.stored)
    amd64 = maker.add("amd64", BOTTOM)
    maker.add_absent("arm64")
    target = await maker.store(place.name("multi:1"))
    events = await place.push("multi:1")
    assert place.registry.tags == {"multi": {"1": str(amd64.digest)}}
    assert events[-3:] == [
        PushedInstead(target, amd64),
        Message(f"1: digest: {amd64.digest} size: {amd64.size_bytes}"),
        Pushed("1", amd64),
    ]


async def test_one_platform_goes_alone(place: Place) -> None:
    maker = IndexMaker(place.stored)
    maker.add("amd64", BOTTOM)
    arm64 = maker.add("arm64", TOP)
    await maker.store(place.name("multi:1"))
    events = await place.push("multi:1", platform=Platform(os="linux", architecture="arm64"))
    assert place.registry.tags == {"multi": {"1": str(arm64.digest)}}
    assert str(Digest.of(BOTTOM)) not in place.registry.blobs["multi"]
    assert not any(isinstance(event, PushedInstead) for event in events)


async def test_what_is_not_all_here_is_told(place: Place) -> None:
    image_id = await place.stored.add(place.name("a:1"), layers=[TOP])
    del place.stored.store.catalog.blobs[Digest.of(TOP)]
    with pytest.raises(NotFound, match=rf"^content digest {Digest.of(TOP)}: not found$"):
        await place.push("a:1")
    assert place.events[-1] == Missing(place.stored.images.get(image_id).target)


async def test_a_layer_that_is_to_be_had_elsewhere_is_passed_over(place: Place) -> None:
    image = await foreign_image(place.stored, place.name("a:1"), own=BOTTOM, foreign=TOP)
    await place.push("a:1")
    assert place.actions() == {short(TOP): "Skipped foreign layer", short(BOTTOM): "Pushed"}
    assert place.registry.tags == {"a": {"1": str(image)}}
    assert str(Digest.of(TOP)) not in place.registry.blobs["a"]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("nosuch:1", NotFound, "An image does not exist locally with the tag: {host}/nosuch"),
        ("a:2", NotFound, "tag does not exist: {host}/a:2"),
        (f"a@{Digest.of(b'')}", InvalidParameter, "cannot push a digest reference"),
    ],
)
async def test_what_cannot_be_pushed(place: Place, name: str, kind: type[TeulError], message: str) -> None:
    await place.stored.add(place.name("a:1"))
    with pytest.raises(kind) as refused:
        await place.push(name)
    assert refused.value.message == message.format(host=place.registry.host)
    assert place.events == [Message(f"The push refers to repository [{place.name(name.partition(':')[0].partition('@')[0])}]")]
    assert not place.registry.manifests


async def test_where_there_is_no_registry_nothing_is_prepared(place: Place) -> None:
    await place.stored.add("127.0.0.1:1/a:1")
    with pytest.raises(Unreachable, match=r'^Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused$'):
        await place.pusher.push(parse_reference("127.0.0.1:1/a:1"), ANONYMOUS, place.events.append)
    assert place.events == [Message("The push refers to repository [127.0.0.1:1/a]")]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"errors":[{"code":"DENIED","message":"requested access to the resource is denied","detail":[{}]}]}',
            "denied: requested access to the resource is denied",
        ),
        (b'{"errors":[{"code":"DENIED","message":"quota exceeded"}]}', "denied: quota exceeded"),
    ],
)
async def test_a_refusal_is_told_as_docker_tells_it(place: Place, body: bytes, message: str) -> None:
    await place.stored.add(place.name("a:1"), layers=[BOTTOM, TOP])
    place.registry.behaviour.error = (403, "application/json", body)
    with pytest.raises(TeulError) as refused:
        await place.push("a:1")
    assert refused.value.message == message
    assert place.stored.log.events == []


async def test_who_has_no_credentials_is_told_so(place: Place) -> None:
    await place.stored.add(place.name("a:1"))
    place.registry.behaviour.auth = "basic"
    with pytest.raises(TeulError, match=r"^no basic auth credentials$"):
        await place.push("a:1")


async def test_a_broken_upload_is_begun_anew(place: Place) -> None:
    await place.stored.add(place.name("a:1"), layers=[BOTTOM])
    place.registry.behaviour.upload_cuts = 1
    await place.push("a:1")
    told = [event.action for event in place.events if isinstance(event, LayerProgress) and event.action != "Pushing"]
    assert told == ["Preparing", "Retrying in 1 second", "Pushed"]
    assert place.registry.blobs["a"][str(Digest.of(BOTTOM))] == BOTTOM


async def test_an_image_that_is_removed_meanwhile_goes_out_all_the_same(place: Place) -> None:
    await place.stored.add(place.name("a:1"), layers=[BOTTOM])

    async def remove() -> None:
        await place.stored.remover.remove(place.name("a:1"))

    place.registry.behaviour.refusals = 1
    place.meanwhile.append(remove)
    await place.push("a:1")
    assert not place.meanwhile
    assert place.stored.images.count() == 0
    assert place.registry.blobs["a"][str(Digest.of(BOTTOM))] == BOTTOM


async def test_layers_wait_for_their_turn(place: Place) -> None:
    layers = [bytes([number]) * 100 for number in range(8)]
    await place.stored.add(place.name("a:1"), layers=layers)
    await place.push("a:1")
    waited = [event.shown for event in place.events if isinstance(event, LayerProgress) and event.action == "Waiting"]
    assert waited == [short(layer) for layer in reversed(layers[:3])], "five go at once"
    assert set(place.actions().values()) == {"Pushed"}


async def test_a_push_that_is_cancelled_has_let_go_of_everything(place: Place) -> None:
    """Whenever that is: in an upload, in a question, between them."""
    await place.stored.add(place.name("a:1"), layers=[BOTTOM, TOP])
    held = set(await asyncio.to_thread(os.listdir, place.stored.root / "blobs/sha256"))
    for steps in range(0, 120, 3):
        place.registry.blobs.clear()
        task = asyncio.ensure_future(place.push("a:1"))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert not await asyncio.to_thread(open_files_below, str(place.stored.root / "blobs"))
    assert set(await asyncio.to_thread(os.listdir, place.stored.root / "blobs/sha256")) == held
    await place.push("a:1")
    assert place.registry.tags["a"]


def open_files_below(root: str) -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the listing's own
        if target.startswith(root):
            found.append(target)
    return found


async def test_a_lost_mount_is_forgotten(place: Place) -> None:
    """A repository that has lost a blob is not asked for it again and again."""
    await place.stored.add(place.name("a:1"), layers=[BOTTOM])
    await place.push("a:1")
    await place.stored.images.tag(place.stored.images.resolve(place.name("a:1")), place.reference("b:1"))
    await place.stored.images.tag(place.stored.images.resolve(place.name("a:1")), place.reference("c:1"))
    await place.stored.store.untag([place.reference("a:1")])
    place.registry.behaviour = Behaviour(mounts=False)
    await place.push("b:1")
    assert place.actions() == {short(BOTTOM): "Pushed"}
    place.registry.behaviour = Behaviour()
    await place.push("c:1")
    assert place.actions() == {short(BOTTOM): "Mounted from b"}
