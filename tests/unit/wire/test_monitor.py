"""Frames between engine and monitor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.wire import monitor

FRAMES = st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=200)), max_size=10)


@given(FRAMES)
def test_frames_survive_arriving_byte_by_byte(frames: list[tuple[int, bytes]]) -> None:
    """One chunk and single bytes give the same frames."""
    stream = b"".join(monitor.frame(kind, payload) for kind, payload in frames)
    whole = monitor.FrameReader().feed(stream)
    reader = monitor.FrameReader()
    single = [frame for byte in stream for frame in reader.feed(bytes([byte]))]
    assert whole == single == frames


def test_an_impossible_length_is_refused_before_it_is_waited_for() -> None:
    """A peer that lies about a length cannot make the other side keep a gigabyte."""
    with pytest.raises(monitor.ProtocolError):
        monitor.FrameReader().feed(b"\x01\xff\xff\xff\xff")


@given(st.binary(max_size=64))
def test_any_bytes_give_frames_or_our_own_error(data: bytes) -> None:
    """Parsers never fail with somebody else's exception."""
    try:
        monitor.FrameReader().feed(data)
    except monitor.ProtocolError:
        pass
