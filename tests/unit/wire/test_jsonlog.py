"""Log lines as json-file writes them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.wire.jsonlog import LineEncoder, format_time
from teul.wire.loglines import PARTIAL_BYTES


def _texts(raw: bytes) -> list[str]:
    return [json.loads(line)["log"] for line in raw.split(b"\n") if line]


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_text_comes_back_whole_however_it_was_cut(chunks: list[bytes]) -> None:
    """The logged text is the output with undecodable bytes replaced, line by line."""
    encoder = LineEncoder("stdout")
    raw = b"".join(encoder.feed(chunk, 1) for chunk in chunks) + encoder.finish(1)
    lines = b"".join(chunks).split(b"\n")
    expected = "\n".join(line.decode("utf-8", "replace") for line in lines)
    assert "".join(_texts(raw)) == expected


def test_a_long_line_is_cut_into_pieces_of_which_only_the_last_has_the_newline() -> None:
    """Readers put partial entries together until the newline."""
    encoder = LineEncoder("stderr")
    raw = encoder.feed(b"x" * (2 * PARTIAL_BYTES + 5) + b"\nshort\n", 1)
    texts = _texts(raw)
    assert [len(text) for text in texts] == [PARTIAL_BYTES, PARTIAL_BYTES, 6, 6]
    assert texts[2].endswith("\n")
    assert texts[3] == "short\n"


def test_an_endless_line_is_logged_before_it_ends() -> None:
    """Output without newlines must not pile up in the monitor."""
    encoder = LineEncoder("stdout")
    assert _texts(encoder.feed(b"y" * (PARTIAL_BYTES + 1), 1)) == ["y" * PARTIAL_BYTES]


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
    ],
)
def test_times_are_written_as_go_writes_them(time_ns: int, text: str) -> None:
    """RFC 3339 with trailing zeros cut."""
    assert format_time(time_ns) == text


def test_attributes_stand_in_every_line() -> None:
    """`--log-opt labels` ends up in `attrs`."""
    raw = LineEncoder("stdout", '{"a":"b"}').feed(b"hi\n", 0)
    assert json.loads(raw) == {"log": "hi\n", "stream": "stdout", "attrs": {"a": "b"}, "time": "1970-01-01T00:00:00Z"}
