"""What is written as tar is read as the same."""

from __future__ import annotations

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from teul.wire.tar import REGULAR, SYMLINK, Entry, TarReader
from teul.wire.tar_write import END, padding, render_header
from teul.workers.program.streams import ChunkSource

_PAGE = 4096


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=6), st.integers(0, 5000), st.integers(1, 150))
def test_sparse_files_come_back(pieces: list[tuple[int, int]], tail: int, name_bytes: int) -> None:
    """Holes and data in whole pages, and an end anywhere; the map stands before the data."""
    segments, at = [], 0
    for hole, length in pieces:
        segments.append((at + hole * _PAGE, length * _PAGE))
        at = sum(segments[-1])
    entry = Entry(REGULAR, b"n" * name_bytes, mode=0o640, uid=1, gid=2)
    entry.size_bytes, entry.segments, entry.xattrs = at + tail, [*segments, (at + tail, 0)], {b"user.a": b"b"}
    data = b"".join(bytes([number + 1]) * length for number, (_, length) in enumerate(segments))
    written = render_header(entry) + data + padding(len(data)) + END
    reader = TarReader(ChunkSource(iter([written])))
    read = reader.next()
    assert read is not None
    assert (read.name, read.size_bytes, read.segments, read.xattrs, read.mode) == (
        entry.name,
        at + tail,
        entry.segments,
        entry.xattrs,
        0o640,
    )
    assert b"".join(bytes(piece) for piece in reader.data()) == data
    assert reader.next() is None
    with tarfile.open(fileobj=io.BytesIO(written)) as tar:
        (member,) = tar.getmembers()
        assert (member.name.encode(), member.size) == (entry.name, at + tail)


def test_the_checksum_of_the_largest_bytes_is_right() -> None:
    """They add up to more than half of what the checksum is taken modulo of, in either part of a header."""
    entry = Entry(SYMLINK, b"\xff" * 100, b"\xff" * 100, mode=0o7777, uid=0o7777777, gid=0o7777777)
    header = render_header(entry)
    assert int(header[148:154], 8) == sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    assert tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").uid == 0o7777777
