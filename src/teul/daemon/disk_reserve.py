"""Room on the disk that new things do not get: what is there already may still write, and somebody may still remove something.

Images, containers and volumes that come when little is left would fill the disk under the database and under every container that runs.
They are refused before that, when the request comes; what is under way by then goes on. Whoever removes something, stops, starts or looks
is never refused. What is left when the disk is full all the same, `store/ballast.py` keeps.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from teul.aio import run_blocking
from teul.api.http.errors import error_response
from teul.errors import Refusal
from teul.model.size import human_size
from teul.store.ballast import free_bytes

DEFAULT_RESERVE_BYTES = 32 << 20

# The requests by which something comes that stays on the disk, without their versions.
GROWING = (
    ("POST", "/containers/create"),
    ("PUT", "/containers/[^/]+/archive"),
    ("POST", "/images/create"),
    ("POST", "/images/load"),
    ("POST", "/volumes/create"),
    ("POST", "/commit"),
    ("POST", "/teul/containers/[^/]+/renew"),
    ("POST", "/teul/containers/[^/]+/rollback"),
    ("POST", "/teul/images/load"),
)
_GROWING = {
    method: re.compile("(?:/v[0-9.]+)?(?:" + "|".join(path for other, path in GROWING if other == method) + ")")
    for method in {method for method, _ in GROWING}
}


class NoRoom(Refusal):
    """So little is left that nothing new is taken."""

    def __init__(self, root: str, *, left_bytes: int, reserve_bytes: int) -> None:
        super().__init__(
            f"no space left on device: {human_size(left_bytes)} are free where {root} is, and {human_size(reserve_bytes)} are kept "
            "for what is there already"
        )


class DiskReserve:
    """Guards the file system that the directory `root` is on. With 0 for `reserve_bytes` nothing is refused."""

    def __init__(self, root: str, reserve_bytes: int) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes

    def middleware(self) -> Middleware:
        """What the application is to call around each request."""

        @web.middleware
        async def guard(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
            if self._reserve_bytes and adds_data(request.method, request.path):
                left_bytes = await run_blocking(free_bytes, self._root)
                if left_bytes < self._reserve_bytes:
                    return error_response(NoRoom(self._root, left_bytes=left_bytes, reserve_bytes=self._reserve_bytes))
            return await handler(request)

        return guard


def adds_data(method: str, path: str) -> bool:
    """Whether something comes by such a request that stays on the disk."""
    pattern = _GROWING.get(method)
    return pattern is not None and pattern.fullmatch(path) is not None
