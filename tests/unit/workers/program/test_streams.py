"""Input on its way to the tar reader: its compression is seen from its beginning, however it comes in."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from teul.wire.tar import Truncated
from teul.workers.program.decompression import decompressed
from teul.workers.program.streams import (
    ChunkSource,
    FileSource,
    LimitExceeded,
    StreamError,
    read_chunks,
    sniffed,
    tapped,
    teed,
)

CONTENT = b"the content of an archive " * 50
SKIPPED_FRAME = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
COMPRESSED = {name: compress(CONTENT) for name, compress in COMPRESSORS.items()}


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 5, 6, 7, 1 << 20])
@pytest.mark.parametrize("compression", COMPRESSED)
def test_the_compression_is_seen_however_the_input_is_cut(compression: str, size: int) -> None:
    chunks, found = sniffed(cut(COMPRESSED[compression], size))
    assert found == compression
    assert b"".join(decompressed(chunks, found)) == CONTENT, "nothing was lost by looking"


def test_a_zstd_frame_to_be_skipped_is_zstd() -> None:
    chunks, found = sniffed(cut(SKIPPED_FRAME + COMPRESSED["zstd"], 3))
    assert found == "zstd"
    assert b"".join(decompressed(chunks, found)) == CONTENT


@pytest.mark.parametrize("data", [b"", b"\x1f", b"BZ", b"\xfd7zXZ"])
def test_input_that_ends_early_is_not_compressed(data: bytes) -> None:
    chunks, found = sniffed(cut(data, 1))
    assert (list(chunks), found) == ([data] if data else [], "")


@pytest.mark.parametrize("compression", ["gzip", "zstd", "xz", "bzip2"])
def test_damage_is_told_apart_from_an_early_end(compression: str) -> None:
    data = COMPRESSED[compression]
    with pytest.raises(Truncated):
        list(decompressed(iter([data[:-6]]), compression))
    with pytest.raises(StreamError, match="invalid compressed data"):
        list(decompressed(iter([data + b"garbage" * 5]), compression))


def test_chunks_are_read_to_the_end_of_the_descriptor() -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"all there is")
    os.close(write_fd)
    assert b"".join(read_chunks(read_fd)) == b"all there is"
    os.close(read_fd)


def test_a_stream_may_be_watched_and_limited() -> None:
    copy: list[bytes] = []
    assert b"".join(tapped(teed(cut(CONTENT, 100), copy.append), hasher=None, limit_bytes=len(CONTENT))) == CONTENT == b"".join(copy)
    with pytest.raises(LimitExceeded, match="larger than the limit of 1299 bytes"):
        list(tapped(cut(CONTENT, 100), hasher=None, limit_bytes=len(CONTENT) - 1))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_source_gives_exactly_what_is_asked_for(size: int) -> None:
    source = ChunkSource(cut(CONTENT, size))
    assert source.take(4) == CONTENT[:4]
    assert source.take(7) == b"content"
    assert b"".join(source.pieces(len(CONTENT) - 12)) == CONTENT[11:-1]
    source.drain(limit_bytes=1)
    assert source.block_after(0) == b""
    with pytest.raises(Truncated):
        source.take(1)


@pytest.mark.parametrize("compression", ["", "gzip", "zstd", "xz", "bzip2"])
def test_what_is_behind_an_archive_is_read_up_to_a_limit(compression: str) -> None:
    """And not unpacked much further than that: a few kilobytes can stand for gigabytes."""
    pulled = 0

    def counted(chunks: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal pulled
        for chunk in chunks:
            pulled += len(chunk)
            yield chunk

    packed = COMPRESSORS[compression](bytes(64 << 20))
    source = ChunkSource(counted(decompressed(cut(packed, 128), compression)))
    source.take(1000)
    with pytest.raises(LimitExceeded, match="there are more than 2000 bytes behind the end of the archive"):
        source.drain(limit_bytes=2000)
    assert pulled <= 8 << 20

    source = ChunkSource(decompressed(cut(COMPRESSORS[compression](bytes(3000)), 10), compression))
    source.take(1000)
    source.drain(limit_bytes=2000)
    assert source.block_after(0) == b""


def test_an_archive_in_a_file_is_read_only_where_it_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    data = bytes(range(256)) * 2000
    path.write_bytes(data)
    with path.open("rb") as file:
        source = FileSource(file.fileno())
        assert source.take(3) == data[:3]
        assert source.block_after(400_000) == data[400_003:400_515]
        assert source.block_after(100) == data[400_615:401_127]
        assert source.take(100_000) == data[401_127:501_127]
        source = FileSource(file.fileno())
        assert source.take(5) == data[:5]
        assert b"".join(map(bytes, source.pieces(300_000))) == data[5:300_005]
        assert source.position == 300_005
        with pytest.raises(LimitExceeded):
            source.drain(limit_bytes=10)
        source.drain()
        assert source.block_after(0) == b""
        for fail in (lambda: source.take(1), lambda: source.block_after(1), lambda: list(source.pieces(1))):
            with pytest.raises(Truncated):
                fail()
