"""Looking images up: the API's fake, and the service on a store whose layers are made by hand. Nothing here needs root."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from contract.witness import Witness
from support.stored_images import StoredImages
from teul.errors import InvalidParameter, NotFound
from teul.oci.digest import Digest
from teul.services.images.listing import ImageQuery
from teul.services.images.service import Images
from unit.api.fake_services import FakeImages

UNKNOWN = Digest("sha256:" + "0" * 64)


class Subject(Protocol):
    """Images, and a way to put some there."""

    images: Images

    async def add(self, *names: str) -> Digest:
        """An image of two layers with these names."""


class Fake:
    def __init__(self, witness: Witness) -> None:
        self._names: dict[str, str] = {}
        self.images: Images = witness.watch(FakeImages(self._names))

    async def add(self, *names: str) -> Digest:
        image_id = Digest.of(repr(names).encode())
        self._names.update(dict.fromkeys(names, str(image_id)))
        return image_id


class Real:
    def __init__(self, stored: StoredImages) -> None:
        self._stored = stored
        self.images = stored.images

    async def add(self, *names: str) -> Digest:
        return await self._stored.add(*names, layers=[b"bottom", names[0].encode()])


@pytest.fixture(params=["fake", "real"])
async def subject(request: pytest.FixtureRequest, witness: Witness, tmp_path: Path) -> AsyncIterator[Subject]:
    if request.param == "fake":
        yield Fake(witness)
        return
    stored = await StoredImages.open(tmp_path / "root")
    yield Real(stored)
    await stored.close()


async def test_an_image_is_found_by_name_and_by_id(subject: Subject) -> None:
    image_id = await subject.add("busybox", "local/shell:v1")
    other_id = await subject.add("other:1")
    for reference in ("busybox", "busybox:latest", "docker.io/library/busybox", "local/shell:v1", str(image_id), image_id.short):
        assert subject.images.resolve(reference).image_id == image_id, reference
    assert subject.images.resolve("other:1").image_id == other_id


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nosuch", "No such image: nosuch:latest"),
        ("busybox:2", "No such image: busybox:2"),
        ("docker.io/library/nosuch:1", "No such image: nosuch:1"),
        (str(UNKNOWN), f"No such image: {UNKNOWN}"),
        ("000000000000", "No such image: 000000000000:latest"),
    ],
)
async def test_what_is_not_there_is_named_in_full(subject: Subject, reference: str, message: str) -> None:
    """Clients look for these words to decide on a pull."""
    await subject.add("busybox")
    with pytest.raises(NotFound) as caught:
        subject.images.resolve(reference)
    assert caught.value.message == message


@pytest.mark.parametrize("reference", ["UPPER", "a b", ""])
async def test_what_is_no_reference_is_refused(subject: Subject, reference: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid reference format"):
        subject.images.resolve(reference)


async def test_an_image_is_got_by_its_id_only(subject: Subject) -> None:
    image_id = await subject.add("busybox")
    assert subject.images.get(image_id) == subject.images.resolve("busybox")
    with pytest.raises(NotFound) as caught:
        subject.images.get(UNKNOWN)
    assert caught.value.message == f"No such image: {UNKNOWN}"


async def test_every_layer_has_a_directory(subject: Subject) -> None:
    await subject.add("busybox")
    image = subject.images.resolve("busybox")
    directories = subject.images.layer_directories(image)
    assert len(set(directories)) == len(image.chain_ids) == len(image.document.diff_ids) == 2
    assert all(os.path.isabs(directory) and directory.endswith("/fs") for directory in directories)


async def test_an_image_counts_once_whatever_its_names(subject: Subject) -> None:
    assert (subject.images.count(), (await subject.images.disk_usage()).total_bytes) == (0, 0)
    assert list(subject.images.list(ImageQuery())) == []
    ids = {await subject.add("a:1", "a:2"), await subject.add("b:1")}
    assert subject.images.count() == 2
    usage = await subject.images.disk_usage()
    assert set(usage.images) == ids
    assert usage.total_bytes >= max(image.size_bytes for image in usage.images.values()) > 0
    summaries = subject.images.list(ImageQuery())
    assert {summary.image.image_id for summary in summaries} == ids
    assert [(summary.containers, summary.shared_size_bytes) for summary in summaries] == [(0, -1)] * 2


async def test_every_method_was_called(whole_suite: Witness) -> None:
    assert whole_suite.uncalled(FakeImages) == set()
