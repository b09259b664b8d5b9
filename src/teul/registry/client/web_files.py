"""A file from any web server, for imports: not from a registry, and so without credentials, digests and second attempts.

docker: builder/remotecontext/remote.go, GetWithStatusError, and Go's net/url and net/http, whose words these are.
security: whoever names the address may open the API socket (THREAT_MODEL.md). What the server answers is still nobody's word: it leads to
http and https only, and what it says of an error is bounded and stripped of control characters.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from teul.errors import Forbidden, InvalidParameter, NotFound, Remote, TeulError, Unauthorized
from teul.registry.answers import MAX_ERROR_BYTES, next_bytes, shown
from teul.registry.endpoints import split_port
from teul.registry.errors import ConnectionFailed
from teul.registry.failures import describe_request
from teul.registry.transport import MAX_REDIRECTS, Request, Transport

_SCHEMES = frozenset({"http", "https"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PARTS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://([^/?#]*)([^?#]*)(.*)", re.DOTALL)
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2}).{0,2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_IN_HOST = re.compile(r"[ \"<>\\^`{|}]")
_KINDS: dict[int, type[TeulError]] = {400: InvalidParameter, 401: Unauthorized, 403: Forbidden, 404: NotFound}


@dataclass(frozen=True, slots=True)
class WebAddress:
    """Where a file is. `text` is for people: as it was written, but for a password."""

    url: URL
    text: str


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file whose server has begun to send it. `size_bytes` is how long it says that it is; None if it does not say.

    `source` is the address that was asked for, as text for people.
    """

    source: str
    size_bytes: int | None
    _response: aiohttp.ClientResponse

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The file, once. Raises `Remote` where the line breaks, in a word or two: whoever reads knows what it was."""
        try:
            while chunk := await next_bytes(self._response):
                yield chunk
        except ConnectionFailed as error:
            raise Remote(error.problem) from error


def parse_web_address(source: str) -> WebAddress:
    """The address that `source` spells; without a scheme it is http's. Raises `InvalidParameter`, and `Remote` for what cannot be had."""
    text = source if "://" in source else f"http://{source}"
    if _CONTROL.search(text):
        raise InvalidParameter(f"parse {_quoted(text)}: net/url: invalid control character in URL")
    parts = _PARTS.fullmatch(text)
    if parts is None:
        problem = "missing protocol scheme" if text.startswith(":") else "first path segment in URL cannot contain colon"
        raise InvalidParameter(f"parse {_quoted(text)}: {problem}")
    scheme, authority, path, rest = parts[1].lower(), parts[2], parts[3], parts[4]
    account, at, host = authority.rpartition("@")
    hidden = f"{account.partition(':')[0]}:***@" if ":" in account else account + at
    told = f"{scheme}://{hidden}{host}{path}{rest}"
    problem = _host_problem(host) or _escape_problem(path)
    if problem:
        raise InvalidParameter(f"parse {_quoted(told)}: {problem}")
    if scheme not in _SCHEMES:
        raise Remote(describe_request("GET", told, f'unsupported protocol scheme "{scheme}"'))
    if not host:
        raise Remote(describe_request("GET", told if path else f"{scheme}:", "http: no Host in request URL"))
    port = split_port(host)[1]
    if port and int(port) > 65535:
        raise Remote(describe_request("GET", told, f"dial tcp: address {port}: invalid port"))
    try:
        return WebAddress(URL(f"{scheme}://{authority}{path}{rest}").with_fragment(None), told)
    except ValueError as error:
        raise InvalidParameter(f"parse {_quoted(told)}: {error}") from error


@asynccontextmanager
async def open_web_file(transport: Transport, address: WebAddress) -> AsyncIterator[WebFile]:
    """The file at `address`, redirects included: `async with open_web_file(…) as file: async for chunk in file.chunks()`.

    Raises NotFound, InvalidParameter, Unauthorized and Forbidden if that is what the server answers, else `Remote`.
    """
    response = await _follow(transport, address)
    async with response:
        if response.status >= 400:
            raise await _refusal(response, address.text)
        length = response.headers.get("Content-Length", "")
        yield WebFile(address.text, int(length[:19]) if length.isascii() and length.isdigit() else None, response)


async def _follow(transport: Transport, address: WebAddress) -> aiohttp.ClientResponse:
    here = address
    for _ in range(MAX_REDIRECTS):
        response = await _get(transport, here)
        location = response.headers.get("Location", "")
        if response.status not in _REDIRECTS or not location:
            return response
        async with response:
            here = _target(location, here)
    raise Remote(describe_request("GET", location, f"stopped after {MAX_REDIRECTS} redirects"))


async def _get(transport: Transport, address: WebAddress) -> aiohttp.ClientResponse:
    try:
        return await transport.send(Request("GET", address.url), None)
    except ConnectionFailed as error:
        raise Remote(describe_request("GET", address.text, error.problem)) from error


def _target(location: str, base: WebAddress) -> WebAddress:
    shown_location = shown(location)
    try:
        target = base.url.join(URL(location))
    except (ValueError, IndexError) as error:  # yarl: an IndexError for `//[]@`
        raise Remote(describe_request("GET", base.text, f"failed to parse Location header {_quoted(shown_location)}")) from error
    try:
        return parse_web_address(str(target))
    except InvalidParameter as error:
        raise Remote(describe_request("GET", base.text, f"failed to parse Location header {_quoted(shown_location)}")) from error


async def _refusal(response: aiohttp.ClientResponse, text: str) -> TeulError:
    said = f"failed to GET {text} with status {response.status} {shown(response.reason or '')}".rstrip()
    data = bytearray()
    try:
        while len(data) < MAX_ERROR_BYTES and (chunk := await next_bytes(response)):
            data += chunk
    except ConnectionFailed:
        return Remote(f"{said}: error reading body")
    return _KINDS.get(response.status, Remote)(f"{said}: {shown(bytes(data).decode('utf-8', 'replace')).strip()}")


def _host_problem(host: str) -> str:
    if host.startswith("["):
        if "]" not in host:
            return "missing ']' in host"
        port = host.rpartition("]")[2]
    else:
        bad = _BAD_IN_HOST.search(host)
        if bad is not None:
            return f"invalid character {_quoted(bad[0])} in host name"
        port = host[host.find(":") :] if ":" in host else ""
    if port and re.fullmatch(r":[0-9]*", port) is None:
        return f"invalid port {_quoted(port)} after host"
    return ""


def _escape_problem(path: str) -> str:
    bad = _BAD_ESCAPE.search(path)
    return f"invalid URL escape {_quoted(bad[0])}" if bad is not None else ""


def _quoted(text: str) -> str:
    """As Go's %q, for what can stand in an address."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", escaped) + '"'
