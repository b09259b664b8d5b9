"""What images there are: the database's rows, mirrored in memory, so that looking something up waits for nothing.

One engine owns a root, hence the mirror is the truth between two transactions. `ImageStore` alone changes it, after the rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from teul.errors import Integrity, NotFound
from teul.model.image import Image, ImageManifest
from teul.oci.descriptor import OCI_CONFIG
from teul.oci.digest import Digest
from teul.oci.documents import MAX_DOCUMENT_BYTES, InvalidDocument, decode_manifest
from teul.oci.image_config import MAX_CONFIG_BYTES
from teul.oci.platform import Platform
from teul.oci.reference import Reference, parse_reference
from teul.services.images.assemble import assemble, describe, manifests_below
from teul.store.content import ContentStore
from teul.store.metadata.images import ImageRow, Rows, SnapshotRow, TagRow

log = logging.getLogger(__name__)


class ImageUnknown(NotFound):
    """There is no such image. docker: clients look for the words of its message to decide on a pull."""

    def __init__(self, reference: Reference | Digest) -> None:
        text = reference.with_default_tag().familiar if isinstance(reference, Reference) else str(reference)
        super().__init__(f"No such image: {text}")


class PlatformMismatch(ImageUnknown):
    """The image is there, but not for that platform."""

    def __init__(self, reference: str, image: Image, platform: Platform) -> None:
        super().__init__(image.image_id)
        self.message = (
            f"image with reference {reference} was found but its platform ({image.document.platform}) "
            f"does not match the specified platform ({platform})"
        )


@dataclass(slots=True)
class Catalog:
    """The mirror of the database's rows. Used from the event loop only; hands out frozen values."""

    host: Platform = field(default_factory=Platform)
    images: dict[Digest, Image] = field(default_factory=dict)
    snapshots: dict[Digest, SnapshotRow] = field(default_factory=dict)
    blobs: dict[Digest, int] = field(default_factory=dict)
    _tags: dict[str, TagRow] = field(default_factory=dict)
    # The names of an image, which are the keys of its rows in `_tags`: lists ask for those of every image.
    _names: dict[Digest, set[str]] = field(default_factory=dict)

    @property
    def tags(self) -> Mapping[str, TagRow]:
        """All names, by their canonical text."""
        return self._tags

    def name(self, row: TagRow) -> None:
        """Give an image a name, which is no other image's from now on."""
        self.unname(row.reference)
        self._tags[row.reference] = row
        self._names.setdefault(row.image_id, set()).add(row.reference)

    def unname(self, reference: str) -> None:
        """Forget a name, given as its canonical text. Idempotent."""
        row = self._tags.pop(reference, None)
        if row is not None:
            names = self._names[row.image_id]
            names.remove(reference)
            if not names:
                del self._names[row.image_id]

    def names(self, image_id: Digest) -> list[TagRow]:
        """The rows of the image's names, sorted by name."""
        return [self._tags[reference] for reference in sorted(self._names.get(image_id, ()))]

    def shown(self) -> Iterator[Image]:
        """Every image that was not deleted by force while containers stand on it."""
        return (image for image in self.images.values() if not image.deleted)

    def ready(self) -> Iterator[tuple[Image, ImageManifest]]:
        """Every manifest that new containers can stand on, with its image, the newest image first."""
        for image in reversed(self.images.values()):
            if not image.deleted:
                for manifest in image.ready:
                    yield image, manifest

    def references(self, image_id: Digest) -> list[Reference]:
        """The image's names, sorted."""
        return [parse_reference(row.reference) for row in self.names(image_id)]

    def layer_size_bytes(self, chain_id: Digest) -> int:
        """How large the topmost layer of the chain `chain_id` is, unpacked."""
        return self.snapshots[chain_id].size_bytes

    def layer_size(self, chain_id: Digest) -> int | None:
        """As `layer_size_bytes`; None if the layer is not here."""
        row = self.snapshots.get(chain_id)
        return row.size_bytes if row is not None else None

    def knows_layer(self, blob: Digest, diff_id: Digest) -> bool:
        """Whether `blob` is stored and is known, from an image that has it, to unpack to `diff_id`."""
        if blob not in self.blobs:
            return False
        return any(
            layer.digest == blob and known == diff_id
            for _, manifest in self.ready()
            if manifest.document is not None
            for layer, known in zip(manifest.layers, manifest.document.diff_ids, strict=True)
        )

    def find_layer(self, diff_id: Digest, suits: Callable[[Digest], bool]) -> SnapshotRow | None:
        """A layer of the archive `diff_id`, in whatever chain, whose chain id `suits`."""
        return next((row for row in self.snapshots.values() if row.diff_id == diff_id and suits(row.chain_id)), None)

    def used_snapshots(self, *, without: Digest | None = None) -> set[Digest]:
        """The chain ids that images need, all but the image `without`."""
        return {chain for image in self.images.values() if image.image_id != without for chain in chains_of(image)}

    def used_blobs(self, *, without: Digest | None = None) -> set[Digest]:
        """The blobs that images need, all but the image `without`."""
        used: set[Digest] = set()
        for image in self.images.values():
            if image.image_id != without:
                used.update(blobs_of(image))
        return used

    def assemble(self, row: ImageRow, documents: Mapping[Digest, bytes]) -> Image:
        """The image of that row and those documents, with what is stored now. Raises `Integrity` or `InvalidDocument`."""
        return assemble(
            describe(row.image_id, documents[row.image_id], row.media_type),
            documents,
            blobs=self.blobs,
            layer_size=self.layer_size,
            host=self.host,
            stored_at_ns=row.stored_at_ns,
            deleted=row.deleted,
        )


