"""Saving images: an OCI layout that also carries docker save's `manifest.json`, so that either kind of program loads it.

The blobs go out as they are stored, so images that are loaded from the archive have the same manifests and digests. A layer whose blob was
not kept goes out uncompressed, and its image with a manifest that says so, which makes it another image where it is loaded. Source for
names and annotations: moby daemon/internal/image/tarexport/save.go.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from teul.errors import InvalidParameter, System
from teul.model.image import Image
from teul.oci.descriptor import CONTAINERD_IMAGE_NAME, REF_NAME, Descriptor
from teul.oci.digest import Digest
from teul.oci.documents import encode_index
from teul.oci.platform import Platform
from teul.oci.reference import Reference, parse_reference_or_id
from teul.services.images.catalog import Catalog, ImageUnknown, PlatformMismatch, blobs_of, blobs_of_manifest
from teul.services.images.kept import KeptImage, as_kept
from teul.services.images.lookup import lookup
from teul.services.images.store import ImageStore
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
        image, name = lookup(catalog, text)
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
    store: ImageStore, selected: dict[Digest, list[Reference]], *, platform: Platform | None = None, without: Collection[Digest] = ()
) -> AsyncGenerator[bytes, None]:
    """The archive of the `selected` images, in chunks; with a `platform` the archive has that one only.

    The blobs `without` are left out, unless they are documents: whoever loads the archive has them.

    The blobs are opened before the first chunk is yielded, so removing an image meanwhile does no harm.
    """
    catalog, slow = store.catalog, store.slow
    images = [(catalog.images[image_id], selected[image_id]) for image_id in selected if image_id in catalog.images]
    with ExitStack() as stack:
        stored = frozenset(catalog.blobs)
        kept = await slow.run(lambda: [(as_kept(image, store.layers, stored), tags) for image, tags in images])
        saved = [_select(one, tags, platform) for one, tags in kept]
        blobs = await slow.run(_open_blobs, store.content, saved, stack, frozenset(without))
        for directory in ("blobs/", *sorted({f"blobs/{digest.algorithm}/" for digest in blobs})):
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
    for name, data in _documents(saved):
        yield _header(name, len(data)) + data + bytes(-len(data) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


async def blobs_to_save(store: ImageStore, selected: Mapping[Digest, object]) -> dict[Digest, int]:
    """How large each blob of the `selected` images is as it goes out; documents are not counted."""
    images = [store.catalog.images[image_id] for image_id in selected]
    stored = dict(store.catalog.blobs)

    def measure() -> dict[Digest, int]:
        sizes: dict[Digest, int] = {}
        for kept in (as_kept(image, store.layers, frozenset(stored)) for image in images):
            for digest in blobs_of(kept.image) - kept.image.documents.keys():
                sizes[digest] = os.stat(kept.archives[digest]).st_size if digest in kept.archives else stored[digest]
        return sizes

    return await store.slow.run(measure)


@dataclass(frozen=True, slots=True)
class _Saved:
    """What goes out of an image: `target` is what its names point to in the archive. The files of `archives` are no blobs."""

    image: Image
    tags: Sequence[Reference]
    target: Descriptor
    blobs: frozenset[Digest]
    archives: Mapping[Digest, str]


def _select(kept: KeptImage, tags: Sequence[Reference], platform: Platform | None) -> _Saved:
    """docker: of a platform that is asked for the manifest alone goes out."""
    image = kept.image
    if platform is None:
        return _Saved(image, tags, image.target, frozenset(blobs_of(image)), kept.archives)
    chosen = image.for_platform(platform)
    if chosen is None or chosen.chosen.config is None:
        raise PlatformMismatch(str(image.image_id), image, platform)
    manifest = chosen.chosen
    target = msgspec.structs.replace(manifest.descriptor, platform=manifest.platform)
    return _Saved(chosen, tags, target, frozenset(blobs_of_manifest(manifest)), kept.archives)


def _open_blobs(
    content: ContentStore, saved: Sequence[_Saved], stack: ExitStack, without: frozenset[Digest]
) -> dict[Digest, tuple[BinaryIO, int]]:
    blobs: dict[Digest, tuple[BinaryIO, int]] = {}
    for one in saved:
        for digest in one.blobs - (without - one.image.documents.keys()):
            if digest in one.image.documents:
                blobs[digest] = (io.BytesIO(one.image.documents[digest]), len(one.image.documents[digest]))
            elif digest not in blobs:
                try:
                    file = stack.enter_context(open(one.archives.get(digest, content.path(digest)), "rb"))
                except FileNotFoundError:
                    raise ImageUnknown(one.image.image_id) from None
                blobs[digest] = (file, os.fstat(file.fileno()).st_size)
    return blobs


def _documents(saved: Sequence[_Saved]) -> Iterable[tuple[str, bytes]]:
    index: list[Descriptor] = []
    manifest: list[dict[str, object]] = []
    repositories: dict[str, dict[str, str]] = {}
    for one in saved:
        tags, chosen = one.tags, one.image.chosen
        index += [
            msgspec.structs.replace(one.target, annotations={CONTAINERD_IMAGE_NAME: tag.canonical, REF_NAME: tag.tag or ""}) for tag in tags
        ] or [one.target]
        assert chosen.config is not None, "only shown images are selected"
        manifest.append(
            {
                "Config": _blob_name(chosen.config.digest),
                "RepoTags": [tag.familiar for tag in tags] or None,
                "Layers": [_blob_name(layer.digest) for layer in chosen.layers],
            }
        )
        for tag in tags:
            top = chosen.layers[-1].digest.hex if chosen.layers else ""
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
