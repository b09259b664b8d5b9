"""A blob on its way down: a stream that goes on where it broke, and ends with the error or the whole of what its digest says."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Self

import aiohttp

from teul.aio import run_blocking
from teul.oci.descriptor import Descriptor
from teul.oci.digest import Hasher
from teul.oci.reference import Reference
from teul.registry.answers import next_bytes, refusal
from teul.registry.client.exchange import Exchange
from teul.registry.client.session import EndpointSession
from teul.registry.errors import BadAnswer, ConnectionFailed, ContentMismatch, Refused, pulling, transferring
from teul.registry.transport import Request

log = logging.getLogger(__name__)

CHUNK_BYTES = 256 * 1024
# After so many bytes a stream that breaks again has not failed twice in a row. Less would let a registry that gives a byte a time go on.
_PROGRESS_BYTES = 1 << 20
_RANGE = re.compile(r"\s*bytes\s+(\d{1,19})-(\d{1,19})/(?:\d{1,19}|\*)\s*", re.IGNORECASE)


class BlobStream:
    """The bytes of `descriptor` from `offset` on, in chunks of about `CHUNK_BYTES`: `async with stream: async for chunk in stream`.

    No more than the descriptor's size comes, whatever the registry sends. With `verify` the end of the iteration means that all bytes have
    the digest; without, only that there are as many as there should be. Read once.
    """

    def __init__(self, exchange: Exchange, reference: Reference, descriptor: Descriptor, *, offset: int = 0, verify: bool = True) -> None:
        if not 0 <= offset <= descriptor.size_bytes:
            raise ValueError(f"offset {offset} is outside of {descriptor.size_bytes} bytes")
        if verify and offset:
            raise ValueError("a part of a blob cannot be verified: whoever has the beginning does that")
        self._exchange = exchange
        self._reference = reference
        self._descriptor = descriptor
        self._position = offset
        self._hasher: Hasher | None = descriptor.digest.hasher() if verify else None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        await self._stack.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = self._chunks()
        self._stack.push_async_callback(chunks.aclose)
        return chunks

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        failures = 0
        failed_at = self._position
        with pulling(self._reference), transferring():
            while self._position < self._descriptor.size_bytes:
                session, response, skipped = await self._exchange.run(self._open)
                try:
                    async with response, aclosing(self._read(response, skipped)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                except ConnectionFailed as error:
                    failures = 1 if self._position - failed_at >= _PROGRESS_BYTES else failures + 1
                    failed_at = self._position
                    wait = self._exchange.backoff.wait_seconds(failures, error)
                    if wait is None:
                        if not (session.endpoint.is_mirror and self._exchange.leave(session, error)):
                            raise
                        failures, wait = 0, 0.0
                    log.info("going on with %s at %d in %.1f seconds: %s", self._descriptor.digest, failed_at, wait, error.message)
                    await self._exchange.pause(wait)
        if self._hasher is not None and self._hasher.hexdigest() != self._descriptor.digest.hex:
            raise self._mismatch()

    async def _open(self, session: EndpointSession) -> tuple[EndpointSession, aiohttp.ClientResponse, int]:
        """An answer with the bytes from the position on, how many to skip of it, and whose it is."""
        position = self._position
        url = session.url_of(f"{self._exchange.path}/blobs/{self._descriptor.digest}")
        headers = {"Range": f"bytes={position}-{self._descriptor.size_bytes - 1}"} if position else {}
        response = await session.send(Request("GET", url, headers, is_addressed=True))
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(response)
            if response.status not in {200, 206}:
                raise await _refusal(response)
            start = self._check_range(response, position) if response.status == 206 else 0
            self._check_length(response, start)
            # From here on its reader closes it.
            stack.pop_all()
        return session, response, position - start

    def _check_range(self, response: aiohttp.ClientResponse, position: int) -> int:
        text = response.headers.get("Content-Range")
        if text is None:
            raise BadAnswer("no Content-Range header found in HTTP 206 response")
        match = _RANGE.fullmatch(text)
        if match is None:
            raise BadAnswer("could not parse Content-Range header")
        if int(match[1]) != position:
            raise BadAnswer(f"received Content-Range starting at offset {match[1]} instead of requested {position}")
        return position

    def _check_length(self, response: aiohttp.ClientResponse, start: int) -> None:
        """Turn away what says at once that it has the wrong size. A shorter part is taken: the rest is asked for then."""
        length = response.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return
        due = self._descriptor.size_bytes - start
        told = int(length[:19])
        if told > due or (told < due and response.status == 200):
            raise self._mismatch()

    async def _read(self, response: aiohttp.ClientResponse, skipped: int) -> AsyncGenerator[bytes, None]:
        """The chunks of one answer, its first `skipped` bytes left out. Raises `ConnectionFailed` if it ends before the blob does."""
        pending: list[bytes] = []
        pending_bytes = 0
        failure: ConnectionFailed | None = None
        while True:
            try:
                data = await next_bytes(response)
            except ConnectionFailed as error:
                # What came before the break counts: it is not asked for again.
                failure, data = error, b""
            if skipped:
                passed_over = min(skipped, len(data))
                skipped -= passed_over
                kept = data[passed_over:]
            else:
                kept = data
            pending.append(kept)
            pending_bytes += len(kept)
            if self._position + pending_bytes > self._descriptor.size_bytes:
                raise self._mismatch()
            if pending_bytes >= CHUNK_BYTES or (pending_bytes and not data):
                yield await self._passed(b"".join(pending))
                pending, pending_bytes = [], 0
            if not data:
                break
        if self._position < self._descriptor.size_bytes:
            raise failure or ConnectionFailed("unexpected EOF")

    async def _passed(self, chunk: bytes) -> bytes:
        if self._hasher is not None:
            await run_blocking(self._hasher.update, chunk)
        self._position += len(chunk)
        return chunk

    def _mismatch(self) -> ContentMismatch:
        return ContentMismatch(f"filesystem layer verification failed for digest {self._descriptor.digest}")


async def _refusal(response: aiohttp.ClientResponse) -> Refused:
    # docker: vendored registry/client/repository.go, blobs.Open; whatever the body says.
    return Refused("unknown blob", status=404) if response.status == 404 else await refusal(response)


async def fetch(session: EndpointSession, path: str, descriptor: Descriptor, limit_bytes: int) -> bytes:
    """A small blob, whole and verified: an image's config. docker: distribution/pull_v2.go, pullSchema2Config."""
    mismatch = ContentMismatch(f"image config verification failed for digest {descriptor.digest}")
    if descriptor.size_bytes > limit_bytes:
        raise BadAnswer(f"the image's config is larger than the limit of {limit_bytes} bytes")
    request = Request("GET", session.url_of(f"{path}/blobs/{descriptor.digest}"), is_addressed=True)
    async with await session.send(request) as response:
        if response.status != 200:
            raise await _refusal(response)
        data = bytearray()
        while chunk := await next_bytes(response):
            data += chunk
            if len(data) > descriptor.size_bytes:
                raise mismatch
    hasher = descriptor.digest.hasher()
    hasher.update(data)
    if len(data) != descriptor.size_bytes or hasher.hexdigest() != descriptor.digest.hex:
        raise mismatch
    return bytes(data)


async def exists(session: EndpointSession, path: str, descriptor: Descriptor) -> bool:
    """Whether the repository is known to have the blob. docker: push asks so before it uploads."""
    request = Request("HEAD", session.url_of(f"{path}/blobs/{descriptor.digest}"), is_addressed=True)
    async with await session.send(request) as response:
        if 400 <= response.status < 500 and response.status != 429:
            # docker: a refusal is no answer, and its text would be in the body that HEAD has not. What is wrong the upload will tell.
            return False
        if not 200 <= response.status < 300:
            raise await refusal(response)
        return True
