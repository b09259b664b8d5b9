"""Saving images: an OCI layout that also carries docker save's `manifest.json`, so that either kind of program loads it.

The blobs go out as they are stored, so images that are loaded from the archive have the same manifests and digests. A layer whose blob was
not kept goes out uncompressed, and its image with a manifest that says so, which makes it another image where it is loaded. Source for
names and annotations: moby daemon/internal/image/tarexport/save.go.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import BinaryIO

import msgspec

from teul.errors import InvalidParameter, System
from teul.model.image import Image, ImageManifest
from teul.oci.descriptor import CONTAINERD_IMAGE_NAME, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, REF_NAME, Descriptor
from teul.oci.digest import Digest
from teul.oci.documents import encode_index, encode_manifest
from teul.oci.platform import Platform
from teul.oci.reference import Reference, parse_reference_or_id
from teul.services.images.catalog import Catalog, ImageUnknown, PlatformMismatch, blobs_of, blobs_of_manifest
from teul.services.images.lookup import lookup
from teul.services.images.store import ImageStore
from teul.snapshots.layers import Layers
from teul.store.content import ContentStore
from teul.store.layer_files import ARCHIVE_FILE

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
) -> AsyncIterator[bytes]:
    """The archive of the `selected` images, in chunks; with a `platform` the archive has that one only.

    The blobs `without` are left out, unless they are documents: whoever loads the archive has them.

    The blobs are opened before the first chunk is yielded, so removing an image meanwhile does no harm.
    """
    catalog, slow = store.catalog, store.slow
    chosen = [_select(catalog.images[image_id], platform) for image_id in selected if image_id in catalog.images]
    with ExitStack() as stack:
        saved = await slow.run(lambda: [_as_kept(one, store.layers, frozenset(catalog.blobs)) for one in chosen])
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
    for name, data in _documents(saved, selected):
        yield _header(name, len(data)) + data + bytes(-len(data) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


async def blobs_to_save(store: ImageStore, selected: Mapping[Digest, object]) -> dict[Digest, int]:
    """How large each blob of the `selected` images is as it goes out; documents are not counted."""
    chosen = [_select(store.catalog.images[image_id], None) for image_id in selected]
    stored = dict(store.catalog.blobs)

    def measure() -> dict[Digest, int]:
        sizes: dict[Digest, int] = {}
        for one in (_as_kept(one, store.layers, frozenset(stored)) for one in chosen):
            for digest in one.blobs - one.documents:
                sizes[digest] = os.stat(one.archives[digest]).st_size if digest in one.archives else stored[digest]
        return sizes

    return await store.slow.run(measure)


@dataclass(frozen=True, slots=True)
class _Saved:
    """What goes out of an image: `target` is what its names point to in the archive, `layers` are those of the chosen manifest.

    Of the `blobs` that are not in the content store, `made` has documents and `archives` the paths of layers.
    """

    image: Image
    target: Descriptor
    blobs: frozenset[Digest]
    layers: tuple[Descriptor, ...]
    made: Mapping[Digest, bytes] = field(default_factory=dict)
    archives: Mapping[Digest, str] = field(default_factory=dict)

    @property
    def documents(self) -> frozenset[Digest]:
        """Those of the blobs that are indexes, manifests and configs."""
        return self.blobs & {*self.image.documents, *self.made}


def _select(image: Image, platform: Platform | None) -> _Saved:
    """docker: of a platform that is asked for the manifest alone goes out."""
    if platform is None:
        return _Saved(image, image.target, frozenset(blobs_of(image)), image.chosen.layers)
    chosen = image.for_platform(platform)
    if chosen is None or chosen.chosen.config is None:
        raise PlatformMismatch(str(image.image_id), image, platform)
    manifest = chosen.chosen
    target = msgspec.structs.replace(manifest.descriptor, platform=manifest.platform)
    return _Saved(chosen, target, frozenset(blobs_of_manifest(manifest)), manifest.layers)


def _as_kept(one: _Saved, layers: Layers, stored: frozenset[Digest]) -> _Saved:
    """The same, or where blobs of layers were not kept, an image of what is here in their place. Blocks.

    That has the manifests that containers can stand on, and no attestations: they speak of manifests that do not go out.
    """
    image = one.image
    manifests = image.ready if one.target == image.target else (image.chosen,)
    if all(manifest.available for manifest in manifests) or any(manifest.config is None for manifest in manifests):
        return one
    made: dict[Digest, bytes] = {}
    archives: dict[Digest, str] = {}
    blobs: set[Digest] = set()
    targets: dict[Digest, tuple[Descriptor, tuple[Descriptor, ...]]] = {}
    for manifest in manifests:
        descriptor, own = manifest.descriptor, manifest.layers
        if not manifest.available:
            assert manifest.config is not None, "looked at above"
            own = tuple(_stored_layer(manifest, number, layers, stored, archives) for number in range(len(own)))
            data = encode_manifest(manifest.config, list(own))
            descriptor = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(data), size_bytes=len(data), platform=manifest.platform)
            made[descriptor.digest] = data
        blobs |= {descriptor.digest, *(layer.digest for layer in own), *({manifest.config.digest} if manifest.config is not None else ())}
        targets[manifest.descriptor.digest] = descriptor, own
    target, chosen = targets[image.chosen.descriptor.digest]
    if len(manifests) > 1:
        index = encode_index([descriptor for descriptor, _ in targets.values()])
        target = Descriptor(media_type=OCI_INDEX, digest=Digest.of(index), size_bytes=len(index))
        made[target.digest] = index
        blobs.add(target.digest)
    return _Saved(image, target, frozenset(blobs), chosen, made, archives)


def _stored_layer(
    manifest: ImageManifest, number: int, layers: Layers, stored: frozenset[Digest], archives: dict[Digest, str]
) -> Descriptor:
    """A layer of the manifest as it is kept; of one without a blob the path of its archive is noted in `archives`."""
    layer, chain_id = manifest.layers[number], manifest.chain_ids[number]
    if layer.digest in stored or not layers.is_indexed(chain_id) or manifest.document is None:
        return layer
    diff_id = manifest.document.diff_ids[number]
    archives[diff_id] = os.path.join(layers.place_of(chain_id), ARCHIVE_FILE)
    return Descriptor(media_type=OCI_LAYER, digest=diff_id, size_bytes=os.stat(archives[diff_id]).st_size)


def _open_blobs(
    content: ContentStore, saved: Sequence[_Saved], stack: ExitStack, without: frozenset[Digest] = frozenset()
) -> dict[Digest, tuple[BinaryIO, int]]:
    blobs: dict[Digest, tuple[BinaryIO, int]] = {}
    for one in saved:
        for digest in one.blobs - (without - one.documents):
            if digest in one.made:
                blobs[digest] = (io.BytesIO(one.made[digest]), len(one.made[digest]))
            elif digest not in blobs:
                try:
                    file = stack.enter_context(open(one.archives.get(digest, content.path(digest)), "rb"))
                except FileNotFoundError:
                    raise ImageUnknown(one.image.image_id) from None
                blobs[digest] = (file, os.fstat(file.fileno()).st_size)
    return blobs


def _documents(saved: Sequence[_Saved], selected: dict[Digest, list[Reference]]) -> Iterable[tuple[str, bytes]]:
    index: list[Descriptor] = []
    manifest: list[dict[str, object]] = []
    repositories: dict[str, dict[str, str]] = {}
    for one in saved:
        tags, chosen = selected[one.image.image_id], one.image.chosen
        index += [
            msgspec.structs.replace(one.target, annotations={CONTAINERD_IMAGE_NAME: tag.canonical, REF_NAME: tag.tag or ""}) for tag in tags
        ] or [one.target]
        assert chosen.config is not None, "only shown images are selected"
        manifest.append(
            {
                "Config": _blob_name(chosen.config.digest),
                "RepoTags": [tag.familiar for tag in tags] or None,
                "Layers": [_blob_name(layer.digest) for layer in one.layers],
            }
        )
        for tag in tags:
            top = one.layers[-1].digest.hex if one.layers else ""
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
