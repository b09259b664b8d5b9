"""Containers: everything about them that is asked and answered at once (attach and logs: api/containers/streams.py)."""

from __future__ import annotations

from collections.abc import Awaitable

from aiohttp import web

from teul.api.containers.views import Surroundings, inspection, now_ns, summary
from teul.api.http import query, versions
from teul.api.http.context import Services, api_version, services
from teul.api.http.query import json_response
from teul.api.http.streaming import started_stream, while_connected
from teul.errors import InvalidParameter, NotFound, NotImplementedHere, TeulError
from teul.model.config import decode_create_body
from teul.model.container import Container, ContainerExit, CreateContainer
from teul.model.network_config import NetworkingConfig
from teul.services.containers.filters import ContainerQuery, select_containers

_CONDITIONS = frozenset({"not-running", "next-exit", "removed"})


async def list_containers(request: web.Request) -> web.StreamResponse:
    """`docker ps`."""
    found = services(request)
    wanted = ContainerQuery(all=query.boolean(request, "all"), limit=query.integer(request, "limit") or 0, filters=query.filters(request))
    names = _ImageNames(found)
    containers = found.containers
    chosen = select_containers(containers.list(), wanted, get=containers.get, find_image_id=names.find_id)
    with_sizes = query.boolean(request, "size")
    now = now_ns()
    documents = [
        summary(
            container,
            image=names.shown(container),
            now_ns=now,
            sizes=await containers.size(container) if with_sizes else None,
            names=containers.names(container),
        )
        for container in chosen
    ]
    return json_response([versions.adapt("container summary", api_version(request), document) for document in documents])


async def create(request: web.Request) -> web.StreamResponse:
    """The body is a ContainerConfig with HostConfig and NetworkingConfig at its top level."""
    config, host_config, networking = decode_create_body(await query.json_bytes(request))
    networking = networking or NetworkingConfig()
    version = api_version(request)
    warnings = versions.adapt_create(version, config, host_config, networking)
    created = await services(request).containers.create(
        CreateContainer(
            name=query.text(request, "name") or None,
            config=config,
            host_config=host_config,
            networking=networking,
            platform=(query.text(request, "platform") or None) if version >= (1, 41) else None,
            # docker: what is read-only is so with all that is mounted below it since 1.44.
            shallow_read_only=version < (1, 44),
        )
    )
    return json_response({"Id": created.id, "Warnings": [*created.warnings, *warnings]}, status=201)


async def inspect(request: web.Request) -> web.StreamResponse:
    """All that is known of one container."""
    found = services(request)
    container = found.containers.get(request.match_info["name"])
    around = Surroundings(
        root=found.system.facts.root,
        lower_directories=_layer_directories(found, container),
        exec_ids=found.execs.ids(container.id),
        links=found.containers.links(container),
        sizes=await found.containers.size(container) if query.boolean(request, "size") else None,
    )
    return json_response(versions.adapt("container inspection", api_version(request), inspection(container, around)))


