"""POST /teul/containers/{id}/mounts: what a container has mounted, changed while it runs or not. In no version of Docker's API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from teul.api.http import query
from teul.api.http.context import services
from teul.model.document import render
from teul.model.mount_changes import MountChanges


async def change_mounts(request: web.Request) -> web.StreamResponse:
    """The answer is what inspection shows as Mounts from now on."""
    changes = await query.document(request, MountChanges)
    container = await services(request).mount_edits.change(request.match_info["id"], changes)
    return query.json_response({"Mounts": [render(mount) for mount in container.mounts]})


ROUTES: tuple[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]], ...] = (
    ("POST", "/teul/containers/{id}/mounts", change_mounts),
)
