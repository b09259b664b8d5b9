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
    assert not source.at_end()
    assert source.take(len(CONTENT) - 1010) == CONTENT[1010:]
    assert source.at_end()


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


def test_what_is_skipped_is_gone(make: Make) -> None:
    source = make(CONTENT)
    source.skip(0)
    source.skip(1500)
    assert source.take(4) == CONTENT[1500:1504]
    source.skip(len(CONTENT) - 1504)
    assert source.at_end()


def test_looking_for_the_end_takes_nothing(make: Make) -> None:
    source = make(b"ab")
    assert not source.at_end()
    assert not source.at_end()
    assert source.take(2) == b"ab"
    assert source.at_end()
    assert make(b"").at_end()


def test_an_end_that_comes_too_early_is_said(make: Make) -> None:
    for ask in (lambda source: source.take(11), lambda source: source.skip(11), lambda source: list(source.pieces(11))):
        with pytest.raises(Truncated, match="unexpected EOF"):
            ask(make(b"0123456789"))
    at_end = make(b"")
    for ask in (lambda source: source.take(1), lambda source: source.skip(1), lambda source: list(source.pieces(1))):
        with pytest.raises(Truncated, match="unexpected EOF"):
            ask(at_end)


def test_every_method_was_called(whole_suite: Witness) -> None:
    assert methods_of(Source) <= methods_of(BytesSource)
    assert whole_suite.uncalled(BytesSource) == set()
