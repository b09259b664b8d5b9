"""The Docker Engine API as an aiohttp application.

Routing is done here, in front of aiohttp's: the version prefix has to go first, and every start of a container passes here several
times. A path is looked up in one dictionary of literal paths, then among the few patterns that begin with the same word.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from urllib.parse import quote

from aiohttp import web

from teul.api import unsupported
from teul.api.containers import archives as container_archives
from teul.api.containers import commits as container_commits
from teul.api.containers import egress as container_egress
from teul.api.containers import execs
from teul.api.containers import explanation as container_explanation
from teul.api.containers import mounts as container_mounts
from teul.api.containers import ports as container_ports
from teul.api.containers import renewal as container_renewal
from teul.api.containers import resources as container_resources
from teul.api.containers import routes as containers
from teul.api.containers import streams as container_streams
from teul.api.http.context import HEADERS, SERVICES, VERSION_VARIABLE, Services
from teul.api.http.errors import error_response, message_response
from teul.api.http.origin import refusal
from teul.api.images import layers as image_layers
from teul.api.images import moving, push, registries
from teul.api.images import routes as images
from teul.api.networks import egress as network_egress
from teul.api.networks import routes as networks
from teul.api.system import check as system_check
from teul.api.system import routes as system
from teul.api.volumes import archives as volume_archives
from teul.api.volumes import routes as volumes
from teul.services.system import API_VERSION, MINIMUM_API_VERSION, render_version

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Route = tuple[str, str, Handler]

_MODULES = (
    unsupported,  # checkpoints are no part of a container's name
    containers,
    container_archives,
    container_commits,
    container_egress,
    container_explanation,
    container_mounts,
    container_ports,
    container_renewal,
    container_resources,
    container_streams,
    execs,
    images,
    image_layers,
    push,
    registries,
    moving,
    networks,
    network_egress,
    system,
    system_check,
    volumes,
    volume_archives,
)

_VERSION = re.compile(r"/v([0-9.]+)(?=/)")
_VARIABLE = re.compile(r"\{(\w+)(?::([^{}]+))?\}")


def create_app(services: Services, *, names: frozenset[str] = frozenset()) -> web.Application:
    """The application over `services`. Serve it with `teul.api.http.connection.Runner`: attach and exec need its connections.

    `names` (`teul.api.http.origin.own_names`) are those by which clients may call the engine over TCP, apart from localhost and addresses.
    """
    app = web.Application(client_max_size=0)  # no limit: archives are streamed, and JSON bodies are checked where they are read
    app[SERVICES] = services
    app.router.add_route("*", "/{path:.*}", _dispatcher(Router(routes()), names))
    app.on_response_prepare.append(_add_headers)
    return app


def routes() -> Iterator[Route]:
    """Every route of the API, in the order in which they are tried."""
    for module in _MODULES:
        yield from module.ROUTES


class Router:
    """Finds the handler of a method and path.

    A pattern's variable `{name}` is one path segment; `{name:regex}` may be more. Routes are tried in the order in which they were given,
    literal paths first. HEAD is answered by GET's handler where it has no handler of its own; aiohttp drops the body.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._literal: dict[tuple[str, str], Handler] = {}
        self._patterns: dict[tuple[str, str], list[tuple[re.Pattern[str], Handler]]] = {}
        for method, path, handler in routes:
            if "{" not in path:
                self._literal.setdefault((method, path), handler)
            else:
                self._patterns.setdefault((method, _first_word(path)), []).append((_compile(path), handler))

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]] | None:
        """The handler and the values of the path's variables, None if there is no such route."""
        if (handler := self._literal.get((method, path))) is not None:
            return handler, {}
        for pattern, candidate in self._patterns.get((method, _first_word(path)), ()):
            if (match := pattern.fullmatch(path)) is not None:
                return candidate, match.groupdict()
        return self.find("GET", path) if method == "HEAD" else None


def canonical_path(path: str) -> str:
    """`path`, decoded, without empty parts, `.` and `..`; a slash at its end stays.

    docker: gorilla/mux, mux.go cleanPath. It sends clients there, so that `containers//NAME` and `containers/%2FNAME` mean the name.
    """
    if "//" not in path and "/." not in path:
        return path
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return f"{cleaned}/" if path.endswith("/") and cleaned != "/" else cleaned


def _redirect(path: str, query: str) -> web.Response:
    # docker: as Go writes a path (net/url, escape): these and no others of the reserved characters stand for themselves.
    location = quote(path, safe="/$&+,:;=@") + (f"?{query}" if query else "")
    return web.Response(status=301, headers={"Location": location})


def _dispatcher(router: Router, names: frozenset[str]) -> Handler:
    """The one handler that aiohttp knows: who asks, version, route, and errors to documents."""

    async def dispatch(request: web.Request) -> web.StreamResponse:
        if (why := refusal(request, names)) is not None:
            return message_response(403, why)
        path, version = request.path, API_VERSION
        if (canonical := canonical_path(path)) != path:
            return _redirect(canonical, request.rel_url.raw_query_string)
        if (match := _VERSION.match(path)) is not None:
            version = _parse_version(match[1])
            if not MINIMUM_API_VERSION <= version <= API_VERSION:
                return _refuse_version(match[1], version)
            path = path[match.end() :]
        found = router.find(request.method, path)
        if found is None:
            return message_response(404, "page not found")
        handler, variables = found
        request.match_info.clear()
        request.match_info.update(variables)
        request.match_info[VERSION_VARIABLE] = render_version(version)
        try:
            return await handler(request)
        except ConnectionError:
            raise  # the client is gone: aiohttp drops the connection
        except Exception as error:  # noqa: BLE001 - boundary: one request
            return error_response(error)

    return dispatch


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _parse_version(text: str) -> tuple[int, int]:
    """A version such as `1.51` in a path. docker: an empty part counts as 0, and only two parts matter."""
    # Longer parts are larger than any version, whatever their further digits are.
    parts = [int(part.lstrip("0")[:9] or 0) for part in text.split(".")]
    return (parts[0], parts[1] if len(parts) > 1 else 0)


def _refuse_version(text: str, version: tuple[int, int]) -> web.Response:
    if version < MINIMUM_API_VERSION:
        minimum = render_version(MINIMUM_API_VERSION)
        message = (
            f"client version {text} is too old. Minimum supported API version is {minimum}, please upgrade your client to a newer version"
        )
        # docker: clients of that age print the body as it is.
        return web.Response(status=400, text=message + "\n", headers={"X-Content-Type-Options": "nosniff"})
    maximum = render_version(API_VERSION)
    return message_response(400, f"client version {text} is too new. Maximum supported API version is {maximum}")


def _first_word(path: str) -> str:
    return path[1:].partition("/")[0]


def _compile(path: str) -> re.Pattern[str]:
    pattern, position = "", 0
    for match in _VARIABLE.finditer(path):
        pattern += re.escape(path[position : match.start()]) + f"(?P<{match[1]}>{match[2] or '[^/]+'})"
        position = match.end()
    return re.compile(pattern + re.escape(path[position:]))
