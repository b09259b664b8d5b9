"""From an image's documents to the image: what its target leads to, and how much of that is here. Pure.

Nothing of it is in a row of its own: the documents are blobs, and what is available and ready follows from which blobs and layers are
stored. So a platform that comes later, or goes, changes its image by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from teul.errors import Integrity
from teul.model.image import Image, ImageManifest, Kind
from teul.oci.descriptor import DOCKER_CONFIG, INDEX_TYPES, MANIFEST_TYPES, OCI_CONFIG, Descriptor
from teul.oci.digest import Digest, chain_ids
from teul.oci.documents import InvalidDocument, Manifest, decode_index, decode_manifest, is_index, media_type_of
from teul.oci.image_config import ImageDocument, decode_image_config
from teul.oci.platform import Platform, choose

MAX_INDEX_DEPTH = 4
MAX_LAYERS = 127  # docker: layer/layer_store.go, maxLayerDepth (125), and a little more; each is a descriptor that a start sends along
_CONFIG_TYPES = frozenset({"", OCI_CONFIG, DOCKER_CONFIG})


def kind_of(descriptor: Descriptor, manifest: Manifest, *, is_target: bool) -> Kind:
    """What a manifest is about. A target is an image, whatever it calls its config: else nobody would have named it."""
    if descriptor.is_attestation:
        return "attestation"
    return "image" if is_target or (not manifest.artifact_type and manifest.config.media_type in _CONFIG_TYPES) else "unknown"


def check_layers(manifest: Manifest, document: ImageDocument) -> None:
    """Raises `InvalidDocument` if the two do not belong together, or no container could stand on so many layers."""
    if len(manifest.layers) != len(document.diff_ids):
        raise InvalidDocument("mismatched image rootfs and manifest layers")
    if len(manifest.layers) > MAX_LAYERS:
        raise InvalidDocument("max depth exceeded")
    check_history(document)


def check_history(document: ImageDocument) -> None:
    """Raises `InvalidDocument` for steps that speak of more layers than there are. docker: internal/image/store.go, Create."""
    if sum(not step.empty_layer for step in document.history or ()) > len(document.diff_ids):
        raise InvalidDocument("too many non-empty layers in History section")


def leads_to_index(descriptor: Descriptor, data: bytes) -> bool:
    """Whether the document `data`, which `descriptor` describes, is an index. Raises `InvalidDocument`."""
    return descriptor.media_type in INDEX_TYPES or (descriptor.media_type not in MANIFEST_TYPES and is_index(data))


def describe(digest: Digest, data: bytes, media_type: str = "") -> Descriptor:
    """The descriptor of an index or manifest; where nobody has said its media type, as the document itself does, or by its members.

    Raises `InvalidDocument`.
    """
    return Descriptor(media_type=media_type or media_type_of(data), digest=digest, size_bytes=len(data))


def manifests_below(target: Descriptor, documents: Mapping[Digest, bytes], depth: int = 0) -> Iterator[Descriptor]:
    """The descriptors of all manifests that `target` leads to, in the order of its indexes, also of those that are not in `documents`.

    Raises `InvalidDocument`.
    """
    if depth > MAX_INDEX_DEPTH:
        raise InvalidDocument("invalid image index: indexes are nested too deeply")
    data = documents.get(target.digest)
    if data is None or not leads_to_index(target, data):
        yield target
        return
    for child in decode_index(data).manifests:
        yield from manifests_below(child, documents, depth + 1)


def assemble(
    target: Descriptor,
    documents: Mapping[Digest, bytes],
    *,
    blobs: Mapping[Digest, int],
    layer_size: Callable[[Digest], int | None],
    host: Platform,
    stored_at_ns: int,
    deleted: bool = False,
) -> Image:
    """The image that `target` is. `blobs` has the sizes of those stored, `layer_size` that of a layer that is here, by its chain id.

    Raises `Integrity` or `InvalidDocument`.
    """
    manifests = tuple(
        _manifest(descriptor, documents, blobs, layer_size, is_target=descriptor is target)
        for descriptor in manifests_below(target, documents)
    )
    chosen = _choose([manifest for manifest in manifests if manifest.ready], host)
    if chosen is None:
        raise Integrity(f"image {target.digest}: nothing of it can be used")
    return Image(target, manifests, chosen, documents, stored_at_ns, deleted)


def _manifest(
    descriptor: Descriptor,
    documents: Mapping[Digest, bytes],
    blobs: Mapping[Digest, int],
    layer_size: Callable[[Digest], int | None],
    *,
    is_target: bool,
) -> ImageManifest:
    data = documents.get(descriptor.digest)
    if descriptor.media_type == OCI_CONFIG and data is not None:  # all that is left of an image that was deleted under containers
        return _with_config(ImageManifest(descriptor, "image"), data, layer_size)
    if data is None:
        return ImageManifest(descriptor, "attestation" if descriptor.is_attestation else "unknown" if _is_nowhere(descriptor) else "image")
    manifest = decode_manifest(data)
    kind = kind_of(descriptor, manifest, is_target=is_target)
    content = {descriptor.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}
    found = ImageManifest(
        descriptor,
        kind,
        available=all(digest in blobs for digest in content),
        content_bytes=sum(blobs.get(digest, 0) for digest in content),
        config=manifest.config,
        layers=tuple(manifest.layers),
    )
    raw = documents.get(manifest.config.digest) if kind == "image" else None
    return _with_config(found, raw, layer_size) if raw is not None else found


def _with_config(manifest: ImageManifest, raw: bytes, layer_size: Callable[[Digest], int | None]) -> ImageManifest:
    """The manifest with what its config says. One for another system than Linux is kept, and no container stands on it."""
    document = decode_image_config(raw)
    if document.os not in ("", "linux"):
        return manifest
    chain = tuple(chain_ids(document.diff_ids))
    sizes = [layer_size(chain_id) for chain_id in chain]
    return replace(
        manifest,
        raw=raw,
        document=document,
        chain_ids=chain,
        ready=None not in sizes,
        size_bytes=sum(size for size in sizes if size is not None),
    )


def _is_nowhere(descriptor: Descriptor) -> bool:
    return descriptor.platform is not None and descriptor.platform.os == "unknown"


def _choose(ready: Sequence[ImageManifest], host: Platform) -> ImageManifest | None:
    best = choose([manifest.platform for manifest in ready], host)
    return ready[best] if best is not None else next(iter(ready), None)
