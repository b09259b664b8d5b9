"""Pulling: an image comes from a registry, its layers side by side, and is stored whole or not at all.

What is stored is what the name points to there, an index or a manifest, and of an index the manifest for one platform: docker's choice too.
Blobs are kept as they came, so that what was pulled is pushed with equal digests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from teul import failpoints
from teul.aio import run_blocking, run_to_end, together
from teul.errors import InvalidParameter, NotFound
from teul.model.event import Event
from teul.oci.descriptor import Descriptor
from teul.oci.digest import Digest, chain_ids
from teul.oci.documents import InvalidDocument, decode_index, decode_manifest
from teul.oci.image_config import ImageDocument, decode_image_config
from teul.oci.platform import Platform, choose, suits
from teul.oci.reference import Reference
from teul.registry.backoff import retrying_in
from teul.registry.client.registry_client import RegistryClient
from teul.registry.client.repository import Repository
from teul.registry.credentials import Credentials
from teul.services.events import EventSink
from teul.services.images.assemble import MAX_INDEX_DEPTH, check_layers, describe, leads_to_index
from teul.services.images.downloads import Downloads, Received, Waiting
from teul.services.images.new_image import BlobFile, NewImage, NewPlatform, PreparedLayer
from teul.services.images.origins import BlobOrigins
from teul.services.images.store import ImageStore
from teul.snapshots.layers import link_layer
from teul.workers.client import InvalidArchive
from teul.workers.layers import Limits

# docker: max-concurrent-downloads.
_DOWNLOADS = 3


@dataclass(frozen=True, slots=True)
class PullStep:
    """One thing that a client is told: a status, of the tag or (`is_of_layer`) the layer `subject`, and how far that layer has come."""

    status: str
    subject: str = ""
    received: Received | None = None
    is_of_layer: bool = False


Tell = Callable[[PullStep], None]


@dataclass(frozen=True, slots=True)
class _Found:
    """What the registry has for the name and the platform."""

    target: Descriptor
    documents: dict[Digest, bytes]
    document: ImageDocument
    layers: tuple[Descriptor, ...]
    is_here: bool = False  # all of it, when it was looked for


@dataclass(slots=True)
class _Progress:
    """What has been made for a pull that has yet to be stored."""

    prepared: dict[Digest, PreparedLayer] = field(default_factory=dict)
    blobs: dict[Digest, BlobFile] = field(default_factory=dict)
    counted_on: set[Digest] = field(default_factory=set)  # blobs that are not brought, since they are stored
    count: int = 0


class ImagePuller:
    """Pulls, as users ask for them. One instance per engine."""

    def __init__(
        self,
        store: ImageStore,
        client: RegistryClient,
        events: EventSink,
        origins: BlobOrigins,
        *,
        limits: Limits | None = None,
        at_once: int = _DOWNLOADS,
    ) -> None:
        self._store = store
        self._client = client
        self._events = events
        self._origins = origins
        self._downloads = Downloads(store, limits or Limits(), at_once=at_once)

    async def pull(self, reference: Reference, credentials: Credentials, tell: Tell, *, platform: Platform | None = None) -> None:
        """Pull the tag or digest of `reference`, or of a lone name all tags. `tell` must not wait.

        What goes wrong before the registry has said that there is such an image is raised before anything is told: NotFound, Unauthorized,
        `RegistryError`, InvalidParameter; and later these, Integrity, or System. Then nothing is stored (of all tags: no further one).
        """
        repository = await self._client.repository(reference, credentials)
        if not reference.is_name_only:
            await self._pull_one(repository, reference, platform, tell)
            return
        for tag in await repository.list_tags():
            await self._pull_one(repository, reference.with_tag(tag), platform, tell)

    async def _pull_one(self, repository: Repository, reference: Reference, platform: Platform | None, tell: Tell) -> None:
        target = await repository.resolve(reference.digest or reference.tag)
        data = await repository.fetch_manifest(target)
        tell(PullStep(f"Pulling from {reference.path}", str(reference.digest or reference.tag)))
        found = await self._find(repository, reference, describe(target.digest, data, target.media_type), data, platform)
        name = reference.without_tag() if reference.digest is not None else reference
        before = self._store.catalog.tags.get(name.canonical)
        came = await self._fetch(repository, found, name, tell)
        self._origins.note(reference, [layer.digest for layer in found.layers])
        tell(PullStep(f"Digest: {target.digest}"))
        is_new = came or before is None or before.image_id != target.digest
        tell(PullStep(f"Status: {'Downloaded newer image' if is_new else 'Image is up to date'} for {name.familiar}"))
        labels = (found.document.config.labels if found.document.config is not None else None) or {}
        # docker: this event's id is the name, and its name the repository's.
        self._events.publish(Event("image", "pull", name.familiar, {**labels, "name": name.familiar_name}))

    async def _find(
        self, repository: Repository, reference: Reference, target: Descriptor, data: bytes, platform: Platform | None
    ) -> _Found:
        """Follow the target to the manifest for the platform, and fetch its config."""
        documents = {target.digest: data}
        descriptor, wanted = target, platform or self._store.host
        for _ in range(MAX_INDEX_DEPTH + 1):
            if not leads_to_index(descriptor, data):
                break
            children = [child for child in decode_index(data).manifests if not child.is_attestation]
            chosen = choose([child.platform for child in children], wanted)
            if chosen is None:
                raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
            descriptor = children[chosen]
            data = documents[descriptor.digest] = await repository.fetch_manifest(descriptor)
        else:
            raise InvalidDocument("invalid image index: indexes are nested too deeply")
        if (known := self._known(target, descriptor)) is not None:
            return known
        manifest = decode_manifest(data)
        raw = await repository.fetch_config(manifest.config)
        document = decode_image_config(raw)
        if document.os not in ("", "linux"):
            raise InvalidParameter(
                f'image operating system "{document.os}" cannot be used on this platform: operating system is not supported'
            )
        if platform is not None and descriptor is target and not suits(document.platform, platform):
            raise NotFound(
                f"image with reference {reference.familiar} was found but its platform ({document.platform}) does not match "
                f"the specified platform ({platform})"
            )
        check_layers(manifest, document)
        documents[manifest.config.digest] = raw
        return _Found(target, documents, document, tuple(manifest.layers))

    def _known(self, target: Descriptor, descriptor: Descriptor) -> _Found | None:
        """What is found, if the image is here with all of the manifest."""
        image = self._store.catalog.images.get(target.digest)
        if image is None or image.deleted:
            return None
        for it in image.ready:
            if it.descriptor.digest == descriptor.digest and it.document is not None and (it.available or not self._store.keeps_compressed):
                # With its documents: the image may be gone by the time that it gets the name.
                return _Found(target, dict(image.documents), it.document, it.layers, is_here=True)
        return None

    async def _fetch(self, repository: Repository, found: _Found, name: Reference, tell: Tell) -> bool:
        """Download what is not here, and store the image; whether anything was downloaded."""
        platform = NewPlatform(found.document, found.layers)
        progress = _Progress()
        async with AsyncExitStack() as stack:
            directory = await stack.enter_async_context(self._store.workspace.directory())
            while True:
                await self._make_layers(repository, found, directory, progress, tell)
                failpoints.reach("images.pull.made")
                image = NewImage(found.target, found.documents, (platform,), progress.blobs, (name,), frozenset(progress.counted_on))
                # False: a layer or a blob that was here when it was looked for has been removed with its image meanwhile.
                if await self._store.commit([image], progress.prepared, tagged_at_ns=0):
                    return bool(progress.blobs)

    async def _make_layers(self, repository: Repository, found: _Found, directory: str, progress: _Progress, tell: Tell) -> None:
        diff_ids = found.document.diff_ids
        wanted: list[tuple[Descriptor, Digest, Digest, str]] = []
        progress.counted_on.clear()
        for layer, diff_id, chain_id in zip(found.layers, diff_ids, chain_ids(diff_ids), strict=True):
            if chain_id in progress.prepared and layer.digest in progress.blobs:
                continue
            progress.count += 1
            place = os.path.join(directory, f"layer-{progress.count}")
            is_kept = found.is_here and chain_id in self._store.catalog.snapshots
            if is_kept or await self._is_here(layer, diff_id, chain_id, place, progress):
                if not found.is_here:
                    tell(_of(layer, "Already exists"))
                continue
            tell(_of(layer, "Pulling fs layer"))
            wanted.append((layer, diff_id, chain_id, place))
        await together(
            self._make_layer(repository, layer, diff_id, chain_id, place, progress=progress, tell=tell)
            for layer, diff_id, chain_id, place in wanted
        )

    async def _is_here(self, layer: Descriptor, diff_id: Digest, chain_id: Digest, place: str, progress: _Progress) -> bool:
        """Whether the blob is known to be that layer, and the layer is in the store, or is made of the same layer in another chain."""
        catalog = self._store.catalog
        if not catalog.knows_layer(layer.digest, diff_id):
            return False
        progress.counted_on.add(layer.digest)
        if chain_id in catalog.snapshots or chain_id in progress.prepared:
            return True
        row = catalog.find_layer(diff_id, self._store.layers.is_indexed) if self._store.indexes else None
        if row is None or not await run_to_end(run_blocking(link_layer, self._store.layers.directory(row.chain_id), place)):
            return False
        progress.prepared[chain_id] = PreparedLayer(chain_id, place, row.size_bytes)
        return True

    async def _make_layer(
        self, repository: Repository, layer: Descriptor, diff_id: Digest, chain_id: Digest, place: str, *, progress: _Progress, tell: Tell
    ) -> None:
        def listen(news: Received | Waiting) -> None:
            tell(_of(layer, retrying_in(news.seconds)) if isinstance(news, Waiting) else _of(layer, "Downloading", news))

        async with self._downloads.of(repository, layer, listen) as download:
            tell(_of(layer, "Verifying Checksum"))
            tell(_of(layer, "Download complete"))
            arrived = await download.take(place, alone=self._downloads.keep_to_oneself(download, layer.digest))
        if arrived.unpacked.diff_id != diff_id:
            raise InvalidArchive(
                f'layers from manifest don\'t match image configuration: expected "{diff_id}", got "{arrived.unpacked.diff_id}"'
            )
        progress.prepared[chain_id] = PreparedLayer(chain_id, place, arrived.unpacked.size_bytes)
        progress.blobs[layer.digest] = BlobFile(arrived.blob_path, arrived.size_bytes)
        tell(_of(layer, "Pull complete"))


def _of(layer: Descriptor, status: str, received: Received | None = None) -> PullStep:
    return PullStep(status, layer.digest.short, received, is_of_layer=True)
