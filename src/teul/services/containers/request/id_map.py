"""The words by which a mount shows other owners of files than its source has: `idmap`, and what may follow it. Pure.

Docker has none of it. The ranges are written as Podman and crun write them: "uids=FIRST-SHOWN-COUNT#…;gids=…".
"""

from __future__ import annotations

import re
from itertools import pairwise

from teul.errors import InvalidParameter
from teul.oci.runtime_spec import IdMap

OWNER = "owner"
_RANGE = re.compile(r"([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,10})")
_MOST_RANGES = 340  # user_namespaces(7)
_END = 1 << 32
_EVERYTHING = [0, 0, _END - 1]


def parse_id_map(text: str) -> IdMap:
    """What `text` asks for: `owner`, or ranges. No range of one kind means that these ids stay as they are. Raises InvalidParameter."""
    if text == OWNER:
        return {"uids": [], "gids": []}
    found: dict[str, list[list[int]]] = {}
    for part in text.split(";"):
        kind, equals, ranges = part.partition("=")
        if kind not in ("uids", "gids") or not equals or kind in found:
            raise _invalid(text)
        found[kind] = [_range(text, item) for item in ranges.split("#")]
        _check_apart(text, found[kind])
    return {"uids": found.get("uids", [_EVERYTHING]), "gids": found.get("gids", [_EVERYTHING])}


def _range(text: str, item: str) -> list[int]:
    match = _RANGE.fullmatch(item)
    if match is None:
        raise _invalid(text)
    first, shown, count = map(int, match.groups())
    if not count or max(first, shown) + count >= _END:
        raise _invalid(text)
    return [first, shown, count]


def _check_apart(text: str, ranges: list[list[int]]) -> None:
    """No id may be in two ranges, on either side."""
    if len(ranges) > _MOST_RANGES:
        raise _invalid(text)
    for side in (0, 1):
        ordered = sorted((item[side], item[side] + item[2]) for item in ranges)
        if any(end > begin for (_, end), (begin, _) in pairwise(ordered)):
            raise _invalid(text)


def _invalid(text: str) -> InvalidParameter:
    return InvalidParameter(f'invalid idmap: {text} (must be "owner", or ranges as in "uids=0-1000-1;gids=0-1000-1")')
