"""What of an image goes to a registry, and in which order. Pure.

An index goes as it is when all that it leads to is here. Of one that came in part, the one manifest goes that can: docker does the same,
and tells its user (moby daemon/containerd/image_push.go, getPushDescriptor).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from teul.errors import Conflict, NotFound
from teul.model.image import Image, ImageManifest
from teul.oci.descriptor import Descriptor
from teul.oci.digest import Digest
from teul.oci.documents import decode_index
from teul.oci.platform import Platform, choose, normalize
from teul.services.images.assemble import describe, leads_to_index
from teul.services.images.catalog import PlatformMismatch


class ContentMissing(NotFound):
    """The image cannot go out, since `digest`, which `target` leads to, is not stored."""

    def __init__(self, target: Descriptor, digest: Digest) -> None:
        super().__init__(f"content digest {digest}: not found")
        self.target = target


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """A layer, or whatever else a manifest has in its place. `stored` is False of one that stays where its URLs say.

    `shown` is what progress calls it. docker: the layer's diff id, whatever its blob is.
    """

    descriptor: Descriptor
    shown: str
    stored: bool


@dataclass(frozen=True, slots=True)
class PushPlan:
    """What goes out, each once: `layers`, topmost first, then `configs`, then `manifests`, then `indexes`, inner ones first.

    `target` is the one of those documents that the tag will name. `whole` is the index in whose place it goes, if it does.
    """

    target: Descriptor
    layers: tuple[PlannedLayer, ...]
    configs: tuple[Descriptor, ...]
    manifests: tuple[Descriptor, ...]
    indexes: tuple[Descriptor, ...]
    whole: Descriptor | None = None


def plan_push(name: str, image: Image, blobs: Collection[Digest], *, host: Platform, platform: Platform | None = None) -> PushPlan:
    """The plan for `image`, of which `blobs` are stored; of its manifest for `platform` alone if one is asked for.

    Raises `PlatformMismatch`, `ContentMissing`, or Conflict where it cannot be told which manifest is meant.
    """
    target = _select(name, image, blobs, host, platform)
    indexes: list[Descriptor] = []
    manifests: list[Descriptor] = []
    for descriptor, is_index in _documents(target, image.documents):
        known = indexes if is_index else manifests
        if all(other.digest != descriptor.digest for other in known):
            known.append(descriptor)
    wanted = {descriptor.digest for descriptor in manifests}
    layers: dict[Digest, PlannedLayer] = {}
    configs: dict[Digest, Descriptor] = {}
    for manifest in image.manifests:
        if manifest.descriptor.digest in wanted and manifest.config is not None:
            configs.setdefault(manifest.config.digest, manifest.config)
            for layer in _layers(manifest, blobs):
                layers.setdefault(layer.descriptor.digest, layer)
    for digest in layers:  # an artifact may name one blob as both
        configs.pop(digest, None)
    whole = image.target if platform is None and target.digest != image.target.digest else None
    return PushPlan(target, tuple(layers.values()), tuple(configs.values()), tuple(manifests), tuple(indexes), whole)


def _select(name: str, image: Image, blobs: Collection[Digest], host: Platform, platform: Platform | None) -> Descriptor:
    """The document that goes out."""
    missing = {manifest.descriptor.digest: lack for manifest in image.manifests if (lack := _first_missing(manifest, blobs)) is not None}
    if platform is None and not missing:
        return image.target
    candidates = [
        manifest
        for manifest in image.manifests
        if manifest.kind == "image"
        and manifest.descriptor.digest not in missing
        and (platform is None or _is_same(manifest.platform, platform))
    ]
    if not candidates:
        if platform is None:
            raise ContentMissing(image.target, next(iter(missing.values())))
        raise PlatformMismatch(name, image, platform)
    if len(candidates) == 1:
        return _described(candidates[0].descriptor, image.documents)
    if platform is not None:
        raise Conflict(f"multiple manifests found for platform {platform}")
    best = choose([manifest.platform for manifest in candidates], host)
    if best is None:
        raise Conflict("multiple matching manifests found but no specific platform requested")
    return _described(candidates[best].descriptor, image.documents)


def _first_missing(manifest: ImageManifest, blobs: Collection[Digest]) -> Digest | None:
    """What of the manifest is not here and would have to go along; None if it can go."""
    if manifest.config is None or manifest.descriptor.digest not in blobs:
        return manifest.descriptor.digest
    if manifest.config.digest not in blobs:
        return manifest.config.digest
    return next((layer.digest for layer in manifest.layers if layer.digest not in blobs and not layer.urls), None)


def _is_same(one: Platform, other: Platform) -> bool:
    one, other = normalize(one), normalize(other)
    return (one.os, one.architecture, one.variant) == (other.os, other.architecture, other.variant)


def _documents(descriptor: Descriptor, documents: Mapping[Digest, bytes]) -> Iterator[tuple[Descriptor, bool]]:
    """All documents that `descriptor` leads to, and whether each is an index; itself last."""
    data = documents[descriptor.digest]
    is_index = leads_to_index(descriptor, data)
    if is_index:
        for child in decode_index(data).manifests:
            yield from _documents(child, documents)
    yield _described(descriptor, documents), is_index


def _described(descriptor: Descriptor, documents: Mapping[Digest, bytes]) -> Descriptor:
    """The descriptor, with a media type: a registry has to be told one."""
    return descriptor if descriptor.media_type else describe(descriptor.digest, documents[descriptor.digest])


def _layers(manifest: ImageManifest, blobs: Collection[Digest]) -> Iterator[PlannedLayer]:
    diff_ids = manifest.document.diff_ids if manifest.document is not None else [layer.digest for layer in manifest.layers]
    for layer, diff_id in zip(reversed(manifest.layers), reversed(diff_ids), strict=True):
        yield PlannedLayer(layer, diff_id.short, layer.digest in blobs)
