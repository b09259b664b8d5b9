"""Query parameters and JSON bodies, read as dockerd reads them, with its error texts.

Source: moby daemon/server/httputils (form.go, httputils.go), daemon/internal/timestamp.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from teul.errors import InvalidParameter
from teul.model.document import D, Document, convert, decode_object
from teul.model.document import decode_json as decode_value
from teul.model.filter import Filters, parse_filters
from teul.model.number import parse_int64
from teul.model.terminal import LARGEST

T = TypeVar("T")

# No document of this API comes near this size; the limit keeps a client from filling the engine's memory.
JSON_BYTES = 16 * 1024 * 1024

_FALSE = frozenset({"", "0", "no", "false", "none"})


def text(request: web.Request, key: str) -> str:
    """The parameter's first value, empty if it was not given."""
    return request.query.get(key, "")


def boolean(request: web.Request, key: str, *, default: bool = False) -> bool:
    """A yes-or-no parameter. docker: anything but "", 0, no, false and none is true; `default` only counts if the key is absent."""
    value = request.query.get(key)
    return default if value is None else value.strip().lower() not in _FALSE


def integer(request: web.Request, key: str) -> int | None:
    """A parameter that is a decimal number; None if absent or empty. Raises InvalidParameter with Go's words."""
    value = text(request, key)
    if not value:
        return None
    try:
        return parse_int64(value)
    except ValueError as error:
        raise InvalidParameter(f'strconv.Atoi: parsing "{value}": {error}') from None


def dimension(request: web.Request, key: str, *, name: str) -> int:
    """A terminal's height or width. Raises InvalidParameter, with dockerd's words, if it is missing or no terminal can have it."""
    value = text(request, key)
    try:
        number = parse_int64(value)
    except ValueError as error:
        raise InvalidParameter(f'invalid resize {name} "{value}": {error}') from None
    if not 0 <= number <= LARGEST:
        raise InvalidParameter(f'invalid resize {name} "{value}": value out of range')
    return number


def timestamp_ns(request: web.Request, key: str, *, quote: str = '"') -> int | None:
    """`seconds[.nanoseconds]` since 1970; None if absent. Raises InvalidParameter, naming the key between `quote`s."""
    value = text(request, key)
    if not value:
        return None
    try:
        return parse_timestamp_ns(value)
    except ValueError as error:
        raise InvalidParameter(f'invalid value for {quote}{key}{quote}: invalid timestamp "{value}": {error}') from None


def parse_timestamp_ns(value: str) -> int:
    """`seconds[.nanoseconds]` to nanoseconds. Raises ValueError with dockerd's words."""
    seconds, _, fraction = value.partition(".")
    try:
        whole = parse_int64(seconds)
    except ValueError as error:
        raise ValueError(f'invalid seconds "{seconds}": {error}') from None
    if len(fraction) > 20:
        raise ValueError(f"invalid nanoseconds: length {len(fraction)} exceeds maximum 20")
    for position, character in enumerate(fraction):
        if character not in "0123456789":
            raise ValueError(f"invalid nanoseconds: invalid character '{character}' at position {position}")
    return whole * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))


def filters(request: web.Request) -> Filters:
    """The `filters` parameter. Raises InvalidParameter if it is not JSON of the right shape."""
    return parse_filters(text(request, "filters"))


async def json_object(request: web.Request, kind: type[Document]) -> dict[str, Any]:
    """The body, an object of JSON that should be a `kind`; an empty one if there is no body. Raises InvalidParameter.

    docker: httputils.ReadJSON, to which no body is a document that says nothing. One that ends before it has said anything is a fault.
    """
    body = await json_bytes(request)
    return decode_object(body, kind) if body or request.body_exists else {}


async def document(request: web.Request, kind: type[D]) -> D:
    """As `json_object`, read as `kind`."""
    return convert(kind, await json_object(request, kind))


async def json_body(request: web.Request, shape: type[T]) -> T:
    """The body, which there must be, decoded to `shape`, a msgspec type; for documents that are no Docker's. Raises InvalidParameter."""
    return decode_json(await json_bytes(request), shape)


async def json_bytes(request: web.Request) -> bytes:
    """The body, which must be said to be JSON. Raises InvalidParameter, also for more than `JSON_BYTES`."""
    check_content_type(request)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > JSON_BYTES:
            raise InvalidParameter(f"request body is larger than {JSON_BYTES} bytes")
    return bytes(body)


def check_content_type(request: web.Request) -> None:
    """Raise InvalidParameter unless the body is said to be JSON, or there is none."""
    header = request.headers.get("Content-Type", "")
    if not header and not request.body_exists:
        return
    media_type = header.partition(";")[0].strip().lower()
    if media_type == "application/json":
        return
    if not re.fullmatch(r"[a-z0-9!#$%&'*+.^_`|~-]+(/[a-z0-9!#$%&'*+.^_`|~-]+)?", media_type):
        why = "mime: no media type" if not media_type else "mime: expected token after slash"
        raise InvalidParameter(f"malformed Content-Type header ({header}): {why}")
    raise InvalidParameter(f"unsupported Content-Type header ({header}): must be 'application/json'")


def decode_json(body: bytes, shape: type[T]) -> T:
    """Decode one JSON document to `shape`. Raises InvalidParameter."""
    try:
        return msgspec.convert(decode_value(body), shape)
    except RecursionError:
        raise InvalidParameter("invalid JSON: exceeded max depth") from None
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"invalid JSON: {error}") from None


def encode_line(document: Any) -> bytes:
    """`document` as one line of JSON."""
    return msgspec.json.encode(document) + b"\n"


def json_response(document: Any, *, status: int = 200) -> web.Response:
    """`document` (anything msgspec can encode) as the answer."""
    return web.Response(status=status, body=encode_line(document), content_type="application/json")
