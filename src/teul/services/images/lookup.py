"""What a text that a client wrote means: a name, an id, or the beginning of an id. Pure look-ups in the catalog.

An image's id is the digest of the index or manifest that it is. Before, it was that of its config, and that is what older clients and
scripts remember: so a config's digest, and that of a manifest inside an index, lead to the image as well, which is then that manifest.
"""

from __future__ import annotations

from teul.model.image import Image, ImageManifest
from teul.oci.digest import Digest
from teul.oci.reference import Reference, parse_reference_or_id
from teul.services.images.catalog import Catalog, ImageUnknown


def resolve(catalog: Catalog, text: str) -> Image:
    """The image that `text` means: a name, a whole id, or the beginning of an id that only one image has.

    Raises `ImageUnknown`, or InvalidParameter if the text is no reference.
    """
    return lookup(catalog, text)[0]


def lookup(catalog: Catalog, text: str) -> tuple[Image, Reference | None]:
    """As `resolve`; also the name that the image was found by, None if it was found by its id or digest."""
    reference = parse_reference_or_id(text)
    if isinstance(reference, Digest):
        image = _find_by_digest(catalog, reference)
        if image is None:
            raise ImageUnknown(reference)
        return image, None
    wanted = reference.without_tag() if reference.digest is not None else reference.with_default_tag()
    named = catalog.tags.get(wanted.canonical)  # where the name has a digest, its tag does not count
    if named is not None:
        return catalog.images[named.image_id], reference.with_default_tag()
    image = _find_in_repository(catalog, reference) if reference.digest is not None else _find_by_prefix(catalog, text)
    if image is None:
        raise ImageUnknown(reference)
    return image, None


def _find_in_repository(catalog: Catalog, reference: Reference) -> Image | None:
    """The image with the digest of `reference`, if it has a name in that repository."""
    image = catalog.images.get(reference.digest) if reference.digest is not None else None
    if image is None or image.deleted:
        return None
    return image if any(name.name == reference.name for name in catalog.references(image.image_id)) else None


def _find_by_digest(catalog: Catalog, digest: Digest) -> Image | None:
    image = catalog.images.get(digest)
    if image is not None and not image.deleted:
        return image
    return next((image.for_manifest(found.descriptor.digest) for image, found in catalog.ready() if digest in _ids(found)), None)


def _find_by_prefix(catalog: Catalog, text: str) -> Image | None:
    """The only image whose id, or else that of a config or manifest of it, begins with `text`, with or without the algorithm."""

    def begins(digest: Digest) -> bool:
        return digest.hex.startswith(text) or str(digest).startswith(text)

    found = [image for image in catalog.shown() if begins(image.image_id)]
    if not found:
        within = {
            image.image_id: image.for_manifest(manifest.descriptor.digest)
            for image, manifest in catalog.ready()
            if any(begins(digest) for digest in _ids(manifest))
        }
        found = list(within.values())
    return found[0] if len(found) == 1 else None


def _ids(manifest: ImageManifest) -> tuple[Digest, ...]:
    return (manifest.descriptor.digest, *((manifest.config.digest,) if manifest.config is not None else ()))
