"""The dynamic loader's cache, `/etc/ld.so.cache`: library names to paths.

Pure and bounds-checked: any input gives entries or `InvalidCache`. glibc knows two layouts, and the newer one may also stand behind the
older in one file; both are read (glibc sysdeps/generic/dl-cache.h, struct cache_file and struct cache_file_new).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_OLD_MAGIC = b"ld.so-1.7.0"
_NEW_MAGIC = b"glibc-ld.so.cache1.1"
_OLD_HEADER_BYTES = 16  # the magic, padding, nlibs
_OLD_ENTRY_BYTES = 12  # flags, key, value
_NEW_HEADER_BYTES = 48
_NEW_ENTRY_BYTES = 24  # flags, key, value, osversion, hwcap
_MAX_STRING_BYTES = 4096


class InvalidCache(Exception):
    """Not a loader cache, or a cache that places its parts outside of itself."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`flags` tells the ABI of the library (dl-cache.h, FLAG_*); `hwcap` is not 0 for a library that wants a special processor."""

    name: str
    path: str
    flags: int
    hwcap: int


def parse_cache(data: bytes) -> list[Entry]:
    """The entries of a cache, in the file's order. Raises `InvalidCache`."""
    if data.startswith(_NEW_MAGIC):
        return _new_entries(data, 0)
    if not data.startswith(_OLD_MAGIC):
        raise InvalidCache("no magic number of a loader cache")
    (count,) = _unpack("I", data, 12)
    end = _OLD_HEADER_BYTES + count * _OLD_ENTRY_BYTES
    # The newer layout begins at the next multiple of 8 after the older one's entries.
    start = (end + 7) & ~7
    if data[start : start + len(_NEW_MAGIC)] == _NEW_MAGIC:
        return _new_entries(data, start)
    if end > len(data):
        raise InvalidCache(f"{count} entries do not fit into {len(data)} bytes")
    entries = []
    for index in range(count):
        flags, key, value = _unpack("iII", data, _OLD_HEADER_BYTES + index * _OLD_ENTRY_BYTES)
        entries.append(Entry(_string(data, end + key), _string(data, end + value), flags, 0))
    return entries


def _new_entries(data: bytes, start: int) -> list[Entry]:
    """The entries of the newer layout, which begins at `start`; its offsets of strings count from there."""
    (count,) = _unpack("I", data, start + len(_NEW_MAGIC))
    if start + _NEW_HEADER_BYTES + count * _NEW_ENTRY_BYTES > len(data):
        raise InvalidCache(f"{count} entries do not fit into {len(data)} bytes")
    entries = []
    for index in range(count):
        flags, key, value, _osversion, hwcap = _unpack("iIIIQ", data, start + _NEW_HEADER_BYTES + index * _NEW_ENTRY_BYTES)
        entries.append(Entry(_string(data, start + key), _string(data, start + value), flags, hwcap))
    return entries


def _unpack(format_: str, data: bytes, offset: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from("=" + format_, data, offset)
    except struct.error as error:
        raise InvalidCache(f"offset {offset} is outside of the file") from error


def _string(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset, offset + _MAX_STRING_BYTES)
    if offset >= len(data) or end < 0:
        raise InvalidCache(f"no string at offset {offset}")
    return data[offset:end].decode("utf-8", "surrogateescape")
