"""Indexed layers in a root: what is one file, what is one mount, and what goes on working beside them."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from kernel.services.images.host import BASE, MERGED, TOP, Host, tree
from kernel.services.images.test_load import layout, load, oci_archive
from kernel.workers.archive_cases import saved_image, stream
from support.needs import needs
from teul.oci.digest import Digest
from teul.oci.reference import parse_reference
from teul.services.images.import_ import ImportRequest
from teul.store.layer_files import ARCHIVE_FILE, INDEX_FILE

pytestmark = needs("root")


@pytest.fixture
def form() -> str:
    return "erofs"


def layer(host: Host, reference: str, number: int = 0) -> Path:
    """The directory of the image's layer, the topmost first."""
    return Path(host.images.layer_directories(host.images.resolve(reference))[number])


def blob(host: Host, data: bytes) -> Path:
    return Path(host.root / "blobs/sha256" / Digest.of(data).hex)


def compressed_image(*layers: bytes, name: str) -> bytes:
    blobs, descriptor = oci_archive(*layers, compress=gzip.compress, suffix="+gzip", annotations={"io.containerd.image.name": name})
    return layout(blobs, descriptor)


def devices(host: Host, reference: str) -> list[int]:
    """Which file systems the image's layers are."""
    with host.images.lower(host.images.resolve(reference)) as lower:
        return [os.fstat(fd).st_dev for fd in mounts_of(lower)]


def mounts_of(lower: Sequence[str | int]) -> list[int]:
    return [item for item in lower if isinstance(item, int)]


async def test_an_uncompressed_layer_is_one_file(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["base:1"]))
    assert sorted(os.listdir(layer(host, "base:1"))) == [INDEX_FILE, ARCHIVE_FILE]
    assert blob(host, BASE).samefile(layer(host, "base:1") / ARCHIVE_FILE)
    assert (layer(host, "base:1") / ARCHIVE_FILE).read_bytes() == BASE


async def test_a_compressed_layer_is_kept_in_both_forms(host: Host) -> None:
    await load(host, compressed_image(BASE, name="base:1"))
    assert (layer(host, "base:1") / ARCHIVE_FILE).read_bytes() == BASE
    assert len(os.listdir(host.root / "blobs/sha256")) == 3, "config, manifest, and the layer as it came"
    assert not blob(host, BASE).exists()


async def test_a_layer_that_comes_in_both_forms_is_kept_once_in_each(host: Host) -> None:
    await load(host, compressed_image(BASE, name="base:1"))
    await load(host, saved_image(BASE, TOP, tags=["app:1"]))
    assert blob(host, BASE).samefile(layer(host, "base:1") / ARCHIVE_FILE)
    assert tree(host.images, host.images.resolve("app:1")) == MERGED


async def test_a_layer_of_another_chain_shares_its_files_and_its_mount(host: Host) -> None:
    """The same archive above another one is another chain: one more name for the same files."""
    await load(host, saved_image(BASE, tags=["base:1"]))
    await load(host, saved_image(TOP, BASE, tags=["turned:1"]))
    assert layer(host, "turned:1") != layer(host, "base:1")
    for name in (INDEX_FILE, ARCHIVE_FILE):
        assert (layer(host, "turned:1") / name).samefile(layer(host, "base:1") / name)
    [base] = devices(host, "base:1")
    assert devices(host, "turned:1")[0] == base
    await host.remover.remove("base:1")
    assert devices(host, "turned:1")[0] == base, "the mount is the other chain's as well"
    assert tree(host.images, host.images.resolve("turned:1"))["bin/sh"] == b"#!"


async def test_the_mounts_of_a_removed_image_go(host: Host) -> None:
    fds = len(os.listdir("/proc/self/fd"))
    await load(host, saved_image(BASE, TOP, tags=["app:1"]))
    assert len(set(devices(host, "app:1"))) == 2
    assert devices(host, "app:1") == devices(host, "app:1"), "they are held"
    assert len(os.listdir("/proc/self/fd")) == fds + 2
    await host.remover.remove("app:1")
    assert len(os.listdir("/proc/self/fd")) == fds
    assert host.is_empty()


async def test_threads_that_ask_at_once_get_one_mount(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["base:1"]))
    found = await asyncio.gather(*(asyncio.to_thread(devices, host, "base:1") for _ in range(16)))
    assert len({device for [device] in found}) == 1


async def test_no_layer_can_be_written_to(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["base:1"]))
    with host.images.lower(host.images.resolve("base:1")) as lower:
        [fd] = mounts_of(lower)
        with pytest.raises(OSError, match="Read-only file system"):
            os.open("etc/passwd", os.O_RDWR, dir_fd=fd)
        with pytest.raises(OSError, match="Read-only file system"):
            os.mkdir("new", dir_fd=fd)


async def test_unpacked_layers_go_on_working_beside_indexed_ones(host: Host) -> None:
    host.indexes = False
    await host.restart()
    await load(host, saved_image(BASE, tags=["base:1"]))
    host.indexes = True
    await host.restart()
    await load(host, saved_image(BASE, TOP, tags=["app:1"]))
    with host.images.lower(host.images.resolve("app:1")) as lower:
        assert [type(item) for item in lower] == [int, str]
    assert tree(host.images, host.images.resolve("app:1")) == MERGED
    host.indexes = False
    await host.restart()
    await load(host, saved_image(TOP, tags=["top:1"]))
    assert tree(host.images, host.images.resolve("app:1")) == MERGED
    assert layer(host, "top:1").name == "fs", "the same layer in another chain, in the form that this engine makes"
    for name in ("base:1", "app:1", "top:1"):
        await host.remover.remove(name)
    assert host.is_empty()


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
async def test_an_imported_archive_is_indexed_as_it_arrives(host: Host, compress: type[bytes]) -> None:
    data = compress(BASE)
    await host.archives.import_(stream(data), ImportRequest(reference=parse_reference("new:1")))
    assert (layer(host, "new:1") / ARCHIVE_FILE).read_bytes() == BASE
    assert blob(host, data).read_bytes() == data
    assert blob(host, data).samefile(layer(host, "new:1") / ARCHIVE_FILE) == (data == BASE)
    assert host.files()["tmp"] == []
    assert tree(host.images, host.images.resolve("new:1")) == {"bin/sh": b"#!", "etc/passwd": b"root"}
