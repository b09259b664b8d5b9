"""Images from engine to engine, without what the other one has. Blobs are left out, documents never: what arrives says what it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from teul.errors import InvalidParameter
from teul.oci.digest import Digest, find_digest
from teul.services.images.save import blobs_to_save, select_images
from teul.services.images.store import ImageStore

MAX_BLOBS = 100_000


@dataclass(frozen=True, slots=True)
class MovableBlob:
    """A blob that an archive may leave out."""

    digest: Digest
    size_bytes: int


class ImageMoves:
    """What two engines have to know of each other before one saves and the other loads. One instance per engine."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store

    async def blobs(self, names: Sequence[str]) -> list[MovableBlob]:
        """The blobs of the images called `names` that are not documents. Raises NotFound or InvalidParameter."""
        found = await blobs_to_save(self._store, select_images(self._store.catalog, names))
        return [MovableBlob(digest, size_bytes) for digest, size_bytes in sorted(found.items())]

    def missing(self, digests: Collection[Digest]) -> list[Digest]:
        """Those of `digests` that are not stored here, in their order."""
        return [digest for digest in digests if digest not in self._store.catalog.blobs]


def parse_digests(texts: Sequence[str]) -> list[Digest]:
    """The digests that a client names, each once. Raises InvalidParameter for what is none, and for too many."""
    if len(texts) > MAX_BLOBS:
        raise InvalidParameter(f"more than {MAX_BLOBS} blobs")
    found: dict[Digest, None] = {}
    for text in texts:
        digest = find_digest(text)
        if digest is None:
            raise InvalidParameter(f"invalid digest {text!r}")
        found[digest] = None
    return list(found)
