"""An image that was verified and is to be stored: what whoever loads, imports, pulls or commits one hands to the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from teul.oci.descriptor import Descriptor
from teul.oci.digest import Digest
from teul.oci.image_config import ImageDocument
from teul.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class PreparedLayer:
    """A layer that was verified and lies in `directory`, indexed or unpacked."""

    chain_id: Digest
    directory: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BlobFile:
    """A file that was verified and is to become a blob."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class NewPlatform:
    """What containers will stand on: the config and, bottom first, the layers of a manifest."""

    document: ImageDocument
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to be stored: `target`, all its indexes, manifests and configs by their digests, and the files of whatever else it has.

    Blobs that it has and that are not brought, since they are stored already, are `counted_on`.
    """

    target: Descriptor
    documents: dict[Digest, bytes]
    platforms: tuple[NewPlatform, ...]
    blobs: dict[Digest, BlobFile]
    tags: Sequence[Reference] = ()
    counted_on: frozenset[Digest] = frozenset()

    @property
    def image_id(self) -> Digest:
        return self.target.digest
