"""What goes when an image, or one of its manifests, is forgotten: what no other image needs. Pure; `store` carries it out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from teul.model.image import Image, ImageManifest
from teul.oci.digest import Digest
from teul.services.images.catalog import Catalog, blobs_of, blobs_of_manifest, chains_of, make_row, manifests_without


@dataclass(frozen=True, slots=True)
class Leaving:
    """`blobs`, and the layers in `chain`, topmost first; `remains` is what the catalog has of the image afterwards, None if nothing."""

    remains: Image | None
    blobs: list[Digest]
    chain: list[Digest]


def without_image(catalog: Catalog, image: Image, *, keep_layers: bool) -> Leaving:
    """Forget `image`; with `keep_layers`, for containers that stand on it, its layers and its config stay with what remains of it."""
    gone = replace(image, deleted=True)
    used = catalog.used_blobs(without=image.image_id) | (blobs_of(gone) if keep_layers else set())
    kept = chains_of(image) if keep_layers else catalog.used_snapshots(without=image.image_id)
    return Leaving(
        gone if keep_layers else None,
        sorted(blobs_of(image) - used),
        [chain_id for chain_id in _topmost_first(image) if chain_id not in kept],
    )


def without_manifest(catalog: Catalog, image: Image, manifest: ImageManifest) -> Leaving | None:
    """Forget one manifest of `image`; None if nothing of it could be used without that, or another image has the manifest as well."""
    others = manifests_without(image, manifest)
    elsewhere = catalog.used_blobs(without=image.image_id)
    if not any(other.ready for other in others) or manifest.descriptor.digest in elsewhere:
        return None
    needed = elsewhere.union(*(blobs_of_manifest(other) for other in others))
    blobs = sorted(digest for digest in blobs_of_manifest(manifest) - needed if digest in catalog.blobs)
    kept = catalog.used_snapshots(without=image.image_id).union(*(other.chain_ids for other in others if other.ready))
    chain = [chain_id for chain_id in reversed(manifest.chain_ids) if manifest.ready and chain_id not in kept]
    after = replace(
        catalog,
        blobs={digest: size for digest, size in catalog.blobs.items() if digest not in blobs},
        snapshots={chain_id: row for chain_id, row in catalog.snapshots.items() if chain_id not in chain},
    )
    documents = {digest: data for digest, data in image.documents.items() if digest not in blobs}
    return Leaving(after.assemble(make_row(image), documents), blobs, chain)


def _topmost_first(image: Image) -> list[Digest]:
    """All layers of the image, each after those that stand on it."""
    depths = {chain_id: depth for manifest in image.ready for depth, chain_id in enumerate(manifest.chain_ids)}
    return sorted(depths, key=lambda chain_id: depths[chain_id], reverse=True)
