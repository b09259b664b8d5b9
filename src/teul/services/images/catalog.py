"""What images there are: the database's rows, mirrored in memory, so that looking something up waits for nothing.

One engine owns a root, hence the mirror is the truth between two transactions. `ImageStore` alone changes it, after the rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from teul.errors import Integrity, NotFound
from teul.model.image import Image
from teul.oci.digest import Digest, chain_ids
from teul.oci.documents import InvalidDocument
from teul.oci.image_config import MAX_CONFIG_BYTES, ImageDocument, decode_image_config
from teul.oci.reference import Reference, parse_reference, parse_reference_or_id
from teul.store.content import ContentStore
from teul.store.metadata.images import ImageRow, Rows, SnapshotRow, TagRow

log = logging.getLogger(__name__)


class ImageUnknown(NotFound):
    """There is no such image. docker: clients look for the words of its message to decide on a pull."""

    def __init__(self, reference: Reference | Digest) -> None:
        text = reference.with_default_tag().familiar if isinstance(reference, Reference) else str(reference)
        super().__init__(f"No such image: {text}")


@dataclass(slots=True)
class Catalog:
    """The mirror of the database's rows. Used from the event loop only; hands out frozen values."""

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

    def resolve(self, text: str) -> Image:
        """The image that `text` means: a name, a whole id, or the beginning of an id that only one image has.

        Raises `ImageUnknown`, or InvalidParameter if the text is no reference.
        """
        return self.lookup(text)[0]

    def lookup(self, text: str) -> tuple[Image, Reference | None]:
        """As `resolve`; also the name that the image was found by, None if it was found by its id."""
        reference = parse_reference_or_id(text)
        if isinstance(reference, Digest):
            image = self.images.get(reference)
            if image is None or image.manifest_digest is None:
                raise ImageUnknown(reference)
            return image, None
        named = self.find_tag(reference)
        if named is not None:
            return self.images[named.image_id], reference.with_default_tag()
        image = self.find_by_prefix(text)
        if image is None:
            raise ImageUnknown(reference)
        return image, None

    def find_tag(self, reference: Reference) -> TagRow | None:
        """The row of the name `reference`, if there is one. Where the name has a digest, its tag does not count."""
        wanted = reference.without_tag() if reference.digest is not None else reference.with_default_tag()
        return self.tags.get(wanted.canonical)

    def find_by_prefix(self, text: str) -> Image | None:
        """The only image whose id begins with `text`, with or without the algorithm."""
        if not text:
            return None
        found = [image for image in self.shown() if image.image_id.hex.startswith(text) or str(image.image_id).startswith(text)]
        return found[0] if len(found) == 1 else None

    def shown(self) -> Iterator[Image]:
        """Every image that was not deleted by force while containers stand on it."""
        return (image for image in self.images.values() if image.manifest_digest is not None)

    def references(self, image_id: Digest) -> list[Reference]:
        """The image's names, sorted."""
        return [parse_reference(row.reference) for row in self.names(image_id)]

    def layer_size_bytes(self, chain_id: Digest) -> int:
        """How large the topmost layer of the chain `chain_id` is, unpacked."""
        return self.snapshots[chain_id].size_bytes

    def knows_layer(self, blob: Digest, diff_id: Digest) -> bool:
        """Whether `blob` is stored and is known, from an image that has it, to unpack to `diff_id`."""
        if blob not in self.blobs:
            return False
        return any(
            layer.digest == blob and known == diff_id
            for image in self.shown()
            for layer, known in zip(image.layers, image.document.diff_ids, strict=True)
        )

    def find_layer(self, diff_id: Digest, suits: Callable[[Digest], bool]) -> SnapshotRow | None:
        """A layer of the archive `diff_id`, in whatever chain, whose chain id `suits`."""
        return next((row for row in self.snapshots.values() if row.diff_id == diff_id and suits(row.chain_id)), None)

    def used_snapshots(self, *, without: Digest | None = None) -> set[Digest]:
        """The chain ids that images need, all but the image `without`."""
        return {chain for image in self.images.values() if image.image_id != without for chain in image.chain_ids}

    def used_blobs(self, *, without: Digest | None = None) -> set[Digest]:
        """The blobs that images need, all but the image `without`. An image that was deleted by force needs its config only."""
        used: set[Digest] = set()
        for image in self.images.values():
            if image.image_id != without:
                used.update(blobs_of(image))
        return used


def blobs_of(image: Image) -> set[Digest]:
    """The image's config, and unless it was deleted by force its manifest and layers."""
    if image.manifest_digest is None:
        return {image.image_id}
    return {image.image_id, image.manifest_digest, *(layer.digest for layer in image.layers)}


def make_image(row: ImageRow, raw: bytes, document: ImageDocument) -> Image:
    """The image that `row` and its config, as bytes and decoded, describe."""
    return Image(
        image_id=row.image_id,
        manifest_digest=row.manifest_digest,
        raw=raw,
        document=document,
        layers=row.layers,
        chain_ids=tuple(chain_ids(document.diff_ids)),
        size_bytes=row.size_bytes,
        stored_at_ns=row.stored_at_ns,
    )


def make_row(image: Image) -> ImageRow:
    """The row that keeps `image`."""
    return ImageRow(
        image.image_id,
        image.manifest_digest,
        image.layers,
        image.chain_ids[-1] if image.chain_ids else None,
        image.size_bytes,
        image.stored_at_ns,
    )


def deleted(image: Image) -> Image:
    """What stays of an image that is deleted by force while containers stand on it."""
    return replace(image, manifest_digest=None)


def build_catalog(rows: Rows, content: ContentStore) -> Catalog:
    """Read the config of every image and put the mirror together. Blocks.

    An image whose config is damaged is logged and left out: the other images must still be usable. Its files stay for a repair.
    """
    catalog = Catalog(snapshots={row.chain_id: row for row in rows.snapshots}, blobs=rows.blobs)
    for row in rows.images:
        try:
            raw = content.read(row.image_id, limit_bytes=MAX_CONFIG_BYTES)
            document = decode_image_config(raw)
        except (Integrity, NotFound, InvalidDocument) as error:
            log.error("image %s is damaged and left out: %s", row.image_id, error.message)
            continue
        catalog.images[row.image_id] = make_image(row, raw, document)
    for tag in rows.tags:
        if tag.image_id in catalog.images:
            catalog.name(tag)
    return catalog
