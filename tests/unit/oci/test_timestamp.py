"""Times are read to the nanosecond and written as Go writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.oci.timestamp import normalize_time, parse_time_ns, render_time


@pytest.mark.parametrize(
    ("text", "time_ns", "normal"),
    [
        ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
        ("2024-01-02T03:04:05.120000000Z", 1_704_164_645_120_000_000, "2024-01-02T03:04:05.12Z"),
        ("2024-01-02T03:04:05.123456789Z", 1_704_164_645_123_456_789, "2024-01-02T03:04:05.123456789Z"),
        ("2024-01-02T03:04:05.1234567891Z", 1_704_164_645_123_456_789, "2024-01-02T03:04:05.123456789Z"),
        ("2024-01-02T05:04:05+02:00", 1_704_164_645_000_000_000, "2024-01-02T05:04:05+02:00"),
        ("2024-01-01T21:34:05-05:30", 1_704_164_645_000_000_000, "2024-01-01T21:34:05-05:30"),
        ("2024-01-02T03:04:05+00:00", 1_704_164_645_000_000_000, "2024-01-02T03:04:05Z"),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000_000_000, "0001-01-01T00:00:00Z"),
        ("1969-12-31T23:59:59.5Z", -500_000_000, "1969-12-31T23:59:59.5Z"),
    ],
)
def test_parsing(text: str, time_ns: int, normal: str) -> None:
    assert parse_time_ns(text) == time_ns
    assert normalize_time(text) == normal


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2024-13-01T00:00:00Z", "2024-01-01T00:00:00", "2024-01-01T00:00:00+99:00", "\uff12024-01-01T00:00:00Z"]
)
def test_what_is_no_time_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="parsing time"):
        parse_time_ns(text)


@given(st.integers(min_value=-62_135_596_800_000_000_000, max_value=253_402_300_799_999_999_999))
def test_what_was_rendered_parses_to_the_same_time(time_ns: int) -> None:
    assert parse_time_ns(render_time(time_ns)) == time_ns
    assert normalize_time(render_time(time_ns)) == render_time(time_ns)
