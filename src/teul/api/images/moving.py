"""Images from engine to engine: routes of Teul's own, in no version of Docker's API. `teul image push-to` and `pull-from` use them.

The engine that has the images tells their blobs, the other one which of these it lacks; then the first one saves an archive without the
blobs that it is told, and the other one loads it, with blobs of its own in their place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from teul.api.http.context import services
from teul.api.http.query import json_body, json_response
from teul.api.http.streaming import archive_response, json_stream, request_body
from teul.api.images.views import loaded_lines
from teul.services.images.moving import parse_digests

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Names(msgspec.Struct):
    names: list[str]


class _Blobs(msgspec.Struct):
    blobs: list[str]


class _Order(msgspec.Struct):
    names: list[str]
    without: list[str]


async def list_blobs(request: web.Request) -> web.StreamResponse:
    """POST /teul/images/blobs: the blobs of images, but for their documents."""
    body = await json_body(request, _Names)
    found = await services(request).image_moves.blobs(body.names)
    return json_response({"blobs": [{"digest": str(blob.digest), "size": blob.size_bytes} for blob in found]})


async def list_missing(request: web.Request) -> web.StreamResponse:
    """POST /teul/images/missing: which of the given blobs are not stored here."""
    body = await json_body(request, _Blobs)
    missing = services(request).image_moves.missing(parse_digests(body.blobs))
    return json_response({"missing": [str(digest) for digest in missing]})


async def save_partly(request: web.Request) -> web.StreamResponse:
    """POST /teul/images/save: as GET /images/get, without some blobs."""
    body = await json_body(request, _Order)
    chunks = services(request).image_archives.save(body.names, without=frozenset(parse_digests(body.without)))
    return await archive_response(request, chunks)


async def load_partial(request: web.Request) -> web.StreamResponse:
    """POST /teul/images/load: as POST /images/load, and blobs that are stored here may be missing from the archive."""
    async with json_stream(request) as stream:
        for line in loaded_lines(await services(request).image_archives.load(request_body(request), completes=True)):
            await stream.send({"stream": line})
    return stream.response


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/teul/images/blobs", list_blobs),
    ("POST", "/teul/images/missing", list_missing),
    ("POST", "/teul/images/save", save_partly),
    ("POST", "/teul/images/load", load_partial),
)
