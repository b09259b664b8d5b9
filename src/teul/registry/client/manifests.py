"""Manifests: from a tag or a digest to a descriptor, from a descriptor to verified bytes, and back up again."""

from __future__ import annotations

import aiohttp

from teul.oci.descriptor import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor
from teul.oci.digest import Digest, InvalidDigest
from teul.oci.documents import MAX_DOCUMENT_BYTES
from teul.registry.answers import read_bounded, refusal
from teul.registry.client.session import EndpointSession
from teul.registry.errors import BadAnswer, ContentMismatch
from teul.registry.transport import Request

# What the engine understands, and the rest: a registry then tells what it has, instead of that it has nothing of the kind.
_ACCEPTED = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_INDEX}, {DOCKER_MANIFEST}, */*"
_NAME = "the manifest"


async def resolve(session: EndpointSession, path: str, reference: str | Digest) -> Descriptor:
    """The descriptor of what a tag or a digest names. docker: by HEAD; by GET where that fails, which also has the error's text."""
    url = session.url_of(f"{path}/manifests/{reference}")
    async with await session.send(Request("HEAD", url, {"Accept": _ACCEPTED})) as response:
        found = _head_descriptor(response, reference) if 200 <= response.status < 300 else None
    if found is not None:
        return found
    return (await get(session, path, reference))[0]


async def get(session: EndpointSession, path: str, reference: str | Digest) -> tuple[Descriptor, bytes]:
    """What a tag or a digest names, whole and verified, in one request."""
    url = session.url_of(f"{path}/manifests/{reference}")
    async with await session.send(Request("GET", url, {"Accept": _ACCEPTED})) as response:
        await _expect_manifest(response)
        media_type = _media_type(response)
        data = await read_bounded(response, MAX_DOCUMENT_BYTES, _NAME)
    digest = reference if isinstance(reference, Digest) else _told_digest(response) or Digest.of(data)
    _verify(data, digest)
    return Descriptor(media_type=media_type, digest=digest, size_bytes=len(data)), data


async def fetch(session: EndpointSession, path: str, descriptor: Descriptor) -> bytes:
    """The manifest that `descriptor` names, whole and verified."""
    if descriptor.size_bytes > MAX_DOCUMENT_BYTES:
        raise BadAnswer(f"{_NAME} is larger than the limit of {MAX_DOCUMENT_BYTES} bytes")
    url = session.url_of(f"{path}/manifests/{descriptor.digest}")
    accepted = f"{descriptor.media_type}, {_ACCEPTED}" if _is_token(descriptor.media_type) else _ACCEPTED
    async with await session.send(Request("GET", url, {"Accept": accepted}, is_addressed=True)) as response:
        await _expect_manifest(response)
        data = await read_bounded(response, MAX_DOCUMENT_BYTES, _NAME)
    _verify(data, descriptor.digest)
    if len(data) != descriptor.size_bytes:
        raise ContentMismatch(f"manifest {descriptor.digest} has {len(data)} bytes instead of {descriptor.size_bytes}")
    return data


async def put(session: EndpointSession, path: str, reference: str | Digest, media_type: str, data: bytes) -> Descriptor:
    """Store a manifest under a tag or its digest. Sending it twice does no harm."""
    digest = Digest.of(data, reference.algorithm if isinstance(reference, Digest) else "sha256")
    request = Request("PUT", session.url_of(f"{path}/manifests/{reference}"), {"Content-Type": media_type}, data)
    async with await session.send(request) as response:
        if not 200 <= response.status < 300:
            raise await refusal(response)
        told = _told_digest(response)
    if told is not None and told.algorithm == digest.algorithm and told != digest:
        raise ContentMismatch(f"the registry stored manifest {digest} as {told}")
    return Descriptor(media_type=media_type, digest=digest, size_bytes=len(data))


async def _expect_manifest(response: aiohttp.ClientResponse) -> None:
    if not 200 <= response.status < 300:
        raise await refusal(response)


def _head_descriptor(response: aiohttp.ClientResponse, reference: str | Digest) -> Descriptor | None:
    """The descriptor in an answer's head; None if it does not say all, so that the manifest has to be looked at."""
    digest = _told_digest(response)
    length = response.headers.get("Content-Length", "")
    if digest is None or not (length.isascii() and length.isdigit()) or not response.headers.get("Content-Type"):
        return None
    if int(length[:19]) == 0:
        # No manifest is empty: something on the way has given the length of the answer to HEAD.
        return None
    if isinstance(reference, Digest) and digest != reference:
        raise ContentMismatch(f"manifest verification failed for digest {reference}")
    return Descriptor(media_type=_media_type(response), digest=digest, size_bytes=int(length[:19]))


def _told_digest(response: aiohttp.ClientResponse) -> Digest | None:
    text = response.headers.get("Docker-Content-Digest")
    try:
        return Digest(text) if text else None
    except InvalidDigest as error:
        raise BadAnswer(error.message) from error


def _media_type(response: aiohttp.ClientResponse) -> str:
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
    if not media_type:
        raise BadAnswer("missing or empty Content-Type header")
    return media_type


def _verify(data: bytes, digest: Digest) -> None:
    if Digest.of(data, digest.algorithm) != digest:
        raise ContentMismatch(f"manifest verification failed for digest {digest}")


def _is_token(text: str) -> bool:
    """security: a media type comes out of somebody's document and goes into a header."""
    return bool(text) and text.isascii() and text.isprintable() and not set(text) & set(", \t")
