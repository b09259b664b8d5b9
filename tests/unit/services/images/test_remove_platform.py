"""One platform of an image goes, and what the others need stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.stored_images import AMD64, StoredImages
from teul.aio import run_blocking
from teul.errors import NotFound
from teul.oci.digest import Digest, chain_ids
from teul.oci.platform import Platform
from teul.services.images.remove import ImageInUse
from teul.store.metadata import images as rows
from teul.store.metadata.database import DiskFull

ARM64 = Platform(os="linux", architecture="arm64")
USER = "a1b2c3d4e5f6" + "0" * 52


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[StoredImages]:
    stored = await StoredImages.open(tmp_path / "root")
    yield stored
    await stored.close()


async def remove(stored: StoredImages, name: str, platform: Platform, *, force: bool = False) -> list[str]:
    removed = await stored.remover.remove_platform(name, platform, force=force)
    return [f"untagged {item.untagged}" if item.untagged else f"deleted {item.deleted}" for item in removed]


def manifest_of(stored: StoredImages, name: str, platform: Platform) -> Digest:
    return stored.images.resolve(name, platform).chosen.descriptor.digest


def stand_on(stored: StoredImages, name: str, platform: Platform, *, running: bool = False) -> None:
    image = stored.images.resolve(name, platform)
    [container] = stored.use(image.image_id, USER, running=running)
    container.image_manifest = {"digest": str(image.chosen.descriptor.digest)}


async def test_its_blobs_and_layers_go_and_the_index_stays(stored: StoredImages, tmp_path: Path) -> None:
    image_id = await stored.add_index("a:1", "b:1", amd64=[b"base", b"amd"], arm64=[b"base", b"arm"])
    before, arm64 = await stored.rows(), manifest_of(stored, "a:1", ARM64)
    [_, topmost] = chain_ids([Digest.of(b"base"), Digest.of(b"arm")])
    assert await remove(stored, "a:1", ARM64) == [f"deleted {arm64}", f"deleted {topmost}"]
    assert await stored.rows() == {**before, "blobs": before["blobs"] - 3, "snapshots": before["snapshots"] - 1}
    image = stored.images.resolve("b:1")
    assert image.image_id == image_id
    assert [(manifest.descriptor.platform, manifest.available) for manifest in image.manifests] == [(AMD64, True), (ARM64, False)]
    with pytest.raises(NotFound, match="No such image"):
        stored.images.resolve("a:1", ARM64)
    await stored.store.open()
    again = stored.images.resolve("a:1")
    assert [(manifest.available, manifest.ready) for manifest in again.manifests] == [(True, True), (False, False)], (
        "as a new engine sees it"
    )
    assert not await run_blocking(stored.store.content.has, arm64)
    assert not await run_blocking(stored.store.layers.has, topmost)


async def test_another_variant_does_not_stand_in_for_it(stored: StoredImages) -> None:
    """A container may run on an older variant; a removal means what it says."""
    await stored.add_index("a:1", amd64=[b"amd"], arm64=[b"arm"])
    for platform in (Platform(os="linux", architecture="arm64", variant="v9"), Platform(os="linux", architecture="arm")):
        with pytest.raises(NotFound, match="No such image"):
            await remove(stored, "a:1", platform)
    assert len(await remove(stored, "a:1", Platform(os="linux", architecture="aarch64", variant="v8"))) == 2


async def test_the_last_platform_takes_the_image_with_it(stored: StoredImages) -> None:
    image_id = await stored.add_index("a:1", amd64=[b"amd"], arm64=[b"arm"])
    await remove(stored, "a:1", AMD64)
    assert stored.images.resolve("a:1").document.architecture == "arm64"
    assert await remove(stored, "a:1", ARM64) == ["untagged a:1", f"deleted {image_id}", f"deleted {Digest.of(b'arm')}"]
    assert not any((await stored.rows()).values())


async def test_the_only_platform_of_an_image_with_several_names_must_be_forced(stored: StoredImages) -> None:
    image_id = await stored.add("a:1", "b:1")
    with pytest.raises(ImageInUse) as caught:
        await remove(stored, "a:1", AMD64)
    assert caught.value.message.endswith("(must be forced) - image is referenced in multiple repositories")
    assert (await remove(stored, "a:1", AMD64, force=True))[:3] == ["untagged a:1", "untagged b:1", f"deleted {image_id}"]


@pytest.mark.parametrize("running", [False, True])
async def test_a_container_that_stands_on_it_forbids_it(stored: StoredImages, running: bool) -> None:
    image_id = await stored.add_index("a:1", amd64=[b"amd"], arm64=[b"arm"])
    stand_on(stored, "a:1", ARM64, running=running)
    before = await stored.rows()
    with pytest.raises(ImageInUse) as caught:
        await remove(stored, "a:1", ARM64)
    assert caught.value.message == (
        f'conflict: unable to remove repository reference "a:1" (must force) - container {USER[:12]} '
        f"is using its referenced image {image_id.short}"
    )
    for name, force in (("a:1", True), (str(image_id), False)):
        with pytest.raises(ImageInUse) as caught:
            await remove(stored, name, ARM64, force=force)
        state = "running" if running else "stopped"
        assert caught.value.message == (
            f"conflict: unable to delete {image_id.short} (cannot be forced) - image is being used by {state} container {USER[:12]}"
        )
    assert await stored.rows() == before
    assert (await remove(stored, "a:1", AMD64, force=True))[1:] == [f"deleted {Digest.of(b'amd')}"], "nobody stands on that one"
    assert stored.images.resolve("a:1").document.architecture == "arm64"


async def test_a_manifest_that_another_image_is_stays(stored: StoredImages) -> None:
    image_id = await stored.add_index("a:1", amd64=[b"amd"], arm64=[b"arm"])
    alone, prepared = stored.prepare("arm:1", layers=[b"arm"], architecture="arm64")
    assert await stored.store.commit([alone], prepared, tagged_at_ns=0)
    assert alone.image_id == manifest_of(stored, "a:1", ARM64)
    with pytest.raises(ImageInUse) as caught:
        await remove(stored, "a:1", ARM64)
    assert caught.value.message == (
        f"conflict: unable to delete {image_id.short} (cannot be forced) - its platform belongs to another image as well"
    )
    await stored.remover.remove("arm:1")
    assert stored.images.resolve("a:1", ARM64).chosen.ready
    assert len(await remove(stored, "a:1", ARM64)) == 2


async def test_on_a_full_disk_all_stays(stored: StoredImages, monkeypatch: pytest.MonkeyPatch) -> None:
    await stored.add_index("a:1", amd64=[b"amd"], arm64=[b"arm"])
    before = await stored.rows()

    def fail(*_: object) -> None:
        raise DiskFull("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(rows, "delete_blobs", fail)
        with pytest.raises(DiskFull):
            await remove(stored, "a:1", ARM64)
    assert await stored.rows() == before
    assert stored.images.resolve("a:1", ARM64).chosen.ready
    assert len(await remove(stored, "a:1", ARM64)) == 2
