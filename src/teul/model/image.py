"""An image as this engine holds it: the document that its names point to, what that leads to, and what follows from them.

An image is an index or a manifest, kept whole with its digest, whatever of it came along: `manifests` has each manifest that it leads to,
those for other platforms, which may not have come, and the statements about them. `chosen` is the one that the image stands for here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from teul.oci.descriptor import Descriptor
from teul.oci.digest import Digest
from teul.oci.image_config import ImageConfig, ImageDocument
from teul.oci.platform import Platform, choose, suits

Kind = Literal["image", "attestation", "unknown"]


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """A manifest that an image leads to. Its `descriptor` is as the index has it.

    `available`: all its blobs are stored; `content_bytes` are those that are. Of an image whose config is stored, `document` is the config
    and `raw` its bytes, otherwise None and empty; `layers`, `document.diff_ids` and `chain_ids` run parallel then, bottom first. `ready`:
    its layers are here for containers to stand on, and take `size_bytes` in the eyes of those.
    """

    descriptor: Descriptor
    kind: Kind
    available: bool = False
    content_bytes: int = 0
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    raw: bytes = b""
    document: ImageDocument | None = None
    chain_ids: tuple[Digest, ...] = ()
    ready: bool = False
    size_bytes: int = 0

    @property
    def platform(self) -> Platform:
        """What the config says, for an index may leave it out; of what is no image, or has no config here, what the index says."""
        if self.document is not None and (self.document.os or self.document.architecture):
            return self.document.platform
        return self.descriptor.platform or Platform()


@dataclass(frozen=True, slots=True)
class Image:
    """A stored image: `target` is what its names point to. `documents` are its stored indexes, manifests and configs, by their digests.

    `chosen`, one of the `manifests`, is ready. `deleted`: by force, while containers still stand on it: it has no name and is in no list,
    and only `Images.get` finds it.
    """

    target: Descriptor
    manifests: tuple[ImageManifest, ...]
    chosen: ImageManifest
    documents: Mapping[Digest, bytes]
    stored_at_ns: int
    deleted: bool = False

    @property
    def image_id(self) -> Digest:
        return self.target.digest

    @property
    def document(self) -> ImageDocument:
        """The config of the chosen manifest."""
        assert self.chosen.document is not None, "what is ready has a config"
        return self.chosen.document

    @property
    def config(self) -> ImageConfig:
        """What containers inherit; an image whose document has no `config` gives an empty one."""
        return self.document.config or _EMPTY

    @property
    def labels(self) -> Mapping[str, str]:
        return self.config.labels or {}

    @property
    def created_ns(self) -> int | None:
        """When the image was made, as its config says."""
        return self.document.created_ns

    @property
    def chain_ids(self) -> tuple[Digest, ...]:
        return self.chosen.chain_ids

    @property
    def size_bytes(self) -> int:
        """What containers of the image find in it."""
        return self.chosen.size_bytes

    @property
    def ready(self) -> tuple[ImageManifest, ...]:
        """The manifests that containers can stand on, in the order of the index."""
        return tuple(manifest for manifest in self.manifests if manifest.ready)

    def for_platform(self, wanted: Platform) -> Image | None:
        """The image with the manifest chosen that suits `wanted` best; None if none does."""
        ready = self.ready
        best = choose([manifest.platform for manifest in ready], wanted)
        candidates = [ready[best], *ready] if best is not None else ready
        found = next((manifest for manifest in candidates if suits(manifest.platform, wanted)), None)
        return replace(self, chosen=found) if found is not None else None

    def for_manifest(self, digest: Digest) -> Image:
        """The image with that manifest chosen, if it has it and it is ready."""
        return next((replace(self, chosen=manifest) for manifest in self.ready if manifest.descriptor.digest == digest), self)


_EMPTY = ImageConfig()
