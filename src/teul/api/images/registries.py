"""Registries over HTTP: log in, look at what a name stands for, and search.

Source: moby daemon/server/router/system/system_routes.go, postAuth; daemon/server/router/distribution/distribution_routes.go;
daemon/server/router/image/image_routes.go, getImagesSearch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from teul.api.http.context import services
from teul.api.http.errors import StatusError
from teul.api.http.query import filters, integer, json_response, text
from teul.api.http.streaming import while_connected
from teul.api.images.push import AUTH_HEADER, auth_body
from teul.api.images.views import descriptor_view
from teul.errors import InvalidParameter
from teul.oci.documents import encode_document
from teul.services.images.registries import RefusedByRegistry

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# docker: a registry's refusal has the status of its code, whatever status it came with (httpstatus, statusCodeFromDistributionError).
_STATUS = {
    "UNAUTHORIZED": 401,
    "DENIED": 403,
    "NAME_UNKNOWN": 404,
    "MANIFEST_UNKNOWN": 404,
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "UNSUPPORTED": 405,
    "TOOMANYREQUESTS": 429,
    "UNAVAILABLE": 503,
    "DIGEST_INVALID": 400,
    "SIZE_INVALID": 400,
    "NAME_INVALID": 400,
    "TAG_INVALID": 400,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNVERIFIED": 400,
    "MANIFEST_BLOB_UNKNOWN": 400,
}


async def log_in(request: web.Request) -> web.StreamResponse:
    """POST /auth"""
    token = await services(request).registries.login(await auth_body(request))
    return json_response({"Status": "Login Succeeded", "IdentityToken": token})


async def inspect_distribution(request: web.Request) -> web.StreamResponse:
    """GET /distribution/{name}/json"""
    try:
        found = await services(request).registries.inspect(request.match_info["name"], request.headers.get(AUTH_HEADER, ""))
    except RefusedByRegistry as error:
        raise StatusError(_STATUS.get(error.code, 500), error.message) from error
    platforms = None
    if found.platforms is not None:
        # docker: these two members are always there.
        platforms = [
            {"architecture": "", "os": ""} | msgspec.json.decode(encode_document(platform), type=dict) for platform in found.platforms
        ]
    return json_response({"Descriptor": descriptor_view(found.descriptor), "Platforms": platforms})


async def search_images(request: web.Request) -> web.StreamResponse:
    """GET /images/search"""
    try:
        limit = integer(request, "limit") or 0
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid limit specified: {error.message}") from error
    if limit < 0:
        raise InvalidParameter("invalid limit specified")
    wanted, header = filters(request), request.headers.get(AUTH_HEADER, "")
    async with while_connected(request):
        found = await services(request).registries.search(text(request, "term"), wanted, header, limit=limit)
    return json_response(found)


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/auth", log_in),
    ("GET", "/images/search", search_images),
    ("GET", "/distribution/{name:.+}/json", inspect_distribution),
)
