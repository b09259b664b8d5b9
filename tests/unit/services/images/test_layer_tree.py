"""Which layers images have: each with what it takes, and with how many images have it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.stored_images import StoredImages
from teul.oci.digest import Digest
from teul.services.images.measuring import ImageTrees

BASE, TOP, ARM = b"base" * 1000, b"top" * 1000, b"arm" * 1000


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    yield stored
    await stored.close()


async def test_a_layer_says_how_many_images_have_it(stored: StoredImages) -> None:
    lower = await stored.add("lower:1", layers=[BASE])
    upper = await stored.add("upper:1", layers=[BASE, TOP])
    tree = await ImageTrees(stored.store).layers()
    images = {image.image_id: image for image in tree.images}
    assert list(images) == [lower, upper]
    [manifest] = images[upper].manifests
    base, top = manifest.layers
    assert [(layer.diff_id, layer.size_bytes, layer.content_bytes, layer.images) for layer in (base, top)] == [
        (Digest.of(BASE), len(BASE), len(BASE), 2),
        (Digest.of(TOP), len(TOP), len(TOP), 1),
    ]
    assert base.usage.shared_size_bytes == base.usage.size_bytes > 0
    assert top.usage.shared_size_bytes == 0 < top.usage.size_bytes
    assert images[lower].manifests[0].layers == (base,)


async def test_the_parts_of_an_image_add_up(stored: StoredImages) -> None:
    """A manifest takes what its layers take, and its documents; an image what its manifests take, and its index."""
    await stored.add_index("multi:1", amd64=[BASE, TOP], arm64=[BASE, ARM])
    tree = await ImageTrees(stored.store).layers()
    [image] = tree.images
    assert [manifest.manifest.platform.architecture for manifest in image.manifests] == ["amd64", "arm64"]
    for manifest in image.manifests:
        assert sum(layer.usage.size_bytes for layer in manifest.layers) < manifest.usage.size_bytes < image.usage.size_bytes
    once = sum({layer.chain_id: layer.usage.size_bytes for manifest in image.manifests for layer in manifest.layers}.values())
    assert once < image.usage.size_bytes == tree.total_bytes
    assert image.usage.shared_size_bytes == 0, "its platforms share with each other, not with another image"
    assert {layer.images for manifest in image.manifests for layer in manifest.layers} == {1}


async def test_what_is_not_here_takes_nothing(stored: StoredImages) -> None:
    """Of a platform that was let go nothing is known but its name."""
    index = await stored.add_index("multi:1", amd64=[BASE, TOP], arm64=[BASE, ARM])
    manifests = {
        found.manifest.platform.architecture: found.manifest for found in (await ImageTrees(stored.store).layers()).images[0].manifests
    }
    await stored.remover.remove_platform("multi:1", manifests["arm64"].platform, force=True)
    [image] = (await ImageTrees(stored.store).layers()).images
    assert image.image_id == index
    gone = next(found for found in image.manifests if found.manifest.descriptor.digest == manifests["arm64"].descriptor.digest)
    assert (gone.usage.size_bytes, gone.layers) == (0, ())


async def test_an_image_deleted_under_containers_is_not_shown(stored: StoredImages) -> None:
    image_id = await stored.add("a:1", layers=[BASE])
    stored.use(image_id, "c" * 64)
    await stored.remover.remove("a:1", force=True)
    tree = await ImageTrees(stored.store).layers()
    assert tree.images == ()
    assert tree.total_bytes > 0
