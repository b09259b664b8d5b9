"""Bearer tokens: fetched from the token server that a registry names, and kept for as long as they are good.

spec: the distribution project's "Token Authentication" and "OAuth2" documents; docker: vendored registry/client/auth/session.go.
security: the realm is the registry's word. It must be http or https, credentials are not sent in the clear on the word of a registry that
is spoken to over TLS, and the token server's redirects take no credentials elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ssl import SSLContext
from urllib.parse import urlencode

import msgspec
from multidict import MultiDict
from yarl import URL

from teul.registry.answers import read_bounded, refusal
from teul.registry.challenges import Challenge
from teul.registry.credentials import Credentials
from teul.registry.errors import AuthenticationFailed
from teul.registry.transport import Request, Transport

CLIENT_ID = "docker"  # docker: registry.AuthClientID; token servers know it
# docker: a token is good for a minute at least, whatever its server says (older clients took that for granted).
_LEAST_SECONDS = 60
# Renewed before it ends, so that a request under way does not lose it. A token good for a minute is kept for most of it.
_MARGIN_SECONDS = 5
_MOST_SECONDS = 24 * 3600
_MAX_TOKENS = 256
_MAX_ANSWER_BYTES = 1 << 20


class _TokenAnswer(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    refresh_token: str | None = None
    expires_in: int | float | None = None
    issued_at: str | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """`expires` is in the terms of the cache's clock. `identity_token` came along, if it was asked for."""

    text: str
    expires: float
    identity_token: str = ""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a token is for: the place that gives it, the service that takes it, who asks, and what for."""

    realm: URL
    service: str
    scopes: tuple[str, ...]
    credentials: Credentials

    @classmethod
    def of(cls, challenge: Challenge, base: URL, credentials: Credentials, scopes: tuple[str, ...]) -> TokenRequest:
        """What `challenge`, an answer of the registry at `base`, asks for. Raises `AuthenticationFailed`."""
        realm = challenge.parameters.get("realm")
        if not realm:
            raise AuthenticationFailed("no realm specified for token auth challenge")
        try:
            url = base.join(URL(realm))
            usable = url.scheme in {"http", "https"} and bool(url.raw_host) and url.user is None and url.password is None
        except (ValueError, IndexError) as error:  # yarl: an IndexError for `//[]@`
            raise AuthenticationFailed(f"invalid token auth challenge realm: {error}") from error
        if not usable:
            raise AuthenticationFailed(f"invalid token auth challenge realm: unsupported protocol scheme {url.scheme!r}")
        secret = credentials.has_password or credentials.identity_token
        if base.scheme == "https" and url.scheme == "http" and secret:
            raise AuthenticationFailed(f"the token server {url.host_port_subcomponent} would be sent credentials in the clear")
        return cls(url.with_fragment(None), challenge.parameters.get("service", ""), scopes, credentials)


class Tokens:
    """The tokens of the engine, by what they are for. Two that want the same one ask for it once."""

    def __init__(self, transport: Transport, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._clock = clock
        self._tokens: dict[TokenRequest, Token] = {}
        self._locks: dict[TokenRequest, asyncio.Lock] = {}

    async def get(self, wanted: TokenRequest, context: SSLContext | None) -> str:
        """A token that is good now. Raises `AuthenticationFailed`, `Refused` and what `Transport.send` raises."""
        lock = self._locks.setdefault(wanted, asyncio.Lock())
        try:
            async with lock:
                known = self._tokens.get(wanted)
                if known is None or known.expires <= self._clock():
                    known = await fetch_token(self._transport, wanted, context, clock=self._clock)
                    self._keep(wanted, known)
                return known.text
        finally:
            if not lock.locked():
                self._locks.pop(wanted, None)

    def forget(self, wanted: TokenRequest, text: str) -> None:
        """The registry did not take the token `text`: the next one who wants it fetches a new one."""
        known = self._tokens.get(wanted)
        if known is not None and known.text == text:
            del self._tokens[wanted]

    def _keep(self, wanted: TokenRequest, token: Token) -> None:
        now = self._clock()
        self._tokens = {key: kept for key, kept in self._tokens.items() if kept.expires > now}
        while len(self._tokens) >= _MAX_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[wanted] = token


async def fetch_token(
    transport: Transport,
    wanted: TokenRequest,
    context: SSLContext | None,
    *,
    for_login: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Token:
    """Ask the token server. `for_login` asks for an identity token too. Raises as `Tokens.get`."""
    request = _oauth_request(wanted) if wanted.credentials.identity_token else _get_request(wanted, for_login=for_login)
    async with await transport.follow(request, context) as response:
        if not 200 <= response.status < 300:
            raise await refusal(response)
        data = await read_bounded(response, _MAX_ANSWER_BYTES, "the token server's answer")
    return _read_answer(data, clock())


def _get_request(wanted: TokenRequest, *, for_login: bool) -> Request:
    query = MultiDict(wanted.realm.query)
    if wanted.service:
        query.add("service", wanted.service)
    for scope in wanted.scopes:
        query.add("scope", scope)
    if for_login:
        query.add("offline_token", "true")
        query.add("client_id", CLIENT_ID)
    headers: dict[str, str] = {}
    if wanted.credentials.has_password:
        query.add("account", wanted.credentials.username)
        headers["Authorization"] = basic_authorization(wanted.credentials)
    return Request("GET", wanted.realm.with_query(query), headers)


def _oauth_request(wanted: TokenRequest) -> Request:
    form: Mapping[str, str] = {
        "scope": " ".join(wanted.scopes),
        "service": wanted.service,
        "client_id": CLIENT_ID,
        "grant_type": "refresh_token",
        "refresh_token": wanted.credentials.identity_token,
    }
    return Request("POST", wanted.realm, {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(form).encode("ascii"))


def _read_answer(data: bytes, now: float) -> Token:
    try:
        answer = msgspec.json.decode(data, type=_TokenAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AuthenticationFailed(f"unable to decode token response: {error}") from error
    text = answer.access_token or answer.token
    if not text:
        raise AuthenticationFailed("authorization server did not include a token in the response")
    if not text.isascii() or not text.isprintable():
        # security: it becomes part of a header.
        raise AuthenticationFailed("unable to decode token response: the token is no text for a header")
    seconds = min(max(answer.expires_in or 0, _LEAST_SECONDS), _MOST_SECONDS) - _age_seconds(answer.issued_at)
    return Token(text, now + seconds - _MARGIN_SECONDS, answer.refresh_token or "")


def _age_seconds(issued_at: str | None) -> float:
    """How old the answer is by its own account; nothing that cannot be read or lies ahead counts."""
    if not issued_at:
        return 0.0
    try:
        issued = datetime.fromisoformat(issued_at)
    except ValueError:
        return 0.0
    if issued.tzinfo is None:
        issued = issued.replace(tzinfo=UTC)
    return max(0.0, (datetime.now(UTC) - issued).total_seconds())


def basic_authorization(credentials: Credentials) -> str:
    """The value of an `Authorization` header. spec: RFC 7617."""
    return "Basic " + base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode("ascii")
