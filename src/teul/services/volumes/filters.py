"""Which volumes a client asked to see, or to be rid of. Source: moby daemon/volume/service/convert.go."""

from __future__ import annotations

from collections.abc import Callable

from teul.errors import InvalidParameter
from teul.model.filter import Filters
from teul.model.volume import Volume

_LIST_FILTERS = frozenset({"dangling", "driver", "label", "label!", "name"})
_PRUNE_FILTERS = frozenset({"all", "label", "label!"})
_TRUE, _FALSE = frozenset({"1", "t", "T", "TRUE", "true", "True"}), frozenset({"0", "f", "F", "FALSE", "false", "False"})


def list_filter(filters: Filters, is_used: Callable[[str], bool]) -> Callable[[Volume], bool]:
    """A predicate for `filters`; `is_used` says whether containers have a volume. Raises InvalidParameter."""
    filters.validate(_LIST_FILTERS - {"label!"})
    dangling = filters.boolean("dangling", default=False) if "dangling" in filters else None

    def is_wanted(volume: Volume) -> bool:
        return (
            filters.exact("driver", volume.driver)
            and filters.matches("name", volume.name)
            and _has_labels(filters, volume)
            and (dangling is None or dangling != is_used(volume.name))
        )

    return is_wanted


def prune_filter(filters: Filters) -> Callable[[Volume], bool]:
    """A predicate for `filters`: what is not to be kept. Raises InvalidParameter."""
    filters.validate(_PRUNE_FILTERS)
    everything = filters.get("all")
    if len(everything) > 1:
        raise InvalidParameter(f"invalid filter 'all=[{' '.join(everything)}]': only one value is expected")
    if everything and everything[0] not in _TRUE | _FALSE:
        raise InvalidParameter(f"invalid filter 'all': strconv.ParseBool: parsing \"{everything[0]}\": invalid syntax")
    takes_named = bool(everything) and everything[0] in _TRUE

    def is_wanted(volume: Volume) -> bool:
        # docker: a volume with options is somebody else's place, where nothing would be gained.
        return (takes_named or volume.is_anonymous) and not volume.options and _has_labels(filters, volume)

    return is_wanted


def _has_labels(filters: Filters, volume: Volume) -> bool:
    return filters.pairs("label", volume.labels) and not ("label!" in filters and filters.pairs("label!", volume.labels))
