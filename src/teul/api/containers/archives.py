"""The files of containers over HTTP: `docker cp`, `docker export`, `docker diff`.

Source: moby daemon/server/router/container/copy.go; the header's document is api/types/container PathStat.
"""

from __future__ import annotations

import base64

import msgspec
from aiohttp import web

from teul.api.http import query
from teul.api.http.context import services
from teul.api.http.query import json_response
from teul.api.http.streaming import request_body, send_archive
from teul.errors import InvalidParameter
from teul.model.filesystem import PathStat
from teul.oci.timestamp import render_time

_STAT_HEADER = "X-Docker-Container-Path-Stat"


async def look(request: web.Request) -> web.StreamResponse:
    """Tell in a header what is at a path."""
    found = await services(request).filesystems.stat(request.match_info["name"], _path(request))
    return web.Response(headers=_stat_header(found))


async def copy_out(request: web.Request) -> web.StreamResponse:
    """Send a tar archive of what is at a path."""
    async with services(request).filesystems.archive(request.match_info["name"], _path(request)) as (found, chunks):
        return await send_archive(request, chunks, content_type="application/x-tar", headers=_stat_header(found))


async def copy_in(request: web.Request) -> web.StreamResponse:
    """Unpack the body, a tar archive, in a directory."""
    await services(request).filesystems.extract(
        request.match_info["name"],
        _path(request),
        request_body(request),
        copy_owner=query.boolean(request, "copyUIDGID"),
        no_overwrite=query.boolean(request, "noOverwriteDirNonDir"),
    )
    return web.Response()


async def export(request: web.Request) -> web.StreamResponse:
    """Send all files of a container in a tar archive."""
    async with services(request).filesystems.export(request.match_info["name"]) as chunks:
        return await send_archive(request, chunks, content_type="application/octet-stream", headers={})


async def changes(request: web.Request) -> web.StreamResponse:
    """Tell which paths were modified (0), added (1) and deleted (2). docker: null if none was."""
    found = await services(request).filesystems.changes(request.match_info["name"])
    return json_response([{"Path": change.path, "Kind": change.kind} for change in found] or None)


ROUTES = (
    ("HEAD", "/containers/{name:.+}/archive", look),
    ("GET", "/containers/{name:.+}/archive", copy_out),
    ("PUT", "/containers/{name:.+}/archive", copy_in),
    ("GET", "/containers/{name:.+}/export", export),
    ("GET", "/containers/{name:.+}/changes", changes),
)


def _path(request: web.Request) -> str:
    path = query.text(request, "path")
    if not path:
        raise InvalidParameter("bad parameter: path cannot be empty")
    if "\0" in path:
        raise InvalidParameter(f"lstat {path}: invalid argument")
    return path


def _stat_header(found: PathStat) -> dict[str, str]:
    document = {
        "name": found.name,
        "size": found.size_bytes,
        "mode": found.mode,
        "mtime": render_time(found.mtime_ns),
        "linkTarget": found.target,
    }
    return {_STAT_HEADER: base64.b64encode(msgspec.json.encode(document)).decode()}
