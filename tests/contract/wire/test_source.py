"""Where the tar reader gets its bytes (`teul.wire.tar.Source`): the unit tests' bytes, and a worker's stream of chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from contract.witness import Witness, methods_of
from teul.wire.tar import Source, Truncated
from teul.workers.program.streams import ChunkSource
from unit.wire.test_tar import BytesSource

CONTENT = bytes(range(256)) * 8
Make = Callable[[bytes], Source]


@pytest.fixture(params=["fake", "real"])
def make(request: pytest.FixtureRequest, piece_bytes: int, witness: Witness) -> Make:
    """Makes the source of some bytes."""
    if request.param == "fake":
        return lambda data: witness.watch(BytesSource(data, piece_bytes))
    return lambda data: ChunkSource(cut(data, piece_bytes))


@pytest.fixture(params=[1, 7, 512, 1 << 20])
def piece_bytes(request: pytest.FixtureRequest) -> int:
    """How the bytes come."""
    return int(request.param)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def test_exactly_what_is_asked_for_is_taken_in_order(make: Make) -> None:
    source = make(CONTENT)
    assert source.take(0) == b""
    assert source.take(10) == CONTENT[:10]
    assert source.take(1000) == CONTENT[10:1010]
    assert source.take(len(CONTENT) - 1010) == CONTENT[1010:]
    assert source.block_after(0) == b""


def test_pieces_are_together_what_was_asked_for(make: Make) -> None:
    source = make(CONTENT)
    pieces = [bytes(piece) for piece in source.pieces(1000)]
    assert b"".join(pieces) == CONTENT[:1000]
    assert all(pieces), "no piece is empty"
    assert list(source.pieces(0)) == []
    assert source.take(1) == CONTENT[1000:1001]


def test_pieces_that_nobody_asks_for_are_not_taken(make: Make) -> None:
    """Whoever stops in the middle goes on behind the last piece that came."""
    source = make(CONTENT)
    first = bytes(next(source.pieces(1000)))
    assert source.take(5) == CONTENT[len(first) : len(first) + 5]


def test_a_block_comes_after_what_is_passed_over(make: Make) -> None:
    source = make(CONTENT)
    assert source.block_after(0) == CONTENT[:512]
    assert source.block_after(100) == CONTENT[612:1124]
    assert source.take(4) == CONTENT[1124:1128]
    assert source.block_after(len(CONTENT) - 1128) == b""
    assert source.block_after(0) == b"", "the end stays the end"
    assert make(b"").block_after(0) == b""


def test_an_end_that_comes_too_early_is_said(make: Make) -> None:
    asks: tuple[Callable[[Source], object], ...] = (
        lambda source: source.take(11),
        lambda source: source.block_after(11),
        lambda source: source.block_after(3),
        lambda source: list(source.pieces(11)),
    )
    for ask in asks:
        with pytest.raises(Truncated, match="unexpected EOF"):
            ask(make(b"0123456789"))
    at_end = make(b"")
    for ask in asks:
        with pytest.raises(Truncated, match="unexpected EOF"):
            ask(at_end)


def test_every_method_was_called(whole_suite: Witness) -> None:
    assert methods_of(Source) <= methods_of(BytesSource)
    assert whole_suite.uncalled(BytesSource) == set()
