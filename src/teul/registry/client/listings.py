"""Lists that a registry gives in pages: tags and referrers. Pages end, whatever the registry says of the next one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from yarl import URL

from teul.oci.descriptor import OCI_INDEX, Descriptor
from teul.oci.digest import Digest
from teul.oci.documents import MAX_DOCUMENT_BYTES, decode_index, decode_lenient
from teul.registry.answers import next_link, read_bounded, refusal
from teul.registry.client.session import EndpointSession
from teul.registry.errors import BadAnswer, Refused
from teul.registry.transport import Request, resolve_location

_PAGE_ITEMS = "1000"
_MAX_PAGES = 1000
_MAX_ITEMS = 200_000


class _Tags(msgspec.Struct):
    tags: list[str] = []


async def tags(session: EndpointSession, path: str) -> list[str]:
    """All tags of the repository, in the registry's order."""
    found: list[str] = []
    async for page in _pages(session, session.url_of(f"{path}/tags/list", n=_PAGE_ITEMS), "the list of tags"):
        found += decode_lenient(page, _Tags, "list of tags").tags
        _check_number(found)
    return found


async def referrers(session: EndpointSession, path: str, digest: Digest, artifact_type: str | None) -> list[Descriptor]:
    """What refers to the manifest `digest`, of one artifact type or of all. spec: OCI distribution-spec, "Listing Referrers"."""
    query = {"artifactType": artifact_type} if artifact_type is not None else {}
    found: list[Descriptor] = []
    try:
        async for page in _pages(session, session.url_of(f"{path}/referrers/{digest}", **query), "the list of referrers"):
            found += decode_index(page).manifests
            _check_number(found)
    except Refused as error:
        if error.status != 404:
            raise
        found = await _tagged_referrers(session, path, digest)
    # A registry may leave the filtering to its client.
    return [each for each in found if artifact_type is None or each.artifact_type == artifact_type]


async def _tagged_referrers(session: EndpointSession, path: str, digest: Digest) -> list[Descriptor]:
    """spec: "Referrers Tag Schema", for registries that know no referrers."""
    tag = f"{digest.algorithm[:32]}-{digest.hex[:64]}"
    request = Request("GET", session.url_of(f"{path}/manifests/{tag}"), {"Accept": OCI_INDEX})
    async with await session.send(request) as response:
        if response.status == 404:
            return []
        if not 200 <= response.status < 300:
            raise await refusal(response)
        data = await read_bounded(response, MAX_DOCUMENT_BYTES, "the list of referrers")
    return decode_index(data).manifests


async def _pages(session: EndpointSession, url: URL, name: str) -> AsyncIterator[bytes]:
    """The bodies of a list's pages. Raises `BadAnswer` for a link to elsewhere and for a list without end."""
    seen = {url}
    for _ in range(_MAX_PAGES):
        async with await session.send(Request("GET", url)) as response:
            if not 200 <= response.status < 300:
                raise await refusal(response)
            data = await read_bounded(response, MAX_DOCUMENT_BYTES, name)
            link = next_link(response.headers.getall("Link", ()))
        yield data
        if link is None:
            return
        target = resolve_location(link, url)
        if target.origin() != url.origin():
            raise BadAnswer(f"{name} goes on at another host: {target.host_port_subcomponent}")
        if target in seen:
            raise BadAnswer(f"{name} comes back to its beginning")
        seen.add(target)
        url = target
    raise BadAnswer(f"{name} has more than {_MAX_PAGES} pages")


def _check_number(found: list[str] | list[Descriptor]) -> None:
    if len(found) > _MAX_ITEMS:
        raise BadAnswer(f"the registry lists more than {_MAX_ITEMS} items")
