"""Lines of the `local` log: there and back, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.wire.locallog import LineEncoder, decode_line
from teul.wire.loglines import PARTIAL_BYTES


def texts(raw: bytes) -> list[bytes]:
    found = [decode_line(line) for line in raw.split(b"\n")[:-1]]
    return [entry[3] for entry in found if entry is not None]


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_bytes_come_back_as_they_were_however_they_were_cut(chunks: list[bytes]) -> None:
    encoder = LineEncoder("stdout")
    raw = b"".join(encoder.feed(chunk, 1) for chunk in chunks) + encoder.finish(1)
    assert b"".join(texts(raw)) == b"".join(chunks)
    assert all(text.count(b"\n") <= 1 for text in texts(raw))


def test_a_long_line_comes_in_pieces_of_which_only_the_last_has_the_newline() -> None:
    encoder = LineEncoder("stderr")
    line = b"a" * (2 * PARTIAL_BYTES) + b"\n"
    raw = encoder.feed(b"short\n" + line + b"b" * PARTIAL_BYTES, 1)
    assert texts(raw) == [b"short\n", line[:PARTIAL_BYTES], line[:PARTIAL_BYTES], b"\n", b"b" * PARTIAL_BYTES]


def test_an_entry_says_where_and_when_and_what_goes_along() -> None:
    encoder = LineEncoder("stderr", '{"a":"\\t"}')
    assert decode_line(encoder.feed(b"x\ty\n", 1_700_000_000_123_456_789)[:-1]) == (2, 1_700_000_000_123_456_789, '{"a":"\\t"}', b"x\ty\n")
    assert decode_line(LineEncoder("stdout").feed(b"\n", 7)[:-1]) == (1, 7, "", b"\n")


@pytest.mark.parametrize(
    "line", [b"", b"x", b"o0123\ttext", b"x0123456789abcdef\ttext", b"oxxxxxxxxxxxxxxxx\ttext", b"o0123456789abcdef{\xff}\tt"]
)
def test_what_is_no_entry_is_none(line: bytes) -> None:
    assert decode_line(line) is None
