"""Blobs of the store in the place of what an archive leaves out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.images import compress
from support.stored_images import StoredImages
from teul.aio import run_blocking
from teul.oci.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from teul.oci.digest import Digest
from teul.oci.platform import Platform
from teul.services.images.archive_contents import ArchiveContents
from teul.services.images.plan import plan_load
from teul.services.images.stored_members import StoredMembers
from teul.store.content import ContentStore
from teul.workers.client import InvalidArchive
from teul.workers.layers import Member

HOST = Platform(os="linux", architecture="amd64")
LAYER = compress(b"a layer", "gzip")
DIFF_ID = Digest.of(b"a layer")
CONFIG = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [str(DIFF_ID)]}}).encode()


def described(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}


MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(OCI_CONFIG, CONFIG),
        "layers": [described(f"{OCI_LAYER}+gzip", LAYER)],
    }
).encode()
INDEX = json.dumps({"schemaVersion": 2, "manifests": [described(OCI_MANIFEST, MANIFEST)]}).encode()


@pytest.fixture
def content(tmp_path: Path) -> ContentStore:
    content = ContentStore(str(tmp_path))
    content.open()
    return content


def contents(held: StoredMembers | None) -> ArchiveContents:
    """An archive with everything but its layer."""
    texts = {"index.json": INDEX, f"blobs/sha256/{Digest.of(MANIFEST).hex}": MANIFEST, f"blobs/sha256/{Digest.of(CONFIG).hex}": CONFIG}
    archive = ArchiveContents(lambda member: texts[member.name], find_stored=held.find if held is not None else None)
    for name, data in texts.items():
        archive.add(Member(name, "file", f"/archive/{name}", size_bytes=len(data), digest=Digest.of(data)))
    return archive


def test_a_layer_that_is_here_is_taken_from_here(content: ContentStore) -> None:
    digest = content.put(LAYER)
    held = StoredMembers(content, {digest: len(LAYER)})
    [image] = plan_load(contents(held), HOST, None)
    [file] = image.files
    assert (file.path, file.compression, file.digest, held.is_stored(file)) == (content.path(digest), "gzip", digest, True)


def test_only_what_has_a_record_counts(content: ContentStore) -> None:
    """A file without a row may be half of something."""
    content.put(LAYER)
    for held in (StoredMembers(content, {}), StoredMembers(content, {DIFF_ID: 7}), None):
        with pytest.raises(InvalidArchive, match=f"content digest {Digest.of(LAYER)}: not found"):
            plan_load(contents(held), HOST, None)


def test_a_blob_of_another_size_is_refused(content: ContentStore) -> None:
    digest = content.put(LAYER)
    with pytest.raises(InvalidArchive, match="unexpected commit size 1,"):
        plan_load(contents(StoredMembers(content, {digest: 1})), HOST, None)


def test_what_is_no_blob_is_not_looked_for(content: ContentStore) -> None:
    digest = content.put(LAYER)
    archive = contents(StoredMembers(content, {digest: len(LAYER)}))
    for name in (f"sha256/{digest.hex}", f"blobs/sha256/{digest.hex}/x", "blobs/sha256/..", f"x/blobs/sha256/{digest.hex}", "oci-layout"):
        assert archive.find(name) is None
    assert archive.find(f"./blobs//sha256/{digest.hex}") is not None


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    yield stored
    await stored.close()


async def test_an_image_is_stored_with_blobs_that_are_here_and_not_without_them(stored: StoredImages) -> None:
    await stored.add("a:1", layers=[b"bottom"])
    image, prepared = await run_blocking(lambda: stored.prepare("b:1", layers=[b"bottom", b"top"]))
    bottom = Digest.of(b"bottom")
    lean = replace(image, blobs={digest: file for digest, file in image.blobs.items() if digest != bottom}, counted_on=frozenset({bottom}))
    gone = replace(lean, counted_on=frozenset({bottom, Digest.of(b"gone")}))
    before = await stored.rows()
    assert not await stored.store.commit([gone], prepared, tagged_at_ns=0)
    assert await stored.rows() == before
    assert await stored.store.commit([lean], prepared, tagged_at_ns=0)
    assert all(manifest.available for manifest in stored.store.catalog.images[image.image_id].ready)
    await stored.remover.remove("a:1", force=False)
    assert bottom in stored.store.catalog.blobs
