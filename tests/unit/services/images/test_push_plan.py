"""What of an image goes to a registry: the whole of it if that is here, else the one manifest that can go; each blob once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.image_indexes import IndexMaker, digests, foreign_image
from support.stored_images import AMD64, StoredImages
from teul.errors import Conflict
from teul.oci.digest import Digest
from teul.oci.platform import Platform
from teul.services.images.catalog import PlatformMismatch
from teul.services.images.push_plan import ContentMissing, PushPlan, plan_push

ARM64 = Platform(os="linux", architecture="arm64")
S390X = Platform(os="linux", architecture="s390x")


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    yield stored
    await stored.close()


def plan(stored: StoredImages, digest: Digest, *, platform: Platform | None = None, host: Platform = AMD64) -> PushPlan:
    return plan_push("x:1", stored.images.get(digest), stored.store.catalog.blobs, host=host, platform=platform)


def layers(found: PushPlan) -> list[Digest]:
    return [layer.descriptor.digest for layer in found.layers]


async def test_layers_go_topmost_first(stored: StoredImages) -> None:
    image_id = await stored.add("x:1", layers=[b"bottom", b"top"])
    found = plan(stored, image_id)
    assert layers(found) == [Digest.of(b"top"), Digest.of(b"bottom")]
    assert [layer.shown for layer in found.layers] == [Digest.of(b"top").short, Digest.of(b"bottom").short]
    assert all(layer.stored for layer in found.layers)
    assert digests(found.manifests) == [image_id]
    assert (found.indexes, found.whole) == ((), None)
    assert len(found.configs) == 1


async def test_an_index_goes_whole_with_what_is_nested_in_it_and_what_is_said_about_it(stored: StoredImages) -> None:
    maker = IndexMaker(stored)
    amd64 = maker.add("amd64", b"shared", b"for amd64")
    statement = maker.add_attestation(amd64, b"a statement")
    inner = maker.nest()
    arm64 = maker.add("arm64", b"shared", b"for arm64")
    target = await maker.store("x:1")
    found = plan(stored, target.digest)
    assert found.target.digest == target.digest
    assert digests(found.manifests) == digests([amd64, statement, arm64])
    assert digests(found.indexes) == digests([inner, target])
    expected = [b"for amd64", b"shared", b"a statement", b"for arm64"]
    assert layers(found) == [Digest.of(data) for data in expected]
    assert found.whole is None


async def test_a_platform_that_is_asked_for_goes_alone(stored: StoredImages) -> None:
    maker = IndexMaker(stored)
    maker.add("amd64", b"one")
    arm64 = maker.add("arm64", b"two")
    target = await maker.store("x:1")
    found = plan(stored, target.digest, platform=ARM64)
    assert (found.target.digest, found.indexes, found.whole) == (arm64.digest, (), None)
    assert layers(found) == [Digest.of(b"two")]
    with pytest.raises(PlatformMismatch) as refused:
        plan(stored, target.digest, platform=S390X)
    assert refused.value.message == (
        "image with reference x:1 was found but its platform (linux/amd64) does not match the specified platform (linux/s390x)"
    )


async def test_of_an_index_that_came_in_part_the_manifest_that_is_here_goes(stored: StoredImages) -> None:
    """Also on a host that it is not for: nothing else could be meant."""
    maker = IndexMaker(stored)
    amd64 = maker.add("amd64", b"one")
    maker.add_absent("arm64")
    target = await maker.store("x:1")
    for host in (AMD64, S390X):
        found = plan(stored, target.digest, host=host)
        assert found.target.digest == amd64.digest
        assert found.whole is not None
        assert found.whole.digest == target.digest


async def test_of_several_manifests_that_could_go_the_hosts_goes(stored: StoredImages) -> None:
    maker = IndexMaker(stored)
    maker.add("amd64", b"one")
    arm64 = maker.add("arm64", b"two")
    maker.add_absent("s390x")
    target = await maker.store("x:1")
    assert plan(stored, target.digest, host=ARM64).target.digest == arm64.digest
    with pytest.raises(Conflict, match=r"^multiple matching manifests found but no specific platform requested$"):
        plan(stored, target.digest, host=S390X)


async def test_two_manifests_for_one_platform_cannot_be_told_apart(stored: StoredImages) -> None:
    maker = IndexMaker(stored)
    maker.add("arm64", b"one")
    maker.add("arm64", b"two")
    target = await maker.store("x:1")
    assert plan(stored, target.digest).target.digest == target.digest
    with pytest.raises(Conflict, match=r"^multiple manifests found for platform linux/arm64$"):
        plan(stored, target.digest, platform=ARM64)


async def test_what_is_missing_is_named(stored: StoredImages) -> None:
    image_id = await stored.add("x:1", layers=[b"layer"])
    lacking = {digest: size for digest, size in stored.store.catalog.blobs.items() if digest != Digest.of(b"layer")}
    with pytest.raises(ContentMissing) as refused:
        plan_push("x:1", stored.images.get(image_id), lacking, host=AMD64)
    assert refused.value.message == f"content digest {Digest.of(b'layer')}: not found"
    assert refused.value.target.digest == image_id


async def test_a_layer_that_is_to_be_had_elsewhere_need_not_be_here(stored: StoredImages) -> None:
    image_id = await foreign_image(stored, "x:1", own=b"own", foreign=b"foreign")
    assert [(layer.descriptor.digest, layer.stored) for layer in plan(stored, image_id).layers] == [
        (Digest.of(b"foreign"), False),
        (Digest.of(b"own"), True),
    ]
