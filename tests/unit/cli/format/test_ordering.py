"""Names with numbers in them are listed by the numbers."""

from __future__ import annotations

from teul.cli.format.ordering import natural_key


def test_numbers_count_by_their_value() -> None:
    expected = ["", "0a", "1", "01", "2", "10", "A", "a", "a1b", "a01b", "a2", "a10", "ab", "b", "é"]
    assert sorted(set(expected), key=natural_key) == expected
