"""Responses that go on: JSON lines, raw bytes, and noticing that the client has gone.

A handler that waits for something (events, logs, wait) is cancelled when its client hangs up; all other handlers run to their end, since
a half-done create or remove helps nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from teul.api.http.errors import describe, hint_of
from teul.errors import Cancelled, TeulError

log = logging.getLogger(__name__)


class JsonStream:
    """One JSON document per line, each sent at once. It begins, headers first, with its first line if nobody has begun it before."""

    def __init__(self, request: web.Request, content_type: str, line_end: bytes) -> None:
        self.response = web.StreamResponse()
        self.has_begun = False
        self._request = request
        self._content_type = content_type
        self._line_end = line_end

    async def begin(self) -> None:
        """Send the headers."""
        self.has_begun = True
        self.response = await started_stream(self._request, content_type=self._content_type)

    async def send(self, document: Any) -> None:
        """Write `document` and wait while the client is slow. Raises Cancelled when the client is gone."""
        try:
            if not self.has_begun:
                await self.begin()
            await self.response.write(msgspec.json.encode(document) + self._line_end)
        except ConnectionError as error:
            raise Cancelled("the client went away") from error


@asynccontextmanager
async def json_stream(
    request: web.Request,
    *,
    content_type: str = "application/json",
    line_end: bytes = b"\r\n",
    late: bool = False,
    in_band: bool = False,
) -> AsyncIterator[JsonStream]:
    """Answer 200 with a stream of JSON lines; headers are on their way before the body of the `with` runs.

    docker: an error after that is told in band, as the last line {"errorDetail": {"message": …}, "error": …}. With `late` the answer begins
    with its first line, and an error before that is raised, to have a status of its own, or with `in_band` is the first line. The handler
    returns `stream.response`.
    """
    stream = JsonStream(request, content_type, line_end)
    if not late:
        await stream.begin()
    try:
        yield stream
    except Cancelled:
        return  # nobody is there to be told
    except Exception as error:
        if not stream.has_begun and not in_band:
            raise
        _, message = describe(error)
        hint = {"hint": text} if (text := hint_of(error)) else {}
        await _send_quietly(stream, {"errorDetail": {"message": message} | hint, "error": message})
    if stream.has_begun:
        await _end_quietly(stream.response)


async def started_stream(request: web.Request, *, content_type: str, headers: dict[str, str] | None = None) -> web.StreamResponse:
    """A 200 response whose headers have been sent; write to it, then return it from the handler."""
    response = web.StreamResponse(headers=headers)
    response.content_type = content_type
    await response.prepare(request)
    # aiohttp keeps the headers back for the first bytes of the body; clients wait for them before they go on.
    await response.write(b"")
    return response


async def archive_response(request: web.Request, chunks: AsyncGenerator[bytes, None]) -> web.StreamResponse:
    """Answer with an archive as it is made, whose making ends with the client."""
    response = web.StreamResponse()
    response.content_type = "application/x-tar"
    async with aclosing(chunks):
        await response.prepare(request)
        async for chunk in chunks:
            await response.write(chunk)
    await response.write_eof()
    return response


async def send_archive(
    request: web.Request, chunks: AsyncIterator[bytes], *, content_type: str, headers: dict[str, str]
) -> web.StreamResponse:
    """Send an archive as it is made. What goes wrong after the first byte ends the connection before the body's end."""
    response = web.StreamResponse(headers=headers)
    response.content_type = content_type
    await response.prepare(request)
    async with while_connected(request):
        try:
            async for chunk in chunks:
                await response.write(chunk)
        except TeulError as error:
            log.error("%s %s: %s", request.method, request.path, error.message)
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the archive broke off") from error
        await response.write_eof()
    return response


async def request_body(request: web.Request) -> AsyncIterator[bytes]:
    """The request's body as it arrives. Raises `Cancelled` if the client goes away before its end."""
    try:
        async for chunk in request.content.iter_any():
            yield chunk
    except (ConnectionError, web.HTTPException, TimeoutError) as error:
        raise Cancelled("the client went away") from error


@asynccontextmanager
async def while_connected(request: web.Request) -> AsyncIterator[None]:
    """Cancel the body of the `with` when the client hangs up, and end quietly then.

    Needs the server's own connections (api/http/connection.py); with others the body goes on until a write fails.
    """
    watch: Callable[[Callable[[], None]], Callable[[], None]] | None = getattr(request.protocol, "watch_disconnect", None)
    if watch is None:
        yield
        return
    task = asyncio.current_task()
    assert task is not None
    gone = False

    def hang_up() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    forget = watch(hang_up)
    try:
        yield
    except asyncio.CancelledError:
        if not gone or task.uncancel() > 0:
            raise
    finally:
        forget()


async def first_of(*coroutines: Coroutine[object, object, None]) -> None:
    """Run all coroutines; when one has returned, cancel and await the others, and return. Raises what that one raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(_then_finish(coroutine))
    except BaseExceptionGroup as ended:
        failures = [error for error in ended.exceptions if not isinstance(error, _FinishedError)]
        if failures:
            raise failures[0] from None


class _FinishedError(Exception):
    """Ends a task group in which one task has done its work."""


async def _then_finish(coroutine: Coroutine[object, object, None]) -> None:
    await coroutine
    raise _FinishedError


async def _send_quietly(stream: JsonStream, document: dict[str, Any]) -> None:
    try:
        await stream.send(document)
    except Cancelled:
        return


async def _end_quietly(response: web.StreamResponse) -> None:
    try:
        await response.write_eof()
    except ConnectionError:
        return
