"""A container becomes an image: `docker commit`."""

from __future__ import annotations

import msgspec
from aiohttp import web

from teul.api.http import query
from teul.api.http.context import services
from teul.api.http.query import json_response
from teul.errors import InvalidParameter
from teul.model.config import ContainerConfig
from teul.model.document import convert, decode_object
from teul.oci.reference import repository_and_tag
from teul.services.containers.commits import CommitOrder


async def commit(request: web.Request) -> web.StreamResponse:
    """POST /commit. The body may be a ContainerConfig; docker: `null`, an empty object and no body at all are none."""
    body = await query.json_bytes(request)
    config = decode_object(body) if body.strip() else {}
    reference = query.text(request, "container")
    if not reference:
        raise InvalidParameter('invalid name or ID supplied: ""')
    order = CommitOrder(
        reference=repository_and_tag(query.text(request, "repo"), query.text(request, "tag")),
        author=query.text(request, "author"),
        comment=query.text(request, "comment"),
        changes=request.query.getall("changes", []),
        config=convert(ContainerConfig, config) if _says_something(config) else None,
        pause=query.boolean(request, "pause", default=True),
    )
    image_id = await services(request).commits.commit(reference, order)
    return json_response({"Id": str(image_id)}, status=201)


ROUTES = (("POST", "/commit", commit),)


def _says_something(config: dict[str, object]) -> bool:
    """Whether a member is one of a config, by whatever case of letters."""
    known = {field.encode_name.lower() for field in msgspec.structs.fields(ContainerConfig)}
    return any(name.lower() in known for name in config)
