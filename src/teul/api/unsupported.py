"""What the API has and this engine does not do (yet): one table, one clear sentence each.

Swarm's paths answer as a dockerd that is no manager does, lists of things that cannot exist here are empty.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from teul.api.http.query import json_response
from teul.errors import NotImplementedHere, Unavailable

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'
)


async def no_manager(_: web.Request) -> web.StreamResponse:
    """Refuse whatever is asked of a swarm."""
    raise Unavailable(_NO_MANAGER)


async def no_plugins(_: web.Request) -> web.StreamResponse:
    """An empty list: there are no plugins."""
    return json_response([])


async def no_build_cache(_: web.Request) -> web.StreamResponse:
    """Nothing is removed: there is no builder, and so no cache of one; `docker system prune` asks for it among other things."""
    return json_response({"CachesDeleted": None, "SpaceReclaimed": 0})


def unsupported(what: str) -> Handler:
    """A handler that says that `what` is not supported."""

    async def refuse(_: web.Request) -> web.StreamResponse:
        raise NotImplementedHere(f"{what} is not supported by this engine")

    return refuse


# method, path, what cannot be done
_UNSUPPORTED = (
    ("POST", "/build", "building images"),
    ("POST", "/build/cancel", "cancelling a build"),
    ("POST", "/session", "a builder session"),
    ("POST", "/grpc", "the gRPC interface of a builder"),
    ("GET", "/containers/{name:.+}/checkpoints", "checkpoints"),
    ("POST", "/containers/{name:.+}/checkpoints", "checkpoints"),
    ("DELETE", "/containers/{name:.+}/checkpoints/{checkpoint}", "checkpoints"),
    ("GET", "/plugins/privileges", "plugins"),
    ("POST", "/plugins/pull", "plugins"),
    ("POST", "/plugins/create", "plugins"),
    ("GET", "/plugins/{name:.+}/json", "plugins"),
    ("POST", "/plugins/{name:.+}/{action}", "plugins"),
    ("DELETE", "/plugins/{name:.+}", "plugins"),
    ("POST", "/swarm/init", "swarm mode"),
    ("POST", "/swarm/join", "swarm mode"),
)

_SWARM = ("swarm", "nodes", "services", "tasks", "secrets", "configs")

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    *((method, path, unsupported(what)) for method, path, what in _UNSUPPORTED),
    *((method, f"/{noun}{rest}", no_manager) for noun in _SWARM for method in ("GET", "POST", "DELETE") for rest in ("", "/{path:.+}")),
    ("GET", "/plugins", no_plugins),
    ("POST", "/build/prune", no_build_cache),
)
