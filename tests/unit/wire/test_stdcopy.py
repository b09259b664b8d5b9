"""Two streams in one: frames and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.errors import Integrity
from teul.wire.stdcopy import STDERR, STDOUT, Demultiplexer, frame, header

FRAMES = st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=300)), max_size=8)


def joined(pieces: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Neighbouring pieces of the same stream in one."""
    result: list[tuple[int, bytes]] = []
    for stream, data in pieces:
        if result and result[-1][0] == stream:
            result[-1] = (stream, result[-1][1] + data)
        elif data:
            result.append((stream, data))
    return result


def test_a_frame_is_stream_number_zeros_and_big_endian_size() -> None:
    assert frame(STDERR, b"oops\n") == b"\x02\0\0\0\0\0\0\x05oops\n"
    assert header(STDOUT, 0x01020304) == b"\x01\0\0\0\x01\x02\x03\x04"


@given(FRAMES, st.integers(1, 40))
def test_frames_come_apart_again_however_they_are_cut(frames: list[tuple[int, bytes]], step: int) -> None:
    wire = b"".join(frame(stream, data) for stream, data in frames)
    reader = Demultiplexer()
    pieces = [piece for at in range(0, len(wire), step) for piece in reader.feed(wire[at : at + step])]
    assert joined(pieces) == joined(frames)
    assert reader.feed(frame(STDERR, b"next")) == [(STDERR, b"next")], "the last frame is over"


def test_payload_is_passed_on_before_its_frame_is_complete() -> None:
    reader = Demultiplexer()
    assert reader.feed(header(STDOUT, 10) + b"abc") == [(STDOUT, b"abc")]
    assert reader.feed(b"defghij" + frame(STDERR, b"!")) == [(STDOUT, b"defghij"), (STDERR, b"!")]


def test_half_a_header_waits_for_its_other_half() -> None:
    reader = Demultiplexer()
    assert reader.feed(b"\x01\0") == []
    assert reader.feed(b"\0\0\0\0\0\x02ok") == [(STDOUT, b"ok")]


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(Integrity, match="Unrecognized input header: 72"):
        Demultiplexer().feed(b"HTTP/1.1 500")
