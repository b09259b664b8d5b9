"""Volumes over HTTP. Source: moby daemon/server/router/volume."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from teul.api.http import query
from teul.api.http.context import api_version, services
from teul.errors import Unavailable
from teul.model.filter import Filters
from teul.model.volume import CreateVolume, VolumeUsage, VolumeView

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def list_volumes(request: web.Request) -> web.StreamResponse:
    """`docker volume ls`."""
    found, warnings = await services(request).volumes.list(query.filters(request))
    return query.json_response({"Volumes": [render_volume(view) for view in found], "Warnings": list(warnings) or None})


async def inspect_volume(request: web.Request) -> web.StreamResponse:
    """`docker volume inspect`."""
    view = await services(request).volumes.inspect(request.match_info["name"])
    document = render_volume(view)
    if view.status:
        document["Status"] = view.status
    return query.json_response(document)


async def create_volume(request: web.Request) -> web.StreamResponse:
    """`docker volume create`."""
    body = await query.document(request, CreateVolume)
    if body.cluster_volume_spec is not None and api_version(request) >= (1, 42):
        raise Unavailable(
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'
        )
    return query.json_response(render_volume(await services(request).volumes.create(body)), status=201)


async def remove_volume(request: web.Request) -> web.StreamResponse:
    """`docker volume rm`."""
    await services(request).volumes.remove(request.match_info["name"], force=query.boolean(request, "force"))
    return web.Response(status=204)


async def prune_volumes(request: web.Request) -> web.StreamResponse:
    """`docker volume prune`. docker: before 1.42 those that somebody has named were taken, too."""
    filters = query.filters(request)
    if api_version(request) < (1, 42):
        filters = Filters({**{key: filters.get(key) for key in filters}, "all": ["true"]})
    removed, freed_bytes = await services(request).volumes.prune(filters)
    return query.json_response({"VolumesDeleted": list(removed), "SpaceReclaimed": freed_bytes})


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/volumes", list_volumes),
    ("GET", "/volumes/{name:.*}", inspect_volume),
    ("POST", "/volumes/create", create_volume),
    ("POST", "/volumes/prune", prune_volumes),
    ("DELETE", "/volumes/{name:.*}", remove_volume),
)


def render_volume(view: VolumeView, usage: VolumeUsage | None = None) -> dict[str, Any]:
    """A volume as the API shows it; what it takes on the disk is shown by `system df` alone, and its status by inspection alone."""
    volume = view.volume
    document: dict[str, Any] = {
        "CreatedAt": view.created_at,
        "Driver": volume.driver,
        "Labels": volume.labels,
        "Mountpoint": view.mountpoint,
        "Name": volume.name,
        "Options": volume.options,
        "Scope": volume.scope,
    }
    if usage is not None:
        document["UsageData"] = {"RefCount": usage.containers, "Size": usage.size_bytes}
    return document
