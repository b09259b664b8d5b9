"""TLS in front of the API's connections, as a transport that can be half closed.

asyncio's TLS transport closes altogether when the client ends its sending side, and cannot end only the engine's: `docker run -i` over it
would lose its output at the end of its input. `TlsTransport` passes both ends on (`teul.wire.tls`), so that hijacked streams behave as they
do on a bare socket. A client that does not finish the handshake never reaches HTTP. A connection that ends without
the client's close_notify was cut, maybe by somebody on the way: it is lost, with an error, and no end of what the client meant to send.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

from aiohttp import web

from teul.wire.tls import TlsFailed, TlsSession

log = logging.getLogger(__name__)

# A client that connects and says nothing must not keep a descriptor for ever.
_HANDSHAKE_SECONDS = 30.0
_PLAIN_HTTP = (b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO", b"DELET")
# A connection that is cut at once loses the alert that says why.
_ALERT_SECONDS = 1.0


class TlsTransport(asyncio.Transport):
    """What the HTTP connection writes to and pauses: a session over the bare transport, which does all buffering."""

    def __init__(self, transport: asyncio.Transport, session: TlsSession, protocol: asyncio.BaseProtocol, context: ssl.SSLContext) -> None:
        super().__init__({"sslcontext": context})
        self._transport = transport
        self._session = session
        self._protocol = protocol
        self._ended = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return super().get_extra_info(name, self._transport.get_extra_info(name, default))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._ended:
            raise RuntimeError("write after write_eof")
        if self._transport.is_closing():
            return  # as a bare transport does; the transport's owner is told of the loss
        try:
            self._session.send(bytes(data))
        except TlsFailed as error:
            log.debug("a TLS connection broke: %s", error.message)
            self._transport.abort()
        else:
            self._transport.write(self._session.take())

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._ended or self._transport.is_closing():
            return
        self._say_end()
        self._transport.write_eof()

    def close(self) -> None:
        if not self._ended and not self._transport.is_closing():
            self._say_end()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _say_end(self) -> None:
        self._ended = True
        self._session.end()
        self._transport.write(self._session.take())


class TlsConnection(asyncio.Protocol):
    """The bare connection's protocol: shakes hands, then feeds what it decrypts to the protocol that `factory` makes."""

    def __init__(self, context: ssl.SSLContext, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._context = context
        self._factory = factory
        self._session = TlsSession(context, server_side=True)
        self._bare: asyncio.Transport | None = None
        self._upper: TlsTransport | None = None  # once the client is known
        self._refused = False
        self._heard_nothing = True
        self._loss: ConnectionResetError | None = None  # why this side gave the connection up
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._bare = transport
        self._deadline = asyncio.get_running_loop().call_later(_HANDSHAKE_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._heard_nothing and data.startswith(_PLAIN_HTTP):
            self._refuse_plain_http()
        elif not self._refused:
            self._receive(data)
        self._heard_nothing = False

    def eof_received(self) -> bool:
        if self._upper is None or self._refused:
            return False
        if not self._session.ended:
            self._receive(b"")
        return not self._upper.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        if self._upper is not None:
            self._upper.get_protocol().connection_lost(exc or self._loss)

    def pause_writing(self) -> None:
        if self._upper is not None:
            self._upper.get_protocol().pause_writing()

    def resume_writing(self) -> None:
        if self._upper is not None:
            self._upper.get_protocol().resume_writing()

    def _receive(self, data: bytes) -> None:
        assert self._bare is not None
        had_ended = self._session.ended
        try:
            plain = self._session.receive(data)
        except TlsFailed as error:
            self._refuse(error)
            return
        self._send_pending()
        if self._upper is None and self._session.established:
            self._cancel_deadline()
            protocol = self._factory()
            self._upper = TlsTransport(self._bare, self._session, protocol, self._context)
            protocol.connection_made(self._upper)
        if self._upper is None:
            return
        if plain:
            self._application().data_received(plain)
        if had_ended or not self._session.ended:
            return
        if self._session.cut:
            self._loss = ConnectionResetError("unexpected EOF")
            self._bare.abort()
        elif not self._application().eof_received():
            self._upper.close()

    def _application(self) -> asyncio.Protocol:
        assert self._upper is not None
        protocol = self._upper.get_protocol()
        assert isinstance(protocol, asyncio.Protocol)
        return protocol

    def _send_pending(self) -> None:
        assert self._bare is not None
        if pending := self._session.take():
            self._bare.write(pending)

    def _refuse_plain_http(self) -> None:
        """docker: what Go's net/http answers, in clear text."""
        assert self._bare is not None
        self._refused = True
        self._cancel_deadline()
        peer = self._bare.get_extra_info("peername")
        log.info("TLS handshake error from %s: it speaks plain HTTP", peer[0] if peer else "a client that has gone")
        self._bare.write(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
        self._bare.close()

    def _refuse(self, error: TlsFailed) -> None:
        """Tell the client why, and give it a moment to hear it."""
        assert self._bare is not None
        self._refused = True
        self._cancel_deadline()
        peer = self._bare.get_extra_info("peername")
        log.info("TLS handshake error from %s: %s", peer[0] if peer else "a client that has gone", error.message)
        self._send_pending()
        if self._bare.is_closing() or self._upper is not None:
            self._bare.close()
            return
        self._bare.write_eof()
        self._deadline = asyncio.get_running_loop().call_later(_ALERT_SECONDS, self._bare.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class TlsSite(web.SockSite):
    """Like `web.SockSite` for a bound TCP socket, with every connection behind TLS."""

    def __init__(self, runner: web.BaseRunner, sock: Any, context: ssl.SSLContext, *, backlog: int = 128) -> None:
        super().__init__(runner, sock, backlog=backlog)
        self._context = context

    async def start(self) -> None:
        await web.BaseSite.start(self)  # registers the site; the socket is opened here, with a protocol in between
        server = self._runner.server
        assert server is not None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: TlsConnection(self._context, server), sock=self._sock, backlog=self._backlog
        )
