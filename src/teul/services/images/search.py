"""What a client that searches a registry wants: the host, the term and the filters. Pure. Source: moby registry/search.go."""

from __future__ import annotations

from dataclasses import dataclass

from teul.errors import InvalidParameter
from teul.model.filter import Filters
from teul.model.number import parse_int64
from teul.oci.reference import DEFAULT_DOMAIN
from teul.registry.client.searches import SearchResult
from teul.registry.endpoints import INDEX_HOST

DEFAULT_RESULTS = 25
_MAX_RESULTS = 100
_ACCEPTED = frozenset({"is-automated", "is-official", "stars"})


@dataclass(frozen=True, slots=True)
class ImageSearch:
    """A search. `host` is docker.io or what stands before the term; made by `parse_search`, so all of it is good.

    `is_official` is None if it was not asked for. Nothing is automated, so nothing is found by who wants that.
    """

    host: str
    term: str
    limit: int
    wants_automated: bool
    is_official: bool | None
    least_stars: int | None

    def accepts(self, result: SearchResult) -> bool:
        """Whether the filters let `result` through."""
        if self.wants_automated or (self.is_official is not None and result.is_official != self.is_official):
            return False
        return self.least_stars is None or result.star_count >= self.least_stars


def parse_search(term: str, filters: Filters, *, limit: int) -> ImageSearch:
    """The search that a request asks for; no `limit` is 0. Raises InvalidParameter, in dockerd's words."""
    filters.validate(_ACCEPTED)
    wants_automated = filters.boolean("is-automated", default=False)
    is_official = filters.boolean("is-official", default=False) if "is-official" in filters else None
    least_stars = max((0, *(_stars(value) for value in filters.get("stars")))) if "stars" in filters else None
    if "://" in term:
        raise InvalidParameter(f"invalid repository name: repository name ({term}) should not have a scheme")
    limit = limit or DEFAULT_RESULTS
    if not 1 <= limit <= _MAX_RESULTS:
        raise InvalidParameter(f"limit {limit} is outside the range of [1, {_MAX_RESULTS}]")
    host, rest = _split(term)
    if host.startswith("-") or host.endswith("-"):
        raise InvalidParameter(f"invalid index name ({host}). Cannot begin or end with a hyphen")
    return ImageSearch(host, rest, limit, wants_automated, is_official, least_stars)


def _stars(value: str) -> int:
    try:
        return parse_int64(value)
    except ValueError as error:
        raise InvalidParameter(f"""invalid filter 'stars={value}': strconv.Atoi: parsing "{value}": {error}""") from None


def _split(term: str) -> tuple[str, str]:
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host, term = (DEFAULT_DOMAIN if first == INDEX_HOST else first), rest
    else:
        host = DEFAULT_DOMAIN
    # docker: the official images are kept under a name that nobody types.
    return host, term.removeprefix("library/") if host == DEFAULT_DOMAIN else term
