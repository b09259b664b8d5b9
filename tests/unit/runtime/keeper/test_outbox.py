"""What waits for a slow reader."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.runtime.keeper import outbox as module
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


def test_the_file_is_used_again_and_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that is slow for hours, and never quite done, costs no more room than one that is slow for a moment."""
    monkeypatch.setattr(module, "_FILE_BYTES", 1_000_003)
    outbox = Outbox(str(tmp_path))
    put = taken = b""
    for number in range(200):
        data = bytes([number]) * 50_021
        outbox.put(data)
        put += data
        if number > 12:  # from here on as much is taken as comes, and something waits all the time
            while len(put) - len(taken) > 12 * 50_021:
                piece = outbox.peek()[:7_001]
                outbox.drop(len(piece))
                taken += piece
        assert outbox._file < 0 or os.fstat(outbox._file).st_size <= 1_000_003
    while piece := outbox.peek():
        outbox.drop(len(piece))
        taken += piece
    assert taken == put
    outbox.close()


def test_a_reader_that_never_reads_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FILE_BYTES", 1 << 20)
    outbox = Outbox(str(tmp_path))
    outbox.put(b"x" * (1 << 20))
    with pytest.raises(OSError, match="wait for a reader"):
        outbox.put(b"x")
    outbox.close()
