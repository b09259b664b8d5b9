"""What `docker images` and `docker history` show: pure functions over the catalog.

Source: moby daemon/images/image_list.go, image_history.go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from teul.errors import Integrity
from teul.model.filter import Filters
from teul.model.image import Image, ImageManifest
from teul.model.moment import parse_until_ns
from teul.oci.digest import Digest
from teul.oci.reference import Reference
from teul.oci.timestamp import parse_time_ns
from teul.services.images.catalog import Catalog
from teul.services.images.lookup import resolve
from teul.services.usage import Usage

ACCEPTED = frozenset({"dangling", "label", "before", "since", "reference", "until"})


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """Which images to list; with `shared_size` also how much of each is shared."""

    filters: Filters = field(default_factory=Filters)
    shared_size: bool = False


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """An image in the list, the tags and digests that the query let through, and how many containers use it.

    `shared_size_bytes` is the size of the layers that other images have too, -1 if the query did not ask for it.
    """

    image: Image
    tags: list[Reference]
    digests: list[Reference]
    containers: int
    shared_size_bytes: int


@dataclass(frozen=True, slots=True)
class ManifestSummary:
    """A manifest of an image, and the ids of the containers that were made of it."""

    manifest: ImageManifest
    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """A step of an image's history; `image_id` and `tags` are known of the newest step only."""

    image_id: Digest | None
    created_ns: int | None
    created_by: str
    comment: str
    size_bytes: int
    tags: list[Reference]


def list_images(catalog: Catalog, query: ImageQuery, usage: Usage[Digest], *, now_ns: int) -> list[ImageSummary]:
    """The images that `query` asks for, newest first.

    Raises InvalidParameter for a filter that does not exist, NotFound for an image in `before` or `since` that does not.
    """
    filters = query.filters
    filters.validate(ACCEPTED)
    dangling = filters.boolean("dangling", default=False)
    bounds = _bounds(catalog, filters, now_ns)
    shared = _shared_sizes(catalog) if query.shared_size else None
    summaries = []
    for image in catalog.shown():
        if not _is_between(image, bounds) or not filters.pairs("label", image.labels):
            continue
        names = catalog.references(image.image_id)
        if "reference" in filters:
            names = [name for name in names if any(name.matches(pattern) for pattern in filters.get("reference"))]
        tags, digests = split_names(names, image.image_id)
        if (dangling and tags) or (not names and ("reference" in filters or ("dangling" in filters and not dangling))):
            continue
        size_bytes = sum(shared[chain_id] for chain_id in image.chain_ids) if shared is not None else -1
        summaries.append(ImageSummary(image, tags, digests, usage.count(image.image_id), size_bytes))
    return sorted(summaries, key=lambda summary: summary.image.created_ns or 0, reverse=True)


def summarize_manifests(image: Image, usage: Usage[Digest]) -> list[ManifestSummary]:
    """All manifests that the image leads to, those for this host first, and the attestations after the images."""
    users: dict[str, list[str]] = {}
    for container in usage.users(image.image_id):
        for digest in dict.fromkeys(container.manifests_of(str(image.image_id))):
            users.setdefault(digest, []).append(container.id)
    return [
        ManifestSummary(manifest, tuple(users.get(str(manifest.descriptor.digest), ())))
        for manifest in sorted(image.manifests, key=lambda manifest: (manifest is not image.chosen, manifest.kind != "image"))
    ]


def image_history(catalog: Catalog, image: Image) -> list[HistoryItem]:
    """The steps that made `image`, newest first. Raises Integrity if they speak of more layers than the image has."""
    items: list[HistoryItem] = []
    layers = iter(image.chain_ids)
    for step in image.document.history or ():
        size_bytes = 0
        if not step.empty_layer:
            chain_id = next(layers, None)
            if chain_id is None:
                raise Integrity("too many non-empty layers in History section")
            size_bytes = catalog.layer_size_bytes(chain_id)
        created_ns = parse_time_ns(step.created) if step.created else None
        items.insert(0, HistoryItem(None, created_ns, step.created_by, step.comment, size_bytes, []))
    if items:
        newest = items[0]
        tags = [name for name in catalog.references(image.image_id) if name.tag is not None]
        items[0] = HistoryItem(image.image_id, newest.created_ns, newest.created_by, newest.comment, newest.size_bytes, tags)
    return items


def _bounds(catalog: Catalog, filters: Filters, now_ns: int) -> tuple[int | None, int | None]:
    """The images to list were created after the first moment and before the second. Of several values of a filter the strictest holds."""
    since = [resolve(catalog, value).created_ns for value in filters.get("since")]
    before = [resolve(catalog, value).created_ns for value in filters.get("before")]
    before += [parse_until_ns(value, now_ns) for value in filters.get("until")]
    return (
        max((time_ns for time_ns in since if time_ns is not None), default=None),
        min((time_ns for time_ns in before if time_ns is not None), default=None),
    )


def _is_between(image: Image, bounds: tuple[int | None, int | None]) -> bool:
    since_ns, before_ns = bounds
    created_ns = image.created_ns
    if created_ns is None:
        return since_ns is None and before_ns is None
    return (since_ns is None or created_ns > since_ns) and (before_ns is None or created_ns < before_ns)


def _shared_sizes(catalog: Catalog) -> dict[Digest, int]:
    """The size of every layer by its chain id, zero for a layer that only one image has."""
    users = Counter(chain_id for image in catalog.shown() for chain_id in image.chain_ids)
    return {chain_id: catalog.layer_size_bytes(chain_id) if count > 1 else 0 for chain_id, count in users.items()}


def split_names(names: Sequence[Reference], image_id: Digest) -> tuple[list[Reference], list[Reference]]:
    """The tags among `names`, and the digests, which every repository of the names has: an image's digest is that of its document."""
    tags = [name for name in names if name.digest is None]
    own = [name.without_tag().with_digest(image_id) for name in tags]
    given = [name for name in names if name.digest is not None]
    return tags, sorted(dict.fromkeys((*own, *given)), key=lambda name: name.canonical)
