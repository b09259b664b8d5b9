"""Imports from the web: the engine gets the archive itself, and tells how far it is.

docker: api/server/router/image/image_routes.go, postImagesCreate; pkg/progress, NewProgressReader.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from aiohttp import web

from teul.api.http.context import services
from teul.api.http.progress import Document, progress_line, relay
from teul.api.http.streaming import json_stream, while_connected
from teul.services.images.import_ import ImportRequest

_TOLD_EVERY_BYTES = 512 * 1024
_TOLD_EVERY_SECONDS = 0.1


async def import_from_web(request: web.Request, source: str, order: ImportRequest) -> web.StreamResponse:
    """Import what the URL `source` names.

    docker: what goes wrong before the server sends the archive has a status of its own, what goes wrong later is told in band.
    """
    found = services(request)
    async with while_connected(request), json_stream(request, late=True) as stream, found.registries.open_web_file(source) as file:
        await stream.send({"status": f"Downloading from {file.source}"})

        async def work(tell: Callable[[Document], None]) -> None:
            async with aclosing(_counted(file.chunks(), file.size_bytes, tell)) as chunks:
                image_id = await found.image_archives.import_(chunks, order.from_source(file.source))
            tell({"status": str(image_id)})

        await relay(stream, work)
    return stream.response


async def _counted(source: AsyncGenerator[bytes, None], total: int | None, tell: Callable[[Document], None]) -> AsyncGenerator[bytes, None]:
    """The chunks of `source`; how far they are is told at every hundredth or half a megabyte, ten times a second at most."""
    every = min(_TOLD_EVERY_BYTES, total // 100) if total else _TOLD_EVERY_BYTES
    clock = asyncio.get_running_loop().time
    current = told = 0
    next_time = clock()
    async with aclosing(source) as chunks:
        async for chunk in chunks:
            current += len(chunk)
            if current == total or (current - told > every and clock() >= next_time):
                tell(_line(current, total))
                told, next_time = current, clock() + _TOLD_EVERY_SECONDS
            yield chunk
    if total is None:
        # docker: the end of what had no length is told by an empty line besides.
        tell(_line(current, total))
        tell({})


def _line(current: int, total: int | None) -> Document:
    return progress_line("", "Importing", current, -1 if total is None else total)
