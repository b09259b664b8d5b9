"""A container becomes an image: `docker commit`."""

from __future__ import annotations

from aiohttp import web

from teul.api.http import query
from teul.api.http.context import services
from teul.api.http.query import json_response
from teul.errors import InvalidParameter
from teul.model.config import ContainerConfig, find_config
from teul.oci.reference import repository_and_tag
from teul.services.containers.commits import CommitOrder


async def commit(request: web.Request) -> web.StreamResponse:
    """POST /commit. The body may be a ContainerConfig; docker: `null`, an empty object and no body at all are none."""
    config = find_config(await query.json_object(request, ContainerConfig))
    reference = query.text(request, "container")
    if not reference:
        raise InvalidParameter('invalid name or ID supplied: ""')
    order = CommitOrder(
        reference=repository_and_tag(query.text(request, "repo"), query.text(request, "tag")),
        author=query.text(request, "author"),
        comment=query.text(request, "comment"),
        changes=request.query.getall("changes", []),
        config=config,
        pause=query.boolean(request, "pause", default=True),
    )
    image_id = await services(request).commits.commit(reference, order)
    return json_response({"Id": str(image_id)}, status=201)


ROUTES = (("POST", "/commit", commit),)
