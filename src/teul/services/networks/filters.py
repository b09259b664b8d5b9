"""Which networks a client asked to see. Source: moby daemon/network/filter.go."""

from __future__ import annotations

from collections.abc import Callable

from teul.errors import InvalidParameter
from teul.model.filter import Filters
from teul.model.moment import parse_until_ns
from teul.model.network import Network

_LIST_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_PRUNE_FILTERS = frozenset({"label", "label!", "until"})
_TRUE, _FALSE = ("1", "true"), ("0", "false")


def list_filter(filters: Filters, is_used: Callable[[Network], bool]) -> Callable[[Network], bool]:
    """A predicate for `filters`; `is_used` says whether containers are on a network. Raises InvalidParameter."""
    filters.validate(_LIST_FILTERS)
    dangling = _dangling(filters.get("dangling"))
    kinds = filters.get("type")
    for kind in kinds:
        if kind not in {"builtin", "custom"}:
            raise InvalidParameter(f"invalid filter: 'type'='{kind}'")

    def is_wanted(network: Network) -> bool:
        return (
            filters.exact("driver", network.driver)
            and filters.matches("name", network.name)
            and filters.matches("id", network.id)
            and filters.pairs("label", network.labels)
            and filters.exact("scope", network.scope)
            and (dangling is None or dangling != (network.is_predefined or is_used(network)))
            # docker: of several types the first one given decides.
            and (not kinds or (kinds[0] == "builtin") == network.is_predefined)
        )

    return is_wanted


def check_prune_filters(filters: Filters) -> None:
    """Raise InvalidParameter for a filter that `network prune` does not know."""
    filters.validate(_PRUNE_FILTERS)
    if len(filters.get("until")) > 1:
        raise InvalidParameter("more than one until filter specified")


def prune_filter(filters: Filters, *, now_ns: int) -> Callable[[Network], bool]:
    """A predicate for checked `filters`. Raises InvalidParameter for a moment that is none."""
    until_ns = next((parse_until_ns(value, now_ns) for value in filters.get("until")), None)

    def is_wanted(network: Network) -> bool:
        if until_ns is not None and network.created_at_ns > until_ns:
            return False
        return filters.pairs("label", network.labels) and not ("label!" in filters and filters.pairs("label!", network.labels))

    return is_wanted


def _dangling(values: tuple[str, ...]) -> bool | None:
    if not values:
        return None
    if len(values) > 1:
        raise InvalidParameter('got more than one value for filter key "dangling"')
    if values[0] not in (*_TRUE, *_FALSE):
        raise InvalidParameter("""invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")""")
    return values[0] in _TRUE
