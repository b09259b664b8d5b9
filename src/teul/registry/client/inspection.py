"""What `docker manifest inspect` does: look at manifests in a registry, from the command line and without an engine.

docker: cli/registry/client, whose order of endpoints and whose errors are other ones than dockerd's. Nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from teul.oci.descriptor import DOCKER_MANIFEST, INDEX_TYPES, MANIFEST_TYPES, Descriptor
from teul.oci.digest import Digest
from teul.oci.documents import Index, InvalidDocument, decode_index, decode_manifest
from teul.oci.image_config import MAX_CONFIG_BYTES
from teul.oci.platform import Platform
from teul.oci.reference import Reference
from teul.registry.answers import read_bounded, refusal
from teul.registry.client import manifests
from teul.registry.client.session import EndpointSession
from teul.registry.credentials import Credentials, decode_auth_config
from teul.registry.endpoints import Endpoint, parse_registries
from teul.registry.errors import ContentMismatch, NotInRegistry, Refused, RegistryError, Unreachable
from teul.registry.failures import HTTP_TO_HTTPS
from teul.registry.proxies import Proxies
from teul.registry.tokens import Tokens
from teul.registry.transport import Options, Request, Transport

# After these the next endpoint is asked. docker: fetcher.go, continueOnError.
_MISSING = frozenset({"UNAUTHORIZED", "MANIFEST_UNKNOWN", "NAME_UNKNOWN"})


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest, its bytes, and the platform that its config has, or if an index leads to it that the index has."""

    reference: Reference
    descriptor: Descriptor
    data: bytes
    platform: Platform

    @property
    def is_oci(self) -> bool:
        return self.descriptor.media_type != DOCKER_MANIFEST


@dataclass(frozen=True, slots=True)
class Found:
    """What a reference names: a manifest, or an index with all manifests in it."""

    manifests: tuple[FoundManifest, ...]
    is_index: bool


async def inspect(reference: Reference, account: bytes, *, insecure: bool, environment: Mapping[str, str]) -> Found:
    """What `reference` names in its registry, which may be spoken to without verified TLS or in the clear if `insecure`.

    `account` is the user's `AuthConfig`, a JSON document; `environment` may name proxies. Raises `TeulError`, in docker's words.
    """
    registries = parse_registries(insecure=[reference.domain] if insecure else ())
    options = Options(registries, ("/etc/teul/certs.d", "/etc/docker/certs.d"), Proxies.of_environment(environment))
    credentials = decode_auth_config(account)
    async with Transport(options) as transport:
        tokens = Tokens(transport)
        for endpoint in registries.endpoints(reference, with_mirrors=False):
            session = await _meet(transport, tokens, endpoint, credentials, reference)
            if session is None or (session.endpoint.scheme == "http" and not insecure):
                continue
            try:
                return await _look(session, reference)
            except Refused as error:
                if not 400 <= error.status < 500 or (error.problems and error.code not in _MISSING):
                    raise
    raise NotInRegistry(f"no such manifest: {reference.canonical}")


async def _meet(
    transport: Transport, tokens: Tokens, endpoint: Endpoint, credentials: Credentials, reference: Reference
) -> EndpointSession | None:
    """A session with the registry at `endpoint`, in the clear if it has no TLS and need not; None if it has to."""
    scopes = (f"repository:{reference.path}:pull",)
    session = EndpointSession(transport, tokens, endpoint, credentials, scopes)
    try:
        try:
            await session.meet()
        except Unreachable as error:
            if HTTP_TO_HTTPS not in error.message:
                raise
            if endpoint.verify:
                return None
            session = EndpointSession(transport, tokens, Endpoint("http", endpoint.host, verify=False), credentials, scopes)
            await session.meet()
    except Unreachable as error:
        raise RegistryError(f"failed to configure transport: error pinging v2 registry: {error.message}") from error
    return session


async def _look(session: EndpointSession, reference: Reference) -> Found:
    # docker: of a reference with both, the tag is looked up and the digest held against what it names.
    descriptor, data = await manifests.get(session, reference.path, reference.tag or reference.digest or "latest")
    if reference.digest is not None and descriptor.digest != reference.digest:
        raise ContentMismatch(f"manifest verification failed for digest {reference.digest}")
    if descriptor.media_type not in INDEX_TYPES:
        return Found((await _manifest(session, reference, descriptor, data, None),), is_index=False)
    found = []
    for child in _decode_index(data).manifests:
        named = reference.with_digest(child.digest)
        actual, child_data = await manifests.get(session, reference.path, child.digest)
        if actual.media_type in INDEX_TYPES:
            raise InvalidDocument("unsupported manifest type: *manifestlist.DeserializedManifestList")
        found.append(await _manifest(session, named, actual, child_data, child.platform or Platform()))
    return Found(tuple(found), is_index=True)


def _decode_index(data: bytes) -> Index:
    members: Any = msgspec.json.decode(data)
    if isinstance(members, dict) and (members.get("config") is not None or members.get("layers") is not None):
        # security: CVE-2021-41190, a document that is a manifest to one reader and an index to another.
        raise InvalidDocument("index: expected index but found manifest")
    return decode_index(data)


async def _manifest(
    session: EndpointSession, reference: Reference, descriptor: Descriptor, data: bytes, platform: Platform | None
) -> FoundManifest:
    """The manifest with the platform of its config, which is fetched and verified in any case, or with `platform`."""
    if descriptor.media_type not in MANIFEST_TYPES:
        raise InvalidDocument(f"unsupported manifest media type and no default available: {descriptor.media_type}")
    config = decode_manifest(data).config
    url = session.url_of(f"{reference.path}/blobs/{config.digest}")
    async with await session.send(Request("GET", url, is_addressed=True)) as response:
        if response.status != 200:
            raise await refusal(response)
        raw = await read_bounded(response, MAX_CONFIG_BYTES, "the image's config")
    if Digest.of(raw, config.digest.algorithm) != config.digest:
        raise ContentMismatch(f"image config verification failed for digest {config.digest}")
    own = platform if platform is not None else _platform_of(raw)
    return FoundManifest(reference, Descriptor(media_type=descriptor.media_type, digest=descriptor.digest, size_bytes=len(data)), data, own)


def _platform_of(config: bytes) -> Platform:
    try:
        return msgspec.json.decode(config, type=Platform)
    except msgspec.MsgspecError as error:
        raise InvalidDocument(f"invalid image config: {error}") from error
