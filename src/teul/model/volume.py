"""The record of a volume, the request for a new one, and what `system df` says of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from teul.model.document import Document

LOCAL_DRIVER = "local"
ANONYMOUS_LABEL = "com.docker.volume.anonymous"
"""The label of a volume that nobody has named."""


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """One volume. `options` are those of its driver; None where none were given, as with `labels`."""

    name: str
    created_at_ns: int
    driver: str = LOCAL_DRIVER
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    scope: str = "local"

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody has named it."""
        return ANONYMOUS_LABEL in (self.labels or {})

    def encode(self) -> bytes:
        """The record as JSON, for the database."""
        return _ENCODER.encode(self)

    @staticmethod
    def decode(record: bytes | str) -> Volume:
        """The inverse of `encode`."""
        return _DECODER.decode(record)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Volume)


class CreateVolume(Document):
    """The body of `POST /volumes/create`."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeView:
    """A volume as clients see it: its record, and what its driver says. `created_at` is an RFC 3339 time; `mountpoint` may be empty."""

    volume: Volume
    mountpoint: str
    created_at: str
    status: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeUsage:
    """What a volume takes on the disk, in bytes, and how many containers have it."""

    view: VolumeView
    size_bytes: int
    containers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    """One mount of a volume by a plug-in, which knows it by its `id`: for a container at `destination`, or ("" both) for the engine."""

    id: str
    volume: str
    driver: str
    container_id: str
    destination: str
