"""What `certs.d` and the list of insecure registries do with real certificates, in front of the tests' registry and of docker-registry."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.certificates import Authority
from support.docker_registry import docker_registry
from support.needs import needs
from support.registry import FakeRegistry
from teul.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from teul.oci.reference import parse_reference
from teul.registry.backoff import Backoff
from teul.registry.client.registry_client import RegistryClient
from teul.registry.endpoints import Registries
from teul.registry.errors import RegistryError, Unreachable
from teul.registry.transport import Options

pytestmark = needs("openssl")

EMPTY_INDEX = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
NOTHING_INSECURE = Registries(insecure_networks=())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    directory = tmp_path / "certs.d"
    directory.mkdir()
    return directory


def trust(certificates: Path, host: str, authority: Authority) -> Path:
    place = certificates / host
    place.mkdir()
    (place / "ca.crt").write_bytes((authority.directory / "ca.pem").read_bytes())
    return place


def server_context(issued: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued / "cert.pem", issued / "key.pem")
    return context


@asynccontextmanager
async def client_of(certificates: Path, registries: Registries = NOTHING_INSECURE) -> AsyncIterator[RegistryClient]:
    options = Options(registries, certificate_directories=(str(certificates),), backoff=Backoff(first_wait_seconds=0.01))
    async with RegistryClient(options) as client:
        yield client


async def test_an_authority_counts_from_when_its_file_is_there(authority: Authority, certificates: Path) -> None:
    async with FakeRegistry(tls=server_context(authority.issue("server", server=True))) as registry, client_of(certificates) as client:
        stored = registry.add_manifest("x", b"{}", OCI_MANIFEST, "latest")
        reference = parse_reference(f"{registry.host}/x")
        with pytest.raises(Unreachable) as caught:
            await (await client.repository(reference)).resolve()
        problem = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        assert caught.value.message == f'Get "https://{registry.host}/v2/": {problem}'
        trust(certificates, registry.host, authority)
        assert await (await client.repository(reference)).resolve() == stored


async def test_an_insecure_registry_need_not_be_known(authority: Authority, certificates: Path) -> None:
    async with FakeRegistry(tls=server_context(authority.issue("server", server=True))) as registry:
        stored = registry.add_manifest("x", b"{}", OCI_MANIFEST, "latest")
        async with client_of(certificates, Registries()) as client:
            assert await (await client.repository(parse_reference(f"{registry.host}/x"))).resolve() == stored


async def test_a_secure_registry_in_the_clear_is_not_spoken_to(certificates: Path) -> None:
    async with FakeRegistry() as registry, client_of(certificates) as client:
        with pytest.raises(Unreachable) as caught:
            await (await client.repository(parse_reference(f"{registry.host}/x"))).resolve()
        problem = "http: server gave HTTP response to HTTPS client"
        assert caught.value.message == f'Get "https://{registry.host}/v2/": {problem}'
        assert registry.seen == []


async def test_a_certificate_for_another_name_is_refused(authority: Authority, certificates: Path) -> None:
    context = server_context(authority.issue("server", server=True))
    async with FakeRegistry(tls=context, address="127.0.0.2") as registry, client_of(certificates) as client:
        trust(certificates, registry.host, authority)
        with pytest.raises(Unreachable) as caught:
            await (await client.repository(parse_reference(f"{registry.host}/x"))).resolve()
        problem = "tls: failed to verify certificate: x509: certificate is not valid for any names, but wanted to match 127.0.0.2"
        assert caught.value.message == f'Get "https://{registry.host}/v2/": {problem}'


@pytest.fixture
def mutual(tmp_path: Path, authority: Authority) -> Iterator[str]:
    """A docker-registry that wants to see a certificate of its clients."""
    issued = authority.issue("server", server=True)
    with docker_registry(tmp_path / "registry", tls=issued, client_authority=authority.directory / "ca.pem") as host:
        yield host


@needs("docker_registry")
async def test_a_certificate_is_shown_to_who_wants_one(authority: Authority, certificates: Path, mutual: str) -> None:
    place = trust(certificates, mutual, authority)
    reference = parse_reference(f"{mutual}/x")
    async with client_of(certificates) as client:
        with pytest.raises(RegistryError, match=r"remote error: tls: (bad certificate|certificate required)$"):
            await (await client.repository(reference)).resolve()
        issued = authority.issue("client")
        (place / "client.cert").write_bytes((issued / "cert.pem").read_bytes())
        (place / "client.key").write_bytes((issued / "key.pem").read_bytes())
        repository = await client.repository(reference, push=True)
        stored = await repository.put_manifest("v1", OCI_INDEX, EMPTY_INDEX)
        assert await repository.resolve("v1") == stored
