"""Requests to registries: connections, TLS, proxies, time limits and redirects. What an answer means is not decided here.

Invariants: a redirect or a link leads to http or https and nowhere else; what was asked for over TLS is not looked for in the clear,
unless its digest is known; an `Authorization` is sent to the origin that it was made for and to no other; chains of redirects end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from ssl import SSLContext
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from teul import __version__
from teul.aio import run_blocking
from teul.registry.backoff import Backoff
from teul.registry.certificates import Stamp, files_stamp, load_client_context
from teul.registry.endpoints import Endpoint, Registries
from teul.registry.errors import BadAnswer, ConnectionFailed
from teul.registry.failures import describe_failure, describe_request
from teul.registry.proxies import Proxies

_MAX_CONTEXTS = 32
MAX_REDIRECTS = 10  # docker: Go's limit
# Signed URLs of object stores are long.
_MAX_HEADER_BYTES = 64 * 1024
_READ_BYTES = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REDIRECTS_WITH_BODY = frozenset({307, 308})

BodySource = Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Options:
    """How the engine speaks to registries.

    `silence_seconds` is how long nothing may come or go; there is no limit of the whole. `first_answer_seconds` is how long a registry may
    take to show that it is one, all in all.
    """

    registries: Registries = field(default_factory=Registries)
    certificate_directories: tuple[str, ...] = ("/etc/docker/certs.d",)
    proxies: Proxies = field(default_factory=Proxies)
    user_agent: str = f"teul/{__version__}"
    connect_seconds: float = 30.0
    first_answer_seconds: float = 15.0  # docker: registry/auth.go
    silence_seconds: float = 60.0
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `body` is bytes, or makes the chunks anew each time; `body_bytes` is how many those are, if known.

    `is_addressed` says that the answer will be held against a digest, so that it may come from anywhere.
    """

    method: str
    url: URL
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | BodySource | None = None
    body_bytes: int | None = None
    is_addressed: bool = False

    @property
    def described(self) -> tuple[str, str]:
        return self.method, without_secrets(self.url)


class Transport:
    """The connections of the engine to all registries; used within `async with`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[tuple[str, bool], tuple[Stamp, SSLContext]] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.options.connect_seconds, sock_read=self.options.silence_seconds)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                timeout=timeout,
                headers={"User-Agent": self.options.user_agent, "Accept-Encoding": "identity"},
                skip_auto_headers=("Content-Type",),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Digests are those of the bytes as they are stored.
                auto_decompress=False,
                trust_env=False,
                read_bufsize=_READ_BYTES,
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
            )
        )
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        await self._stack.aclose()

    async def context_for(self, endpoint: Endpoint) -> SSLContext | None:
        """The TLS settings for all that has to do with `endpoint`, its token server and redirects included; None for the system's.

        docker: so do they count there, also for a registry in the clear. The files of `certs.d` count as they are now.
        Raises `InvalidRegistryConfig`.
        """
        if endpoint.scheme != "https" and endpoint.verify:
            return None
        key = (endpoint.host, endpoint.verify)
        directories = self.options.certificate_directories
        stamp = await run_blocking(files_stamp, endpoint.host, directories)
        known = self._contexts.get(key)
        if known is None or known[0] != stamp:
            known = stamp, await run_blocking(load_client_context, endpoint.host, directories, verify=endpoint.verify)
            # A context holds all the authorities of the system, and a client of the API chooses the hosts.
            while len(self._contexts) >= _MAX_CONTEXTS:
                del self._contexts[next(iter(self._contexts))]
            self._contexts[key] = known
        return known[1]

    async def send(self, request: Request, context: SSLContext | None) -> aiohttp.ClientResponse:
        """The answer to one request, redirects included, whatever it is; the caller closes it (`async with`).

        Without `context`, https is verified against the system's authorities. Raises `ConnectionFailed`, `BadAnswer`, and whatever the
        source of the body raises.
        """
        assert self._session is not None, "used outside of its `async with`"
        url = request.url
        proxy = self.options.proxies.proxy_for(url.scheme, url.raw_host or "", url.port or 0)
        headers = dict(request.headers)
        body = None
        if callable(request.body):
            body = _Body(request.body, self.options.silence_seconds)
            if request.body_bytes is not None:
                headers["Content-Length"] = str(request.body_bytes)
        elif request.body is not None and len(request.body) > _READ_BYTES:
            # In pieces, for the loop to have its turn and the peer its time limit between them.
            body = _Body(_pieces_of(request.body), self.options.silence_seconds)
            headers["Content-Length"] = str(len(request.body))
        try:
            async with asyncio.timeout(None) as limit:
                return await self._session.request(
                    request.method,
                    url,
                    headers=headers,
                    data=request.body if body is None else body.chunks(limit),
                    allow_redirects=False,
                    proxy=proxy,
                    ssl=True if context is None else context,
                )
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            if body is not None and body.failure is not None:
                raise body.failure from None
            problem = describe_failure(error, url.raw_host or "", url.port or 0)
            raise ConnectionFailed(describe_request(*request.described, problem), problem=problem) from error

    async def follow(self, request: Request, context: SSLContext | None) -> aiohttp.ClientResponse:
        """As `send`, and after the redirects that it is answered with. An `Authorization` does not leave the request's origin."""
        original = request
        for _ in range(MAX_REDIRECTS + 1):
            response = await self.send(request, context)
            if not _is_redirect(request.method, response):
                return response
            async with response:
                target = resolve_location(response.headers["Location"], request.url, is_addressed=request.is_addressed)
            headers = dict(original.headers)
            if target.origin() != original.url.origin():
                headers.pop("Authorization", None)
            request = replace(request, url=target, headers=headers)
        raise BadAnswer(describe_request(*original.described, f"stopped after {MAX_REDIRECTS} redirects"))


