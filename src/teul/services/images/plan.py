"""What an image archive contains, decided from its documents: pure look-ups among members that a worker took out and measured.

Two kinds of archives are known: docker save's, with a `manifest.json`, in its old layout (a directory per layer, duplicates as symlinks)
and its new one (blobs beside an OCI index); and the OCI image layout, with an `index.json`. Where both documents are there,
docker's says what is to be loaded, and the index may know the manifest that an image had in a registry.

Every blob that is looked at is held against the digest in its name or descriptor. Errors are InvalidArchive.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from teul.oci.descriptor import (
    CONTAINERD_IMAGE_NAME,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_CONFIG,
    REF_NAME,
    Descriptor,
    layer_media_type,
)
from teul.oci.digest import Digest, find_digest
from teul.oci.documents import (
    MAX_DOCUMENT_BYTES,
    Manifest,
    SavedImage,
    decode_index,
    decode_manifest,
    decode_saved_images,
    encode_manifest,
    is_index,
)
from teul.oci.image_config import MAX_CONFIG_BYTES, ImageDocument, decode_image_config
from teul.oci.platform import Platform, choose, suits
from teul.oci.reference import Reference, parse_reference
from teul.workers.client import InvalidArchive
from teul.workers.layers import Member

MANIFEST_FILE = "manifest.json"
INDEX_FILE = "index.json"
_DOCUMENTS = frozenset({MANIFEST_FILE, INDEX_FILE, "oci-layout", "repositories"})
_MAX_LINKS = 16
_MAX_INDEX_DEPTH = 4
_HEX = re.compile(r"[0-9a-f]{64}")
_LAYER_COMPRESSIONS = frozenset({"", "gzip", "zstd"})


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image as the archive has it. `files`, `layers` and the document's diff_ids run parallel, bottom first."""

    raw: bytes
    document: ImageDocument
    manifest: bytes
    layers: tuple[Descriptor, ...]
    files: tuple[Member, ...]
    tags: tuple[Reference, ...]


class ArchiveContents:
    """The members of an archive by name. Names are normalized; one that leads out of the archive is refused."""

    def __init__(self, read: Callable[[Member], bytes]) -> None:
        self._read = read
        self._members: dict[str, Member] = {}

    def add(self, member: Member) -> None:
        """As in any tar archive a later member replaces an earlier one of its name. A second document raises `InvalidArchive`."""
        name = _inside(member.name)
        if name in _DOCUMENTS and name in self._members:
            raise InvalidArchive(f"invalid archive: duplicate {name}")
        self._members[name] = member

    def find(self, name: str) -> Member | None:
        """The file called `name`, through links. Raises `InvalidArchive` for links that lead nowhere good."""
        for _ in range(_MAX_LINKS):
            member = self._members.get(_inside(name))
            if member is None or member.type == "file":
                return member
            directory = posixpath.dirname(_inside(name)) if member.type == "symlink" and not member.target.startswith("/") else ""
            name = posixpath.join(directory, member.target.lstrip("/"))
        raise InvalidArchive(f'invalid archive: too many levels of links at "{name}"')

    def get(self, name: str) -> Member:
        """As `find`, but the file must be there, and have the digest that its name claims, if it claims one."""
        member = self.find(name)
        if member is None:
            raise InvalidArchive(f"open {name}: no such file or directory")
        claimed = _claimed_digest(name)
        if claimed is not None and member.digest is not None and claimed.algorithm == member.digest.algorithm and claimed != member.digest:
            raise InvalidArchive(f"invalid archive: {name} has digest {member.digest}")
        return member

    def blob(self, descriptor: Descriptor) -> Member:
        """The blob that `descriptor` points at, held against the descriptor's digest and size."""
        member = self.find(f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}")
        if member is None:
            raise InvalidArchive(f"content digest {descriptor.digest}: not found")
        if member.digest != descriptor.digest:
            raise InvalidArchive(f"unexpected commit digest {member.digest}, expected {descriptor.digest}")
        if member.size_bytes != descriptor.size_bytes:
            raise InvalidArchive(f"unexpected commit size {member.size_bytes}, expected {descriptor.size_bytes}: {descriptor.digest}")
        return member

    def read(self, member: Member, limit_bytes: int) -> bytes:
        """The bytes of the document that `member` is. Raises `InvalidArchive` if they are more than `limit_bytes`."""
        if member.size_bytes > limit_bytes:
            raise InvalidArchive(f"invalid archive: {member.name} is larger than {limit_bytes} bytes")
        return self._read(member)


