"""Committing: what a container has changed becomes a layer above those of its image, and both together another image.

The layer's archive is written once, by a worker, which hashes and indexes it on the way; it is the layer's blob as well, uncompressed.
Layers of the image that the container stands on are counted on as they are stored.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass

from teul import failpoints
from teul.aio import run_blocking, run_to_end
from teul.errors import Conflict, NotFound, System
from teul.model.image import Image
from teul.oci.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from teul.oci.digest import Digest, chain_ids
from teul.oci.documents import encode_manifest
from teul.oci.image_config import History, ImageConfig, ImageDocument, RootFS, encode_image_config
from teul.oci.reference import Reference
from teul.oci.timestamp import render_time
from teul.services.images.assemble import MAX_LAYERS
from teul.services.images.layers import make_layer
from teul.services.images.new_image import BlobFile, NewImage, NewPlatform, PreparedLayer
from teul.services.images.store import ImageStore
from teul.store.atomic import remove_tree
from teul.store.layer_files import ARCHIVE_FILE
from teul.workers.layers import Limits, new_layer_files
from teul.workers.rootfs import Changeset

# How often the image that a container stands on may be given up, stored anew and given up again, while its layers are counted on.
_ATTEMPTS = 3

WriteChanges = Callable[[int, int | None], Awaitable[Changeset]]
"""Writes a layer's archive and, if there is a second descriptor, the index over it to these empty files."""


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What a committed image says of itself, beside what the image says that it stands on. `created_by` is the container's command."""

    config: ImageConfig
    container_id: str
    created_by: str
    author: str = ""
    comment: str = ""
    reference: Reference | None = None


@dataclass(frozen=True, slots=True)
class _Layer:
    """The layer that was written: `directory` has it in the form of this root's layers, `blob` its archive."""

    changeset: Changeset
    directory: str
    blob: str


async def commit_changes(
    store: ImageStore,
    find_parent: Callable[[], Image],
    write: WriteChanges,
    request: CommitRequest,
    *,
    slots: asyncio.Semaphore,
) -> NewImage:
    """Store the image that `write` brings the topmost layer of. `find_parent` says which image that layer stands on; it must be held.

    Raises what the two raise, System, and NotFound if the layers of an image that was deleted cannot be had as blobs any more. Then
    nothing is stored.
    """
    async with store.workspace.directory() as directory:
        layer = await _write_layer(store, os.path.join(directory, "layer"), write, slots)
        failpoints.reach("images.changes.written")
        for attempt in range(_ATTEMPTS):
            parent = find_parent()
            below, archives = await run_to_end(run_blocking(_layers_below, store, parent, os.path.join(directory, f"below-{attempt}")))
            image = _image(parent, below, layer if layer.changeset.entries else None, request)
            topmost = chain_ids(image.platforms[0].document.diff_ids)
            prepared = {}
            blobs = dict(archives)
            if layer.changeset.entries:
                blobs[layer.changeset.diff_id] = BlobFile(layer.blob, layer.changeset.archive_size_bytes)
                prepared[topmost[-1]] = PreparedLayer(topmost[-1], layer.directory, layer.changeset.size_bytes)
            counted_on = frozenset(descriptor.digest for descriptor in below if descriptor.digest in store.catalog.blobs)
            new = NewImage(image.target, image.documents, image.platforms, blobs, image.tags, counted_on - blobs.keys())
            if await store.commit([new], prepared, tagged_at_ns=time.time_ns()):
                return new
    raise Conflict(f"the image of container {request.container_id} was changed while the container was committed")


async def _write_layer(store: ImageStore, place: str, write: WriteChanges, slots: asyncio.Semaphore) -> _Layer:
    await run_to_end(run_blocking(os.mkdir, place, 0o700))
    archive, blob = os.path.join(place, ARCHIVE_FILE), f"{place}.blob"
    with ExitStack() as stack:
        files = new_layer_files(place, indexed=store.indexes)
        changeset = await write(*await run_to_end(run_blocking(stack.enter_context, files)))
    await run_to_end(run_blocking(os.link, archive, blob))
    if not store.indexes or changeset.unindexable:
        await run_to_end(run_blocking(remove_tree, place))
        async with slots:
            await make_layer(store, blob, "", place, Limits(), diff_id=changeset.diff_id)
    return _Layer(changeset, place, blob)


def _layers_below(store: ImageStore, parent: Image, directory: str) -> tuple[list[Descriptor], dict[Digest, BlobFile]]:
    """The layers that the new one stands on, and those of them that have to be stored once more, as files in the new `directory`. Blocks.

    Of an image that was deleted by force nothing but its layers remains, and no manifest says what blobs they came as: then their archives
    are the blobs.
    """
    if len(parent.chosen.layers) == len(parent.chain_ids):
        return [*parent.chosen.layers], {}
    os.mkdir(directory, 0o700)
    descriptors, blobs = [], {}
    for diff_id, chain_id in zip(parent.document.diff_ids, parent.chain_ids, strict=True):
        if not store.layers.is_indexed(chain_id):
            raise NotFound(f"content digest {diff_id}: not found")
        path = os.path.join(directory, diff_id.hex)
        if diff_id not in blobs:
            os.link(os.path.join(store.layers.place_of(chain_id), ARCHIVE_FILE), path)
        size_bytes = os.stat(path).st_size
        descriptors.append(Descriptor(media_type=OCI_LAYER, digest=diff_id, size_bytes=size_bytes))
        blobs[diff_id] = BlobFile(path, size_bytes)
    return descriptors, blobs


def _image(parent: Image, below: list[Descriptor], layer: _Layer | None, request: CommitRequest) -> NewImage:
    """docker: internal/image/image.go, NewChildImage; a container that has changed nothing adds a step to the history and no layer."""
    base = parent.document
    if layer is not None and len(below) >= MAX_LAYERS:
        raise System("max depth exceeded")
    created = render_time(time.time_ns())
    diff_ids, descriptors = [*base.diff_ids], [*below]
    if layer is not None:
        diff_id, size_bytes = layer.changeset.diff_id, layer.changeset.archive_size_bytes
        diff_ids.append(diff_id)
        descriptors.append(Descriptor(media_type=OCI_LAYER, digest=diff_id, size_bytes=size_bytes))
    step = History(
        created=created, created_by=request.created_by, author=request.author, comment=request.comment, empty_layer=layer is None
    )
    document = ImageDocument(
        architecture=base.architecture,
        os=base.os,
        os_version=base.os_version,
        os_features=base.os_features,
        variant=base.variant,
        created=created,
        author=request.author,
        parent=str(parent.image_id),
        container=request.container_id,
        config=request.config,
        rootfs=RootFS(diff_ids=diff_ids),
        history=[*(base.history or ()), step],
    )
    raw = encode_image_config(document)
    config = Descriptor(media_type=OCI_CONFIG, digest=Digest.of(raw), size_bytes=len(raw))
    manifest = encode_manifest(config, descriptors)
    target = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(manifest), size_bytes=len(manifest))
    return NewImage(
        target,
        {target.digest: manifest, config.digest: raw},
        (NewPlatform(document, tuple(descriptors)),),
        {},
        (request.reference,) if request.reference is not None else (),
    )
