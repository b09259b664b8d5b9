"""Numbers in clients' texts."""

from __future__ import annotations

import pytest

from teul.model.number import parse_int64


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("+7", 7),
        ("-7", -7),
        ("007", 7),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("0" * 9000 + "5", 5),
    ],
)
def test_what_go_reads(text: str, number: int) -> None:
    assert parse_int64(text) == number


@pytest.mark.parametrize("text", ["", "-", "1.5", "1e9", " 1", "1_000", "٣", "0x1", "--1", "\0", "1\n"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid syntax$"):
        parse_int64(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775809", "9" * 9000, "-" + "9" * 9000])
def test_what_is_too_large(text: str) -> None:
    """security: also where Python itself would refuse to read it, with another error than for other texts."""
    with pytest.raises(ValueError, match=r"^value out of range$"):
        parse_int64(text)
