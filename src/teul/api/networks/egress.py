"""/teul/networks/{id}/egress: what the containers of a network may reach beyond it. In no version of Docker's API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from teul.api.http import query
from teul.api.http.context import services
from teul.model.egress_change import EgressChange


async def show_egress(request: web.Request) -> web.StreamResponse:
    """`teul network egress --network NETWORK`."""
    return query.json_response({"Egress": services(request).networks.get(request.match_info["id"]).egress})


async def change_egress(request: web.Request) -> web.StreamResponse:
    """`teul network egress --network NETWORK SETTING`. The answer is what is shown from now on."""
    change = await query.document(request, EgressChange)
    network = await services(request).egress_edits.change_network(request.match_info["id"], change.egress)
    return query.json_response({"Egress": network.egress})


ROUTES: tuple[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]], ...] = (
    ("GET", "/teul/networks/{id}/egress", show_egress),
    ("POST", "/teul/networks/{id}/egress", change_egress),
)
