"""tar headers, written: ustar, with a PAX record for each thing that ustar has no room for. Pure.

The inverse of `wire.tar` for what a file system has. Times are whole seconds, as docker writes them, unless more is asked for, and no names
of users are told. Formats: POSIX.1-2001 pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

import zlib

from teul.wire.tar import BLOCK_BYTES, DIRECTORY, Entry

END = bytes(2 * BLOCK_BYTES)
"""What an archive ends with."""

_NAME_BYTES = 100
# mode, uid, gid, size, mtime; they follow the name, and the checksum follows them.
_NUMBERS = b"%07o\0%07o\0%07o\0%011o\0%011o\0"
_MAGIC = b"ustar\x0000"
_USER_NAMES, _REST = bytes(64), bytes(167)
_CHECKSUM_AS_SPACES = 8 * ord(" ")
_XATTR = b"SCHILY.xattr."
_PAX_NAME = b"PaxHeaders/0"
_MAX_ID = 0o7777777
_MAX_LONG = 0o77777777777


def padding(size_bytes: int) -> bytes:
    """The zeros that follow `size_bytes` of data, so that the next header begins with a block."""
    return bytes(-size_bytes % BLOCK_BYTES)


def render_header(entry: Entry, *, exact_time: bool = False) -> bytes:
    """The blocks that stand before the entry's data. A directory's name gets its slash; `exact_time` tells nanoseconds.

    Of a sparse file that is its map as well, in GNU's format 1.0: what follows are its segments, one behind the other.
    """
    name = entry.name + b"/" if entry.type == DIRECTORY and not entry.name.endswith(b"/") else entry.name
    seconds = entry.mtime_ns // 1_000_000_000
    if entry.segments is not None:
        return _render_sparse(entry, entry.segments, seconds, exact_time=exact_time)
    records = _records(entry, name, entry.size_bytes, seconds, exact_time=exact_time)
    header = _header(entry, name, entry.size_bytes, seconds)
    return _extended(records) + header if records else header


def _render_sparse(entry: Entry, segments: list[tuple[int, int]], seconds: int, *, exact_time: bool) -> bytes:
    numbers = [len(segments), *(number for segment in segments for number in segment)]
    sparse_map = b"".join(b"%d\n" % number for number in numbers)
    sparse_map += padding(len(sparse_map))
    size_bytes = len(sparse_map) + sum(length for _, length in segments)
    # GNU tar, "Storing Sparse Files": whoever does not know the format gets a file that is called otherwise.
    name = (b"GNUSparseFile.0/" + entry.name)[:100]
    records = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", entry.name),
        (b"GNU.sparse.realsize", b"%d" % entry.size_bytes),
        *_records(entry, name, size_bytes, seconds, exact_time=exact_time),
    ]
    return _extended(records) + _header(entry, name, size_bytes, seconds) + sparse_map


def _header(entry: Entry, name: bytes, size_bytes: int, seconds: int) -> bytes:
    return _block(
        entry.type,
        name[:_NAME_BYTES],
        entry.link[:_NAME_BYTES],
        mode=entry.mode & 0o7777,
        uid=_fitting(entry.uid, _MAX_ID),
        gid=_fitting(entry.gid, _MAX_ID),
        size=_fitting(size_bytes, _MAX_LONG),
        mtime=_fitting(seconds, _MAX_LONG),
        device=(entry.major, entry.minor),
    )


def _records(entry: Entry, name: bytes, size_bytes: int, seconds: int, *, exact_time: bool) -> list[tuple[bytes, bytes]]:
    has_fraction = exact_time and entry.mtime_ns % 1_000_000_000 != 0
    # Of nearly all files, all has room; so much is told without rendering anything.
    has_room = len(name) <= _NAME_BYTES and len(entry.link) <= _NAME_BYTES and size_bytes <= _MAX_LONG
    if has_room and entry.uid <= _MAX_ID and entry.gid <= _MAX_ID and not has_fraction and 0 <= seconds <= _MAX_LONG and not entry.xattrs:
        return []
    candidates = (
        (b"path", name, len(name) > _NAME_BYTES),
        (b"linkpath", entry.link, len(entry.link) > _NAME_BYTES),
        (b"size", b"%d" % size_bytes, size_bytes > _MAX_LONG),
        (b"uid", b"%d" % entry.uid, entry.uid > _MAX_ID),
        (b"gid", b"%d" % entry.gid, entry.gid > _MAX_ID),
        (b"mtime", _exact(entry.mtime_ns) if has_fraction else b"%d" % seconds, has_fraction or not 0 <= seconds <= _MAX_LONG),
    )
    records = [(key, value) for key, value, needed in candidates if needed]
    return records + [(_XATTR + key, value) for key, value in sorted((entry.xattrs or {}).items())]


def _exact(time_ns: int) -> bytes:
    sign, magnitude = (b"-", -time_ns) if time_ns < 0 else (b"", time_ns)
    return sign + b"%d.%09d" % divmod(magnitude, 1_000_000_000)


def _fitting(value: int, limit: int) -> int:
    """`value`, or 0 where a PAX record says it."""
    return value if 0 <= value <= limit else 0


def _extended(records: list[tuple[bytes, bytes]]) -> bytes:
    data = b"".join(_record(key, value) for key, value in records)
    return _block(b"x", _PAX_NAME, b"", mode=0o644, size=len(data)) + data + padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """A PAX record; its length stands first and counts itself."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def _block(
    flag: bytes,
    name: bytes,
    link: bytes,
    *,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    device: tuple[int, int] = (0, 0),
) -> bytes:
    head = name.ljust(_NAME_BYTES, b"\0") + _NUMBERS % (mode, uid, gid, size, mtime)
    rest = flag + link.ljust(_NAME_BYTES, b"\0") + _MAGIC + _USER_NAMES + b"%07o\0%07o\0" % device + _REST
    return head + b"%06o\0 " % (_sum(head) + _CHECKSUM_AS_SPACES + _sum(rest)) + rest


def _sum(data: bytes) -> int:
    """The sum of the bytes, of which at most 256 are not zero: the lower half of Adler's checksum is one more, up to 65520.

    `sum` takes more time than all else that a header does.
    """
    return (zlib.adler32(data) & 0xFFFF) - 1
