"""Images whose layers are kept in one form only, on their way out: as what there is of them here.

With `--compressed-layers drop` the blob of an indexed layer is not kept, and the manifest speaks of what is not here. What goes out then is
the same files uncompressed, with a manifest that says so: another image, of the same config.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace

from teul.model.image import Image, ImageManifest
from teul.oci.descriptor import OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from teul.oci.digest import Digest
from teul.oci.documents import encode_index, encode_manifest
from teul.snapshots.layers import Layers
from teul.store.layer_files import ARCHIVE_FILE


@dataclass(frozen=True, slots=True)
class KeptImage:
    """The image as it can go out. Its `documents` may be made; `archives` are the files of layers that are no blobs, by their digests."""

    image: Image
    archives: Mapping[Digest, str] = field(default_factory=dict)


def as_kept(image: Image, layers: Layers, stored: Container[Digest]) -> KeptImage:
    """The image itself, unless layers that containers can stand on have no blob. Blocks.

    Else it has the manifests that are ready, and no attestations: they speak of manifests that do not go out. `stored` are the blobs.
    """
    if all(manifest.available or manifest.config is None for manifest in image.ready):
        return KeptImage(image)
    archives: dict[Digest, str] = {}
    documents: dict[Digest, bytes] = {}
    manifests = {
        manifest.descriptor.digest: _with_archives(manifest, layers, stored, documents, archives)
        for manifest in image.ready
        if manifest.config is not None
    }
    chosen = manifests[image.chosen.descriptor.digest]
    target = chosen.descriptor
    if len(manifests) > 1:
        index = encode_index([manifest.descriptor for manifest in manifests.values()])
        target = Descriptor(media_type=OCI_INDEX, digest=Digest.of(index), size_bytes=len(index))
        documents[target.digest] = index
    for manifest in manifests.values():
        for digest in (manifest.descriptor.digest, manifest.config.digest if manifest.config is not None else manifest.descriptor.digest):
            documents.setdefault(digest, image.documents.get(digest, b""))
    return KeptImage(replace(image, target=target, manifests=tuple(manifests.values()), chosen=chosen, documents=documents), archives)


def _with_archives(
    manifest: ImageManifest, layers: Layers, stored: Container[Digest], documents: dict[Digest, bytes], archives: dict[Digest, str]
) -> ImageManifest:
    """The manifest with its layers as they are kept, which is noted in `documents` and `archives`."""
    if manifest.available or manifest.config is None:
        return manifest
    own = tuple(_layer(manifest, number, layers, stored, archives) for number in range(len(manifest.layers)))
    data = encode_manifest(manifest.config, list(own))
    digest = Digest.of(data)
    documents[digest] = data
    descriptor = Descriptor(media_type=OCI_MANIFEST, digest=digest, size_bytes=len(data), platform=manifest.platform)
    return replace(manifest, descriptor=descriptor, layers=own, available=True)


def _layer(manifest: ImageManifest, number: int, layers: Layers, stored: Container[Digest], archives: dict[Digest, str]) -> Descriptor:
    layer, chain_id = manifest.layers[number], manifest.chain_ids[number]
    if layer.digest in stored or not layers.is_indexed(chain_id) or manifest.document is None:
        return layer
    diff_id = manifest.document.diff_ids[number]
    archives[diff_id] = os.path.join(layers.place_of(chain_id), ARCHIVE_FILE)
    return Descriptor(media_type=OCI_LAYER, digest=diff_id, size_bytes=os.stat(archives[diff_id]).st_size)
