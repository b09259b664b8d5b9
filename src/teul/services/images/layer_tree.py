"""Which layers every image consists of, what they take on the disk, and which of them several images have. Pure.

What is measured for it is named by digests: a manifest by its own, a layer by its chain id and the blob that it came as, for the same
layer may have come as several blobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from teul.model.image import Image, ImageManifest
from teul.oci.digest import Digest
from teul.services.images.catalog import blobs_of_manifest
from teul.services.images.disk_usage import DiskUsage, ImageUsage, PartName


@dataclass(frozen=True, slots=True)
class Part:
    """A manifest with all that it leads to, or one layer: blobs and chain ids, of which not all need be stored."""

    blobs: frozenset[Digest]
    chains: frozenset[Digest]


@dataclass(frozen=True, slots=True)
class TreeLayer:
    """A layer in its chain. `images` is how many images have its archive, in whatever chain.

    `size_bytes` is what containers find in it, 0 if it is not here; `content_bytes` how large the blob is, 0 if that is not.
    """

    diff_id: Digest
    chain_id: Digest
    size_bytes: int
    content_bytes: int
    usage: ImageUsage
    images: int


@dataclass(frozen=True, slots=True)
class TreeManifest:
    """A manifest that has something stored, and its layers, bottom first: none if its config is not here."""

    manifest: ImageManifest
    usage: ImageUsage
    layers: tuple[TreeLayer, ...]


@dataclass(frozen=True, slots=True)
class TreeImage:
    """An image, and its manifests in the order of its index."""

    image_id: Digest
    usage: ImageUsage
    manifests: tuple[TreeManifest, ...]


@dataclass(frozen=True, slots=True)
class LayerTree:
    """`total_bytes` is what all images take together, on the disk."""

    total_bytes: int
    images: tuple[TreeImage, ...]


def parts_of(images: Sequence[Image]) -> dict[PartName, Part]:
    """What has to be measured for `layer_tree`."""
    parts: dict[PartName, Part] = {}
    for image in images:
        for manifest in image.manifests:
            parts[(manifest.descriptor.digest,)] = Part(frozenset(blobs_of_manifest(manifest)), frozenset(manifest.chain_ids))
            for chain_id, layer in zip(manifest.chain_ids, manifest.layers, strict=bool(manifest.chain_ids)):
                parts[(chain_id, layer.digest)] = Part(frozenset({layer.digest}), frozenset({chain_id}))
    return parts


def layer_tree(
    images: Sequence[Image], usage: DiskUsage, layer_size: Callable[[Digest], int | None], blobs: Mapping[Digest, int]
) -> LayerTree:
    """The tree of `images`, of which `parts_of` was measured. `layer_size` and `blobs` as `assemble` takes them."""
    users = Counter(diff_id for image in images for diff_id in {diff_id for manifest in image.manifests for diff_id in _diff_ids(manifest)})

    def layers(manifest: ImageManifest) -> tuple[TreeLayer, ...]:
        return tuple(
            TreeLayer(
                diff_id,
                chain_id,
                layer_size(chain_id) or 0,
                blobs.get(layer.digest, 0),
                usage.parts[chain_id, layer.digest],
                users[diff_id],
            )
            for diff_id, chain_id, layer in zip(_diff_ids(manifest), manifest.chain_ids, manifest.layers, strict=True)
        )

    def manifests(image: Image) -> tuple[TreeManifest, ...]:
        return tuple(
            TreeManifest(manifest, usage.parts[manifest.descriptor.digest,], layers(manifest))
            for manifest in image.manifests
            if manifest.kind == "image"
        )

    return LayerTree(
        usage.total_bytes, tuple(TreeImage(image.image_id, usage.images[image.image_id], manifests(image)) for image in images)
    )


def _diff_ids(manifest: ImageManifest) -> Sequence[Digest]:
    return manifest.document.diff_ids if manifest.document is not None and manifest.kind == "image" else ()
