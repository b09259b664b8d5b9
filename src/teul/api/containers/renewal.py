"""Renewing containers and going back: routes of Teul's own, in no version of Docker's API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web

from teul.api.http import query
from teul.api.http.context import Services, services
from teul.api.http.progress import Document, aux_line, relay
from teul.api.http.streaming import json_stream
from teul.errors import TeulError
from teul.model.renewal import Generation, RenewRequest
from teul.services.containers.filters import ContainerQuery, select_containers
from teul.services.containers.renewal import Outdated, Renewed, Tell

Work = Callable[[Tell], Awaitable[Renewed]]


async def renew(request: web.Request) -> web.StreamResponse:
    """POST /teul/containers/{id}/renew: another container takes its place. A line for every step; the last one says who it is."""
    wanted = await _request(request)
    name = request.match_info["id"]
    return await _stream(request, lambda tell: services(request).renewals.renew(name, wanted, tell))


async def roll_back(request: web.Request) -> web.StreamResponse:
    """POST /teul/containers/{id}/rollback: as `renew`, with what the generation `generation` was, or without a number the one before."""
    wanted = await _request(request)
    name, number = request.match_info["id"], query.integer(request, "generation")
    return await _stream(request, lambda tell: services(request).renewals.roll_back(name, number, wanted, tell))


async def list_generations(request: web.Request) -> web.StreamResponse:
    """GET /teul/containers/{id}/generations: the containers that had this one's name, the newest first."""
    found = services(request).renewals.history(request.match_info["id"])
    return query.json_response([_generation(each) for each in reversed(found)])


async def list_outdated(request: web.Request) -> web.StreamResponse:
    """GET /teul/containers/outdated: containers whose image reference means another image by now. `filters` and `all` as for the list."""
    found = services(request)
    chosen = select_containers(
        found.containers.list(),
        ContainerQuery(all=query.boolean(request, "all"), filters=query.filters(request)),
        get=found.containers.get,
        find_image_id=partial(_find_image_id, found),
    )
    return query.json_response([_outdated(each) for each in found.renewals.outdated(chosen)])


ROUTES: tuple[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]], ...] = (
    ("GET", "/teul/containers/outdated", list_outdated),
    ("GET", "/teul/containers/{id}/generations", list_generations),
    ("POST", "/teul/containers/{id}/renew", renew),
    ("POST", "/teul/containers/{id}/rollback", roll_back),
)


def _find_image_id(found: Services, reference: str) -> str | None:
    try:
        return str(found.images.resolve(reference).image_id)
    except TeulError:
        return None  # a filter by an image that is not there lets nothing pass


async def _request(request: web.Request) -> RenewRequest:
    return await query.document(request, RenewRequest)


async def _stream(request: web.Request, work: Work) -> web.StreamResponse:
    """What `work` tells, line by line; what is wrong with the request is an answer of its own, and a failure after that is told in band."""
    async with json_stream(request, late=True) as stream:

        async def begin(tell: Callable[[Document], None]) -> None:
            outcome = await work(lambda text: tell({"status": text}))
            tell(aux_line({"Id": outcome.id, "Renewed": outcome.renewed}))

        await relay(stream, begin)
    return stream.response


def _generation(generation: Generation) -> dict[str, object]:
    return {
        "Generation": generation.number,
        "Id": generation.container_id,
        "ImageID": generation.image_id,
        "Image": generation.image_reference,
        "Began": generation.began_at_ns // 1_000_000_000,
        "Changes": list(generation.changes),
        "Result": generation.result,
        "Kept": generation.settings is not None,
    }


def _outdated(found: Outdated) -> dict[str, object]:
    container = found.container
    return {
        "Id": container.id,
        "Name": container.name,
        "Image": container.image_reference,
        "ImageID": container.image_id,
        "NewImageID": str(found.image.image_id),
    }
