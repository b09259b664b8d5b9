"""How Docker's JSON documents become structs and go back, with the rules of the Go program that defined them.

Reading a request (`decode`): keys match whatever their case, the last of a name wins, `null` is the same as leaving the field out,
unknown keys are ignored, and a command may be one string instead of a list. Writing a response (`render`): fields stand in Docker's
order, and those that Docker leaves out when empty are left out. The database holds plain encodings of the same structs and needs none of
these rules.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

import msgspec

from teul.errors import InvalidParameter
from teul.model.go_types import type_fault
from teul.model.json_faults import first_value

# Docker's names that do not follow from the attribute's name by capitalising each word.
_SPELLINGS = {
    "blkio_device_read_iops": "BlkioDeviceReadIOps",
    "blkio_device_write_iops": "BlkioDeviceWriteIOps",
    "container_id_file": "ContainerIDFile",
    "device_ids": "DeviceIDs",
    "dns_names": "DNSNames",
    "endpoint_id": "EndpointID",
    "global_ipv6_address": "GlobalIPv6Address",
    "global_ipv6_prefix_length": "GlobalIPv6PrefixLen",
    "host_ip": "HostIp",
    "io_maximum_bandwidth": "IOMaximumBandwidth",
    "io_maximum_iops": "IOMaximumIOps",
    "ip_address": "IPAddress",
    "ip_prefix_length": "IPPrefixLen",
    "ipam_config": "IPAMConfig",
    "ipv4_address": "IPv4Address",
    "ipv6_address": "IPv6Address",
    "ipv6_gateway": "IPv6Gateway",
    "kernel_memory_tcp": "KernelMemoryTCP",
    "link_local_ips": "LinkLocalIPs",
    "network_id": "NetworkID",
    "rw": "RW",
    "uts_mode": "UTSMode",
}


def docker_name(attribute: str) -> str:
    """The JSON name of a field of Docker's: `cpu_shares` is `CpuShares`, `uts_mode` is `UTSMode`."""
    return _SPELLINGS.get(attribute) or "".join(word.capitalize() for word in attribute.split("_"))


class Document(msgspec.Struct, kw_only=True, rename=docker_name):
    """Base of the structs that have Docker's spelling.

    `OMIT_EMPTY` names the fields that `render` leaves out when they hold nothing (Go's `omitempty`); `STRING_OR_LIST` those that
    a request may give as one string; `EMBEDDED_BEFORE` the field before which the fields of the base class are printed.
    """

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset()
    STRING_OR_LIST: ClassVar[frozenset[str]] = frozenset()
    EMBEDDED_BEFORE: ClassVar[str | None] = None


class Empty(Document):
    """The value `{}` of a JSON object that stands for a set: `{"80/tcp": {}}`."""


D = TypeVar("D", bound=Document)


def decode(kind: type[D], data: bytes) -> D:
    """Read a request's body as `kind`. Raises InvalidParameter."""
    return convert(kind, decode_object(data, kind))


def decode_object(data: bytes, kind: type[Document]) -> dict[str, Any]:
    """Read a request's body, which should be a `kind`, as a JSON object without looking into it. Raises InvalidParameter."""
    value = decode_json(data)
    if value is None:
        return {}
    if not isinstance(value, dict):
        check_types(kind, value)
    return _as_object(value)


def decode_json(data: bytes) -> Any:
    """The one value in a request's body. Raises InvalidParameter, in Go's words."""
    try:
        return msgspec.json.decode(data)
    except RecursionError as error:
        raise InvalidParameter(f"invalid JSON: {first_value(data)[0] or 'exceeded max depth'}") from error
    except UnicodeDecodeError as error:
        if data.isascii():
            raise InvalidParameter(f"invalid JSON: {error}") from error
        # docker: Go takes U+FFFD for what is no UTF-8.
        return decode_json(data.decode(errors="replace").encode())
    except msgspec.DecodeError as error:
        fault, end = first_value(data)
        if fault == "EOF":
            raise InvalidParameter("invalid JSON: got EOF while reading request body") from error
        if fault or not end:
            raise InvalidParameter(f"invalid JSON: {fault or error}") from error
        rest = data[end:].lstrip(b" \t\r\n")
        # docker: json.Decoder.More takes a bracket for the end of something that it is inside of.
        if rest and not rest.startswith((b"]", b"}")):
            raise InvalidParameter("unexpected content after JSON") from error
        if end == len(data):
            raise InvalidParameter(f"invalid JSON: {error}") from error
        return decode_json(data[:end])


def convert(kind: type[D], value: object) -> D:
    """Turn a decoded JSON object into `kind` by the rules in the module's docstring. Raises InvalidParameter, in Go's words."""
    check_types(kind, value)
    return build(kind, value)


