"""Importing: a root filesystem as a tar archive becomes an image of one layer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from teul import failpoints
from teul.dockerfile.changes import apply_changes
from teul.errors import InvalidParameter
from teul.oci.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor, layer_media_type
from teul.oci.digest import Digest
from teul.oci.documents import encode_manifest
from teul.oci.image_config import History, ImageConfig, ImageDocument, RootFS, encode_image_config
from teul.oci.platform import Platform
from teul.oci.reference import Reference
from teul.oci.timestamp import render_time
from teul.services.images.layers import ArrivedLayer, take_layer
from teul.services.images.new_image import BlobFile, NewImage, NewPlatform, PreparedLayer
from teul.services.images.store import ImageStore
from teul.workers.layers import Limits


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What `docker import` may say: the name to give, Dockerfile instructions, a comment, the platform of the programs."""

    reference: Reference | None = None
    changes: Sequence[str] = ()
    message: str = ""
    platform: Platform | None = None

    def from_source(self, source: str) -> ImportRequest:
        """This, with a comment that says where the archive is from, if it has none."""
        return self if self.message else replace(self, message=f"Imported from {source}")


async def import_archive(
    store: ImageStore, stream: AsyncIterator[bytes], request: ImportRequest, *, host: Platform, limits: Limits, slots: asyncio.Semaphore
) -> NewImage:
    """Store an image whose layer is the archive that `stream` brings.

    Raises InvalidParameter (also for a malformed archive) or System; then nothing is stored.
    """
    platform = request.platform or host
    if platform.os != "linux":
        raise InvalidParameter(f'operating system "{platform.os}" is not supported')
    config = apply_changes(ImageConfig(), request.changes)
    async with store.workspace.directory() as directory:
        place = os.path.join(directory, "layer")
        async with slots:
            layer = await take_layer(store, stream, place, limits, as_it_came=False)
        failpoints.reach("images.import.unpacked")
        diff_id = layer.unpacked.diff_id
        image = _image(layer, platform, config, request)
        prepared = {diff_id: PreparedLayer(diff_id, place, layer.unpacked.size_bytes)}
        committed = await store.commit([image], prepared, tagged_at_ns=time.time_ns())
        assert committed, "the only layer is prepared"
    return image


def _image(layer: ArrivedLayer, platform: Platform, config: ImageConfig, request: ImportRequest) -> NewImage:
    created = render_time(time.time_ns())
    document = ImageDocument(
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        created=created,
        comment=request.message,
        config=config,
        rootfs=RootFS(diff_ids=[layer.unpacked.diff_id]),
        history=[History(created=created, comment=request.message)],
    )
    raw = encode_image_config(document)
    descriptor = Descriptor(media_type=layer_media_type(layer.compression), digest=layer.digest, size_bytes=layer.size_bytes)
    config_descriptor = Descriptor(media_type=OCI_CONFIG, digest=Digest.of(raw), size_bytes=len(raw))
    manifest = encode_manifest(config_descriptor, [descriptor])
    target = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(manifest), size_bytes=len(manifest))
    return NewImage(
        target,
        {target.digest: manifest, config_descriptor.digest: raw},
        (NewPlatform(document, (descriptor,)),),
        {layer.digest: BlobFile(layer.blob_path, layer.size_bytes)},
        (request.reference,) if request.reference is not None else (),
    )
