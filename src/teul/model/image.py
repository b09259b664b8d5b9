"""An image as this engine holds it: its config, its layers, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from teul.oci.descriptor import Descriptor
from teul.oci.digest import Digest
from teul.oci.image_config import ImageConfig, ImageDocument


@dataclass(frozen=True, slots=True)
class Image:
    """A stored image. `raw` is the config blob whose digest is `image_id`; `document` is that config, decoded.

    `layers`, `document.diff_ids` and `chain_ids` run parallel, bottom first. `manifest_digest` is None for an image that was
    deleted by force while containers still use its layers: it has no name and is in no list, only `Images.get` finds it.
    """

    image_id: Digest
    manifest_digest: Digest | None
    raw: bytes
    document: ImageDocument
    layers: tuple[Descriptor, ...]
    chain_ids: tuple[Digest, ...]
    size_bytes: int
    stored_at_ns: int

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


_EMPTY = ImageConfig()
