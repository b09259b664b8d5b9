"""The routes by which images go from engine to engine: what they answer, and what they refuse."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.stored_images import StoredImages
from teul.oci.digest import Digest
from teul.oci.platform import Platform
from teul.services.images.archives import ImageArchives
from teul.services.images.load import LoadedImage, Progress
from teul.services.images.moving import MAX_BLOBS, ImageMoves
from unit.api.fake_services import FakeServices
from unit.api.served_api import Api

BOTTOM, TOP = Digest.of(b"bottom"), Digest.of(b"top")
ABSENT = Digest.of(b"absent")


@pytest.fixture
async def stored(services: FakeServices, tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    services.image_archives, services.image_moves = stored.archives, ImageMoves(stored.store)
    await stored.add("a:1", layers=[b"bottom", b"top"])
    yield stored
    await stored.close()


async def saved_names(api: Api, order: dict[str, Any]) -> list[str]:
    async with api.session.post("http://docker/teul/images/save", json=order) as response:
        assert (response.status, response.content_type) == (200, "application/x-tar")
        with tarfile.open(fileobj=io.BytesIO(await response.read())) as archive:
            return [name for name in archive.getnames() if name not in {"blobs", "blobs/sha256"}]


async def test_the_blobs_of_images_are_told_without_their_documents(api: Api, stored: StoredImages) -> None:
    await stored.add("b:1", layers=[b"bottom", b"other"])
    found = sorted((str(Digest.of(data)), len(data)) for data in (b"bottom", b"top", b"other"))
    expected = {"blobs": [{"digest": digest, "size": size} for digest, size in found]}
    assert await api.request("POST", "/teul/images/blobs", json={"names": ["a:1", "b:1"]}) == (200, expected)


async def test_what_is_missing_is_told_in_order_and_once(api: Api, stored: StoredImages) -> None:
    asked = [str(digest) for digest in (ABSENT, BOTTOM, ABSENT, TOP)]
    assert await api.request("POST", "/teul/images/missing", json={"blobs": asked}) == (200, {"missing": [str(ABSENT)]})
    assert await api.request("POST", "/teul/images/missing", json={"blobs": []}) == (200, {"missing": []})


async def test_blobs_are_left_out_and_documents_are_not(api: Api, stored: StoredImages) -> None:
    whole = await saved_names(api, {"names": ["a:1"], "without": []})
    image = stored.store.catalog.images[next(iter(stored.store.catalog.images))]
    without = [str(BOTTOM), *(str(digest) for digest in image.documents), str(ABSENT)]
    assert await saved_names(api, {"names": ["a:1"], "without": without}) == [name for name in whole if BOTTOM.hex not in name]


class Loading(ImageArchives):
    """Notes how a load was asked for."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    async def load(
        self,
        stream: AsyncIterator[bytes],
        *,
        platform: Platform | None = None,
        progress: Progress | None = None,
        completes: bool = False,
    ) -> Sequence[LoadedImage]:
        self.asked.append(completes)
        return []


async def test_only_teuls_own_route_completes_an_archive(api: Api, services: FakeServices) -> None:
    services.image_archives = loading = Loading()
    for path in ("/images/load", "/teul/images/load"):
        async with api.session.post(f"http://docker{path}", data=b"x") as response:
            assert (response.status, await response.read()) == (200, b"")
    assert loading.asked == [False, True]


@pytest.mark.parametrize(
    ("action", "body", "status", "message"),
    [
        ("blobs", {"names": []}, 400, "no images to save"),
        ("blobs", {"names": ["UPPER"]}, 400, "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("blobs", {"names": ["nothing"]}, 404, "No such image: nothing:latest"),
        ("blobs", {}, 400, "invalid JSON: Object missing required field `names`"),
        ("missing", {"blobs": ["../../etc/passwd"]}, 400, "invalid digest '../../etc/passwd'"),
        ("missing", {"blobs": ["sha256:ab"]}, 400, "invalid digest 'sha256:ab'"),
        ("missing", {"blobs": [1]}, 400, "invalid JSON: Expected `str`, got `int` - at `$.blobs[0]`"),
        ("missing", {"blobs": ["x"] * (MAX_BLOBS + 1)}, 400, f"more than {MAX_BLOBS} blobs"),
        ("save", {"names": ["a:1"]}, 400, "invalid JSON: Object missing required field `without`"),
        ("save", {"names": ["a:1"], "without": ["x"]}, 400, "invalid digest 'x'"),
        ("save", {"names": ["nothing"], "without": []}, 404, "No such image: nothing:latest"),
    ],
)
async def test_what_cannot_be_asked(api: Api, stored: StoredImages, action: str, body: dict[str, Any], status: int, message: str) -> None:
    assert await api.request("POST", f"/teul/images/{action}", json=body) == (status, {"message": message})
    assert stored.log.events == []


async def test_a_body_is_required(api: Api, stored: StoredImages) -> None:
    for action in ("blobs", "missing", "save"):
        status, _ = await api.request("POST", f"/teul/images/{action}")
        assert status == 400