class _Body:
    """The chunks of a body on their way out: an error of their source is kept, and a peer that does not take them is given up."""

    def __init__(self, source: BodySource, silence_seconds: float) -> None:
        self._source = source
        self._silence_seconds = silence_seconds
        self.failure: Exception | None = None

    async def chunks(self, limit: asyncio.Timeout) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        try:
            async for chunk in self._source():
                limit.reschedule(loop.time() + self._silence_seconds)
                yield chunk
                if limit.expired():
                    return  # the peer took it at last, when whoever sends had been told to give up
                limit.reschedule(None)
        except Exception as error:
            self.failure = error
            raise


def _pieces_of(data: bytes) -> BodySource:
    async def pieces() -> AsyncIterator[bytes]:
        for position in range(0, len(data), _READ_BYTES):
            yield data[position : position + _READ_BYTES]

    return pieces


def _is_redirect(method: str, response: aiohttp.ClientResponse) -> bool:
    followed = _REDIRECTS if method in {"GET", "HEAD"} else _REDIRECTS_WITH_BODY
    return response.status in followed and "Location" in response.headers


def resolve_location(location: str, base: URL, *, is_addressed: bool = False) -> URL:
    """Where `location`, a registry's word, leads from `base`. Raises `BadAnswer` for where a client must not be led.

    Nothing leads out of http and https, and from https to http only what `is_addressed`. Names and passwords in it are refused.
    """
    try:
        # The target as it was given: a signature over it does not survive another spelling.
        target = base.join(URL(location, encoded=True))
        usable = target.scheme in {"http", "https"} and bool(target.raw_host) and bool(target.port) and target.user is None
    except (ValueError, IndexError) as error:  # yarl: an IndexError for `//[]@`
        raise BadAnswer(f"the registry at {base.host_port_subcomponent} leads to an invalid location: {error}") from error
    if not usable or target.password is not None:
        raise BadAnswer(
            f"the registry at {base.host_port_subcomponent} leads to a location that is not followed: {target.scheme or 'no scheme'}"
        )
    if base.scheme == "https" and target.scheme != "https" and not is_addressed:
        raise BadAnswer(f"the registry at {base.host_port_subcomponent} leads from https to http at {target.host_port_subcomponent}")
    return target.with_fragment(None)


def without_secrets(url: URL) -> str:
    """`url` for a message. Go hides a password in it; the signatures of redirects' targets are hidden here, too."""
    if url.query_string and not url.path.startswith("/v2/") and any(name.lower().endswith(("signature", "sig")) for name in url.query):
        return str(url.with_query(None))
    return str(url)
