"""The Docker Engine API from a client's side: requests with JSON in and out, streams, hijacked connections.

A `Client` keeps at most one idle connection. Requests that stay open (a followed log, an attachment, a wait) have connections of
their own, so any number of them can be under way. Paths are sent without a version prefix, which every engine takes as its newest
version; `api_version` pins another.
"""

from __future__ import annotations

from teul.client.connection import Connection, HijackedStream, Response, connection_failed, open_socket
from teul.client.errors import ApiError, ConnectionFailed
from teul.wire import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from teul.client.address import Address
    from teul.client.connection import Socket

    Query = Mapping[str, str | int | bool | list[str] | None]

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ESCAPES = [chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in range(256)]
_JSON_HEADERS = [("Content-Type", "application/json")]
_UPGRADE_HEADERS = [("Connection", "Upgrade"), ("Upgrade", "tcp")]


def quote(text: str, safe: str = "") -> str:
    """`text` for a place in a URL (RFC 3986). `urllib.parse` would cost more than the request."""
    return "".join([chr(byte) if chr(byte) in safe else _ESCAPES[byte] for byte in text.encode("utf-8", "surrogateescape")])


def render_query(query: Query) -> str:
    """`query` as `?a=b&…`, or nothing. None and False are left out, True is 1, a list repeats its name."""
    pairs: list[str] = []
    for name, value in query.items():
        if value is None or value is False:
            continue
        values = value if isinstance(value, list) else ["1" if value is True else str(value)]
        pairs += [f"{quote(name)}={quote(item)}" for item in values]
    return "?" + "&".join(pairs) if pairs else ""


class Client:
    """The API of the engine at `address`. `opener` gives a connected socket; the default opener just connects.

    `hints` are kept, whatever becomes of the errors that they came with: a command tells them after its own text of what failed.
    """

    def __init__(self, address: Address, *, opener: Callable[[], Socket] | None = None, api_version: str = "", agent: str = "teul") -> None:
        self.address = address
        self._opener = opener
        self._prefix = f"/v{api_version}" if api_version else ""
        self._agent = ("User-Agent", agent)
        self._idle: Connection | None = None
        self.hints: list[str] = []  # that came with refusals, each once

    def close(self) -> None:
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def _open(self) -> Socket:
        if self._opener is not None:
            return self._opener()
        try:
            return open_socket(self.address)
        except OSError as error:
            raise connection_failed(self.address, error) from error

    def send(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: object = None,
        *,
        headers: Iterable[tuple[str, str]] = (),
        upgrade: bool = False,
        alone: bool = False,
    ) -> Response:
        """Send a request and return its answer, whatever its status.

        `body` is bytes, an iterable of bytes, or else a document to be sent as JSON. `alone` takes a connection that no other request
        will use, for answers that stay open.
        """
        connection = None if alone or upgrade else self._idle
        if connection is None or not connection.reusable:
            connection = Connection(self.address, self._open)
            if not (alone or upgrade):
                self.close()
                self._idle = connection
        all_headers = [self._agent, *headers]
        if upgrade:
            all_headers += _UPGRADE_HEADERS
        if isinstance(body, (dict, list)):
            all_headers += _JSON_HEADERS
            body = jsontext.encode(body)
        target = self._prefix + path + render_query(query or {})
        return connection.request(method, target, all_headers, body, upgrade=upgrade)  # type: ignore[arg-type]  # bytes or their iterable

    def stream(self, method: str, path: str, query: Query | None = None, body: object = None, **options: Any) -> Response:
        """Like `send`, but an error status becomes `ApiError`."""
        response = self.send(method, path, query, body, **options)
        if response.status >= 400:
            text, hint = _error_text(response)
            if options.get("alone") or options.get("upgrade"):
                response.close()
            if hint and hint not in self.hints:
                self.hints.append(hint)
            raise ApiError(response.status, text, hint)
        return response

    def call(self, method: str, path: str, query: Query | None = None, body: object = None, **options: Any) -> Any:
        """The decoded JSON answer of a request; None when there is none. Raises `ApiError`."""
        response = self.stream(method, path, query, body, **options)
        data = response.read()
        if options.get("alone"):
            response.close()
        if not data or "json" not in response.headers.get("content-type", "json"):
            return None
        try:
            return jsontext.decode(data)
        except jsontext.InvalidJson as error:
            raise ConnectionFailed(f"the engine's answer to {method} {path} is not JSON: {error}") from error

    def get(self, path: str, query: Query | None = None) -> Any:
        return self.call("GET", path, query)

    def post(self, path: str, query: Query | None = None, body: object = None, **options: Any) -> Any:
        return self.call("POST", path, query, body, **options)

    def delete(self, path: str, query: Query | None = None) -> Any:
        return self.call("DELETE", path, query)

    def hijack(self, path: str, query: Query | None = None, body: object = None) -> HijackedStream:
        """The raw stream behind `POST path`. Raises `ApiError`, and `ConnectionFailed` when the engine does not upgrade."""
        response = self.stream("POST", path, query, body, upgrade=True)
        if not response.upgraded:
            response.close()
            raise ConnectionFailed(f"unable to upgrade to tcp, received {response.status}")
        return response.hijack()

    def messages(self, method: str, path: str, query: Query | None = None, body: object = None, **options: Any) -> Iterator[dict[str, Any]]:
        """The documents of a stream of JSON lines, as they come."""
        response = self.stream(method, path, query, body, alone=True, **options)
        rest = b""
        try:
            for data in response:
                *lines, rest = (rest + data).split(b"\n")
                yield from (jsontext.decode(line) for line in lines if line.strip())
            if rest.strip():
                yield jsontext.decode(rest)
        except jsontext.InvalidJson as error:
            raise ConnectionFailed(f"the engine's answer to {method} {path} is not JSON: {error}") from error
        finally:
            response.close()


def _error_text(response: Response) -> tuple[str, str]:
    """The message, and the hint beside it or nothing."""
    data = response.read()
    try:
        document = jsontext.decode(data)
        return str(document["message"]), str(document.get("hint") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        text = data.decode("utf-8", "replace").strip()
        return text or f"request returned status {response.status}; is this a Docker API endpoint?", ""


def container_path(reference: str, action: str = "") -> str:
    """`/containers/<reference>/<action>`, with whatever stands in `reference` made harmless."""
    return f"/containers/{quote(reference)}/{action}" if action else f"/containers/{quote(reference)}"


def image_path(reference: str, action: str = "") -> str:
    """`/images/<reference>/<action>`; the slashes of an image's name stay."""
    return f"/images/{quote(reference, '/:@')}/{action}" if action else f"/images/{quote(reference, '/:@')}"
