"""`teul search`."""

from __future__ import annotations

from teul.cli.command import Command
from teul.cli.format.listing import Listing, Row
from teul.cli.format.units import ellipsis
from teul.cli.options.keyvalues import to_filters
from teul.cli.options.parser import BOOL, Option
from teul.cli.registry.transfer import known_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

_DEFAULT_DOMAIN = "docker.io"
_COLUMNS = ("Name", "Description", "StarCount", "IsOfficial")
_HEADERS = {"Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL"}


class SearchRow(Row):
    """One image that was found."""

    def __init__(self, result: dict[str, Any], *, whole: bool) -> None:
        self.result = result
        self.whole = whole

    def description(self) -> str:
        text = str(self.result.get("description") or "").replace("\n", " ").replace("\r", " ")
        return text if self.whole else ellipsis(text, 45)

    def json_value(self, name: str) -> object:
        if name == "IsOfficial":
            return "true" if self.result.get("is_official") else "false"
        return super().json_value(name)

    FIELDS: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {
        "Name": lambda row: str(row.result.get("name") or ""),
        "Description": description,
        "StarCount": lambda row: str(row.result.get("star_count") or 0),
        "IsOfficial": lambda row: "[OK]" if row.result.get("is_official") else "",
    }


def searched_domain(term: str) -> str:
    """The registry that a search is for. docker: what stands before the first slash, if it can only be a host."""
    first, slash, _ = term.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else _DEFAULT_DOMAIN


def search(context: Context, options: Options, arguments: list[str]) -> int:
    filters = options.texts("filter")
    if any(text.partition("=")[0].strip().lower() == "is-automated" for text in filters):
        context.streams.print_error(
            'WARNING: the "is-automated" filter is deprecated, and searching for "is-automated=true" will not yield any results in future.'
        )
    header = known_credentials(context, searched_domain(arguments[0])).header()
    limit = options.number("limit")
    query = {"term": arguments[0], "limit": limit if limit > 0 else None, "filters": to_filters(filters)}
    results = context.client.call("GET", "/images/search", query, headers=[header]) or []
    rows = [SearchRow(result, whole=options.flag("no-trunc")) for result in results]
    context.streams.write(Listing(_COLUMNS, _HEADERS).render(rows, options.text("format")))
    return 0


SEARCH = Command(
    "search [OPTIONS] TERM",
    "Search Docker Hub for images",
    search,
    options=(
        Option("filter", "filter", "Filter output based on conditions provided", short="f"),
        Option("format", "string", "Pretty-print search using a Go template"),
        Option("limit", "int", "Max number of search results"),
        Option("no-trunc", BOOL, "Don't truncate output"),
    ),
    minimum=1,
    maximum=1,
)
