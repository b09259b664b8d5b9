"""Links as clients write them."""

from __future__ import annotations

import re

import pytest

from teul.model.link import parse_link


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("store", ("store", "store")), ("store:db", ("store", "db")), ("/store:/web/db", ("store", "db")), ("store:", ("store", ""))],
)
def test_what_a_link_means(text: str, meaning: tuple[str, str]) -> None:
    assert parse_link(text) == meaning


@pytest.mark.parametrize(("text", "message"), [("", "empty string specified for links"), ("a:b:c", "bad format for links: a:b:c")])
def test_what_is_no_link(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_link(text)
