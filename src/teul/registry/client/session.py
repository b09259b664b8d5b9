"""One endpoint, as one caller with its credentials sees it: what the registry asks for is shown to it, once more when it has run out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from ssl import SSLContext

import aiohttp
from yarl import URL

from teul.errors import TeulError
from teul.registry.challenges import Challenge, parse_challenges
from teul.registry.credentials import ANONYMOUS, Credentials
from teul.registry.endpoints import Endpoint, split_port
from teul.registry.errors import AuthenticationFailed, BadAnswer, ConnectionFailed, LoginFailed, LoginRefused, RegistryError, Unreachable
from teul.registry.failures import describe_request
from teul.registry.tokens import TokenRequest, Tokens, basic_authorization, fetch_token
from teul.registry.transport import Request, Transport


@dataclass(slots=True)
class _Known:
    """What the first request to the endpoint has shown."""

    context: SSLContext | None
    challenges: list[Challenge] = field(default_factory=list)


class EndpointSession:
    """Requests to `endpoint` with `credentials`, of which a mirror sees none. `scopes` are what tokens are asked for."""

    def __init__(self, transport: Transport, tokens: Tokens, endpoint: Endpoint, credentials: Credentials, scopes: tuple[str, ...]) -> None:
        self.endpoint = endpoint
        self.url = _url_of(endpoint)
        self._transport = transport
        self._tokens = tokens
        self._credentials = ANONYMOUS if endpoint.is_mirror else credentials
        self._scopes = scopes
        self._known: _Known | None = None
        self._meeting = asyncio.Lock()

    def url_of(self, path: str, **query: str) -> URL:
        """`path` below `/v2/`; it is made of names, tags and digests that were parsed, so nothing in it needs quoting."""
        url = self.url.join(URL(path, encoded=True))
        return url.with_query(query) if query else url

    async def send(self, request: Request, *, further_scopes: tuple[str, ...] = ()) -> aiohttp.ClientResponse:
        """The answer to a request, redirects included, whatever it is but for a challenge that can be met; the caller closes it.

        Raises `Unreachable` if there is no registry, and `ConnectionFailed`, `BadAnswer`, `AuthenticationFailed`.
        """
        known = await self._meet()
        if request.url.origin() != self.url.origin():
            return await self._transport.follow(request, known.context)
        authorization, token = await self._authorize(known, request, further_scopes)
        response = await self._transport.follow(_authorized(request, authorization), known.context)
        challenges = _challenges(response)
        if response.status != 401 or (token is None and (not challenges or challenges == known.challenges)):
            # Good, or the registry wants nothing else than it was shown.
            return response
        response.close()
        if token is not None:
            self._tokens.forget(*token)
        known.challenges = challenges or known.challenges
        authorization, token = await self._authorize(known, request, further_scopes)
        response = await self._transport.follow(_authorized(request, authorization), known.context)
        if response.status == 401 and token is not None:
            self._tokens.forget(*token)
        return response

    async def meet(self) -> None:
        """Ask for nothing, but whether there is a registry. Raises `Unreachable`."""
        await self._meet()

    async def login(self) -> str:
        """Check the credentials. Returns the identity token to be used from now on instead of the password, or "".

        Raises `LoginFailed` or `LoginRefused` for wrong ones. docker: registry/auth.go, loginV2.
        """
        known = await self._meet()
        request = Request("GET", self.url)
        identity_token = ""
        authorization = None
        try:
            for challenge in _in_order(known.challenges):
                if challenge.scheme == "bearer":
                    wanted = TokenRequest.of(challenge, self.url, self._credentials, ())
                    token = await fetch_token(self._transport, wanted, known.context, for_login=True)
                    authorization, identity_token = f"Bearer {token.text}", token.identity_token
                else:
                    authorization = self._basic()
                break
        except RegistryError as error:
            text = describe_request(*request.described, error.message)
            if getattr(error, "code", "") == "UNAUTHORIZED":
                raise LoginFailed(text) from error
            raise AuthenticationFailed(text) from error
        async with await self._transport.follow(_authorized(request, authorization), known.context) as response:
            if response.status == 200:
                return identity_token
            said = f"login attempt to {self.url} failed with status: {response.status} {response.reason or ''}".rstrip()
        raise LoginRefused(said) if response.status == 401 else BadAnswer(said)

    async def _meet(self) -> _Known:
        """Ask for `/v2/` once: whether there is a registry, and what it wants to be shown. docker: registry/auth.go, PingV2Registry."""
        async with self._meeting:
            if self._known is None:
                context = await self._transport.context_for(self.endpoint)
                try:
                    async with asyncio.timeout(self._transport.options.first_answer_seconds):
                        async with await self._transport.follow(Request("GET", self.url), context) as response:
                            challenges = _challenges(response) if response.status == 401 else []
                except TimeoutError as error:
                    problem = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                    raise Unreachable(describe_request("GET", str(self.url), problem)) from error
                except ConnectionFailed as error:
                    raise Unreachable(error.message) from error
                self._known = _Known(context, challenges)
            return self._known

    async def _authorize(
        self, known: _Known, request: Request, further_scopes: tuple[str, ...]
    ) -> tuple[str | None, tuple[TokenRequest, str] | None]:
        """The `Authorization` for a request, and the token in it. docker: a failure names the request that it was for."""
        try:
            for challenge in _in_order(known.challenges):
                if challenge.scheme == "basic":
                    return self._basic(), None
                if self._credentials.registry_token:
                    return f"Bearer {self._credentials.registry_token}", None
                scopes = (*self._scopes, *(scope for scope in further_scopes if scope not in self._scopes))
                wanted = TokenRequest.of(challenge, self.url, self._credentials, scopes)
                text = await self._tokens.get(wanted, known.context)
                return f"Bearer {text}", (wanted, text)
        except ConnectionFailed as error:
            raise ConnectionFailed(describe_request(*request.described, error.message), problem=error.message) from error
        except TeulError as error:
            raise AuthenticationFailed(describe_request(*request.described, error.message), problem=error.message) from error
        return None, None

    def _basic(self) -> str:
        if not self._credentials.has_password:
            raise AuthenticationFailed("no basic auth credentials")
        return basic_authorization(self._credentials)


def _url_of(endpoint: Endpoint) -> URL:
    """The endpoint's URL. Raises `Unreachable`, as Go does: the grammar of references knows domains that are no hosts."""
    port = split_port(endpoint.host)[1]
    problem = f"dial tcp: address {port}: invalid port" if endpoint.host else "http: no Host in request URL"
    if not endpoint.host or (port and int(port) > 65535):
        raise Unreachable(describe_request("GET", endpoint.url, problem))
    return URL(endpoint.url)


def _challenges(response: aiohttp.ClientResponse) -> list[Challenge]:
    return parse_challenges(response.headers.getall("WWW-Authenticate", ()))


def _in_order(challenges: list[Challenge]) -> list[Challenge]:
    """What the engine can meet, tokens before passwords."""
    schemes = ("bearer", "basic")
    known = [challenge for challenge in challenges if challenge.scheme in schemes]
    return sorted(known, key=lambda challenge: schemes.index(challenge.scheme))


def _authorized(request: Request, authorization: str | None) -> Request:
    return request if authorization is None else replace(request, headers={**request.headers, "Authorization": authorization})
