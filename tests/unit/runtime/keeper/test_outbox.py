"""What waits for a slow reader."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from teul.runtime.keeper.outbox import Outbox


@given(st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 300_000)), max_size=12))
def test_bytes_come_out_in_the_order_they_went_in(steps: list[tuple[int, int]]) -> None:
    """However much spills to the file, and however little is taken at a time."""
    outbox = Outbox("/tmp")
    put = taken = b""
    for number, (size, take) in enumerate(steps):
        data = bytes([number % 251]) * size
        outbox.put(data)
        put += data
        piece = outbox.peek()[:take]
        outbox.drop(len(piece))
        taken += piece
    while piece := outbox.peek():
        outbox.drop(len(piece))
        taken += piece
    assert taken == put
    assert not outbox
    outbox.close()


def test_nothing_is_left_in_the_directory(tmp_path: Path) -> None:
    """The file has no name, so a killed monitor leaves none behind."""
    outbox = Outbox(str(tmp_path))
    outbox.put(b"x" * 1_000_000)
    assert list(tmp_path.iterdir()) == []
    outbox.close()
