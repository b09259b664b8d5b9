"""Manifests, indexes, the OCI layout's files and docker save's `manifest.json`, read from bytes that other programs wrote.

Every decoder is given bytes whose number was limited before; it raises `InvalidDocument` and nothing else, whatever the bytes are.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec

from teul.errors import InvalidParameter
from teul.oci.descriptor import INDEX_TYPES, OCI_INDEX, OCI_MANIFEST, Descriptor
from teul.oci.digest import Digest

T = TypeVar("T")

# The largest manifest that registries accept. spec: OCI distribution-spec, "Pushing Manifests" (4 MiB).
MAX_DOCUMENT_BYTES = 4 << 20


class InvalidDocument(InvalidParameter):
    """The bytes are not the document that they should be."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One platform's image. spec: OCI image-spec manifest.md; Docker's schema 2 has the same shape."""

    schema_version: int = 0  # 2, or not said
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor
    layers: list[Descriptor] = []
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A list of manifests or of further indexes. spec: OCI image-spec image-index.md."""

    schema_version: int = 0
    media_type: str = ""
    manifests: list[Descriptor] = []
    annotations: dict[str, str] | None = None


class SavedImage(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One element of docker save's `manifest.json`: paths inside the archive, layers bottom first."""

    config: str = ""
    repo_tags: list[str] = []
    layers: list[str] = []


class _Shape(msgspec.Struct, rename="camel"):
    """The members that tell a manifest from an index."""

    media_type: str = ""
    manifests: list[Any] | None = None


def decode_manifest(data: bytes) -> Manifest:
    """Raises `InvalidDocument`."""
    manifest = decode_lenient(data, Manifest, "image manifest")
    # docker: what does not say which schema it has is loaded as well; the media type, or who leads there, has said what it is.
    if manifest.schema_version not in (0, 2):
        raise InvalidDocument(f"unsupported image manifest: schema version {manifest.schema_version}")
    # security: CVE-2021-41190, a document that is a manifest to one reader and an index to another.
    if decode_lenient(data, _Shape, "image manifest").manifests is not None:
        raise InvalidDocument("invalid image manifest: it is an index too")
    return manifest


def decode_index(data: bytes) -> Index:
    """Raises `InvalidDocument`."""
    return decode_lenient(data, Index, "image index")


def is_index(data: bytes) -> bool:
    """Whether the document `data`, whose descriptor does not say what it is, is an index. Raises `InvalidDocument` if it is not JSON."""
    shape = decode_lenient(data, _Shape, "image manifest")
    return shape.media_type in INDEX_TYPES or (not shape.media_type and shape.manifests is not None)


def media_type_of(data: bytes) -> str:
    """What the index or manifest `data` says that it is, or if it does not say so, what it looks like. Raises `InvalidDocument`."""
    shape = decode_lenient(data, _Shape, "image manifest")
    return shape.media_type or (OCI_INDEX if shape.manifests is not None else OCI_MANIFEST)


def decode_saved_images(data: bytes) -> list[SavedImage]:
    """Read docker save's `manifest.json`. Raises `InvalidDocument`, in Docker's words if the document is null; [] is fine."""
    if data.strip() == b"null":
        raise InvalidDocument("invalid manifest, manifest cannot be null (but can be [])")
    return decode_lenient(data, list[SavedImage], "manifest")


def encode_manifest(config: Descriptor, layers: list[Descriptor]) -> bytes:
    """The OCI manifest of an image that came without a manifest."""
    return encode_document(Manifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=layers))


def encode_index(manifests: list[Descriptor]) -> bytes:
    """The bytes of an `index.json`."""
    return encode_document(Index(schema_version=2, media_type=OCI_INDEX, manifests=manifests))


def encode_document(document: msgspec.Struct) -> bytes:
    """Compact JSON of any document of this package, members in the order of their declaration."""
    return msgspec.json.encode(document, enc_hook=_encode)


def decode_lenient(data: bytes, shape: type[T], name: str, *, limit_bytes: int = MAX_DOCUMENT_BYTES) -> T:
    """Decode JSON as Go does: members are known by any case of letters, the last of a name wins, null ones count as absent, and others are
    ignored.

    Raises `InvalidDocument` for anything that does not fit `shape`, is larger than `limit_bytes`, or is nested absurdly deep.
    """
    if len(data) > limit_bytes:
        raise InvalidDocument(f"invalid {name}: {len(data)} bytes are more than the limit of {limit_bytes}")
    try:
        return msgspec.convert(_spelled(_without_nulls(msgspec.json.decode(data)), shape), shape, dec_hook=_decode)
    except RecursionError:
        raise InvalidDocument(f"invalid {name}: exceeded max depth") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidDocument(f"invalid {name}: {error}") from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _spelled(value: Any, kind: Any) -> Any:
    """`value` with members of structs named as `kind` has them; what does not have its shape is left for msgspec to judge."""
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(member for member in get_args(kind) if member is not type(None))
    if isinstance(value, list) and get_origin(kind) is list:
        return [_spelled(item, get_args(kind)[0]) for item in value]
    if not isinstance(value, dict):
        return value
    if get_origin(kind) is dict:
        return {key: _spelled(item, get_args(kind)[1]) for key, item in value.items()}
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return value
    members = _members(kind)
    # In the order of the document, so that of two spellings the later one stays.
    known = ((members[key.lower()], item) for key, item in value.items() if key.lower() in members)
    return {name: _spelled(item, member) for (name, member), item in known}


@cache
def _members(kind: type[msgspec.Struct]) -> dict[str, tuple[str, Any]]:
    """By lower-case name: a struct's members' names and types."""
    return {field.encode_name.lower(): (field.encode_name, field.type) for field in msgspec.structs.fields(kind)}


def _decode(kind: type, value: Any) -> Any:
    if kind is Digest and isinstance(value, str):
        try:
            return Digest(value)
        except InvalidParameter as error:
            raise msgspec.ValidationError(error.message) from error
    raise msgspec.ValidationError(f"expected {kind.__name__}")


def _encode(value: Any) -> Any:
    if isinstance(value, Digest):
        return str(value)
    raise NotImplementedError(type(value).__name__)
