"""Calls to one plug-in: HTTP over its socket, JSON both ways.

A plug-in is the administrator's, but what it answers is bounded all the same, in bytes and in time. One that cannot be reached is asked
again for a while, for it may just be starting. docker: pkg/plugins/client.go, whose texts and whose patience these are.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Mapping
from typing import Any, TypeVar

import aiohttp
import msgspec

from teul.aio import run_blocking
from teul.errors import InvalidParameter
from teul.model.document import Document, convert, decode_object
from teul.plugins.discovery import Address, TlsSettings
from teul.plugins.errors import HOST, PluginRefused, PluginSilent, PluginUnreachable

log = logging.getLogger(__name__)

D = TypeVar("D", bound=Document)

MEDIA_TYPE = "application/vnd.docker.plugins.v1.2+json"
_ANSWER_BYTES = 8 << 20
_CONNECT_SECONDS = 10.0
# How long a plug-in that cannot be reached is tried. docker: after 1, 2, 4 and 8 seconds; sooner finds sooner.
_PATIENCE_SECONDS = 15.0
_FIRST_DELAY_SECONDS = 0.1
_LONGEST_DELAY_SECONDS = 2.0


class _Failure(Document):
    err: str = ""


class PluginClient:
    """The way to one plug-in. It holds no connection between calls; any number of calls may be under way."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def call(self, method: str, arguments: Mapping[str, Any] | None, kind: type[D], *, seconds: float, patient: bool = True) -> D:
        """The answer to `method`, say `VolumeDriver.Get`, within `seconds` of each attempt; without `patient` there is one attempt.

        Raises PluginUnreachable, PluginRefused. An answer's own `Err` is the caller's to look at.
        """
        body = b"" if arguments is None else msgspec.json.encode(arguments) + b"\n"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (_PATIENCE_SECONDS if patient else 0)
        delay_seconds = _FIRST_DELAY_SECONDS
        while True:
            try:
                status, answer = await self._send(method, body, seconds)
                break
            except TimeoutError as error:
                raise PluginSilent(_told(method, "context deadline exceeded")) from error
            except (aiohttp.ClientError, OSError) as error:
                if loop.time() + delay_seconds >= deadline:
                    raise PluginUnreachable(_told(method, self._describe(error))) from error
                log.debug("plug-in at %s: %s, trying again", self._address.place, error)
            await asyncio.sleep(delay_seconds)
            delay_seconds = min(2 * delay_seconds, _LONGEST_DELAY_SECONDS)
        if status != 200:
            raise PluginRefused(f"{method}: {_reason(answer)}")
        try:
            return convert(kind, decode_object(answer, kind))
        except InvalidParameter as error:
            raise PluginRefused(f"{method}: {error.message}") from error

    async def _send(self, method: str, body: bytes, seconds: float) -> tuple[int, bytes]:
        address = self._address
        connector = aiohttp.UnixConnector(address.place) if address.scheme == "unix" else aiohttp.TCPConnector()
        host = HOST if address.scheme == "unix" else address.place
        context = await run_blocking(_context, address.tls) if address.scheme == "https" else None
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Content-Type",),
            headers={"Accept": MEDIA_TYPE, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_SECONDS)),
            trust_env=False,
        ) as session:
            url = f"{'http' if context is None else 'https'}://{host}/{method}"
            async with session.post(url, data=body, allow_redirects=False, ssl=True if context is None else context) as response:
                answer = bytearray()
                async for chunk in response.content.iter_any():
                    answer += chunk
                    if len(answer) > _ANSWER_BYTES:
                        raise PluginRefused(f"{method}: the answer has more than {_ANSWER_BYTES} bytes")
                return response.status, bytes(answer)

    def _describe(self, error: Exception) -> str:
        """As Go would tell it."""
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number).lower() if number and number > 0 else str(error)
        if isinstance(error, aiohttp.ClientConnectorError | ConnectionRefusedError | FileNotFoundError):
            return f"dial {'unix' if self._address.scheme == 'unix' else 'tcp'} {self._address.place}: connect: {reason}"
        return "EOF" if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError) else reason


def _told(method: str, reason: str) -> str:
    return f'Post "http://{HOST}/{method}": {reason}'


def _reason(answer: bytes) -> str:
    """What a refusal says: its `Err`, or all of it."""
    try:
        failure = convert(_Failure, decode_object(answer, _Failure))
    except InvalidParameter:
        return answer.decode(errors="replace")
    return failure.err or answer.decode(errors="replace")


def _context(settings: TlsSettings) -> ssl.SSLContext:
    """Blocking. Raises `OSError`, of which `ssl.SSLError` is one."""
    context = ssl.create_default_context(cafile=settings.ca or None)
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.certificate:
        context.load_cert_chain(settings.certificate, settings.key or None)
    return context
