"""The metadata of an index, bytes by bytes where the kernel gives no second chance; `tests/kernel/workers` mounts whole ones."""

from __future__ import annotations

import itertools
import stat
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.wire.erofs import (
    BLOCK_BYTES,
    HEAD_BYTES,
    MAX_CHUNKS,
    Extent,
    Inode,
    Unrepresentable,
    chunks,
    encode,
    encode_directory,
    encode_xattrs,
)

HOLE = (0, 0xFFFFFFFF)


def test_the_head_tells_where_the_metadata_is_and_how_large_the_archive() -> None:
    head, metadata = encode(Inode(stat.S_IFDIR | 0o755), first_block=9, archive_bytes=1025)
    assert len(head) == HEAD_BYTES
    magic, _, compatible, block_bits, _, root, inodes = struct.unpack_from("<IIIBBHQ", head, 1024)
    assert (magic, compatible, block_bits, root, inodes) == (0xE0F5E1E2, 0, 9, 1, 1)
    blocks, first_block = struct.unpack_from("<II", head, 1024 + 36)
    assert (blocks, first_block) == (9 + len(metadata) // BLOCK_BYTES, 9)
    assert struct.unpack_from("<I", head, 1280 + 64) == (3,), "blocks of the archive, the last one begun"


def test_a_directory_is_in_the_order_of_bytes_over_all_its_blocks() -> None:
    this = Inode(stat.S_IFDIR)
    names = [b"!" * 200, b"a" * 255, b"b" * 255, b"~", b"\xff"]
    entries = {name: Inode(stat.S_IFREG) for name in reversed(names)}
    for number, inode in enumerate(entries.values(), start=7):
        inode.nid = number
    encoded = encode_directory(entries, this, this)
    read: list[bytes] = []
    for start in range(0, len(encoded), BLOCK_BYTES):
        block = encoded[start : start + BLOCK_BYTES]
        count = struct.unpack_from("<QH", block)[1] // 12
        offsets = [struct.unpack_from("<QHBB", block, 12 * number)[1] for number in range(count)] + [len(block)]
        read += [block[begin:end].rstrip(b"\0") for begin, end in itertools.pairwise(offsets)]
    assert read == [b"!" * 200, b".", b"..", b"a" * 255, b"b" * 255, b"~", b"\xff"]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), max_size=8), st.integers(0, 511))
def test_pieces_of_a_file_are_where_its_extents_say(gaps: list[tuple[int, int]], tail: int) -> None:
    extents: list[Extent] = []
    at = 0
    for gap, blocks in gaps:
        at += gap
        extents.append(Extent(at * BLOCK_BYTES, blocks * BLOCK_BYTES, 1, 1000 * len(extents)))
        at += blocks
    size = at * BLOCK_BYTES + tail
    if not size:
        return
    bits, pieces = chunks(extents, size)
    piece_blocks = 1 << bits
    assert len(pieces) == -(-size // (piece_blocks * BLOCK_BYTES))
    for number in range(-(-size // BLOCK_BYTES)):
        device, block = pieces[number // piece_blocks]
        found = next((e for e in extents if e.offset <= number * BLOCK_BYTES < e.offset + e.length), None)
        if found is None:
            assert (device, block) == HOLE
        else:
            assert (device, block + number % piece_blocks) == (1, found.block + number - found.offset // BLOCK_BYTES)


def test_a_file_in_one_piece_is_one_chunk_however_large() -> None:
    assert chunks([Extent(0, (5 << 30) + 1, 1, 77)], (5 << 30) + 1) == (24, [(1, 77)])
    bits, pieces = chunks([Extent(0, 3 << 40, 1, 0)], 3 << 40)
    assert (bits, pieces) == (31, [(1, 0), (1, 1 << 31), (1, 2 << 31)])


def test_what_has_no_room_in_the_format_is_told() -> None:
    with pytest.raises(Unrepresentable, match="pieces"):
        chunks([Extent(0, 512, 1, 0)], BLOCK_BYTES * (MAX_CHUNKS + 1))
    with pytest.raises(Unrepresentable, match="attribute"):
        encode_xattrs({b"user.n": bytes(65536)})
    with pytest.raises(Unrepresentable, match="attribute"):
        encode_xattrs({b"lustre.n": b""})
    with pytest.raises(Unrepresentable, match="bytes of attributes"):
        encode_xattrs({b"user.%d" % number: bytes(60_000) for number in range(5)})
    with pytest.raises(Unrepresentable, match="2 TiB"):
        encode(Inode(stat.S_IFDIR), first_block=4, archive_bytes=1 << 41)


def test_attributes_stand_in_the_order_of_their_names_and_aligned() -> None:
    encoded = encode_xattrs({b"user.b": b"xyz", b"security.capability": b"12", b"system.posix_acl_access": b""})
    assert encode_xattrs({}) == b""
    assert encoded == (
        bytes(12) + struct.pack("<BBH", 10, 6, 2) + b"capability12" + struct.pack("<BBH", 0, 2, 0) + struct.pack("<BBH", 1, 1, 3) + b"bxyz"
    )
