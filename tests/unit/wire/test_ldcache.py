"""The loader's cache in both layouts and in one behind the other."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.wire.ldcache import Entry, InvalidCache, parse_cache

LIBRARIES = [("libc.so.6", "/lib/libc.so.6", 0x303, 0), ("libz.so.1", "/usr/lib/libz.so.1", 0x303, 1 << 62)]


def new_layout(libraries: list[tuple[str, str, int, int]] = LIBRARIES, count: int | None = None) -> bytes:
    strings, entries = b"", b""
    start = 48 + 24 * len(libraries)
    for name, path, flags, hwcap in libraries:
        key = start + len(strings)
        strings += name.encode() + b"\0"
        entries += struct.pack("=iIIIQ", flags, key, start + len(strings), 0, hwcap)
        strings += path.encode() + b"\0"
    header = b"glibc-ld.so.cache1.1" + struct.pack("=II", len(libraries) if count is None else count, len(strings)) + b"\0" * 20
    return header + entries + strings


def old_layout(libraries: list[tuple[str, str, int, int]], tail: bytes = b"", count: int | None = None) -> bytes:
    strings, entries = b"", b""
    for name, path, flags, _ in libraries:
        key = len(strings)
        strings += name.encode() + b"\0"
        entries += struct.pack("=iII", flags, key, len(strings))
        strings += path.encode() + b"\0"
    head = b"ld.so-1.7.0".ljust(12, b"\0") + struct.pack("=I", len(libraries) if count is None else count) + entries
    return head + (b"\0" * (-len(head) % 8) + tail if tail else strings)


def test_the_newer_layout() -> None:
    assert parse_cache(new_layout()) == [Entry(*library) for library in LIBRARIES]


def test_the_older_layout() -> None:
    assert parse_cache(old_layout(LIBRARIES)) == [Entry(name, path, flags, 0) for name, path, flags, _ in LIBRARIES]


def test_the_newer_layout_behind_the_older_one() -> None:
    assert parse_cache(old_layout([("x", "/x", 1, 0)], new_layout())) == [Entry(*library) for library in LIBRARIES]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "magic"),
        (b"ELF", "magic"),
        (b"glibc-ld.so.cache1.1", "outside"),
        (b"ld.so-1.7.0", "outside"),
        (new_layout(count=10_000), "do not fit"),
        (old_layout(LIBRARIES, count=10_000), "do not fit"),
        (new_layout()[:-1], "no string"),
        (new_layout([("a" * 5000, "/a", 0, 0)]), "no string"),
    ],
)
def test_a_cache_that_points_outside_of_itself_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidCache, match=message):
        parse_cache(data)


@given(data=st.binary(max_size=200), spot=st.integers(min_value=0, max_value=160))
def test_any_bytes_give_entries_or_our_own_error(data: bytes, spot: int) -> None:
    good = new_layout()
    for candidate in (data, b"ld.so-1.7.0" + data, b"glibc-ld.so.cache1.1" + data, good[:spot] + data + good[spot + len(data) :]):
        try:
            parse_cache(candidate)
        except InvalidCache:
            continue
