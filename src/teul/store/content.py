"""The content store: immutable blobs in blobs/<algorithm>/<hex>, each under the digest of its bytes.

Success of `put` or `adopt` promises that the blob is there, not that this call put it there: two that store the same are both right. It
does not promise that the blob outlives a power cut: whoever stored blobs syncs the filesystem once, bytes and names together, and only
then adds their rows. A blob counts once the database has a row for it (store/metadata/images.py); files without one are left over from
something that was interrupted, and are swept when the engine starts. Readers check what they read.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from teul.errors import Integrity, NotFound
from teul.oci.digest import Digest, find_digest
from teul.store.atomic import ignoring_absence, replace_file, sync_directory
from teul.store.sweeping import logging_refusals

_CHUNK_BYTES = 1 << 20


class BlobUnknown(NotFound):
    """There is no such blob."""


class ContentStore:
    """The blobs below `root`. Every method blocks."""

    def __init__(self, root: str) -> None:
        self._root = root

    def open(self) -> None:
        """Make the directory of each algorithm. Idempotent."""
        for algorithm in ("sha256", "sha384", "sha512"):
            os.makedirs(os.path.join(self._root, algorithm), mode=0o700, exist_ok=True)

    def path(self, digest: Digest) -> str:
        """Where the blob is, or would be if it were stored."""
        return os.path.join(self._root, digest.algorithm, digest.hex)

    def has(self, digest: Digest) -> bool:
        return os.path.exists(self.path(digest))

    def put(self, data: bytes, digest: Digest | None = None) -> Digest:
        """Store `data` and return its digest, which the caller may have verified already. The caller syncs."""
        digest = digest or Digest.of(data)
        path = self.path(digest)
        if not os.path.exists(path):
            replace_file(path, data, durable=False)
        return digest

    def adopt(self, path: str, digest: Digest) -> None:
        """Make the file `path`, on the same filesystem, the blob with this digest, which the caller has verified. The caller syncs."""
        os.chmod(path, 0o600)
        os.rename(path, self.path(digest))

    def read(self, digest: Digest, *, limit_bytes: int) -> bytes:
        """The whole blob. Raises `BlobUnknown`, or `Integrity` if its bytes have another digest or are more than `limit_bytes`."""
        try:
            with open(self.path(digest), "rb") as file:
                data = file.read(limit_bytes + 1)
        except FileNotFoundError:
            raise BlobUnknown(f"content digest {digest}: not found") from None
        if len(data) > limit_bytes:
            raise Integrity(f"content digest {digest}: larger than {limit_bytes} bytes")
        if Digest.of(data, digest.algorithm) != digest:
            raise Integrity(f"content digest {digest}: the stored bytes have another digest")
        return data

    def restore(self, digest: Digest, data: bytes) -> None:
        """Put `data`, which the caller has verified, in the place of a blob that is damaged or lost. It is on the disk then."""
        replace_file(self.path(digest), data, durable=True)

    def link(self, source: str, digest: Digest) -> None:
        """As `restore`, with the file `source`, which the blob is one file with from then on."""
        path = self.path(digest)
        temporary = f"{path}.{os.urandom(8).hex()}.new"
        os.link(source, temporary)
        os.rename(temporary, path)
        with ignoring_absence():
            os.unlink(temporary)  # rename(2) leaves both names of one file
        sync_directory(os.path.dirname(path))

    def files(self) -> list[str]:
        """Every file among the blobs, with a record or without."""
        return [entry.path for algorithm in os.listdir(self._root) for entry in os.scandir(os.path.join(self._root, algorithm))]

    def remove(self, digest: Digest) -> None:
        """Remove the blob; that there is none is fine."""
        with ignoring_absence():
            os.unlink(self.path(digest))

    def sweep(self, known: Collection[Digest]) -> int:
        """Remove every file that is none of the `known` blobs; returns how many. To be called before anybody stores a blob."""
        removed = 0
        for algorithm in os.listdir(self._root):
            directory = os.path.join(self._root, algorithm)
            for name in os.listdir(directory):
                if find_digest(f"{algorithm}:{name}") not in known:
                    with logging_refusals(f"blob {name}, of which there is no record"):
                        os.unlink(os.path.join(directory, name))
                        removed += 1
        return removed
