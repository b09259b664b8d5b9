"""Searches: what dockerd still speaks the first registry protocol for (moby registry/search_session.go, search_endpoint_v1.go).

A host is asked for `/v1/_ping` first, which any answer will do for: it tells whether the host is there, and by which scheme.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp
import msgspec
from yarl import URL

from teul.registry.answers import read_bounded
from teul.registry.client.session import EndpointSession
from teul.registry.credentials import Credentials
from teul.registry.endpoints import INDEX, Endpoint
from teul.registry.errors import BadAnswer, ConnectionFailed, InvalidRegistryEndpoint, RegistryError
from teul.registry.failures import describe_request
from teul.registry.tokens import Tokens, basic_authorization
from teul.registry.transport import Request, Transport

_SCOPE = "registry:catalog:search"
# A hundred results take some 30 KiB; the limit keeps a registry from filling the engine's memory.
_MAX_RESULTS_BYTES = 4 << 20


class SearchResult(msgspec.Struct, frozen=True):
    """One repository that was found. Members and order are those of Docker's API. What a registry leaves out is empty."""

    star_count: int = 0
    is_official: bool = False
    name: str = ""
    is_automated: bool = False
    description: str = ""


class _Result(msgspec.Struct):
    """As a registry has it. docker: null counts as left out."""

    star_count: int | None = None
    is_official: bool | None = None
    name: str | None = None
    description: str | None = None


class _Results(msgspec.Struct):
    results: list[_Result] | None = None


class Searcher:
    """Searches with the connections and tokens of the engine."""

    def __init__(self, transport: Transport, tokens: Tokens) -> None:
        self._transport = transport
        self._tokens = tokens

    async def search(self, endpoints: Sequence[Endpoint], credentials: Credentials, term: str, *, limit: int) -> list[SearchResult]:
        """What the first of `endpoints` that is there finds for `term`; `limit` is a request to it. No result is told to be automated.

        Raises `InvalidRegistryEndpoint` if none is there, `RegistryError` for a refusal and for what cannot be read.
        """
        endpoint = await self._find(endpoints)
        request = Request("GET", _url(endpoint, "search").with_query(q=term, n=str(limit)), {"X-Docker-Token": "true"})
        async with await self._send(endpoint, request, credentials) as response:
            if response.status != 200:
                raise RegistryError(f"Unexpected status code {response.status}")
            data = await read_bounded(response, _MAX_RESULTS_BYTES, "the answer to a search")
        return _decode(data)

    async def _send(self, endpoint: Endpoint, request: Request, credentials: Credentials) -> aiohttp.ClientResponse:
        if credentials.username and credentials.identity_token:
            # docker: only who has logged in for an identity token is asked for a token of the second protocol.
            return await EndpointSession(self._transport, self._tokens, endpoint, credentials, (_SCOPE,)).send(request)
        headers = {**request.headers, "Authorization": basic_authorization(credentials)} if credentials.username else request.headers
        request = Request(request.method, request.url, headers)
        return await self._transport.follow(request, await self._transport.context_for(endpoint))

    async def _find(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        """The first of `endpoints` that answers. docker: Docker Hub's index is taken to be there, and never looked for in the clear."""
        if list(endpoints) == [INDEX]:
            return INDEX
        problems: list[str] = []
        for endpoint in endpoints:
            try:
                await self._ping(endpoint)
            except (ConnectionFailed, BadAnswer) as error:
                problems.append(error.message)
            else:
                return endpoint
        raise _not_there(endpoints[-1], problems)

    async def _ping(self, endpoint: Endpoint) -> None:
        request = Request("GET", _url(endpoint, "_ping"))
        try:
            async with asyncio.timeout(self._transport.options.first_answer_seconds):
                (await self._transport.follow(request, await self._transport.context_for(endpoint))).close()
        except TimeoutError as error:
            problem = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            raise ConnectionFailed(describe_request("GET", str(request.url), problem)) from error


def _url(endpoint: Endpoint, path: str) -> URL:
    return URL(f"{endpoint.scheme}://{endpoint.host}/v1/{path}")


def _not_there(endpoint: Endpoint, problems: Sequence[str]) -> InvalidRegistryEndpoint:
    url, host = _url(endpoint, ""), endpoint.host
    if not endpoint.verify:
        return InvalidRegistryEndpoint(f'invalid registry endpoint "{url}". HTTPS attempt: {problems[0]}. HTTP attempt: {problems[-1]}')
    return InvalidRegistryEndpoint(
        f"invalid registry endpoint {url}: {problems[0]}. If this private registry supports only HTTP or HTTPS with an unknown CA "
        f"certificate, please add `--insecure-registry {host}` to the daemon's arguments. In the case of HTTPS, if you have access to the "
        f"registry's CA certificate, no need for the flag; simply place the CA certificate at /etc/docker/certs.d/{host}/ca.crt"
    )


def _decode(data: bytes) -> list[SearchResult]:
    try:
        found = msgspec.json.decode(data, type=_Results | None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(f"error decoding registry search results: {error}") from error
    listed = (found.results if found is not None else None) or ()
    # docker: what registries say of automated builds is not to be trusted.
    return [SearchResult(it.star_count or 0, bool(it.is_official), it.name or "", False, it.description or "") for it in listed]
