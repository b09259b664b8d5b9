"""The engine's end of a client connection: aiohttp's protocol, made fit for hijacking.

Attach and exec turn an HTTP connection into a raw stream in both directions. Three things about that are beyond aiohttp:

- Bytes that the client sends behind such a request, before it is answered, are not HTTP. They are held back here (at most
  `EARLY_BYTES`, then the socket is not read) and handed over with the connection; if the request is refused, they are HTTP after all.
- The client may end its sending side at once (`printf … | nc -N`) and still wants the answer.
- Once taken over, the transport belongs to another protocol (`RawStream`), which has to tell aiohttp when the connection is gone.

Bytes are looked at only where a new request begins, and only its first line: requests that do not hijack cost one comparison.
Not covered: a hijacking request that is pipelined behind an unfinished one, or has a chunked body; its early bytes are lost.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

log = logging.getLogger(__name__)

EARLY_BYTES = 64 * 1024
_HEAD_BYTES = 64 * 1024
# docker: what Go lets a request's head have (net/http, DefaultMaxHeaderBytes). Filters and credentials can be long.
_LINE_BYTES = 1 << 20

_HIJACKING = re.compile(rb"POST (?:/v[0-9.]+)?/(?:containers/[^/ ?]+/attach|exec/[^/ ?]+/start)[? ]")
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Taken:
    """A connection that no longer speaks HTTP. `early` are bytes that came behind the request; `ended`: the client will send no more."""

    transport: asyncio.Transport
    early: bytes
    ended: bool
    can_write: bool
    on_lost: Callable[[BaseException | None], None]


class Connection(web.RequestHandler):
    """One client connection until it is taken over."""

    __slots__ = ("_body_left_bytes", "_early", "_ended", "_held_head", "_hijacking", "_idle", "_watchers", "is_new")

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        # Whether the next bytes begin a new request.
        self._idle = True
        self.is_new = True  # until the first of its requests is answered, or it is taken over
        self._held_head = b""
        # Inside a request that may hijack: how much of its body is still to come, and what came behind it.
        self._hijacking = False
        self._body_left_bytes = 0
        self._early = bytearray()
        self._ended = False
        self._watchers: set[Callable[[], None]] = set()

    def watch_disconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` once when the client hangs up; returns a function that takes the callback back."""
        self._watchers.add(callback)
        return lambda: self._watchers.discard(callback)

    def take_over(self) -> Taken:
        """Give the transport away; aiohttp writes and reads nothing from now on.

        The new owner sets the transport's protocol, resumes reading, closes the transport, and calls `on_lost` when the connection is lost.
        Raises ConnectionResetError if the client is gone already.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client went away")
        self.keep_alive(False)
        taken = Taken(transport, bytes(self._early), self._ended, not self.writing_paused, self._on_lost)
        self._early.clear()
        self._watchers.clear()
        self.transport = None
        self._idle = self._hijacking = self.is_new = False
        return taken

    def data_received(self, data: bytes) -> None:
        if self._hijacking:
            self._receive_hijacking(data)
        elif self._idle and (self._held_head or data.startswith(b"POST ") or b"POST ".startswith(data)):
            self._receive_post(self._held_head + data)
        else:
            self._idle = False
            super().data_received(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        if self._hijacking:
            self._ended = True
            return True
        return None

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._task_handler is not None and isinstance(self._manager, _Server):
            self._manager.handle_alone(self._task_handler)
        super().connection_lost(exc)
        watchers, self._watchers = self._watchers, set()
        for callback in watchers:
            callback()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            if self.transport is not None:
                self._end_request(request)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is no HTTP, and nobody who is gone. Both are the client's affair, so the log has no traceback."""
        if isinstance(exc, ConnectionError):
            raise exc  # aiohttp drops the connection then
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        log.info("a client does not speak HTTP: %s", (message or "").strip().partition("\n")[0])
        response = web.Response(status=status, text=f"{status} Bad Request", headers={"Connection": "close"})
        response.force_close()
        return response

    def _end_request(self, request: web.BaseRequest) -> None:
        self.is_new = False
        self._idle = request.content.is_eof() and not self._messages
        if not self._hijacking:
            return
        self._hijacking = False
        early = bytes(self._early)
        self._early.clear()
        if self._ended:
            self.close()
        elif early:
            self.data_received(early)
            self._resume_transport_reading()

    def _receive_post(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        if end < 0 and len(data) < _HEAD_BYTES and (b"\r\n" not in data or _HIJACKING.match(data)):
            self._held_head = data
            return
        self._held_head = b""
        self._idle = False
        head = data[: end + 4]
        if end < 0 or not _HIJACKING.match(head) or _CHUNKED.search(head):
            super().data_received(data)
            return
        self._hijacking = True
        self._ended = False
        length = _CONTENT_LENGTH.search(head)
        self._body_left_bytes = int(length[1]) if length else 0
        super().data_received(head)
        self._receive_hijacking(data[end + 4 :])

    def _receive_hijacking(self, data: bytes) -> None:
        body, rest = data[: self._body_left_bytes], data[self._body_left_bytes :]
        self._body_left_bytes -= len(body)
        if body:
            super().data_received(body)
        if rest:
            self._early += rest
            if len(self._early) >= EARLY_BYTES:
                self._pause_transport_reading()

    def _on_lost(self, error: BaseException | None) -> None:
        self.connection_lost(error)


class _Server(web.Server):
    def __init__(self, handler: Any, options: dict[str, Any], **server_options: Any) -> None:
        super().__init__(handler, **server_options)
        self._options = options
        self._alone: set[asyncio.Task[None]] = set()  # handlers whose clients have gone

    def __call__(self) -> Connection:
        return Connection(self, loop=asyncio.get_running_loop(), **self._options)

    def handle_alone(self, handler: asyncio.Task[None]) -> None:
        """Know a handler whose client has gone. aiohttp forgets it, and it goes on."""
        if not handler.done():
            self._alone.add(handler)
            handler.add_done_callback(self._alone.discard)

    async def shutdown(self, timeout: float | None = None) -> None:
        """Give the handlers time to end by themselves, cancel them, and wait until they have ended.

        aiohttp does not wait for those that it cancels. But they undo then what they have begun, by means that are closed next.
        """
        alone = set(self._alone)
        handlers = alone | {each._task_handler for each in self.connections if each._task_handler is not None}  # noqa: SLF001
        await asyncio.gather(super().shutdown(timeout), *([asyncio.wait(alone, timeout=timeout)] if alone else []))
        for handler in alone:
            handler.cancel()  # the others aiohttp has cancelled; once is enough
        if handlers:
            await asyncio.wait(handlers)


class Runner(web.AppRunner):
    """Serves an application on `Connection`s; use it like `web.AppRunner`, with `web.UnixSite`, `web.SockSite` and the like."""

    def __init__(self, app: web.Application, *, shutdown_timeout_seconds: float = 2.0) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout_seconds)

    @property
    def has_newcomers(self) -> bool:
        """Whether somebody is connected who has had no answer yet."""
        return self.server is not None and any(isinstance(each, Connection) and each.is_new for each in self.server.connections)

    async def stop_sites(self) -> None:
        """Accept nobody any more; the connections that there are go on. Sites may be started again."""
        for site in list(self.sites):
            await site.stop()
        await asyncio.sleep(0)  # who was accepted in this turn of the loop has a connection after it

    async def _make_server(self) -> web.Server:
        await super()._make_server()  # starts and freezes the application; its own server is not used
        # Idle connections are kept: clients hold them for their next call, and they do not keep the engine from leaving.
        options = {"access_log": None, "keepalive_timeout": 3600.0, "tcp_keepalive": True, "lingering_time": 5.0, "auto_decompress": False}
        options |= {"max_line_size": _LINE_BYTES, "max_field_size": _LINE_BYTES}
        return _Server(self.app._handle, options, request_factory=self.app._make_request)  # noqa: SLF001 - aiohttp has no public way