async def start(request: web.Request) -> web.StreamResponse:
    """204; 304 if the container runs."""
    # docker: a document of any use has at least 8 bytes; shorter bodies of old clients are let pass.
    if (request.content_length or 0) > 7 or "chunked" in request.headers.get("Transfer-Encoding", ""):
        raise InvalidParameter("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
    if query.text(request, "checkpoint"):
        raise NotImplementedHere("starting from a checkpoint is not supported by this engine")
    return await _done(services(request).lifecycle.start(request.match_info["name"]))


async def stop(request: web.Request) -> web.StreamResponse:
    """204; 304 if the container does not run."""
    signal, seconds = _stop_options(request)
    return await _done(services(request).lifecycle.stop(request.match_info["name"], signal=signal, timeout_seconds=seconds))


async def restart(request: web.Request) -> web.StreamResponse:
    """Stop and start."""
    signal, seconds = _stop_options(request)
    return await _done(services(request).lifecycle.restart(request.match_info["name"], signal=signal, timeout_seconds=seconds))


async def kill(request: web.Request) -> web.StreamResponse:
    """Send a signal, KILL if none is named."""
    name = request.match_info["name"]
    try:
        await services(request).lifecycle.kill(name, signal=query.text(request, "signal") or "KILL")
    except TeulError as error:
        error.message = f"cannot kill container: {name}: {error.message}"
        raise
    return web.Response(status=204)


async def pause(request: web.Request) -> web.StreamResponse:
    """Freeze all processes of a container."""
    return await _done(services(request).lifecycle.pause(request.match_info["name"]))


async def unpause(request: web.Request) -> web.StreamResponse:
    """Let the processes of a container go on."""
    return await _done(services(request).lifecycle.unpause(request.match_info["name"]))


async def rename(request: web.Request) -> web.StreamResponse:
    """The new name is the parameter `name`."""
    return await _done(services(request).containers.rename(request.match_info["name"], query.text(request, "name")))


async def remove(request: web.Request) -> web.StreamResponse:
    """`force` kills the container first, `v` removes its anonymous volumes; `link` removes a link and no container."""
    return await _done(
        services(request).lifecycle.remove(
            request.match_info["name"],
            force=query.boolean(request, "force"),
            volumes=query.boolean(request, "v"),
            link=query.boolean(request, "link"),
        )
    )


async def prune(request: web.Request) -> web.StreamResponse:
    """`docker container prune`."""
    removed, freed_bytes = await services(request).container_pruning.prune(query.filters(request))
    return json_response({"ContainersDeleted": list(removed) or None, "SpaceReclaimed": freed_bytes})


async def wait(request: web.Request) -> web.StreamResponse:
    """Send the headers at once, so that the client knows that the end is being waited for; the document when the container has ended."""
    version = api_version(request)
    condition = (query.text(request, "condition") if version >= (1, 30) else "") or "not-running"
    if condition not in _CONDITIONS:
        raise InvalidParameter(f'invalid condition: "{condition}"')
    end = services(request).containers.wait(request.match_info["name"], condition)
    if version < (1, 30):
        return json_response(_exit_document(await end))
    response = await started_stream(request, content_type="application/json")
    async with while_connected(request):
        document = _exit_document(await end)
        await response.write(query.encode_line(document))
        await response.write_eof()
    return response


async def resize(request: web.Request) -> web.StreamResponse:
    """Set the size of a container's terminal."""
    height = query.dimension(request, "h", name="height")
    width = query.dimension(request, "w", name="width")
    await services(request).containers.resize(request.match_info["name"], height=height, width=width)
    return web.Response(status=200)


async def top(request: web.Request) -> web.StreamResponse:
    """The processes inside, as ps on the host shows them."""
    titles, processes = await services(request).containers.top(request.match_info["name"], query.text(request, "ps_args") or "-ef")
    return json_response({"Processes": processes, "Titles": titles})


ROUTES = (
    ("GET", "/containers/json", list_containers),
    ("POST", "/containers/create", create),
    ("POST", "/containers/prune", prune),
    ("GET", "/containers/{name:.+}/json", inspect),
    ("GET", "/containers/{name:.+}/top", top),
    ("POST", "/containers/{name:.+}/start", start),
    ("POST", "/containers/{name:.+}/stop", stop),
    ("POST", "/containers/{name:.+}/restart", restart),
    ("POST", "/containers/{name:.+}/kill", kill),
    ("POST", "/containers/{name:.+}/pause", pause),
    ("POST", "/containers/{name:.+}/unpause", unpause),
    ("POST", "/containers/{name:.+}/rename", rename),
    ("POST", "/containers/{name:.+}/resize", resize),
    ("POST", "/containers/{name:.+}/wait", wait),
    ("DELETE", "/containers/{name:.*}", remove),
)


async def _done(work: Awaitable[None]) -> web.Response:
    await work
    return web.Response(status=204)


def _stop_options(request: web.Request) -> tuple[str | None, int | None]:
    signal = query.text(request, "signal") if api_version(request) >= (1, 42) else ""
    return signal or None, query.integer(request, "t")


def _exit_document(end: ContainerExit) -> dict[str, object]:
    document: dict[str, object] = {"StatusCode": end.status_code}
    return document if end.error is None else {**document, "Error": {"Message": end.error}}


def _layer_directories(found: Services, container: Container) -> list[str]:
    """The layer directories of the container's image; none if the image is gone."""
    try:
        return found.images.layer_directories(found.images.of(container))
    except NotFound:
        return []


class _ImageNames:
    """The images that the references in a list of containers lead to, each reference looked up once."""

    def __init__(self, found: Services) -> None:
        self._images = found.images
        self._known: dict[str, str | None] = {}

    def find_id(self, reference: str) -> str | None:
        """The id of the image that `reference` means now."""
        if reference not in self._known:
            self._known[reference] = self._resolve(reference)
        return self._known[reference]

    def shown(self, container: Container) -> str:
        """docker: the reference the container was made with, as long as it still means the same image."""
        reference = container.image_reference
        return reference if self.find_id(reference) == container.image_id else container.image_id

    def _resolve(self, reference: str) -> str | None:
        try:
            return str(self._images.resolve(reference).image_id)
        except TeulError:
            return None  # gone, or ambiguous by now: the reference means no image