def plan_load(contents: ArchiveContents, host: Platform, wanted: Platform | None) -> list[PlannedImage]:
    """The images to load from `contents`: those for `wanted`, or of each image the one that suits `host`.

    Raises `InvalidArchive` or `InvalidDocument`.
    """
    if (saved := contents.find(MANIFEST_FILE)) is not None:
        images = decode_saved_images(contents.read(saved, MAX_DOCUMENT_BYTES))
        originals = _original_manifests(contents)
        planned = [_plan_saved(contents, image, originals, wanted) for image in images]
        return [image for image in planned if image is not None]
    if (index := contents.find(INDEX_FILE)) is not None:
        return _plan_layout(contents, contents.read(index, MAX_DOCUMENT_BYTES), host, wanted)
    raise InvalidArchive(f"unrecognized image format: the archive has neither {MANIFEST_FILE} nor {INDEX_FILE}")


def _plan_saved(
    contents: ArchiveContents, image: SavedImage, originals: dict[Digest, bytes], wanted: Platform | None
) -> PlannedImage | None:
    raw = contents.read(contents.get(image.config), MAX_CONFIG_BYTES)
    document = _decode_config(raw)
    if wanted is not None and not suits(document.platform, wanted):
        return None
    if len(image.layers) != len(document.diff_ids):
        raise InvalidArchive(f"invalid manifest, layers length mismatch: expected {len(image.layers)}, got {len(document.diff_ids)}")
    files = tuple(contents.get(name) for name in image.layers)
    layers = tuple(_describe(file) for file in files)
    manifest = originals.get(Digest.of(raw))
    if manifest is None or not _has_layers(decode_manifest(manifest), layers):
        config = Descriptor(media_type=OCI_CONFIG, digest=Digest.of(raw), size_bytes=len(raw))
        manifest = encode_manifest(config, list(layers))
    return PlannedImage(raw, document, manifest, layers, files, tuple(_parse_tag(tag) for tag in image.repo_tags))


def _plan_layout(contents: ArchiveContents, data: bytes, host: Platform, wanted: Platform | None) -> list[PlannedImage]:
    planned: dict[Digest, PlannedImage] = {}
    for name, group in _by_name(decode_index(data).manifests):
        for descriptor in _choose(group, host, wanted):
            manifest = _find_manifest(contents, descriptor, host, wanted)
            if manifest is None:
                continue
            image = _plan_manifest(contents, manifest, (name,) if name is not None else ())
            if wanted is not None and not suits(image.document.platform, wanted):
                continue
            known = planned.get(Digest.of(image.raw))
            if known is not None:
                image = PlannedImage(
                    known.raw, known.document, known.manifest, known.layers, known.files, tuple(dict.fromkeys((*known.tags, *image.tags)))
                )
            planned[Digest.of(image.raw)] = image
    if not planned:
        raise InvalidArchive(f"no image for platform {wanted or host} in the archive")
    return list(planned.values())


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


def _find_manifest(
    contents: ArchiveContents, descriptor: Descriptor, host: Platform, wanted: Platform | None, depth: int = 0
) -> Descriptor | None:
    """The descriptor of the manifest that `descriptor` leads to, through indexes; None if there is none for the platform."""
    if depth > _MAX_INDEX_DEPTH:
        raise InvalidArchive("invalid archive: indexes are nested too deeply")
    if descriptor.media_type in MANIFEST_TYPES:
        return descriptor
    data = contents.read(contents.blob(descriptor), MAX_DOCUMENT_BYTES)
    if descriptor.media_type not in INDEX_TYPES and not is_index(data):
        return descriptor
    candidates = [child for child in decode_index(data).manifests if not child.is_attestation]
    chosen = choose([child.platform for child in candidates], wanted or host)
    return _find_manifest(contents, candidates[chosen], host, wanted, depth + 1) if chosen is not None else None


