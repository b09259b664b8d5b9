"""Descriptors: (media type, digest, size) pointing at stored bytes; and the media types that this engine knows."""

from __future__ import annotations

from typing import Annotated

import msgspec

from teul.oci.digest import Digest
from teul.oci.platform import Platform

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_IMAGE_NAME = "io.containerd.image.name"
# An attestation, which buildkit writes beside an image: in-toto statements in a manifest for the platform unknown/unknown.
REFERENCE_TYPE = "vnd.docker.reference.type"
REFERENCE_DIGEST = "vnd.docker.reference.digest"  # the manifest that an attestation is about


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """spec: OCI image-spec descriptor.md. The content has exactly `size_bytes`."""

    media_type: str = ""
    digest: Digest
    size_bytes: Annotated[int, msgspec.Meta(ge=0)] = msgspec.field(name="size")
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str | None = None

    @property
    def is_attestation(self) -> bool:
        return "attestation" in (self.annotations or {}).get(REFERENCE_TYPE, "")


def layer_media_type(compression: str) -> str:
    """The media type of a layer compressed with `compression`: "", "gzip" or "zstd"."""
    return f"{OCI_LAYER}+{compression}" if compression else OCI_LAYER
