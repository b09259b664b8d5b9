"""A blob on its way up. spec: OCI distribution-spec, "Pushing Blobs"; docker: distribution/push_v2.go and its client's blob_writer.go."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable
from enum import StrEnum

import aiohttp
from yarl import URL

from teul.oci.descriptor import Descriptor
from teul.oci.digest import Digest
from teul.registry.answers import refusal
from teul.registry.client.exchange import Exchange
from teul.registry.client.session import EndpointSession
from teul.registry.errors import AuthenticationFailed, BadAnswer, ConnectionFailed, ContentMismatch, Refused
from teul.registry.transport import Request, resolve_location

log = logging.getLogger(__name__)

# The bytes of the blob from the given offset on. Called anew for every attempt.
BlobSource = Callable[[int], AsyncIterator[bytes]]

CHUNK_BYTES = 8 << 20
_MAX_CHUNK_BYTES = 64 << 20
_OCTETS = "application/octet-stream"
_RANGE = re.compile(r"\s*(?:bytes=)?0-(\d{1,19})\s*")


class UploadMode(StrEnum):
    """How the bytes go up: in one PATCH and a PUT (docker's way), in the PUT alone, or in a PATCH for every chunk."""

    STREAM = "stream"
    MONOLITHIC = "monolithic"
    CHUNKED = "chunked"


async def mount(session: EndpointSession, path: str, digest: Digest, source_path: str) -> bool:
    """Have the registry take the blob from another repository of its own. False if it does not: then the blob is to be uploaded.

    A refusal is such an answer too: it may be about the other repository, and if it is about this one, the upload will tell.
    """
    url = session.url_of(f"{path}/blobs/uploads/").with_query({"mount": str(digest), "from": source_path})
    request = Request("POST", url)
    try:
        # docker: with a token for both.
        response = await session.send(request, further_scopes=(f"repository:{source_path}:pull",))
    except AuthenticationFailed as error:
        log.info("nothing is mounted from %s: %s", source_path, error.message)
        return False
    async with response:
        if response.status == 201:
            return True
        if response.status in {401, 403, 404, 405}:
            log.info("nothing is mounted from %s: %s", source_path, (await refusal(response)).message)
            return False
        if response.status != 202:
            raise await refusal(response)
        location = _location(response, url)
    async with await session.send(Request("DELETE", location)):
        # An upload that cannot be taken back ends by itself, in the registry's own time.
        return False


async def upload(
    exchange: Exchange, descriptor: Descriptor, open_source: BlobSource, *, mode: UploadMode, chunk_bytes: int = CHUNK_BYTES
) -> None:
    """Store the blob in the repository; its bytes come from `open_source`, and are checked by the registry against the digest.

    Begun anew after a failure that may pass; a chunked one goes on where it was. Raises what `open_source` raises, and `ContentMismatch`
    if it gives another number of bytes than the descriptor says.
    """

    async def attempt(session: EndpointSession) -> None:
        match mode:
            case UploadMode.STREAM:
                await _stream(session, exchange.path, descriptor, open_source)
            case UploadMode.MONOLITHIC:
                location, _ = await _start(session, exchange.path)
                await _finish(session, location, descriptor, open_source)
            case UploadMode.CHUNKED:
                await _chunks(session, exchange, descriptor, open_source, chunk_bytes)

    await exchange.run(attempt)


async def _start(session: EndpointSession, path: str) -> tuple[URL, int]:
    """Where the upload goes, and the least number of bytes of a chunk."""
    url = session.url_of(f"{path}/blobs/uploads/")
    async with await session.send(Request("POST", url)) as response:
        if response.status != 202:
            raise await refusal(response)
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        return _location(response, url), int(least[:19]) if least.isascii() and least.isdigit() else 0


async def _stream(session: EndpointSession, path: str, descriptor: Descriptor, open_source: BlobSource) -> None:
    location, _ = await _start(session, path)
    request = Request(
        "PATCH", location, {"Content-Type": _OCTETS}, lambda: _whole(descriptor, open_source), body_bytes=descriptor.size_bytes
    )
    async with await session.send(request) as response:
        location, taken = await _patched(response, location)
    if taken is not None and descriptor.size_bytes and taken != descriptor.size_bytes:
        raise ConnectionFailed(f"the registry took {taken} of {descriptor.size_bytes} bytes of {descriptor.digest}")
    await _finish(session, location, descriptor)


async def _finish(session: EndpointSession, location: URL, descriptor: Descriptor, open_source: BlobSource | None = None) -> None:
    """End the upload with the digest, and with the bytes if they have not been sent."""
    # What stands in the location's query is the registry's, and keeps its spelling.
    url = URL(f"{location}{'&' if location.raw_query_string else '?'}digest={descriptor.digest}", encoded=True)
    if open_source is None:
        request = Request("PUT", url)
    else:
        source = open_source
        request = Request("PUT", url, {"Content-Type": _OCTETS}, lambda: _whole(descriptor, source), body_bytes=descriptor.size_bytes)
    async with await session.send(request) as response:
        if not 200 <= response.status < 300:
            raise await _upload_refusal(response)
        told = response.headers.get("Docker-Content-Digest")
    if told and told.partition(":")[0] == descriptor.digest.algorithm and told != str(descriptor.digest):
        raise ContentMismatch("the registry stored a blob under another digest than its own")


async def _chunks(session: EndpointSession, exchange: Exchange, descriptor: Descriptor, open_source: BlobSource, chunk_bytes: int) -> None:
    location, least = await _start(session, exchange.path)
    if least > _MAX_CHUNK_BYTES:
        raise BadAnswer(f"the registry wants chunks of {least} bytes")
    size = max(chunk_bytes, least, 1)
    offset = failures = 0
    while offset < descriptor.size_bytes:
        try:
            async for chunk in _pieces(descriptor, open_source, offset, size):
                location, taken = await _send_chunk(session, location, offset, chunk)
                if taken is not None and taken != offset + len(chunk):
                    raise BadAnswer(f"the registry took {taken} bytes instead of {offset + len(chunk)}")
                offset += len(chunk)
                failures = 0
        except (ConnectionFailed, Refused) as error:
            failures += 1
            wait = exchange.backoff.wait_seconds(failures, error)
            if wait is None:
                raise
            await exchange.pause(wait)
            location, offset = await _progress(session, location, descriptor)
    await _finish(session, location, descriptor)


async def _send_chunk(session: EndpointSession, location: URL, offset: int, chunk: bytes) -> tuple[URL, int | None]:
    headers = {"Content-Type": _OCTETS, "Content-Range": f"{offset}-{offset + len(chunk) - 1}"}
    async with await session.send(Request("PATCH", location, headers, chunk)) as response:
        return await _patched(response, location)


async def _progress(session: EndpointSession, location: URL, descriptor: Descriptor) -> tuple[URL, int]:
    """How far an upload is, after an answer that did not come."""
    async with await session.send(Request("GET", location)) as response:
        location, taken = await _patched(response, location)
    if taken is not None and taken > descriptor.size_bytes:
        raise BadAnswer(f"the registry took {taken} of {descriptor.size_bytes} bytes")
    return location, taken or 0


async def _patched(response: aiohttp.ClientResponse, location: URL) -> tuple[URL, int | None]:
    """Where the upload goes on, and how many bytes the registry has, if it says so."""
    if not 200 <= response.status < 300:
        raise await _upload_refusal(response)
    match = _RANGE.fullmatch(response.headers.get("Range", ""))
    last = int(match[1]) if match is not None else None
    # spec: `0-0` is one byte or none; neither is a reason to doubt what was sent.
    return _location(response, location, default=location), last + 1 if last else None


async def _upload_refusal(response: aiohttp.ClientResponse) -> Refused:
    if response.status == 404:
        # docker: blob_writer.go, whatever the body says.
        return Refused("blob upload unknown", status=404)
    return await refusal(response)


def _location(response: aiohttp.ClientResponse, base: URL, *, default: URL | None = None) -> URL:
    text = response.headers.get("Location")
    if text:
        return resolve_location(text, base)
    if default is None:
        raise BadAnswer("the registry does not say where to upload to")
    return default


async def _whole(descriptor: Descriptor, open_source: BlobSource) -> AsyncIterator[bytes]:
    """All bytes of the blob. Raises `ContentMismatch` before the registry waits for bytes that will not come."""
    sent = 0
    async for chunk in open_source(0):
        sent += len(chunk)
        if sent > descriptor.size_bytes:
            break
        yield chunk
    _check_size(descriptor, sent)


async def _pieces(descriptor: Descriptor, open_source: BlobSource, offset: int, size: int) -> AsyncIterator[bytes]:
    """The bytes from `offset` on, in pieces of exactly `size` but for the last."""
    pending = bytearray()
    position = offset
    async for chunk in open_source(offset):
        pending += chunk
        position += len(chunk)
        if position > descriptor.size_bytes:
            break
        while len(pending) >= size:
            yield bytes(pending[:size])
            del pending[:size]
    _check_size(descriptor, position)
    if pending:
        yield bytes(pending)


def _check_size(descriptor: Descriptor, size_bytes: int) -> None:
    if size_bytes != descriptor.size_bytes:
        raise ContentMismatch(f"blob {descriptor.digest} has not the {descriptor.size_bytes} bytes that its descriptor says")
