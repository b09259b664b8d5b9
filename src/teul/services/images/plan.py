"""What an image archive contains, decided from its documents: pure look-ups among members that a worker took out and measured.

Two kinds of archives are known: docker save's, with a `manifest.json`, in its old layout (a directory per layer, duplicates as symlinks)
and its new one (blobs beside an OCI index); and the OCI image layout, with an `index.json`. Where both documents are there, docker's
says what is to be loaded and how it is called, and the index what each of it is: the index or manifest that it had in a registry, say.

Every blob that is looked at is held against the digest in its name or descriptor. Errors are InvalidArchive.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from teul.oci.descriptor import CONTAINERD_IMAGE_NAME, OCI_CONFIG, OCI_MANIFEST, REF_NAME, REFERENCE_DIGEST, Descriptor, layer_media_type
from teul.oci.digest import Digest, find_digest
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
from teul.services.images.assemble import MAX_INDEX_DEPTH, MAX_LAYERS, check_layers, describe, kind_of, leads_to_index
from teul.workers.client import InvalidArchive
from teul.workers.layers import Member

MANIFEST_FILE = "manifest.json"
INDEX_FILE = "index.json"
_DOCUMENTS = frozenset({MANIFEST_FILE, INDEX_FILE, "oci-layout", "repositories"})
_MAX_LINKS = 16
_HEX = re.compile(r"[0-9a-f]{64}")
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


class ArchiveContents:
    """The members of an archive by name. Names are normalized; one that leads out of the archive is refused.

    What `find_stored` finds counts as a member where the archive has no blob of that digest.
    """

    def __init__(self, read: Callable[[Member], bytes], *, find_stored: Callable[[Digest], Member | None] | None = None) -> None:
        self._read = read
        self._find_stored = find_stored
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
            if member is None:
                return self._stored(_inside(name))
            if member.type == "file":
                return member
            directory = posixpath.dirname(_inside(name)) if member.type == "symlink" and not member.target.startswith("/") else ""
            name = posixpath.join(directory, member.target.lstrip("/"))
        raise InvalidArchive(f'invalid archive: too many levels of links at "{name}"')

    def _stored(self, name: str) -> Member | None:
        digest = _digest_of_blob(name) if self._find_stored is not None else None
        return self._find_stored(digest) if self._find_stored is not None and digest is not None else None

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

    def has(self, descriptor: Descriptor) -> bool:
        """Whether there is a blob of that name."""
        return self.find(f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}") is not None

    def read(self, member: Member, limit_bytes: int) -> bytes:
        """The bytes of the document that `member` is. Raises `InvalidArchive` if they are more than `limit_bytes`."""
        if member.size_bytes > limit_bytes:
            raise InvalidArchive(f"invalid archive: {member.name} is larger than {limit_bytes} bytes")
        return self._read(member)


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
    files = tuple(contents.get(name) for name in image.layers)
    layers = tuple(_describe(file) for file in files)
    tags = tuple(_parse_tag(tag) for tag in image.repo_tags)
    original = originals.get(Digest.of(raw))
    if original is not None and original.has_layers(layers):
        yield replace(original, tags=tags)
        return
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
            for file in files:
                _check_compression(file)
            documents[manifest.config.digest] = raw
            return PlannedImage(descriptor, documents, (PlannedPlatform(document, tuple(manifest.layers), files),))
    if wanted is not None and not descriptor.is_attestation:
        return None
    return PlannedImage(descriptor, documents, (), tuple(contents.blob(blob) for blob in content))


def _check_system(document: ImageDocument) -> None:
    if document.os not in ("", "linux"):
        raise InvalidArchive(f"cannot load {document.os} image on linux")


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


def _digest_of_blob(name: str) -> Digest | None:
    """The digest whose blob is called `name` in an OCI layout. spec: OCI image-spec image-layout.md, Blobs."""
    directory, _, rest = name.partition("/")
    algorithm, _, encoded = rest.partition("/")
    return find_digest(f"{algorithm}:{encoded}") if directory == "blobs" else None


def _inside(name: str) -> str:
    """`name` normalized. Raises `InvalidArchive` if it leads out of the archive."""
    path = posixpath.normpath("/".join(part for part in name.split("/") if part) or ".")
    if path == ".." or path.startswith("../"):
        raise InvalidArchive(f'invalid archive: "{name}" is outside of it')
    return path
