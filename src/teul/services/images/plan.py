"""What an image archive contains, decided from its documents: pure look-ups among members that a worker took out and measured.

Two kinds of archives are known: docker save's, with a `manifest.json`, in its old layout (a directory per layer, duplicates as symlinks)
and its new one (blobs beside an OCI index); and the OCI image layout, with an `index.json`. Where both documents are there, docker's
says what is to be loaded and how it is called, and the index what each of it is: the index or manifest that it had in a registry, say.

Errors are InvalidArchive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from teul.oci.descriptor import CONTAINERD_IMAGE_NAME, OCI_CONFIG, OCI_MANIFEST, REF_NAME, REFERENCE_DIGEST, Descriptor, layer_media_type
from teul.oci.digest import Digest
from teul.oci.documents import (
    MAX_DOCUMENT_BYTES,
    SavedImage,
    decode_index,
    decode_manifest,
    decode_saved_images,
    encode_manifest,
)
from teul.oci.image_config import MAX_CONFIG_BYTES, ImageDocument, decode_image_config
from teul.oci.platform import Platform, choose, suits
from teul.oci.reference import Reference, parse_reference
from teul.services.images.archive_contents import INDEX_FILE, MANIFEST_FILE, ArchiveContents, claims_digest
from teul.services.images.assemble import MAX_INDEX_DEPTH, MAX_LAYERS, check_history, check_layers, describe, kind_of, leads_to_index
from teul.workers.client import InvalidArchive
from teul.workers.layers import Member

_LAYER_COMPRESSIONS = frozenset({"", "gzip", "zstd"})


@dataclass(frozen=True, slots=True)
class PlannedPlatform:
    """What containers will stand on. `files`, `layers` and the document's diff_ids run parallel, bottom first."""

    document: ImageDocument
    layers: tuple[Descriptor, ...]
    files: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image as the archive has it: `target` and what of all that it leads to is there and is wanted.

    `documents` are its indexes, manifests and configs; `others` the files that are neither documents nor layers for containers.
    """

    target: Descriptor
    documents: dict[Digest, bytes] = field(default_factory=dict)
    platforms: tuple[PlannedPlatform, ...] = ()
    others: tuple[Member, ...] = ()
    tags: tuple[Reference, ...] = ()

    @property
    def files(self) -> list[Member]:
        """All that is not a document."""
        return [*(file for platform in self.platforms for file in platform.files), *self.others]

    def has_layers(self, layers: Sequence[Descriptor]) -> bool:
        """Whether the image has a platform with just these layers."""
        wanted = [(layer.digest, layer.size_bytes) for layer in layers]
        return any([(layer.digest, layer.size_bytes) for layer in platform.layers] == wanted for platform in self.platforms)


def plan_load(contents: ArchiveContents, host: Platform, wanted: Platform | None) -> list[PlannedImage]:
    """The images to load from `contents`, with all platforms that are there, or with the `wanted` one alone.

    Raises `InvalidArchive` or `InvalidDocument`.
    """
    if (saved := contents.find(MANIFEST_FILE)) is not None:
        images = decode_saved_images(contents.read(saved, MAX_DOCUMENT_BYTES))
        originals = _originals(contents, wanted)
        return _joined([planned for image in images for planned in _plan_saved(contents, image, originals, wanted)])
    if (index := contents.find(INDEX_FILE)) is not None:
        return _plan_layout(contents, contents.read(index, MAX_DOCUMENT_BYTES), host, wanted)
    raise InvalidArchive(f"unrecognized image format: the archive has neither {MANIFEST_FILE} nor {INDEX_FILE}")


def _plan_saved(
    contents: ArchiveContents, image: SavedImage, originals: dict[Digest, PlannedImage], wanted: Platform | None
) -> Iterable[PlannedImage]:
    raw = contents.read(contents.get(image.config), MAX_CONFIG_BYTES)
    document = decode_image_config(raw)
    _check_system(document)
    if wanted is not None and not suits(document.platform, wanted):
        return
    if len(image.layers) != len(document.diff_ids):
        raise InvalidArchive(f"invalid manifest, layers length mismatch: expected {len(image.layers)}, got {len(document.diff_ids)}")
    if len(image.layers) > MAX_LAYERS:
        raise InvalidArchive("max depth exceeded")
    check_history(document)
    files = tuple(contents.get(name) for name in image.layers)
    layers = tuple(_describe(file) for file in files)
    tags = tuple(_parse_tag(tag) for tag in image.repo_tags)
    original = originals.get(Digest.of(raw))
    if original is not None and original.has_layers(layers):
        yield replace(original, tags=tags)
        return
    for file in files:
        if file.compression not in _LAYER_COMPRESSIONS:
            raise InvalidArchive(f"unsupported layer compression: {file.compression}")
    config = Descriptor(media_type=OCI_CONFIG, digest=Digest.of(raw), size_bytes=len(raw))
    manifest = encode_manifest(config, list(layers))
    target = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(manifest), size_bytes=len(manifest))
    yield PlannedImage(target, {target.digest: manifest, config.digest: raw}, (PlannedPlatform(document, layers, files),), (), tags)


def _originals(contents: ArchiveContents, wanted: Platform | None) -> dict[Digest, PlannedImage]:
    """What the index beside a `manifest.json` lists, by the digests of its configs. What is not all there is left out."""
    index = contents.find(INDEX_FILE)
    if index is None:
        return {}
    found: dict[Digest, PlannedImage] = {}
    for descriptor in decode_index(contents.read(index, MAX_DOCUMENT_BYTES)).manifests:
        if descriptor.is_attestation or not contents.has(descriptor):
            continue
        image = _gather(contents, descriptor, wanted)
        for digest in image.documents if image.platforms else ():
            found.setdefault(digest, image)
    return found


def _plan_layout(contents: ArchiveContents, data: bytes, host: Platform, wanted: Platform | None) -> list[PlannedImage]:
    planned: list[PlannedImage] = []
    for name, group in _by_name(decode_index(data).manifests):
        for descriptor in _choose(group, host, wanted):
            image = _gather(contents, descriptor, wanted)
            if image.platforms:
                planned.append(replace(image, tags=(name,) if name is not None else ()))
    if not planned:
        raise InvalidArchive(f"no image for platform {wanted or host} in the archive")
    return _joined(planned)


def _joined(planned: Sequence[PlannedImage]) -> list[PlannedImage]:
    """One image for each target, with the names of all."""
    found: dict[Digest, PlannedImage] = {}
    for image in planned:
        known = found.get(image.target.digest)
        found[image.target.digest] = image if known is None else replace(known, tags=tuple(dict.fromkeys((*known.tags, *image.tags))))
    return list(found.values())


def _by_name(descriptors: Sequence[Descriptor]) -> Iterable[tuple[Reference | None, list[Descriptor]]]:
    """What an `index.json` lists, grouped by the names it gives; attestations left out."""
    groups: dict[Reference | None, list[Descriptor]] = {}
    for descriptor in descriptors:
        if not descriptor.is_attestation:
            groups.setdefault(_name(descriptor), []).append(descriptor)
    return groups.items()


def _name(descriptor: Descriptor) -> Reference | None:
    """The name of an image in an OCI layout: containerd's annotation, else the standard one where it is more than a lone tag."""
    annotations = descriptor.annotations or {}
    text = annotations.get(CONTAINERD_IMAGE_NAME)
    if not text:
        text = annotations.get(REF_NAME, "")
        # spec: OCI image-spec annotations.md leaves the value open; `latest` alone names no repository.
        if "/" not in text and ":" not in text:
            return None
    return parse_reference(text).with_default_tag()


