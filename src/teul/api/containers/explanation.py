"""GET /teul/containers/{id}/network/explanation: how packets get to a container and from it. In no version of Docker's API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from teul.api.http import query
from teul.api.http.context import services
from teul.model.document import render


async def explain(request: web.Request) -> web.StreamResponse:
    """`port`: of one port, as `8080`, `443/udp` or `127.0.0.1:8080`; `from`: for packets of this address."""
    found = await services(request).explanations.explain(
        request.match_info["id"], port=request.query.get("port", ""), asker=request.query.get("from", "")
    )
    return query.json_response(render(found))


ROUTES: tuple[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]], ...] = (
    ("GET", "/teul/containers/{id}/network/explanation", explain),
)
