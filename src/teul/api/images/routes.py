"""Images over HTTP: list, inspect, load, import, save, tag, remove.

Source: moby daemon/server/router/image/image_routes.go; routes and parameters as in the API's specification.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from teul.api.http.context import api_version, services
from teul.api.http.progress import relay
from teul.api.http.query import boolean, filters, json_response, text
from teul.api.http.streaming import JsonStream, archive_response, json_stream, request_body, while_connected
from teul.api.images.imports import import_from_web
from teul.api.images.views import history_view, inspect_view, loaded_lines, pull_view, removed_view, summary_view
from teul.errors import Cancelled, Forbidden, InvalidParameter
from teul.model.filter import Filters
from teul.oci.digest import find_digest
from teul.oci.platform import Platform, decode_platform, parse_platform
from teul.oci.reference import Reference, parse_reference, repository_and_tag
from teul.services.images.import_ import ImportRequest
from teul.services.images.listing import ACCEPTED, ImageQuery
from teul.services.images.load import LayerProgress
from teul.services.images.registries import lenient_credentials

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def list_images(request: web.Request) -> web.StreamResponse:
    """GET /images/json"""
    version = api_version(request)
    wanted = filters(request)
    if version < (1, 41) and (pattern := text(request, "filter")):
        wanted.validate(ACCEPTED)
        wanted = Filters({**{key: wanted.get(key) for key in ACCEPTED if key in wanted}, "reference": [pattern]})
    query = ImageQuery(wanted, shared_size=version >= (1, 42) and boolean(request, "shared-size"))
    images = services(request).images
    told = version >= (1, 47) and boolean(request, "manifests")
    return json_response(
        [summary_view(summary, version, images.manifests(summary.image) if told else None) for summary in images.list(query)]
    )


async def inspect_image(request: web.Request) -> web.StreamResponse:
    """GET /images/{name}/json"""
    version = api_version(request)
    platform = _platform(request, since=(1, 49))
    told = version >= (1, 48) and boolean(request, "manifests")
    if platform is not None and told:
        raise InvalidParameter("conflicting options: manifests and platform options cannot both be set")
    images = services(request).images
    image = images.resolve(request.match_info["name"], platform)
    names, directories = images.references(image), images.layer_directories(image)
    manifests = images.manifests(image) if told else None
    return json_response(inspect_view(image, names, directories, images.tagged_at_ns(image), version, manifests=manifests))


async def image_history(request: web.Request) -> web.StreamResponse:
    """GET /images/{name}/history"""
    images = services(request).images
    image = images.resolve(request.match_info["name"], _platform(request, since=(1, 48)))
    return json_response([history_view(item) for item in images.history(image)])


async def load_images(request: web.Request) -> web.StreamResponse:
    """POST /images/load.

    docker: an error in the archive is told in band, the status is 200. The answer begins with its first line, and what has arrived whole
    is loaded whether or not somebody reads on: docker-py's callers drop the answer unread.
    """
    platform = _platform(request, since=(1, 48))
    quiet = boolean(request, "quiet", default=True)
    async with json_stream(request, late=True, in_band=True) as stream:
        progress = None if quiet else _progress(stream)
        loaded = await services(request).image_archives.load(request_body(request), platform=platform, progress=progress)
        for line in loaded_lines(loaded):
            await stream.send({"stream": line})
    return stream.response


async def create_image(request: web.Request) -> web.StreamResponse:
    """POST /images/create: pull, or import from the body."""
    platform = parse_platform(value) if (value := text(request, "platform")) and api_version(request) >= (1, 32) else None
    if name := text(request, "fromImage"):
        return await _pull_image(request, _pull_reference(name, text(request, "tag")), platform)
    source = text(request, "fromSrc")
    order = ImportRequest(
        reference=repository_and_tag(text(request, "repo"), text(request, "tag")),
        changes=request.query.getall("changes", []),
        message=text(request, "message"),
        platform=platform,
    )
    if source != "-":
        return await import_from_web(request, source, order)
    image_id = await services(request).image_archives.import_(request_body(request), order.from_source(source))
    async with json_stream(request) as stream:
        await stream.send({"status": str(image_id)})
    return stream.response


async def _pull_image(request: web.Request, reference: Reference, platform: Platform | None) -> web.StreamResponse:
    """docker: what goes wrong before there is anything to tell has a status of its own, what goes wrong later is told in band."""
    credentials = lenient_credentials(request.headers.get("X-Registry-Auth", ""))
    puller = services(request).image_puller
    async with while_connected(request), json_stream(request, late=True) as stream:
        await relay(stream, lambda tell: puller.pull(reference, credentials, lambda step: tell(pull_view(step)), platform=platform))
    return stream.response


async def save_images(request: web.Request) -> web.StreamResponse:
    """GET /images/get and GET /images/{name}/get"""
    name = request.match_info.get("name")
    names = [name] if name is not None else request.query.getall("names", [])
    found = services(request)
    platform = _platform(request, since=(1, 48))
    if platform is not None:
        for wanted in names:
            found.images.resolve(wanted, platform)
    chunks = found.image_archives.save(names, platform=platform)
    return await archive_response(request, chunks)


async def tag_image(request: web.Request) -> web.StreamResponse:
    """POST /images/{name}/tag"""
    reference = repository_and_tag(text(request, "repo"), text(request, "tag"))
    if reference is None:
        raise InvalidParameter("repository name must have at least one component")
    images = services(request).images
    await images.tag(images.resolve(request.match_info["name"]), reference)
    return web.Response(status=201)


async def remove_image(request: web.Request) -> web.StreamResponse:
    """DELETE /images/{name}"""
    name = request.match_info["name"]
    if not name.strip():
        raise InvalidParameter("image name cannot be blank")
    found = services(request)
    platforms = [decode_platform(value) for value in request.query.getall("platforms", [])] if api_version(request) >= (1, 50) else []
    force = boolean(request, "force")
    if not platforms:
        removed = await found.image_remover.remove(name, force=force)
    else:
        removed = [item for platform in platforms for item in await found.image_remover.remove_platform(name, platform, force=force)]
    return json_response([removed_view(item) for item in removed])


async def prune_images(request: web.Request) -> web.StreamResponse:
    """POST /images/prune"""
    pruned = await services(request).image_remover.prune(filters(request))
    removed = [removed_view(item) for item in pruned.removed]
    return json_response({"ImagesDeleted": removed or None, "SpaceReclaimed": pruned.reclaimed_bytes})


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/images/json", list_images),
    ("POST", "/images/load", load_images),
    ("POST", "/images/create", create_image),
    ("POST", "/images/prune", prune_images),
    ("GET", "/images/get", save_images),
    ("GET", "/images/{name:.*}/get", save_images),
    ("GET", "/images/{name:.*}/json", inspect_image),
    ("GET", "/images/{name:.*}/history", image_history),
    ("POST", "/images/{name:.*}/tag", tag_image),
    ("DELETE", "/images/{name:.*}", remove_image),
)


def _progress(stream: JsonStream) -> Callable[[LayerProgress], Awaitable[None]]:
    async def send(progress: LayerProgress) -> None:
        detail = {"current": progress.current_bytes, "total": progress.total_bytes}
        with suppress(Cancelled):  # who has gone is told nothing; whether the archive is whole, its own reader finds out
            await stream.send({"status": "Loading layer", "progressDetail": detail, "id": progress.diff_id.short})

    return send


def _platform(request: web.Request, *, since: tuple[int, int]) -> Platform | None:
    """The `platform` parameter, which clients older than `since` do not have."""
    if api_version(request) < since:
        return None
    values = request.query.getall("platform", [])
    if len(values) > 1:
        raise InvalidParameter("multiple platform parameters not supported")
    return decode_platform(values[0]) if values and values[0] else None


def _pull_reference(name: str, tag: str) -> Reference:
    """docker: `tag` may be a digest, and a name may end in a colon."""
    reference = parse_reference(name.removesuffix(":"))
    if tag:
        digest = find_digest(tag)
        reference = reference.with_digest(digest) if digest is not None else reference.with_tag(tag)
    if reference.familiar_name == "scratch":
        raise Forbidden("'scratch' is a reserved name")
    return reference
