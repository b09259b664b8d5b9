"""POST /teul/containers/{id}/ports: what a container publishes, changed while it runs or not. In no version of Docker's API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from teul.api.containers.views import ports
from teul.api.http import query
from teul.api.http.context import services
from teul.model.port_changes import PortChanges


async def change_ports(request: web.Request) -> web.StreamResponse:
    """The answer is what inspection shows as NetworkSettings.Ports from now on."""
    changes = await query.document(request, PortChanges)
    container = await services(request).port_edits.change(request.match_info["id"], changes)
    return query.json_response({"Ports": ports(container)})


ROUTES: tuple[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]], ...] = (
    ("POST", "/teul/containers/{id}/ports", change_ports),
)
