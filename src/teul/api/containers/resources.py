"""What a container uses, and what it may use: stats and update."""

from __future__ import annotations

from aiohttp import web

from teul.api.containers.stats_views import stats_document
from teul.api.http import query
from teul.api.http.context import api_version, services
from teul.api.http.query import json_response
from teul.api.http.streaming import json_stream, while_connected
from teul.model.document import build, check_types
from teul.model.host_config import Resources, RestartPolicy
from teul.services.containers.update import UpdateContainer


async def stats(request: web.Request) -> web.StreamResponse:
    """Send one document, or one in every second until the client hangs up or the container is removed."""
    resources = services(request).resources
    stream = query.boolean(request, "stream", default=True)
    one_shot = api_version(request) >= (1, 41) and query.boolean(request, "one-shot")
    container = resources.check_stats(request.match_info["name"], stream=stream, one_shot=one_shot)
    if not stream:
        return json_response(stats_document(await resources.sample(container, one_shot=one_shot)))
    async with json_stream(request, line_end=b"\n") as lines, while_connected(request):
        async for sample in resources.watch(container):
            await lines.send(stats_document(sample))
    return lines.response


async def update(request: web.Request) -> web.StreamResponse:
    """The body is a Resources document with a RestartPolicy beside its fields."""
    body = await query.json_object(request, Resources)
    check_types(Resources, body, {"restartpolicy": RestartPolicy})
    wanted = build(Resources, body)
    policy = next((value for key, value in body.items() if key.lower() == "restartpolicy"), None)
    if api_version(request) < (1, 40):
        wanted.pids_limit = None
    change = UpdateContainer(resources=wanted, restart_policy=RestartPolicy() if policy is None else build(RestartPolicy, policy))
    warnings = await services(request).resources.update(request.match_info["name"], change)
    return json_response({"Warnings": warnings or None})


ROUTES = (
    ("GET", "/containers/{name:.+}/stats", stats),
    ("POST", "/containers/{name:.+}/update", update),
)