def check_types(kind: type[Document], value: object, more: Mapping[str, type[Document]] | None = None) -> None:
    """Raise InvalidParameter, in Go's words, for a value of the document whose field cannot hold it; `more` as in `type_fault`."""
    try:
        fault = type_fault(kind, value, more)
    except RecursionError as error:
        raise InvalidParameter("invalid JSON: exceeded max depth") from error
    if fault:
        raise InvalidParameter(f"invalid JSON: {fault}")


def build(kind: type[D], value: object) -> D:
    """As `convert`, of what `check_types` has looked at."""
    try:
        return msgspec.convert(_normalise_struct(kind, _as_object(value)), kind)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"invalid JSON: {error}") from error
    except RecursionError as error:
        raise InvalidParameter("invalid JSON: exceeded max depth") from error


def _as_object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidParameter(f"invalid JSON: expected an object, got {type(value).__name__}")
    return value


def render(document: Document) -> dict[str, Any]:
    """The JSON object that Docker would print for `document`; nested documents included."""
    rendered: dict[str, Any] = {}
    for name, attribute, default in _printing_order(type(document)):
        value = getattr(document, attribute)
        if default is not _KEEP and (value is None or value == default or (isinstance(value, (str, list, dict)) and not value)):
            continue
        rendered[name] = _render_value(value)
    return rendered


# Marks a field that is printed even when empty.
_KEEP = object()


@cache
def _printing_order(kind: type[Document]) -> tuple[tuple[str, str, Any], ...]:
    """(JSON name, attribute, default or _KEEP) of every field of `kind`, in the order in which Docker prints them."""
    fields = list(msgspec.structs.fields(kind))
    if kind.EMBEDDED_BEFORE is not None:
        base = kind.__bases__[0]
        assert issubclass(base, Document)
        inherited = len(msgspec.structs.fields(base))
        position = next(number for number, field in enumerate(fields) if field.name == kind.EMBEDDED_BEFORE)
        fields = fields[inherited:position] + fields[:inherited] + fields[position:]
    return tuple((field.encode_name, field.name, field.default if field.name in kind.OMIT_EMPTY else _KEEP) for field in fields)


def _render_value(value: Any) -> Any:
    if isinstance(value, Document):
        return render(value)
    if isinstance(value, (list, tuple)):
        return [_render_value(item) for item in value]
    if isinstance(value, dict):
        return {key: _render_value(item) for key, item in value.items()}
    return value


@cache
def _reading_table(kind: type[Document]) -> tuple[dict[str, str], dict[str, Any], frozenset[str]]:
    """Of `kind`: lower-case name to JSON name, JSON name to field type, and the JSON names that may be one string."""
    fields = msgspec.structs.fields(kind)
    names = {field.encode_name.lower(): field.encode_name for field in fields}
    strings = frozenset(field.encode_name for field in fields if field.name in kind.STRING_OR_LIST)
    return names, {field.encode_name: field.type for field in fields}, strings


def _normalise_struct(kind: type[Document], value: Mapping[str, Any]) -> dict[str, Any]:
    names, kinds, strings = _reading_table(kind)
    normal: dict[str, Any] = {}
    for key, item in value.items():
        name = names.get(key.lower())
        if name is None or item is None:
            continue
        normal[name] = [item] if name in strings and isinstance(item, str) else _normalise(kinds[name], item)
    return normal


def _normalise(kind: Any, value: Any) -> Any:
    """`value` with the documents inside it normalised, as far as its shape follows `kind`; the rest is left for msgspec to judge."""
    optional, kind = _without_none(kind)
    if value is None:
        # Inside a map, null keeps its key: as null where the struct can say so, else as the zero value.
        return None if optional else _zero(kind)
    if isinstance(kind, type) and issubclass(kind, Document) and isinstance(value, dict):
        return _normalise_struct(kind, value)
    if get_origin(kind) is dict and isinstance(value, dict):
        item_kind = get_args(kind)[1]
        return {key: _normalise(item_kind, item) for key, item in value.items()}
    if get_origin(kind) is list and isinstance(value, list):
        item_kind = get_args(kind)[0]
        return [_normalise(item_kind, item) for item in value]
    return value


def _without_none(kind: Any) -> tuple[bool, Any]:
    if get_origin(kind) in (Union, types.UnionType):
        members = [member for member in get_args(kind) if member is not type(None)]
        if len(members) == 1:
            return True, members[0]
    return False, kind


def _zero(kind: Any) -> Any:
    if kind is str:
        return ""
    return {} if isinstance(kind, type) and issubclass(kind, Document) else None