def _plan_manifest(contents: ArchiveContents, descriptor: Descriptor, tags: tuple[Reference, ...]) -> PlannedImage:
    data = contents.read(contents.blob(descriptor), MAX_DOCUMENT_BYTES)
    manifest = decode_manifest(data)
    raw = contents.read(contents.blob(manifest.config), MAX_CONFIG_BYTES)
    document = _decode_config(raw)
    if len(manifest.layers) != len(document.diff_ids):
        raise InvalidArchive("mismatched image rootfs and manifest layers")
    files = tuple(contents.blob(layer) for layer in manifest.layers)
    for file in files:
        _check_compression(file)
    return PlannedImage(raw, document, data, tuple(manifest.layers), files, tags)


def _original_manifests(contents: ArchiveContents) -> dict[Digest, bytes]:
    """The manifests of an index beside a `manifest.json`, by config digest. Manifests that the archive lacks are left out."""
    index = contents.find(INDEX_FILE)
    if index is None:
        return {}
    found: dict[Digest, bytes] = {}
    for data in _reachable_manifests(contents, decode_index(contents.read(index, MAX_DOCUMENT_BYTES)).manifests, 0):
        found.setdefault(decode_manifest(data).config.digest, data)
    return found


def _reachable_manifests(contents: ArchiveContents, descriptors: Sequence[Descriptor], depth: int) -> Iterator[bytes]:
    if depth > _MAX_INDEX_DEPTH:
        raise InvalidArchive("invalid archive: indexes are nested too deeply")
    for descriptor in descriptors:
        # docker save writes one platform and keeps the index of all platforms: the blobs of the others are missing.
        if descriptor.is_attestation or contents.find(f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}") is None:
            continue
        if descriptor.media_type in MANIFEST_TYPES:
            yield contents.read(contents.blob(descriptor), MAX_DOCUMENT_BYTES)
        elif descriptor.media_type in INDEX_TYPES:
            data = contents.read(contents.blob(descriptor), MAX_DOCUMENT_BYTES)
            yield from _reachable_manifests(contents, decode_index(data).manifests, depth + 1)


def _has_layers(manifest: Manifest, layers: tuple[Descriptor, ...]) -> bool:
    return [(layer.digest, layer.size_bytes) for layer in manifest.layers] == [(layer.digest, layer.size_bytes) for layer in layers]


def _decode_config(raw: bytes) -> ImageDocument:
    document = decode_image_config(raw)
    if document.os not in ("", "linux"):
        raise InvalidArchive(f"cannot load {document.os} image on linux")
    return document


def _describe(file: Member) -> Descriptor:
    _check_compression(file)
    assert file.digest is not None, "only files are looked up"
    return Descriptor(media_type=layer_media_type(file.compression), digest=file.digest, size_bytes=file.size_bytes)


def _check_compression(file: Member) -> None:
    if file.compression not in _LAYER_COMPRESSIONS:
        raise InvalidArchive(f"unsupported layer compression: {file.compression}")


def _parse_tag(text: str) -> Reference:
    reference = parse_reference(text)
    if reference.tag is None:
        raise InvalidArchive(f'invalid tag "{text}"')
    return Reference(reference.domain, reference.path, reference.tag)


def _claimed_digest(name: str) -> Digest | None:
    """The digest that a member is named after, as docker save and others do for configs and layers."""
    directory, base = posixpath.split(name)
    if directory.endswith(("blobs/sha512", "blobs/sha384")):
        return find_digest(f"{directory[-6:]}:{base}")
    stem = base.removesuffix(".json").removeprefix("sha256:")
    if _HEX.fullmatch(stem) is None or (directory and not directory.endswith("blobs/sha256")):
        return None
    return Digest(f"sha256:{stem}")


def _inside(name: str) -> str:
    """`name` normalized. Raises `InvalidArchive` if it leads out of the archive."""
    path = posixpath.normpath("/".join(part for part in name.split("/") if part) or ".")
    if path == ".." or path.startswith("../"):
        raise InvalidArchive(f'invalid archive: "{name}" is outside of it')
    return path
