"""Registries that the client is held against: the tests' own, and Debian's docker-registry in each of its ways to ask who one is."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.certificates import Authority
from support.docker_registry import docker_registry
from support.needs import needs
from support.registry import PASSWORD, USERNAME, Behaviour, FakeRegistry
from teul.oci.reference import Reference, parse_reference
from teul.registry.backoff import Backoff
from teul.registry.client.registry_client import RegistryClient
from teul.registry.client.repository import Repository
from teul.registry.credentials import ANONYMOUS, Credentials
from teul.registry.endpoints import Registries
from teul.registry.transport import Options

GOOD = Credentials(USERNAME, PASSWORD)
IMPATIENT = Backoff(first_wait_seconds=0.01)
REAL = needs("docker_registry", "openssl")


@dataclass
class Place:
    """A registry at `host` that asks for `auth`, and a client that trusts it."""

    host: str
    auth: str
    client: RegistryClient
    fake: FakeRegistry | None = None

    def reference(self, name: str = "", tag: str = "latest") -> Reference:
        """Of a repository that nobody else has, unless it is named."""
        return parse_reference(f"{self.host}/{name or f'test/{secrets.token_hex(6)}'}:{tag}")

    async def repository(self, reference: Reference, *, push: bool = True, credentials: Credentials = GOOD) -> Repository:
        return await self.client.repository(reference, credentials if self.auth else ANONYMOUS, push=push)


class Started:
    """The docker-registries of one module, each started when it is first wanted."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._hosts: dict[str, str] = {}

    def close(self) -> None:
        self._stack.close()

    def host(self, flavour: str) -> str:
        if flavour not in self._hosts:
            auth = flavour if flavour in {"basic", "token"} else ""
            tls = None
            if flavour == "tls":
                authority = Authority(self._directory, "authority")
                tls = authority.issue("server", server=True)
            host = self._stack.enter_context(docker_registry(self._directory / flavour, auth=auth, tls=tls))
            if tls is not None:
                place = self._directory / "certs.d" / host
                place.mkdir(parents=True)
                (place / "ca.crt").write_bytes((tls / "ca.pem").read_bytes())
            self._hosts[flavour] = host
        return self._hosts[flavour]

    @property
    def certificates(self) -> str:
        return str(self._directory / "certs.d")


@pytest.fixture(scope="module")
def docker_registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    registries = Started(tmp_path_factory.mktemp("registries"))
    yield registries
    registries.close()


@pytest.fixture(scope="module")
def fakes() -> list[FakeRegistry]:
    """The tests' registries that a module has asked."""
    return []


FLAVOURS = [
    "fake",
    "fake basic",
    "fake token",
    pytest.param("docker-registry", marks=REAL),
    pytest.param("docker-registry basic", marks=REAL),
    pytest.param("docker-registry token", marks=REAL),
    pytest.param("docker-registry tls", marks=REAL),
]


@pytest.fixture(params=FLAVOURS)
async def place(request: pytest.FixtureRequest, fakes: list[FakeRegistry]) -> AsyncIterator[Place]:
    kind, _, flavour = str(request.param).partition(" ")
    auth = flavour if flavour in {"basic", "token"} else ""
    if kind == "fake":
        options = Options(certificate_directories=(), backoff=IMPATIENT)
        async with FakeRegistry(behaviour=Behaviour(auth=auth)) as fake, RegistryClient(options) as client:
            fakes.append(fake)
            yield Place(fake.host, auth, client, fake)
        return
    registries: Started = request.getfixturevalue("docker_registries")
    host = registries.host(flavour or "plain")
    # Loopback is insecure by default; over TLS it is to be verified here.
    known = Registries(insecure_networks=()) if flavour == "tls" else Registries()
    async with RegistryClient(Options(known, certificate_directories=(registries.certificates,), backoff=IMPATIENT)) as client:
        yield Place(host, auth, client)
