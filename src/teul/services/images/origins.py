"""Where blobs are in registries: what a push can take from another repository there does not have to travel."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from teul.oci.digest import Digest
from teul.oci.reference import Reference, parse_reference
from teul.services.images.catalog import Catalog, blobs_of

_MAX_BLOBS = 8192
_MAX_REPOSITORIES = 8


class BlobOrigins:
    """In which repositories this engine has seen blobs. Kept in memory only; the oldest are forgotten."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, Digest], dict[str, None]] = OrderedDict()

    def note(self, repository: Reference, digests: Iterable[Digest]) -> None:
        """Call after blobs were pulled from `repository` or pushed to it."""
        for digest in digests:
            key = (repository.domain, digest)
            paths = self._seen.setdefault(key, {})
            paths.pop(repository.path, None)
            paths[repository.path] = None
            if len(paths) > _MAX_REPOSITORIES:
                del paths[next(iter(paths))]
            self._seen.move_to_end(key)
        while len(self._seen) > _MAX_BLOBS:
            self._seen.popitem(last=False)

    def forget(self, repository: Reference, digest: Digest) -> None:
        """The blob is not, or no longer, there."""
        self._seen.get((repository.domain, digest), {}).pop(repository.path, None)

    def seen(self, repository: Reference, digest: Digest) -> list[Reference]:
        """Other repositories of the same registry that have the blob, the most recent first."""
        paths = self._seen.get((repository.domain, digest), {})
        return [Reference(repository.domain, path) for path in reversed(paths) if path != repository.path]


def named_origins(catalog: Catalog, repository: Reference) -> dict[Digest, list[Reference]]:
    """The other repositories of the same registry that images here are named after, by the blobs of those images.

    That they have those is a guess: the registry is asked, and says no.
    """
    paths: dict[Digest, dict[str, None]] = {}
    for text, row in catalog.tags.items():
        if text.startswith(f"{repository.domain}/") and (path := parse_reference(text).path) != repository.path:
            paths.setdefault(row.image_id, {})[path] = None
    found: dict[Digest, dict[str, None]] = {}
    for image_id, known in paths.items():
        for digest in blobs_of(catalog.images[image_id]):
            found.setdefault(digest, {}).update(known)
    return {digest: [Reference(repository.domain, path) for path in known] for digest, known in found.items()}