def _choose(descriptors: Sequence[Descriptor], host: Platform, wanted: Platform | None) -> list[Descriptor]:
    """Which manifests of one name to load. Several that all name a platform are one image: the one that suits. Others are images each."""
    if len(descriptors) == 1 or any(descriptor.platform is None for descriptor in descriptors):
        return list(descriptors)
    chosen = choose([descriptor.platform for descriptor in descriptors], wanted or host)
    return [descriptors[chosen]] if chosen is not None else []


def _gather(contents: ArchiveContents, target: Descriptor, wanted: Platform | None) -> PlannedImage:
    """What `target`, which must be there, leads to; of an index without what is missing or is for another platform than `wanted`."""
    data = contents.read(contents.blob(target), MAX_DOCUMENT_BYTES)
    whole = describe(target.digest, data, target.media_type)
    if not leads_to_index(target, data):
        found = _take_manifest(contents, target, wanted, is_target=True)
        return replace(found, target=whole) if found is not None else PlannedImage(whole)
    parts = [part for part in _parts(contents, data, wanted, 0) if part is not None]
    platforms = tuple(platform for part in parts for platform in part.platforms)
    if not platforms:
        return PlannedImage(whole)
    documents = {target.digest: data}
    for part in parts:
        documents |= part.documents
    return PlannedImage(whole, documents, platforms, tuple(file for part in parts for file in part.others))