def chains_of(image: Image) -> set[Digest]:
    """The layers of all the image's manifests that containers can stand on."""
    return {chain_id for manifest in image.ready for chain_id in manifest.chain_ids}


def blobs_of(image: Image) -> set[Digest]:
    """The image's documents, and unless it was deleted by force whatever else its manifests have, if it is stored.

    Of a manifest whose layers are here the blobs may not be, or not all of them.
    """
    if image.deleted:
        return set(image.documents)
    used = (manifest for manifest in image.manifests if manifest.available or manifest.ready)
    return {*image.documents, *(digest for manifest in used for digest in blobs_of_manifest(manifest))}


def blobs_of_manifest(manifest: ImageManifest) -> set[Digest]:
    """The manifest itself, its config and its layers."""
    config = () if manifest.config is None else (manifest.config.digest,)
    return {manifest.descriptor.digest, *config, *(layer.digest for layer in manifest.layers)}


def manifests_without(image: Image, manifest: ImageManifest) -> list[ImageManifest]:
    """The image's other manifests. An index may name one manifest several times."""
    return [other for other in image.manifests if other.descriptor.digest != manifest.descriptor.digest]


def make_row(image: Image) -> ImageRow:
    """The row that keeps `image`."""
    return ImageRow(image.image_id, image.target.media_type, image.deleted, image.stored_at_ns)


def build_catalog(rows: Rows, content: ContentStore, host: Platform) -> Catalog:
    """Read the documents of every image and put the mirror together. Blocks.

    An image whose documents are damaged is logged and left out: the other images must still be usable. Its files stay for a repair.
    """
    catalog = Catalog(host, snapshots={row.chain_id: row for row in rows.snapshots}, blobs=rows.blobs)
    for row in rows.images:
        try:
            catalog.images[row.image_id] = catalog.assemble(row, _read_documents(row, content, rows.blobs))
        except (Integrity, NotFound, InvalidDocument) as error:
            log.error("image %s is damaged and left out: %s", row.image_id, error.message)
    for tag in rows.tags:
        if tag.image_id in catalog.images:
            catalog.name(tag)
    return catalog


def _read_documents(row: ImageRow, content: ContentStore, blobs: Mapping[Digest, int]) -> dict[Digest, bytes]:
    documents = {row.image_id: content.read(row.image_id, limit_bytes=MAX_DOCUMENT_BYTES)}
    target = describe(row.image_id, documents[row.image_id], row.media_type)
    if target.media_type == OCI_CONFIG:
        return documents
    known = -1
    while known != len(documents):  # until no index leads to one more
        known = len(documents)
        for descriptor in list(manifests_below(target, documents)):
            if descriptor.digest in blobs and descriptor.digest not in documents:
                documents[descriptor.digest] = content.read(descriptor.digest, limit_bytes=MAX_DOCUMENT_BYTES)
    for descriptor in list(manifests_below(target, documents)):
        data = documents.get(descriptor.digest)
        config = decode_manifest(data).config if data is not None else None
        if config is not None and config.digest in blobs and config.size_bytes <= MAX_CONFIG_BYTES:
            documents.setdefault(config.digest, content.read(config.digest, limit_bytes=MAX_CONFIG_BYTES))
    return documents
