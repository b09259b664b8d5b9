"""A store that keeps no layer twice: blobs of indexed layers are dropped, and images that leave take their archives along instead."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kernel.services.images.host import AMD64, BASE, MERGED, TOP, Host, tree
from kernel.services.images.test_load import layout, load, oci_archive
from kernel.workers.archive_cases import config, digest, saved_image, stream
from support.needs import needs
from teul.oci.digest import Digest
from teul.oci.platform import Platform
from teul.services.images.check import ImageCheck
from teul.services.images.damage import Finding
from teul.services.images.import_ import ImportRequest
from teul.snapshots import erofs

pytestmark = needs("root")

S390X = Platform(os="linux", architecture="s390x")


def pack(data: bytes) -> bytes:
    """The same bytes, whatever the time is."""
    return gzip.compress(data, mtime=0)


def compressed_image(*layers: bytes, name: str) -> bytes:
    blobs, descriptor = oci_archive(*layers, compress=pack, suffix="+gzip", annotations={"io.containerd.image.name": name})
    return layout(blobs, descriptor)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    root = tmp_path / "root"
    root.mkdir()
    if reason := erofs.refusal(str(root)):
        pytest.skip(f"this kernel mounts no index here: {reason}")
    host = Host(root, indexes=True, keeps_compressed=False)
    await host.start()
    yield host
    host.stop()


async def save(host: Host, name: str, *, platform: Platform | None = None) -> bytes:
    return b"".join([chunk async for chunk in host.archives.save([name], platform=platform)])


async def assert_whole(host: Host) -> None:
    assert not [report async for report in ImageCheck(host.store).run() if isinstance(report, Finding)]


@pytest.mark.parametrize("data", [compressed_image(BASE, TOP, name="app:1"), saved_image(BASE, TOP, tags=["app:1"])], ids=["gzip", "plain"])
async def test_documents_and_archives_are_all_that_is_kept(host: Host, data: bytes) -> None:
    await load(host, data)
    image = host.images.resolve("app:1")
    assert host.rows() == {"blobs": 2, "snapshots": 2, "images": 1, "tags": 1}
    assert len(host.files()["blobs/sha256"]) == 2
    assert tree(host.images, image) == MERGED
    assert (image.chosen.ready, image.chosen.available) == (True, False)
    await assert_whole(host)
    await host.restart()
    assert tree(host.images, host.images.resolve("app:1")) == MERGED
    assert host.images.resolve("app:1").image_id == image.image_id, "the image is the one that came"
    await load(host, data)
    assert host.rows()["blobs"] == 2, "and known when it comes again"
    await host.remover.remove("app:1")
    assert host.is_empty()


async def test_it_leaves_uncompressed_and_as_another_image(host: Host, tmp_path: Path) -> None:
    await load(host, compressed_image(BASE, TOP, name="app:1"))
    data = await save(host, "app:1")
    assert data == await save(host, "app:1"), "the same bytes every time"
    assert BASE in data
    assert TOP in data
    other = Host(tmp_path / "other", indexes=True)
    other.root.mkdir()
    await other.start()
    try:
        assert await load(other, data) == ["app:1"]
        image = other.images.resolve("app:1")
        assert tree(other.images, image) == MERGED
        assert image.chosen.available
        assert image.image_id != host.images.resolve("app:1").image_id
        assert [layer.digest for layer in image.chosen.layers] == [Digest.of(BASE), Digest.of(TOP)]
        assert image.chosen.config == host.images.resolve("app:1").chosen.config, "of the same config"
    finally:
        other.stop()


async def test_of_several_platforms_each_leaves(host: Host, tmp_path: Path) -> None:
    blobs: dict[str, bytes] = {}
    children = []
    for architecture, own in (("amd64", BASE), ("s390x", TOP)):
        found, descriptor = oci_archive(own, compress=pack, suffix="+gzip", document=config(own).replace(b"amd64", architecture.encode()))
        blobs |= found
        children.append({**descriptor, "platform": {"os": "linux", "architecture": architecture}})
    index = json.dumps({"schemaVersion": 2, "manifests": children}).encode()
    blobs["blobs/sha256/" + digest(index).removeprefix("sha256:")] = index
    top = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(index), "size": len(index)}
    top["annotations"] = {"io.containerd.image.name": "many:1"}
    await load(host, layout(blobs, top))
    whole, one = await save(host, "many:1"), await save(host, "many:1", platform=S390X)
    await host.remover.remove_platform("many:1", S390X)
    assert host.images.resolve("many:1").document.architecture == "amd64"
    await host.remover.remove("many:1")
    assert host.is_empty()
    await load(host, whole)
    assert [manifest.platform for manifest in host.images.resolve("many:1").ready] == [AMD64, S390X]
    assert set(tree(host.images, host.images.resolve("many:1", S390X))) == {"app"}
    await host.remover.remove("many:1")
    await load(host, one)
    assert [manifest.platform for manifest in host.images.resolve("many:1").ready] == [S390X]


async def test_blobs_that_were_kept_before_stay_until_their_image_goes(host: Host) -> None:
    host.keeps_compressed = True
    await host.restart()
    await load(host, compressed_image(BASE, name="base:1"))
    host.keeps_compressed = False
    await host.restart()
    await load(host, compressed_image(BASE, TOP, name="app:1"))
    assert host.images.resolve("base:1").chosen.available
    assert host.rows()["blobs"] == 5, "two documents each, and the layer that was there"
    await host.remover.remove("base:1")
    assert host.rows()["blobs"] == 3, "an image that it is part of needs it"
    await host.remover.remove("app:1")
    assert host.is_empty()


async def test_an_import_is_kept_once(host: Host) -> None:
    image_id = await host.archives.import_(stream(pack(BASE)), ImportRequest())
    assert host.rows()["blobs"] == 2
    assert tree(host.images, host.images.get(image_id)) == {"bin/sh": b"#!", "etc/passwd": b"root"}
    await assert_whole(host)


async def test_unpacked_layers_keep_their_blobs(host: Host) -> None:
    """There is nothing else that they could leave as."""
    host.indexes = False
    await host.restart()
    await load(host, compressed_image(BASE, name="base:1"))
    assert host.images.resolve("base:1").chosen.available
    assert host.rows()["blobs"] == 3
