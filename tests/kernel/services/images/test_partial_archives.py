"""Archives that leave out what is stored already: the layers are taken from the store, in whatever place they stand in the new image."""

from __future__ import annotations

import pytest

from kernel.services.images.host import BASE, MERGED, TOP, Host, tree
from kernel.services.images.test_load import layout as layout_of
from kernel.services.images.test_load import load, oci_archive
from kernel.workers.archive_cases import digest, saved_image
from support.needs import needs
from teul.errors import InvalidParameter
from teul.services.images.load import LayerProgress
from teul.services.images.stored_members import BlobWithdrawn

pytestmark = needs("root")


def partial(*layers: bytes, without: bytes) -> bytes:
    """An OCI layout of an image of these layers, uncompressed, in which one is missing."""
    blobs, descriptor = oci_archive(*layers)
    del blobs["blobs/sha256/" + digest(without)[7:]]
    return layout_of(blobs, {**descriptor, "annotations": {"org.opencontainers.image.ref.name": "new:1"}})


@pytest.mark.parametrize(("layers", "left_out"), [((BASE, TOP), BASE), ((TOP, BASE), BASE)], ids=["same place", "another place"])
async def test_a_layer_that_is_here_completes_an_image(host: Host, layers: tuple[bytes, ...], left_out: bytes) -> None:
    await load(host, saved_image(BASE, tags=["old:1"]))
    assert await load(host, partial(*layers, without=left_out), completes=True) == ["new:1"]
    files = tree(host.images, host.images.resolve("new:1"))
    assert files == (MERGED if layers == (BASE, TOP) else {**MERGED, "etc/passwd": b"root"})
    assert host.files()["tmp"] == []
    await host.remover.remove("old:1", force=False)
    await host.restart()
    assert tree(host.images, host.images.resolve("new:1")) == files


async def test_who_does_not_complete_does_not_look(host: Host) -> None:
    await load(host, saved_image(BASE, tags=["old:1"]))
    before = host.rows(), host.files()
    with pytest.raises(InvalidParameter, match=f"content digest {digest(BASE)}: not found"):
        await load(host, partial(BASE, TOP, without=BASE))
    assert (host.rows(), host.files()) == before


@pytest.mark.parametrize("layers", [(BASE, TOP), (TOP, BASE)], ids=["same place", "another place"])
async def test_a_layer_that_is_removed_meanwhile_is_missed_and_nothing_is_left(host: Host, layers: tuple[bytes, ...]) -> None:
    await load(host, saved_image(BASE, tags=["old:1"]))

    async def remove(progress: LayerProgress) -> None:
        if "docker.io/library/old:1" in host.store.catalog.tags:
            await host.remover.remove("old:1", force=False)

    with pytest.raises(BlobWithdrawn) as caught:
        await load(host, partial(*layers, without=BASE), progress=remove, completes=True)
    assert caught.value.message == (
        f"content digest {digest(BASE)}: was removed while an image that needs it was being loaded; load the image again"
    )
    assert host.is_empty()
