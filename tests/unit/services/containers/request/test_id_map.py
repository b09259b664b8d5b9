"""The words after `idmap`."""

from __future__ import annotations

import re

import pytest

from teul.errors import InvalidParameter
from teul.services.containers.request.id_map import parse_id_map

_ALL = [[0, 0, 0xFFFFFFFF]]


@pytest.mark.parametrize(("text", "uids", "gids"), [
    ("owner", [], []),
    ("uids=0-1000-1", [[0, 1000, 1]], _ALL),
    ("gids=5-6-7", _ALL, [[5, 6, 7]]),
    ("uids=0-1000-1#1-1-999;gids=0-1000-1", [[0, 1000, 1], [1, 1, 999]], [[0, 1000, 1]]),
    ("uids=0-1-4294967294", [[0, 1, 4294967294]], _ALL),
])  # fmt: skip
def test_ranges(text: str, uids: list[list[int]], gids: list[list[int]]) -> None:
    assert parse_id_map(text) == {"uids": uids, "gids": gids}


@pytest.mark.parametrize("text", [
    *("", "x", "uids", "uids=", "uids=1", "uids=1-2", "uids=1-2-3-4", "uids=a-0-1", "uids=-1-0-1", "uids=0-0-0", "uids=0-1-4294967295"),
    *("uids=4294967295-0-1", "uids=99999999999-0-1", "uids=0-0-1;uids=1-1-1", "uids=0-0-1;", "owner;uids=0-0-1", "@uids=0-0-1", "uids=0-0-1#"),
    *("uids=0-10-5#4-100-1", "uids=0-10-5#5-14-1", "uids=" + "#".join(f"{i}-{i}-1" for i in range(341))),
    "uids=\u0660-0-1",
])  # fmt: skip
def test_what_says_nothing_or_contradicts_itself_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match=f"invalid idmap: {re.escape(text)} "):
        parse_id_map(text)
