"""Docker's `filters` parameter: a key maps to a set of values, any of which may match.

Two spellings exist on the wire: {"label": {"a=b": true}} and the older {"label": ["a=b"]}. Source: moby daemon/internal/filters.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

import msgspec

from teul.errors import InvalidParameter

_TRUE = frozenset({"1", "true"})
_FALSE = frozenset({"0", "false"})


class InvalidFilter(InvalidParameter):
    """A filter that does not exist, or a value that it cannot have."""

    def __init__(self, key: str = "", values: Iterable[str] | None = None) -> None:
        value = "" if values is None else f"=[{' '.join(values)}]"
        name = f" '{key}{value}'" if key else ""
        super().__init__(f"invalid filter{name}")


class Filters:
    """What a client asked to see. Immutable; empty means everything."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Iterable[str]] = MappingProxyType({})) -> None:
        self._values: dict[str, tuple[str, ...]] = {key: tuple(dict.fromkeys(items)) for key, items in values.items()}

    def __bool__(self) -> bool:
        return bool(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __repr__(self) -> str:
        return f"Filters({self._values!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filters) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    def get(self, key: str) -> tuple[str, ...]:
        """The values asked for under `key`, none if it was not given."""
        return self._values.get(key, ())

    def validate(self, accepted: Collection[str]) -> None:
        """Raise InvalidFilter for the first key that is not `accepted`."""
        for key in self._values:
            if key not in accepted:
                raise InvalidFilter(key)

    def exact(self, key: str, source: str) -> bool:
        """Whether `source` is one of the values; true if nothing was asked."""
        values = self.get(key)
        return not values or source in values

    def matches(self, key: str, source: str) -> bool:
        """As `exact`, but a value may also be a regular expression found anywhere in `source`. A malformed one matches nothing."""
        return self.exact(key, source) or any(_search(value, source) for value in self.get(key))

    def fuzzy(self, key: str, source: str) -> bool:
        """As `exact`, but a value may also be the beginning of `source`."""
        return self.exact(key, source) or source.startswith(self.get(key))

    def pairs(self, key: str, sources: Mapping[str, str] | None) -> bool:
        """Whether every value, `name` or `name=value`, is found in `sources` (labels)."""
        found = sources or {}
        for wanted in self.get(key):
            name, has_value, value = wanted.partition("=")
            if name not in found or (has_value and found[name] != value):
                return False
        return True

    def boolean(self, key: str, *, default: bool) -> bool:
        """The value of a yes-or-no filter. Raises InvalidFilter for anything but one of 1, true, 0, false."""
        if key not in self._values:
            return default
        values = self.get(key)
        is_true, is_false = not _TRUE.isdisjoint(values), not _FALSE.isdisjoint(values)
        if is_true == is_false:
            raise InvalidFilter(key, values or None)
        return is_true


def parse_filters(text: str) -> Filters:
    """Decode the parameter as clients send it. Raises InvalidFilter for anything that is in neither form."""
    if not text:
        return Filters()
    try:
        decoded = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise InvalidFilter from None
    # docker: {"a": {"b": false}} asks for "b" all the same.
    return Filters({key: values or () for key, values in (decoded or {}).items()})


_decoder: msgspec.json.Decoder[dict[str, dict[str, bool] | list[str] | None] | None] = msgspec.json.Decoder(
    dict[str, dict[str, bool] | list[str] | None] | None
)


def _search(pattern: str, source: str) -> bool:
    try:
        return re.search(pattern, source) is not None
    except re.error:
        return False
