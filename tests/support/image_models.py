"""Images as the model has them, made of a config alone."""

from __future__ import annotations

from teul.model.image import Image, ImageManifest
from teul.oci.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor
from teul.oci.digest import Digest, chain_ids
from teul.oci.image_config import ImageDocument, encode_image_config

CONFIG_DIGEST = Digest.of(b"config")


def image_of(document: ImageDocument, *, image_id: Digest | None = None, size_bytes: int = 0, stored_at_ns: int = 0) -> Image:
    """An image of one manifest; of its layers nothing is there but what the config says."""
    raw = encode_image_config(document)
    target = Descriptor(media_type=OCI_MANIFEST, digest=image_id or Digest.of(b"manifest"), size_bytes=8)
    manifest = ImageManifest(
        target,
        "image",
        available=True,
        config=Descriptor(media_type=OCI_CONFIG, digest=CONFIG_DIGEST, size_bytes=len(raw)),
        raw=raw,
        document=document,
        chain_ids=tuple(chain_ids(document.diff_ids)),
        ready=True,
        size_bytes=size_bytes,
    )
    return Image(target, (manifest,), manifest, {}, stored_at_ns)
