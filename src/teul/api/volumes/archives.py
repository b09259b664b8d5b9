"""Volumes as archives, and copies of them: routes of Teul's own, in no version of Docker's API. `teul volume` uses them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from teul.api.http import query
from teul.api.http.context import services
from teul.api.http.streaming import request_body, send_archive
from teul.api.volumes.routes import render_volume

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_TYPES = {"": "application/x-tar", "gzip": "application/gzip", "zstd": "application/zstd"}


async def export_volume(request: web.Request) -> web.StreamResponse:
    """GET /teul/volumes/{name}/archive: all that is in a volume, as a tar archive, compressed as `compression` says."""
    compression = query.text(request, "compression")
    async with services(request).volume_archives.export(request.match_info["name"], compression) as chunks:
        return await send_archive(request, chunks, content_type=_TYPES[compression], headers={})


async def import_volume(request: web.Request) -> web.StreamResponse:
    """POST /teul/volumes/{name}/archive: unpack the body in a volume that is empty, or with `create=1` in a new one."""
    found = services(request)
    volume = await found.volume_archives.import_(request.match_info["name"], request_body(request), create=query.boolean(request, "create"))
    return query.json_response(render_volume(await found.volumes.inspect(volume.name)))


async def clone_volume(request: web.Request) -> web.StreamResponse:
    """POST /teul/volumes/{name}/clone: copy a volume into the one that `to` names, which is new or empty."""
    found = services(request)
    volume = await found.volume_archives.clone(request.match_info["name"], query.text(request, "to"))
    return query.json_response(render_volume(await found.volumes.inspect(volume.name)))


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/teul/volumes/{name}/archive", export_volume),
    ("POST", "/teul/volumes/{name}/archive", import_volume),
    ("POST", "/teul/volumes/{name}/clone", clone_volume),
)
