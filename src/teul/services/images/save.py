"""Saving images: an OCI layout that also carries docker save's `manifest.json`, so that either kind of program loads it.

The blobs go out as they are stored, so images that are loaded from the archive have the same manifests and digests. Source for names and
annotations: moby daemon/internal/image/tarexport/save.go.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack
from typing import BinaryIO

import msgspec

from teul.aio import SlowWork
from teul.errors import InvalidParameter, System
from teul.model.image import Image
from teul.oci.descriptor import CONTAINERD_IMAGE_NAME, OCI_MANIFEST, REF_NAME, Descriptor
from teul.oci.digest import Digest
from teul.oci.documents import encode_index
from teul.oci.reference import Reference, parse_reference_or_id
from teul.services.images.catalog import Catalog, ImageUnknown, blobs_of
from teul.store.content import ContentStore

_CHUNK_BYTES = 1 << 20
_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'


def select_images(catalog: Catalog, names: Sequence[str]) -> dict[Digest, list[Reference]]:
    """The images to save and the tags to write. A name without a tag means all tags of the repository; an id brings no name.

    Raises NotFound or InvalidParameter.
    """
    selected: dict[Digest, list[Reference]] = {}
    for text in names:
        reference = parse_reference_or_id(text)
        if isinstance(reference, Reference) and reference.is_name_only:
            tags = [(tag, row) for tag, row in _tags_of(catalog, reference)]
            for tag, image_id in tags:
                _add(selected, image_id, tag)
            if tags:
                continue
        image, name = catalog.lookup(text)
        _add(selected, image.image_id, name if name is not None and name.digest is None else None)
    if not selected:
        raise InvalidParameter("no images to save")
    return selected


def _tags_of(catalog: Catalog, repository: Reference) -> Iterable[tuple[Reference, Digest]]:
    for image in catalog.shown():
        for name in catalog.references(image.image_id):
            if name.name == repository.name and name.digest is None:
                yield name, image.image_id


def _add(selected: dict[Digest, list[Reference]], image_id: Digest, tag: Reference | None) -> None:
    tags = selected.setdefault(image_id, [])
    if tag is not None and tag not in tags:
        tags.append(tag)


async def save_archive(
    catalog: Catalog, content: ContentStore, selected: dict[Digest, list[Reference]], slow: SlowWork
) -> AsyncIterator[bytes]:
    """The archive of the `selected` images, in chunks.

    The blobs are opened before the first chunk is yielded, so removing an image meanwhile does no harm.
    """
    images = [catalog.images[image_id] for image_id in selected if image_id in catalog.images]
    with ExitStack() as stack:
        blobs = await slow.run(_open_blobs, content, images, stack)
        for directory in ("blobs/", "blobs/sha256/"):
            yield _header(directory, 0)
        for digest, (file, size_bytes) in sorted(blobs.items()):
            yield _header(f"blobs/{digest.algorithm}/{digest.hex}", size_bytes)
            left = size_bytes
            while left:
                chunk = await slow.run(file.read, min(left, _CHUNK_BYTES))
                if not chunk:
                    raise System(f"content digest {digest}: ends early")
                left -= len(chunk)
                yield chunk
            yield bytes(-size_bytes % tarfile.BLOCKSIZE)
    for name, data in _documents(images, selected, blobs):
        yield _header(name, len(data)) + data + bytes(-len(data) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _open_blobs(content: ContentStore, images: Sequence[Image], stack: ExitStack) -> dict[Digest, tuple[BinaryIO, int]]:
    blobs: dict[Digest, tuple[BinaryIO, int]] = {}
    for image in images:
        for digest in blobs_of(image):
            if digest not in blobs:
                try:
                    file = stack.enter_context(open(content.path(digest), "rb"))
                except FileNotFoundError:
                    raise ImageUnknown(image.image_id) from None
                blobs[digest] = (file, os.fstat(file.fileno()).st_size)
    return blobs


def _documents(
    images: Sequence[Image], selected: dict[Digest, list[Reference]], blobs: dict[Digest, tuple[BinaryIO, int]]
) -> Iterable[tuple[str, bytes]]:
    index: list[Descriptor] = []
    manifest: list[dict[str, object]] = []
    repositories: dict[str, dict[str, str]] = {}
    for image in images:
        assert image.manifest_digest is not None, "only shown images are selected"
        tags = selected[image.image_id]
        descriptor = Descriptor(media_type=OCI_MANIFEST, digest=image.manifest_digest, size_bytes=blobs[image.manifest_digest][1])
        index += [
            msgspec.structs.replace(descriptor, annotations={CONTAINERD_IMAGE_NAME: tag.canonical, REF_NAME: tag.tag or ""}) for tag in tags
        ] or [descriptor]
        manifest.append(
            {
                "Config": _blob_name(image.image_id),
                "RepoTags": [tag.familiar for tag in tags] or None,
                "Layers": [_blob_name(layer.digest) for layer in image.layers],
            }
        )
        for tag in tags:
            top = image.layers[-1].digest.hex if image.layers else ""
            repositories.setdefault(tag.familiar_name, {})[tag.tag or ""] = top
    yield "index.json", encode_index(index)
    yield "manifest.json", msgspec.json.encode(manifest)
    yield "oci-layout", _LAYOUT
    if repositories:
        yield "repositories", msgspec.json.encode(repositories)


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _header(name: str, size_bytes: int) -> bytes:
    """A tar header that does not depend on when or where it is made: the same images give the same archive."""
    info = tarfile.TarInfo(name.rstrip("/"))
    info.size = size_bytes
    info.mode = 0o644
    if name.endswith("/"):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info.tobuf(tarfile.PAX_FORMAT)
