"""GET /teul/images/layers: the document that the tree of layers is drawn from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.stored_images import StoredImages
from teul.oci.digest import Digest, chain_ids
from teul.services.images.measuring import ImageTrees
from unit.api.fake_services import FakeServices
from unit.api.served_api import Api

BOTTOM, TOP = b"bottom" * 1000, b"top" * 1000


@pytest.fixture
async def stored(services: FakeServices, tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    services.image_trees = ImageTrees(stored.store)
    yield stored
    await stored.close()


async def test_every_member(api: Api, stored: StoredImages) -> None:
    image_id = await stored.add("a:1", layers=[BOTTOM, TOP])
    status, document = await api.request("GET", "/teul/images/layers")
    assert status == 200
    [image] = document["Images"]
    assert (image["Id"], image["SharedSize"]) == (str(image_id), 0)
    assert document["TotalSize"] == image["DiskSize"]
    [manifest] = image["Manifests"]
    assert (manifest["ID"], manifest["DiskSize"], manifest["SharedSize"]) == (str(image_id), image["DiskSize"], 0)
    diff_ids = [Digest.of(BOTTOM), Digest.of(TOP)]
    assert [layer | {"DiskSize": 0} for layer in manifest["Layers"]] == [
        {
            "DiffID": str(diff_id),
            "ChainID": str(chain_id),
            "Size": len(data),
            "Content": len(data),
            "DiskSize": 0,
            "SharedSize": 0,
            "Images": 1,
        }
        for diff_id, chain_id, data in zip(diff_ids, chain_ids(diff_ids), (BOTTOM, TOP), strict=True)
    ]
    assert all(layer["DiskSize"] > 0 for layer in manifest["Layers"])


@pytest.mark.usefixtures("stored")
async def test_no_images(api: Api) -> None:
    assert await api.request("GET", "/teul/images/layers") == (200, {"TotalSize": 0, "Images": []})
