"""`docker push` over HTTP. Source: moby daemon/server/router/image/image_routes.go, postImagesPush; api/types/auxprogress."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import assert_never

from aiohttp import web

from teul.api.http.context import api_version, services
from teul.api.http.progress import Document, aux_line, progress_line, relay
from teul.api.http.query import text
from teul.api.http.streaming import json_stream, request_body, while_connected
from teul.api.images.views import descriptor_view
from teul.errors import InvalidParameter
from teul.oci.platform import decode_platform
from teul.oci.reference import parse_reference, repository_and_tag
from teul.services.images.push import LayerProgress, Message, Missing, Pushed, PushedInstead, PushEvent
from teul.services.images.registries import push_credentials

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

AUTH_HEADER = "X-Registry-Auth"
_MAX_AUTH_BYTES = 1 << 20


async def push_image(request: web.Request) -> web.StreamResponse:
    """POST /images/{name}/push. docker: what goes wrong with the registry is told in band, the status is 200."""
    header = request.headers.get(AUTH_HEADER, "")
    credentials = push_credentials(header, b"" if header else await auth_body(request))
    name, tag = request.match_info["name"], text(request, "tag")
    reference = (repository_and_tag(name, tag) if tag else None) or parse_reference(name)
    # docker: older clients send it too, and nobody looks at it.
    platform_text = text(request, "platform") if api_version(request) >= (1, 46) else ""
    platform = decode_platform(platform_text) if platform_text else None
    pusher = services(request).image_pusher
    async with while_connected(request), json_stream(request) as stream:
        await relay(stream, lambda tell: pusher.push(reference, credentials, lambda event: tell(push_line(event)), platform=platform))
    return stream.response


async def auth_body(request: web.Request) -> bytes:
    """A body with credentials. Raises InvalidParameter if it is too large for that."""
    body = bytearray()
    async for chunk in request_body(request):
        body += chunk
        if len(body) > _MAX_AUTH_BYTES:
            raise InvalidParameter(f"request body is larger than {_MAX_AUTH_BYTES} bytes")
    return bytes(body)


def push_line(event: PushEvent) -> Document:
    """The line of the stream that tells `event`."""
    match event:
        case Message():
            return {"status": event.text}
        case LayerProgress():
            return progress_line(event.shown, event.action, event.current_bytes, event.total_bytes)
        case Pushed():
            return aux_line({"Tag": event.tag, "Digest": str(event.target.digest), "Size": event.target.size_bytes})
        case PushedInstead():
            whole, target = descriptor_view(event.whole), descriptor_view(event.target)
            return aux_line({"manifestPushedInsteadOfIndex": True, "originalIndex": whole, "selectedManifest": target})
        case Missing():
            return aux_line({"contentMissing": True, "desc": descriptor_view(event.target)})
        case _:
            assert_never(event)


ROUTES: tuple[tuple[str, str, Handler], ...] = (("POST", "/images/{name:.*}/push", push_image),)
