"""The header of a compressed file of a log: gzip's (RFC 1952), with an extra field that says which file it was made of. stdlib only."""

from __future__ import annotations

import os
import struct

_FIXED = struct.Struct("<HBBLBBH")  # magic, method, flags, time, extra flags, system; and the length of the extra field
_MAGIC, _DEFLATE, _FEXTRA, _UNIX = 0x8B1F, 8, 4, 3
_EXTRA = struct.Struct("<2sHQQQ")
_NAME = b"TL"
HEADER_BYTES = _FIXED.size + _EXTRA.size

# Device, inode and time of the last change, in nanoseconds. The time tells a file from a later one that has got its inode.
Origin = tuple[int, int, int]


def header(status: os.stat_result) -> bytes:
    """What stands before the compressed bytes of the file with this status."""
    seconds = max(0, status.st_mtime_ns // 1_000_000_000) & 0xFFFFFFFF
    fixed = _FIXED.pack(_MAGIC, _DEFLATE, _FEXTRA, seconds, 0, _UNIX, _EXTRA.size)
    return fixed + _EXTRA.pack(_NAME, _EXTRA.size - 4, status.st_dev, status.st_ino, status.st_mtime_ns)


def origin(head: bytes) -> Origin | None:
    """Which file it was that has this header now; None where it does not say."""
    if len(head) < HEADER_BYTES:
        return None
    magic, method, flags, _seconds, _extra_flags, _system, length = _FIXED.unpack_from(head)
    if (magic, method, length) != (_MAGIC, _DEFLATE, _EXTRA.size) or not flags & _FEXTRA:
        return None
    name, _length, device, inode, modified_ns = _EXTRA.unpack_from(head, _FIXED.size)
    return (device, inode, modified_ns) if name == _NAME else None
