"""The image config: the document whose digest is the image id.

`ImageDocument` is the whole of it, `ImageConfig` its `config` member, with Docker's additions (health check, ONBUILD, SHELL).
spec: OCI image-spec config.md; moby docker-image-spec. Documents are read with Go's leniency: unknown members are ignored, and a null
member is an absent one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from teul.oci.digest import Digest
from teul.oci.documents import InvalidDocument, decode_lenient, encode_document
from teul.oci.platform import Platform
from teul.oci.timestamp import parse_time_ns

MAX_CONFIG_BYTES = 8 << 20


class Healthcheck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """`test` is [] (inherit), ["NONE"], ["CMD", …] or ["CMD-SHELL", command]; times are nanoseconds, zero inherits."""

    test: list[str] | None = None
    interval_ns: int = msgspec.field(default=0, name="Interval")
    timeout_ns: int = msgspec.field(default=0, name="Timeout")
    start_period_ns: int = msgspec.field(default=0, name="StartPeriod")
    start_interval_ns: int = msgspec.field(default=0, name="StartInterval")
    retries: int = 0


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """What a container gets from its image unless its request says otherwise. A list or mapping that the image does not have is None."""

    user: str = ""
    exposed_ports: dict[str, dict[str, Any]] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    args_escaped: bool = False
    healthcheck: Healthcheck | None = None
    on_build: list[str] | None = None
    shell: list[str] | None = None


class RootFS(msgspec.Struct, frozen=True, kw_only=True):
    """The image's layers, by the digests of their uncompressed tar streams, bottom first."""

    type: str = "layers"
    diff_ids: list[Digest] = []


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of how the image was made; `empty_layer` if the step left no layer."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The config blob. `docker_version`, `comment`, `parent`, `container` are Docker's, from before the specification."""

    architecture: str = ""
    os: str = ""
    os_version: str | None = msgspec.field(default=None, name="os.version")
    os_features: list[str] | None = msgspec.field(default=None, name="os.features")
    variant: str | None = None
    created: str | None = None
    author: str = ""
    comment: str = ""
    parent: str = ""
    container: str = ""
    docker_version: str = ""
    config: ImageConfig | None = None
    rootfs: RootFS | None = None
    history: list[History] | None = None

    @property
    def platform(self) -> Platform:
        return Platform(
            os=self.os, architecture=self.architecture, variant=self.variant, os_version=self.os_version, os_features=self.os_features
        )

    @property
    def diff_ids(self) -> Sequence[Digest]:
        return self.rootfs.diff_ids if self.rootfs is not None else ()

    @property
    def created_ns(self) -> int | None:
        return parse_time_ns(self.created) if self.created else None


def decode_image_config(data: bytes) -> ImageDocument:
    """Decode and check a config blob. Raises `InvalidDocument`; times and digests in the result are valid."""
    document = decode_lenient(data, ImageDocument, "image config", limit_bytes=MAX_CONFIG_BYTES)
    # docker: image.NewFromJSON refuses a config without a rootfs as well, since nothing could be unpacked from it.
    if document.rootfs is None:
        raise InvalidDocument("invalid image JSON, no RootFS key")
    for created in (document.created, *(step.created for step in document.history or ())):
        if created is not None:
            _check_time(created)
    return document


def encode_image_config(document: ImageDocument) -> bytes:
    """The bytes of a config blob; the same document always gives the same bytes."""
    return encode_document(document)


def _check_time(text: str) -> None:
    try:
        parse_time_ns(text)
    except ValueError as error:
        raise InvalidDocument(f"invalid image config: {error}") from None