def _parts(contents: ArchiveContents, data: bytes, wanted: Platform | None, depth: int) -> Iterable[PlannedImage | None]:
    if depth > MAX_INDEX_DEPTH:
        raise InvalidArchive("invalid archive: indexes are nested too deeply")
    statements: list[Descriptor] = []
    taken: set[str] = set()
    for child in decode_index(data).manifests:
        # docker save writes one platform and keeps the index of all platforms: the blobs of the others are missing.
        if not contents.has(child):
            continue
        if child.is_attestation:
            statements.append(child)
            continue
        below = contents.read(contents.blob(child), MAX_DOCUMENT_BYTES)
        if leads_to_index(child, below):
            yield PlannedImage(child, {child.digest: below})
            yield from _parts(contents, below, wanted, depth + 1)
            continue
        part = _take_manifest(contents, child, wanted, is_target=False)
        if part is not None:
            taken.add(str(child.digest))
            yield part
    for child in statements:
        if (child.annotations or {}).get(REFERENCE_DIGEST) in taken:
            yield _take_manifest(contents, child, None, is_target=False)


def _take_manifest(contents: ArchiveContents, descriptor: Descriptor, wanted: Platform | None, *, is_target: bool) -> PlannedImage | None:
    """A manifest with all its blobs; None if it is for another platform than the `wanted` one, or not a target and not all there."""
    data = contents.read(contents.blob(descriptor), MAX_DOCUMENT_BYTES)
    manifest = decode_manifest(data)
    content = (manifest.config, *manifest.layers)
    if not is_target and not all(contents.has(blob) for blob in content):
        return None
    documents = {descriptor.digest: data}
    if kind_of(descriptor, manifest, is_target=is_target) == "image":
        raw = contents.read(contents.blob(manifest.config), MAX_CONFIG_BYTES)
        document = decode_image_config(raw)
        if wanted is not None and not suits(document.platform, wanted):
            return None
        if is_target:
            _check_system(document)
        if document.os in ("", "linux"):
            check_layers(manifest, document)
            files = tuple(contents.blob(layer) for layer in manifest.layers)
            documents[manifest.config.digest] = raw
            return PlannedImage(descriptor, documents, (PlannedPlatform(document, tuple(manifest.layers), files),))
    if wanted is not None and not descriptor.is_attestation:
        return None
    return PlannedImage(descriptor, documents, (), tuple(contents.blob(blob) for blob in content))


def _check_system(document: ImageDocument) -> None:
    if document.os not in ("", "linux"):
        raise InvalidArchive(f"cannot load {document.os} image on linux")


def foreign_layers(contents: ArchiveContents) -> list[str]:
    """The names of the layers in `manifest.json` that are compressed in a way that the registry formats have no name for.

    Not those that are also blobs, which a manifest may tell of. Raises `InvalidArchive` or `InvalidDocument`.
    """
    saved = contents.find(MANIFEST_FILE)
    if saved is None:
        return []
    names = {name: None for image in decode_saved_images(contents.read(saved, MAX_DOCUMENT_BYTES)) for name in image.layers}
    layers = ((name, contents.find(name)) for name in names)
    return [name for name, file in layers if file is not None and not claims_digest(name) and file.compression not in _LAYER_COMPRESSIONS]


def _describe(file: Member) -> Descriptor:
    assert file.digest is not None, "only files are looked up"
    compression = file.compression if file.compression in _LAYER_COMPRESSIONS else ""
    return Descriptor(media_type=layer_media_type(compression), digest=file.digest, size_bytes=file.size_bytes)


def _parse_tag(text: str) -> Reference:
    reference = parse_reference(text)
    if reference.tag is None:
        raise InvalidArchive(f'invalid tag "{text}"')
    return Reference(reference.domain, reference.path, reference.tag)
