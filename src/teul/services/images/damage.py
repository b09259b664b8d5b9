"""What may be found wrong with stored images, and whose it is: digests of files, and the names of the images that need them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from teul.aio import SlowWork
from teul.model.image import Image
from teul.oci.digest import Digest
from teul.oci.reference import parse_reference
from teul.services.images.catalog import Catalog, blobs_of_manifest, chains_of
from teul.store.metadata.images import Rows

Kind = Literal["blob", "archive", "index", "layer", "image", "file"]

ABSENT = "it is not there"
DIFFERENT = "its bytes have another digest"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is damaged: a blob, a layer's uncompressed archive or its index, a whole layer, an image, or a file without a record.

    `subject` is its digest, that of a layer by its chain id. `images` are the names of those that need it, ids of those without a name.
    `repaired` says what was done about it, "" if nothing.
    """

    kind: Kind
    subject: str
    path: str
    damage: str
    images: tuple[str, ...] = ()
    repaired: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How many of the blobs and layers have been looked at."""

    current: int
    total: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a check: how much was looked at, and what became of what was found."""

    blobs: int
    layers: int
    damaged: int
    repaired: int


class Sums:
    """Digests of files, each file read once however many names it has."""

    def __init__(self, slow: SlowWork) -> None:
        self._slow = slow
        self._known: dict[tuple[int, int, str], str] = {}

    async def verdict(self, path: str, digest: Digest) -> str:
        """What is wrong with the file that should have that digest, "" if nothing is."""
        return await self._slow.run(self._verdict, path, digest)

    def _verdict(self, path: str, digest: Digest) -> str:
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                key = (status.st_dev, status.st_ino, digest.algorithm)
                if key not in self._known:
                    self._known[key] = hashlib.file_digest(file, digest.algorithm).hexdigest()
        except FileNotFoundError:
            return ABSENT
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        return "" if self._known[key] == digest.hex else DIFFERENT


class Owners:
    """Which images need what, by their names. `rows` tell the names of images that are left out of the catalog."""

    def __init__(self, catalog: Catalog, rows: Rows) -> None:
        self._catalog = catalog
        self._rows = rows

    def of_blob(self, digest: Digest) -> tuple[str, ...]:
        if digest not in self._catalog.images and any(row.image_id == digest for row in self._rows.images):
            return self.of_image(digest)
        return self._named(image for image in self._catalog.images.values() if digest in _blobs(image))

    def of_layers(self, chain_ids: set[Digest]) -> tuple[str, ...]:
        return self._named(image for image in self._catalog.images.values() if chain_ids & chains_of(image))

    def of_image(self, image_id: Digest) -> tuple[str, ...]:
        """The names of an image that the catalog does not have."""
        names = (parse_reference(row.reference).familiar for row in self._rows.tags if row.image_id == image_id)
        return tuple(sorted(names)) or (str(image_id),)

    def _named(self, images: Iterator[Image]) -> tuple[str, ...]:
        found: set[str] = set()
        for image in images:
            names = [name.familiar for name in self._catalog.references(image.image_id)]
            found.update(names or [str(image.image_id)])
        return tuple(sorted(found))


def _blobs(image: Image) -> set[Digest]:
    return set(image.documents).union(*(blobs_of_manifest(manifest) for manifest in image.manifests))
