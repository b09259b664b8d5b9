"""One blocking connection to an engine, used for one request after another.

`_socket` is what `socket` is made of; importing `socket` itself would cost as much as everything else that `teul run` imports
(`socket` builds enums of every address family). The bytes are rendered and parsed by `teul.wire.http1`.
"""

from __future__ import annotations

import errno
from _socket import AF_UNIX, SHUT_WR, SOCK_STREAM, getaddrinfo, socket

from teul.client.errors import ConnectionFailed
from teul.wire.http1 import LAST_CHUNK, ProtocolError, ResponseParser, render_chunk, render_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from teul.client.address import Address, TlsOptions
    from teul.client.tls import TlsSocket

    Socket = socket | TlsSocket

_RECEIVE_BYTES = 64 * 1024
_REFUSED = (errno.ENOENT, errno.ECONNREFUSED)


def open_socket(address: Address, tls: TlsOptions | None = None) -> Socket:
    """A connected, blocking socket; over TCP with TLS if `tls` says how. Raises `OSError`."""
    if address.path:
        return _connect(AF_UNIX, 0, address.path)
    if tls is None:
        return _connect_tcp(address)
    from teul.client.tls import TlsSocket, client_context  # noqa: PLC0415 - most users have no need of it, and it is slow to load

    context = client_context(tls)
    return TlsSocket(_connect_tcp(address), context, address.host)


def _connect_tcp(address: Address) -> socket:
    failure = OSError(errno.EADDRNOTAVAIL, "the name has no address")
    for family, _kind, protocol, _name, target in getaddrinfo(address.host, address.port, 0, SOCK_STREAM):
        try:
            return _connect(family, protocol, target)
        except OSError as error:
            failure = error
    raise failure


def _connect(family: int, protocol: int, target: str | tuple[object, ...]) -> socket:
    connection = socket(family, SOCK_STREAM, protocol)
    try:
        connection.connect(target)
    except BaseException:
        connection.close()
        raise
    return connection


def connection_failed(address: Address, error: OSError) -> ConnectionFailed:
    """The failure to connect to `address`, in words for the user."""
    refused = error.errno in _REFUSED
    if refused:
        return ConnectionFailed(f"Cannot connect to the engine at {address}. Is it running?", refused=True)
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConnectionFailed(f"permission denied while trying to connect to the engine's socket at {address}")
    return ConnectionFailed(f"error during connect to {address}: {error.strerror or error}")


class HijackedStream:
    """The raw connection that is left after an upgrade. The reader takes `leftover` first."""

    __slots__ = ("leftover", "socket")

    def __init__(self, socket_: Socket, leftover: bytes) -> None:
        self.socket = socket_
        self.leftover = leftover

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def unsent(self) -> bool:
        """Whether sent bytes still wait for room: only a TLS socket keeps any. `flush` when there is room."""
        return bool(getattr(self.socket, "unsent", b""))

    def flush(self) -> None:
        """Send what waits, as far as the engine takes it."""
        if self.unsent:
            self.socket.flush()  # type: ignore[union-attr]  # only a `TlsSocket` has something unsent

    def close_write(self) -> None:
        """Tell the engine that no more input comes. The output goes on."""
        try:
            self.socket.shutdown(SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # the engine has left already: nothing to tell
                raise

    def close(self) -> None:
        self.socket.close()


class Response:
    """The head of an answer, and its body as it comes. The body must be read to its end, or the response closed (`with` does it)."""

    def __init__(self, connection: Connection, parser: ResponseParser) -> None:
        self._connection = connection
        self._parser = parser
        self.status = parser.status
        self.headers = parser.headers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    @property
    def upgraded(self) -> bool:
        return self._parser.upgraded

    def receive(self) -> bytes:
        """The next piece of the body; empty only at its end. Blocks."""
        data = self._parser.take()
        while not data and not self._parser.complete:
            self._connection.receive_into(self._parser)
            data = self._parser.take()
        return data

    def __iter__(self) -> Iterator[bytes]:
        while data := self.receive():
            yield data

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self)

    def hijack(self) -> HijackedStream:
        """Take the connection over after an upgrade."""
        return HijackedStream(self._connection.detach(), self._parser.leftover)

    def close(self) -> None:
        """Give up the rest of the body, and with it the connection."""
        self._connection.close()


class Connection:
    """A connection that the first request opens, and that client or engine may close between two requests."""

    def __init__(self, address: Address, opener: Callable[[], Socket]) -> None:
        self._address = address
        self._open = opener
        self._socket: Socket | None = None
        self._current: ResponseParser | None = None

    @property
    def reusable(self) -> bool:
        """Whether the next request can be sent: the last answer was read and the engine keeps the connection."""
        return self._current is None or (self._current.keep_alive and not self._current.leftover)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def detach(self) -> Socket:
        """The socket, which the caller owns from now on."""
        assert self._socket is not None, "detach before any request"
        taken, self._socket = self._socket, None
        return taken

    def request(
        self, method: str, target: str, headers: list[tuple[str, str]], body: bytes | Iterable[bytes] | None, *, upgrade: bool = False
    ) -> Response:
        """Send a request and wait for the head of its answer. An iterable body is sent in chunks. Raises `ConnectionFailed`."""
        fresh = self._socket is None
        if self._socket is None:
            self._socket = self._open()
        parser = ResponseParser(method, upgrade=upgrade)
        try:
            self._send(method, target, headers, body)
            while not parser.head_complete:
                self.receive_into(parser)
        except ConnectionFailed:
            self.close()
            # An idle connection may have been closed by the engine at the moment of its use; nothing was answered, so nothing was done.
            if fresh or parser.head_complete or not isinstance(body, (bytes, type(None))):
                raise
            return self.request(method, target, headers, body, upgrade=upgrade)
        self._current = parser
        return Response(self, parser)

    def _send(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes | Iterable[bytes] | None) -> None:
        head = [("Host", self._address.authority), *headers]
        if isinstance(body, bytes):
            self._send_all(render_request(method, target, [*head, ("Content-Length", str(len(body)))]) + body)
        elif body is None:
            length = [("Content-Length", "0")] if method == "POST" else []
            self._send_all(render_request(method, target, head + length))
        else:
            self._send_all(render_request(method, target, [*head, ("Transfer-Encoding", "chunked")]))
            for data in body:
                if not self._send_part(render_chunk(data)):
                    return
            self._send_part(LAST_CHUNK)

    def _send_all(self, data: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._broken(error) from error

    def _send_part(self, data: bytes) -> bool:
        """Send a part of the body; False when the engine reads no more: it has refused the body, and its answer says why."""
        assert self._socket is not None
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        except OSError as error:
            raise self._broken(error) from error
        return True

    def receive_into(self, parser: ResponseParser) -> None:
        """Read once and feed `parser`. Raises `ConnectionFailed` also for what is not HTTP."""
        if self._socket is None:
            raise ConnectionFailed(f"the connection to {self._address} is closed")
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except OSError as error:
            raise self._broken(error) from error
        try:
            if data:
                parser.feed(data)
            else:
                parser.feed_eof()
        except ProtocolError as error:
            raise ConnectionFailed(f"error during connect to {self._address}: {error}") from error

    def _broken(self, error: OSError) -> ConnectionFailed:
        return ConnectionFailed(f"error during connect to {self._address}: {error.strerror or error}")
