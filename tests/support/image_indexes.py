"""Indexes over images that a `StoredImages` has prepared: several platforms, statements about them, and what did not come along."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from support.stored_images import StoredImages
from teul.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, REFERENCE_DIGEST, REFERENCE_TYPE, Descriptor
from teul.oci.digest import Digest
from teul.oci.documents import encode_index, encode_manifest
from teul.oci.platform import Platform
from teul.oci.reference import parse_reference
from teul.services.images.new_image import NewImage, NewPlatform, PreparedLayer


def absent(architecture: str) -> Descriptor:
    """A manifest that did not come along."""
    platform = Platform(os="linux", architecture=architecture)
    return Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(architecture.encode()), size_bytes=7, platform=platform)


class IndexMaker:
    """Collects what an index has, and makes the image of it."""

    def __init__(self, stored: StoredImages) -> None:
        self._stored = stored
        self.descriptors: list[Descriptor] = []
        self._parts: list[NewImage] = []
        self._documents: dict[Digest, bytes] = {}
        self._prepared: dict[Digest, PreparedLayer] = {}

    def add(self, architecture: str, *layers: bytes) -> Descriptor:
        """A platform of Linux, with its layers."""
        image, prepared = self._stored.prepare(layers=layers, architecture=architecture)
        self._parts.append(image)
        self._prepared |= prepared
        platform = Platform(os="linux", architecture=architecture)
        self.descriptors.append(msgspec.structs.replace(image.target, platform=platform))
        return self.descriptors[-1]

    def add_absent(self, architecture: str) -> Descriptor:
        self.descriptors.append(absent(architecture))
        return self.descriptors[-1]

    def add_attestation(self, about: Descriptor, statement: bytes) -> Descriptor:
        """As buildkit writes it: a manifest whose only layer is the statement."""
        part, prepared = self._stored.prepare(layers=[statement], architecture="unknown")
        config = next(digest for digest in part.documents if digest != part.target.digest)
        described = Descriptor(media_type=OCI_CONFIG, digest=config, size_bytes=len(part.documents[config]))
        layer = Descriptor(media_type="application/vnd.in-toto+json", digest=Digest.of(statement), size_bytes=len(statement))
        manifest = encode_manifest(described, [layer])
        descriptor = Descriptor(
            media_type=OCI_MANIFEST,
            digest=Digest.of(manifest),
            size_bytes=len(manifest),
            platform=Platform(os="unknown", architecture="unknown"),
            annotations={REFERENCE_TYPE: "attestation-manifest", REFERENCE_DIGEST: str(about.digest)},
        )
        self._parts.append(_statement(part, descriptor, {descriptor.digest: manifest, config: part.documents[config]}))
        self._prepared |= prepared
        self.descriptors.append(descriptor)
        return descriptor

    def nest(self) -> Descriptor:
        """Put what there is so far into an index of its own, which is then the first of the outer one."""
        data = encode_index(self.descriptors)
        descriptor = Descriptor(media_type=OCI_INDEX, digest=Digest.of(data), size_bytes=len(data))
        self._documents[descriptor.digest] = data
        self.descriptors = [descriptor]
        return descriptor

    async def store(self, *names: str) -> Descriptor:
        """Store the image under `names`; returns the descriptor of the index."""
        data = encode_index(self.descriptors)
        target = Descriptor(media_type=OCI_INDEX, digest=Digest.of(data), size_bytes=len(data))
        documents = {target.digest: data, **self._documents}
        for part in self._parts:
            documents |= part.documents
        image = NewImage(
            target,
            documents,
            tuple(platform for part in self._parts for platform in part.platforms),
            {digest: file for part in self._parts for digest, file in part.blobs.items()},
            [parse_reference(name).with_default_tag() for name in names],
        )
        assert await self._stored.store.commit([image], self._prepared, tagged_at_ns=0)
        return target


async def foreign_image(stored: StoredImages, name: str, *, own: bytes, foreign: bytes) -> Digest:
    """Store an image whose upper layer is not here but where its URLs say; it is unpacked all the same."""
    image, prepared = stored.prepare(layers=[own, foreign])
    config = next(digest for digest in image.documents if digest != image.target.digest)
    described = Descriptor(media_type=OCI_CONFIG, digest=config, size_bytes=len(image.documents[config]))
    layers = [
        Descriptor(media_type=OCI_LAYER, digest=Digest.of(data), size_bytes=len(data), urls=urls)
        for data, urls in ((own, None), (foreign, ["https://example.org/layer"]))
    ]
    manifest = encode_manifest(described, layers)
    target = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(manifest), size_bytes=len(manifest))
    changed = NewImage(
        target,
        {target.digest: manifest, config: image.documents[config]},
        (NewPlatform(image.platforms[0].document, tuple(layers)),),
        {digest: file for digest, file in image.blobs.items() if digest == layers[0].digest},
        [parse_reference(name)],
    )
    assert await stored.store.commit([changed], prepared, tagged_at_ns=0)
    return target.digest


def _statement(part: NewImage, target: Descriptor, documents: dict[Digest, bytes]) -> NewImage:
    """A part that is no platform: nobody stands on it."""
    return NewImage(target, documents, (), part.blobs)


def digests(descriptors: Sequence[Descriptor]) -> list[Digest]:
    return [descriptor.digest for descriptor in descriptors]
