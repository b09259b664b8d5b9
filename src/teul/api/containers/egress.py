"""/teul/containers/{id}/egress: what a container may reach beyond its networks, and what it was refused. In no version of Docker's API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from teul.api.http import query
from teul.api.http.context import services
from teul.model.egress_change import EgressChange
from teul.services.containers.egress import EgressReport


async def show_egress(request: web.Request) -> web.StreamResponse:
    """`teul network egress CONTAINER`."""
    return query.json_response(_render(await services(request).egress_edits.report(request.match_info["id"])))


async def change_egress(request: web.Request) -> web.StreamResponse:
    """`teul network egress CONTAINER SETTING`. The answer is what is shown from now on."""
    edits = services(request).egress_edits
    change = await query.document(request, EgressChange)
    await edits.change(request.match_info["id"], change.egress)
    return query.json_response(_render(await edits.report(request.match_info["id"])))


ROUTES: tuple[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]], ...] = (
    ("GET", "/teul/containers/{id}/egress", show_egress),
    ("POST", "/teul/containers/{id}/egress", change_egress),
)


def _render(report: EgressReport) -> dict[str, Any]:
    return {
        "Egress": report.rules,
        "Networks": report.networks,
        "Names": {
            name: [{"Address": address, "Seconds": seconds} for address, seconds in addresses.items()]
            for name, addresses in report.names.items()
        },
        "RefusedNames": report.refused_names,
        "Refused": [
            {"Address": str(each.destination), "Protocol": each.protocol, "Port": each.port, "Packets": each.packets}
            for each in report.refusals
        ],
    }
