"""The engine's way to registries, and to files on the web: one `RegistryClient` for the engine, one `Repository` for each pull and push."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import AbstractAsyncContextManager
from ipaddress import ip_address
from types import TracebackType
from typing import Self

from teul.errors import TeulError
from teul.oci.reference import DEFAULT_DOMAIN, Reference
from teul.registry.client.exchange import Exchange
from teul.registry.client.repository import Repository
from teul.registry.client.searches import Searcher, SearchResult
from teul.registry.client.session import EndpointSession
from teul.registry.client.web_files import WebAddress, WebFile, open_web_file
from teul.registry.credentials import ANONYMOUS, Credentials
from teul.registry.endpoints import INDEX, Address, Endpoint, is_host, literal_address, login_host, split_port
from teul.registry.errors import InvalidRegistryEndpoint, LoginFailed, LoginRefused, RegistryError
from teul.registry.tokens import Tokens
from teul.registry.transport import Options, Transport

log = logging.getLogger(__name__)


class RegistryClient:
    """Connections and tokens for all registries; used within `async with`, from one event loop."""

    def __init__(self, options: Options) -> None:
        self._registries = options.registries
        self._backoff = options.backoff
        self._transport = Transport(options)
        self._tokens = Tokens(self._transport)
        self._searcher = Searcher(self._transport, self._tokens)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        await self._transport.__aexit__(exc_type, exc, traceback)

    async def repository(self, reference: Reference, credentials: Credentials = ANONYMOUS, *, push: bool = False) -> Repository:
        """The repository of `reference`, which need not exist. Pulls go by Docker Hub's mirrors, pushes do not. Asks no registry yet."""
        addresses = await self._addresses(reference.domain)
        endpoints = self._registries.endpoints(reference, addresses=addresses, with_mirrors=not push)
        # docker: the actions of a push, in this order.
        scope = f"repository:{reference.path}:{'pull,push' if push else 'pull'}"
        sessions = [self._session(endpoint, credentials, (scope,)) for endpoint in endpoints]
        return Repository(Exchange(sessions, reference.path, self._backoff), reference)

    async def login(self, credentials: Credentials) -> str:
        """Check credentials at their `server_address`. Returns the identity token to keep instead of the password, or "".

        Raises `LoginFailed` or `LoginRefused` if they are wrong, `RegistryError` if that cannot be told. docker: registry/service.go, Auth.
        """
        host = login_host(credentials.server_address)
        endpoints = self._registries.endpoints_of_host(host, addresses=await self._addresses(host))
        failure: TeulError = RegistryError(f"no endpoints found for {host}")
        for endpoint in endpoints:
            try:
                return await self._session(endpoint, credentials, ()).login()
            except (LoginFailed, LoginRefused):
                # They have been told to be wrong; in the clear they would not become right.
                raise
            except TeulError as error:
                log.info("attempting the next endpoint after %s: %s", endpoint.url, error.message)
                failure = error
        raise failure

    async def search(self, host: str, term: str, credentials: Credentials = ANONYMOUS, *, limit: int) -> list[SearchResult]:
        """What `host` finds for `term`, without mirrors; docker.io is Docker Hub's index. Raises what `Searcher.search` does.

        Raises `InvalidRegistryEndpoint` also for what is no host: a client may write anything before its term.
        """
        if host == DEFAULT_DOMAIN:
            return await self._searcher.search([INDEX], credentials, term, limit=limit)
        if not is_host(host):
            raise InvalidRegistryEndpoint(f'parse "https://{host}": invalid host')
        endpoints = self._registries.endpoints_of_host(host, addresses=await self._addresses(host))
        return await self._searcher.search(endpoints, credentials, term, limit=limit)

    def open_web_file(self, address: WebAddress) -> AbstractAsyncContextManager[WebFile]:
        """A file of any web server, by the engine's proxies and time limits. Raises what `web_files.open_web_file` does."""
        return open_web_file(self._transport, address)

    def _session(self, endpoint: Endpoint, credentials: Credentials, scopes: tuple[str, ...]) -> EndpointSession:
        return EndpointSession(self._transport, self._tokens, endpoint, credentials, scopes)

    async def _addresses(self, host: str) -> list[Address]:
        """What a name stands for, to be held against the insecure networks; nothing if it cannot be told."""
        if not self._registries.asks_addresses(host) or literal_address(host) is not None:
            return []
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(split_port(host)[0], None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return []
        return [ip_address(str(address[0]).partition("%")[0]) for *_, address in found]
