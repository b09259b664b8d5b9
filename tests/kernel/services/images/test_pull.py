"""Pulls into a real store while something else happens to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from kernel.services.images.host import Host, tree
from support import images
from support.needs import needs
from support.registry import FakeRegistry, stock
from teul.oci.digest import Digest
from teul.oci.reference import parse_reference
from teul.registry.client.registry_client import RegistryClient
from teul.registry.credentials import ANONYMOUS
from teul.registry.transport import Options
from teul.services.images.new_image import NewImage
from teul.services.images.origins import BlobOrigins
from teul.services.images.pull import ImagePuller, PullStep

pytestmark = needs("root")


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as registry:
        yield registry


async def pull(host: Host, registry: FakeRegistry, name: str) -> list[str]:
    """The statuses that are told, without those of layers."""
    steps: list[PullStep] = []
    async with RegistryClient(Options()) as client:
        puller = ImagePuller(host.store, client, host.sink, BlobOrigins())
        await puller.pull(parse_reference(f"{registry.host}/{name}"), ANONYMOUS, steps.append)
    return [step.status for step in steps if not step.is_of_layer]


async def test_an_image_that_goes_while_it_is_found_to_be_here_is_pulled_again(
    host: Host, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was all here, so nothing was downloaded; by the time that it gets its name it is gone."""
    stock(registry, images.layered(), "judge/gone")
    name = f"{registry.host}/judge/gone:1"
    await pull(host, registry, "judge/gone:1")
    before = tree(host.images, host.images.resolve(name))
    commit = host.store.commit
    removed: list[Any] = []

    async def remove_first(new: Sequence[NewImage], *arguments: Any, **options: Any) -> bool:
        if not removed:
            removed.append(await host.remover.remove(name))
            assert host.is_empty_but_for_work()
        return await commit(new, *arguments, **options)

    monkeypatch.setattr(host.store, "commit", remove_first)
    told = await pull(host, registry, "judge/gone:1")
    assert removed
    assert told[-1] == f"Status: Downloaded newer image for {name}"
    assert tree(host.images, host.images.resolve(name)) == before
    assert all(manifest.available for manifest in host.images.resolve(name).manifests)


async def test_a_blob_that_goes_with_another_image_is_downloaded(
    host: Host, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new image counts on a layer that it shares with one that goes meanwhile."""
    stock(registry, images.busybox(), "judge/base")
    [base, *_] = stock(registry, images.layered(), "judge/upon")
    await pull(host, registry, "judge/base:1")
    commit = host.store.commit
    removed: list[Any] = []

    async def remove_first(new: Sequence[NewImage], *arguments: Any, **options: Any) -> bool:
        if not removed:
            removed.append(await host.remover.remove(f"{registry.host}/judge/base:1"))
        return await commit(new, *arguments, **options)

    monkeypatch.setattr(host.store, "commit", remove_first)
    await pull(host, registry, "judge/upon:1")
    assert removed
    [manifest] = host.images.resolve(f"{registry.host}/judge/upon:1").manifests
    assert manifest.available
    assert Digest(base) in host.store.catalog.blobs
    assert len(registry.requests("GET", f"/blobs/{base}")) == 2
