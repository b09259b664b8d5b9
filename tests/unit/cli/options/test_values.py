"""Sizes, durations, processors and timestamps as people write them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.cli.format import units
from teul.cli.options.timestamps import parse_timestamp
from teul.cli.options.values import is_ip_address, parse_bool, parse_cpus, parse_duration_ns, parse_integer
from teul.model.size import parse_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("64", 64),
        ("64b", 64),
        ("1k", 1024),
        ("1K", 1024),
        ("1kb", 1024),
        ("1KiB", 1024),
        ("1.5g", 3 << 29),
        ("10 m", 10 << 20),
        ("2t", 2 << 40),
        ("1p", 1 << 50),
        (".5k", 512),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "invalid size: 'x'"),
        ("", "invalid size: ''"),
        ("-1", "invalid size: '-1'"),
        ("1x", "invalid suffix: 'x'"),
        ("1kib2", "strconv.ParseFloat: parsing"),
        ("1bb", "invalid suffix: 'bb'"),
        ("1kx", "invalid suffix: 'kx'"),
        ("1kilo", "invalid suffix: 'kilo'"),
        ("1.2.3", "strconv.ParseFloat"),
        (".", "strconv.ParseFloat"),
    ],
)
def test_refused_sizes(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "nano"), [("1", 10**9), ("1.5", 15 * 10**8), ("0.000000001", 1), (".5", 5 * 10**8), ("1/4", 25 * 10**7), ("-1", -(10**9))]
)
def test_processors(text: str, nano: int) -> None:
    assert parse_cpus(text) == nano


@pytest.mark.parametrize(
    ("text", "message"), [("x", "rational"), ("0.0000000001", "too precise"), ("1/0", "rational"), ("", "rational"), ("--1", "rational")]
)
def test_refused_processors(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_cpus(text)


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("0", 0),
        ("1s", 10**9),
        ("1h30m", 5400 * 10**9),
        ("1.5s", 15 * 10**8),
        ("-2m", -120 * 10**9),
        ("3ms", 3 * 10**6),
        ("1µs1ns", 1001),
        (".5s", 5 * 10**8),
    ],
)
def test_durations(text: str, duration_ns: int) -> None:
    assert parse_duration_ns(text) == duration_ns


@pytest.mark.parametrize("text", ["", "x", "5", "1d", "1s2", "s", "-", "9999999999999h", ".s"])
def test_refused_durations(text: str) -> None:
    with pytest.raises(ValueError, match="time: "):
        parse_duration_ns(text)


@given(st.text(max_size=12))
def test_parsers_raise_nothing_but_value_errors(text: str) -> None:
    for parse in (parse_bool, parse_integer, parse_memory, parse_cpus, parse_duration_ns, parse_timestamp):
        try:
            parse(text)
        except ValueError:
            continue


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_integers_round_trip(number: int) -> None:
    assert parse_integer(str(number)) == number
    assert parse_integer(hex(number)) == number


def test_integers_have_go_s_prefixes_and_bounds() -> None:
    assert parse_integer("010") == 8
    assert parse_integer("0b11") == 3
    with pytest.raises(ValueError, match="out of range"):
        parse_integer(str(2**63))


def test_addresses() -> None:
    assert is_ip_address("10.0.0.1")
    assert is_ip_address("::1")
    assert not is_ip_address("10.0.0")
    assert not is_ip_address("host")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10s", "990"),
        ("1h", "-2600"),
        ("1136073600", "1136073600"),
        ("1136073600.000000001", "1136073600.000000001"),
        ("0", "0"),
        ("2006-01-02T15:04:05Z", "1136214245.000000000"),
        ("2006-01-02T15:04:05.5Z", "1136214245.500000000"),
        ("2006-01-02T15:04:05.123456789+01:00", "1136210645.123456789"),
        ("2006-01-02", "1136160000.000000000"),
        ("2006-01-02T15:04", "1136214240.000000000"),
    ],
)
def test_timestamps(text: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert parse_timestamp(text, now=1000.0) == expected


def test_a_timestamp_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="failed to parse value as time or duration"):
        parse_timestamp("yesterday")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (86400 * 3, "3 days"),
        (86400 * 20, "2 weeks"),
        (86400 * 90, "3 months"),
        (86400 * 800, "2 years"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert units.human_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (999, "999B"), (1000, "1kB"), (2746000, "2.746MB"), (10**12, "1TB"), (123456789, "123.5MB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert units.human_size(size) == text


def test_other_texts_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert units.human_size(2746000, 3) == "2.75MB"
    assert units.binary_size(25 << 30) == "25GiB"
    assert units.go_time(1136214245) == "2006-01-02 15:04:05 +0000 UTC"
    assert units.rfc3339(1136214245) == "2006-01-02T15:04:05Z"
    monkeypatch.setenv("TZ", "XST-05:30")
    time.tzset()
    assert units.rfc3339(1136214245, 5) == "2006-01-02T20:34:05.000000005+05:30"
    assert units.ellipsis("abcdef", 4) == "abc…"
    assert units.ellipsis("abcd", 4) == "abcd"
    assert units.short_id("sha256:0123456789abcdef") == "0123456789ab"
