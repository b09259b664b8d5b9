"""Blobs of the store in the place of what an archive leaves out: how an image arrives without the layers that are here already.

That a blob is what its digest says was verified when it was stored, and the catalog's rows are the record of it (`teul system check` holds
them against each other); it is not read once more.
"""

from __future__ import annotations

from collections.abc import Mapping

from teul.errors import Unavailable
from teul.oci.digest import Digest
from teul.services.images.layers import compression_of
from teul.store.content import ContentStore
from teul.workers.layers import Member


class BlobWithdrawn(Unavailable):
    """A blob that an archive counts on was removed, with the last image that had it, while the archive was being loaded."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"content digest {digest}: was removed while an image that needs it was being loaded; load the image again")


class StoredMembers:
    """The blobs `sizes` of the store `content`, by digest, as members of an archive."""

    def __init__(self, content: ContentStore, sizes: Mapping[Digest, int]) -> None:
        self._content = content
        self._sizes = sizes
        self._found: dict[str, Digest] = {}

    def find(self, digest: Digest) -> Member | None:
        """The blob as a member; None if it is not stored. Blocks."""
        size_bytes = self._sizes.get(digest)
        if size_bytes is None:
            return None
        path = self._content.path(digest)
        try:
            compression = compression_of(path)
        except FileNotFoundError:
            return None
        self._found[path] = digest
        return Member(f"blobs/{digest.algorithm}/{digest.hex}", "file", path, "", size_bytes, digest, compression)

    def is_stored(self, member: Member) -> bool:
        """Whether `member` came from here: then it is to be left where it is."""
        return member.path in self._found
