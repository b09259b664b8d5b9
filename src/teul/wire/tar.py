"""tar archives, read entry by entry: ustar, PAX, GNU long names and numbers, and the four sparse formats.

Sans I/O in spirit: the reader pulls from a `Source` and interprets bytes; it opens no file and trusts nothing. Names are bytes, as the
kernel wants them. Anything malformed raises `TarError`, an archive that stops short `Truncated`; no input raises anything else.
Written for speed (an image has tens of thousands of entries): a header is parsed by one struct and few calls, and what nearly all writers
write in one way is tried in that way first.

Formats: POSIX.1-2001 pax; GNU tar manual, "Basic Tar Format" and "Storing Sparse Files". Leniency follows Go's archive/tar, since
images are made and read with that: a global header is skipped, an entry without a terminating block of zeros may be the last.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

BLOCK_BYTES = 512
# What may follow an archive's end. Writers fill their last record: with 10 KiB at most by default, 1 MiB with the largest block that a tape
# drive takes. docker: dockerd reads on for as long as anything comes, so a few kilobytes of zstd keep a processor busy for minutes.
TRAILING_BYTES = 16 << 20
# Go refuses larger extended headers too (archive/tar, maxSpecialFileSize).
_MAX_EXTENDED_BYTES = 1 << 20
_MAX_SPARSE_MAP_BYTES = 4 << 20
_MAX_NAME_BYTES = 1 << 16

# Type flags. POSIX.1-2001 pax, "ustar Interchange Format"; the letters are GNU's.
REGULAR, LINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_REGULAR_FLAGS = frozenset((b"0", b"\0", b"7", b"S"))
_WITHOUT_DATA = frozenset((LINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO))
_MEMBERS = _WITHOUT_DATA | _REGULAR_FLAGS

# name; mode, uid and gid; size, mtime, checksum, type flag, magic with version. What few entries have is cut out where it is wanted.
_HEADER = struct.Struct("100s24s12s12s8sc100x8s247x")
_LINK, _MAJOR, _MINOR, _PREFIX = slice(157, 257), slice(329, 337), slice(337, 345), slice(345, 500)
_XATTR = b"SCHILY.xattr."
_COMMON_KEYS = frozenset((b"mtime", b"atime", b"ctime", b"path", b"linkpath", b"size", b"uid", b"gid"))
_NEWLINE = ord("\n")

_NOBODY = (1 << 32) - 1


class TarError(ValueError):
    """The archive is malformed."""


class Truncated(TarError):
    """The archive ends inside an entry."""

    def __init__(self) -> None:
        super().__init__("unexpected EOF")


class Source(Protocol):
    """Where the archive's bytes come from."""

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes; raises `Truncated`."""

    def pieces(self, count: int) -> Iterator[memoryview]:
        """Exactly `count` bytes in some number of pieces, each valid until the next is asked for; raises `Truncated`."""

    def block_after(self, count: int) -> bytes:
        """Pass over exactly `count` bytes, and take a block; b"" if nothing is left behind them. Raises `Truncated`."""


class Entry:
    """One member. `size_bytes` is the file's size; a sparse file's data is shorter and goes where `segments` says."""

    __slots__ = ("gid", "link", "major", "minor", "mode", "mtime_ns", "name", "segments", "size_bytes", "type", "uid", "xattrs")

    def __init__(self, entry_type: bytes, name: bytes, link: bytes = b"", *, mode: int = 0, uid: int = 0, gid: int = 0) -> None:
        self.type = entry_type
        self.name = name
        self.link = link
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size_bytes = 0
        self.mtime_ns = 0
        self.major = 0
        self.minor = 0
        self.xattrs: dict[bytes, bytes] | None = None
        self.segments: list[tuple[int, int]] | None = None


class _Pending:
    """What extended headers said about the entry that follows them."""

    __slots__ = ("is_sparse", "long_link", "long_name", "pax", "sparse")

    def __init__(self) -> None:
        self.long_name: bytes | None = None
        self.long_link: bytes | None = None
        self.pax: dict[bytes, bytes] = {}
        self.is_sparse = False
        # GNU sparse 0.0: offset and numbytes come as repeated keys, which a dict would lose.
        self.sparse: list[bytes] = []


class TarReader:
    """Reads entries from `source`. Data that the caller leaves is passed over before the next header."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._data_bytes = 0
        self._padding_bytes = 0

    def next(self) -> Entry | None:
        """The next member, None at the end of the archive. Raises `TarError`."""
        pending: _Pending | None = None
        left = self._data_bytes + self._padding_bytes
        self._data_bytes = self._padding_bytes = 0
        while True:
            block = self._source.block_after(left)
            # An archive may lack the blocks of zeros at its end.
            if not block or (block[0] == 0 and not any(block)):
                if pending is not None:
                    raise Truncated
                return None
            fields = _HEADER.unpack(block)
            _verify_checksum(block, fields[4])
            flag = fields[5]
            if flag in _MEMBERS:
                return self._entry(block, fields, pending)
            pending = pending or _Pending()
            left = self._extended(flag, fields[2], pending)

    def data(self, count: int | None = None) -> Iterator[memoryview]:
        """The next `count` bytes of the current entry's data, by default all that were not read yet, in pieces."""
        if count is None:
            count = self._data_bytes
        assert count <= self._data_bytes, "segments were checked against the data"
        self._data_bytes -= count
        return self._source.pieces(count)

    def _extended(self, flag: bytes, size_field: bytes, pending: _Pending) -> int:
        """Note what the extended header says; returns how much of it is left to be passed over."""
        size = _number(size_field)
        if flag not in (b"L", b"K", b"x", b"g", b"X"):
            raise TarError(f"unhandled tar header type {flag[0]}")
        if size < 0:
            raise TarError("archive/tar: invalid tar header (negative number)")
        if size > _MAX_EXTENDED_BYTES:
            raise TarError(f"archive/tar: header field too long ({size} bytes)")
        data = self._source.take(size)
        if flag == b"L":
            pending.long_name = data.partition(b"\0")[0]
        elif flag == b"K":
            pending.long_link = data.partition(b"\0")[0]
        elif flag in (b"x", b"X"):
            _parse_pax(data, pending)
        return -size % BLOCK_BYTES

    def _entry(self, block: bytes, fields: tuple[bytes, ...], pending: _Pending | None) -> Entry:
        name, owner, size_field, mtime_field, _, flag, magic = fields
        name = name.partition(b"\0")[0]
        # GNU and v7 headers have other things where ustar has the prefix.
        if magic == b"ustar\x0000" and block[_PREFIX.start]:
            name = block[_PREFIX].partition(b"\0")[0] + b"/" + name
        mode, uid, gid = _owner(owner)
        link = block[_LINK].partition(b"\0")[0] if block[_LINK.start] else b""
        entry = Entry(flag, name, link, mode=mode, uid=uid, gid=gid)
        size = _number(size_field)
        entry.mtime_ns = _number(mtime_field) * 1_000_000_000
        if flag in (CHARACTER, BLOCK):
            entry.major, entry.minor = _number(block[_MAJOR]), _number(block[_MINOR])
        if pending is not None:
            size = _apply_pending(entry, size, pending)
        if size < 0 or entry.uid < 0 or entry.gid < 0 or entry.mode < 0:
            raise TarError("archive/tar: invalid tar header (negative number)")
        # kernel: the largest number stands for nobody: chown(2) leaves the owner as it is.
        if entry.uid >= _NOBODY or entry.gid >= _NOBODY:
            raise TarError("archive/tar: invalid tar header (owner)")
        if flag in _REGULAR_FLAGS:
            # Before POSIX a directory was a file whose name ends in a slash.
            entry.type = DIRECTORY if flag == b"\0" and entry.name.endswith(b"/") else REGULAR
        if entry.type in _WITHOUT_DATA:
            # As Go: the size of a link is that of its target, no data follows.
            size = 0
        self._data_bytes = entry.size_bytes = size
        self._padding_bytes = -size % BLOCK_BYTES
        if flag == b"S":
            self._old_sparse(entry, block)
        elif pending is not None and pending.is_sparse and entry.type == REGULAR:
            self._pax_sparse(entry, pending)
        # A name that stands in the header has neither many bytes nor a zero.
        if pending is not None:
            _check_name(entry)
        return entry

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        """GNU's first format: four segments in the header, twenty-one in each block that follows while the last byte says so."""
        numbers = [block[at : at + 12] for at in range(386, 482, 12)]
        extended = block[482]
        real_size = _number(block[483:495])
        while extended:
            more = self._source.take(BLOCK_BYTES)
            numbers += [more[at : at + 12] for at in range(0, 504, 12)]
            extended = more[504]
            if len(numbers) * 12 > _MAX_SPARSE_MAP_BYTES:
                raise TarError("archive/tar: sparse map too long")
        values = [_number(number) for number in numbers if number[0]]
        self._set_segments(entry, values, real_size)

    def _pax_sparse(self, entry: Entry, pending: _Pending) -> None:
        pax = pending.pax
        if pax.get(b"GNU.sparse.major") == b"1" and pax.get(b"GNU.sparse.minor") == b"0":
            values = self._sparse_map()
        elif b"GNU.sparse.map" in pax:
            values = [_decimal(number) for number in pax[b"GNU.sparse.map"].split(b",")]
        elif pending.sparse:
            values = [_decimal(number) for number in pending.sparse]
        else:
            return
        name = pax.get(b"GNU.sparse.name")
        if name:
            entry.name = name
        real_size = pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size")
        self._set_segments(entry, values, _decimal(real_size or b""))

    def _sparse_map(self) -> list[int]:
        """PAX 1.0: the map stands before the data, decimal numbers ended by newlines, padded to a block."""
        blocks = [self._take_map_block()]
        count = _decimal(blocks[0].partition(b"\n")[0])
        if count * 4 > _MAX_SPARSE_MAP_BYTES:
            raise TarError("archive/tar: sparse map too long")
        missing = 1 + 2 * count - blocks[0].count(b"\n")
        while missing > 0:
            if len(blocks) * BLOCK_BYTES > _MAX_SPARSE_MAP_BYTES:
                raise TarError("archive/tar: sparse map too long")
            blocks.append(self._take_map_block())
            missing -= blocks[-1].count(b"\n")
        return [_decimal(line) for line in b"".join(blocks).split(b"\n")[1 : 1 + 2 * count]]

    def _take_map_block(self) -> bytes:
        if self._data_bytes < BLOCK_BYTES:
            raise TarError("archive/tar: invalid sparse map")
        self._data_bytes -= BLOCK_BYTES
        return self._source.take(BLOCK_BYTES)

    def _set_segments(self, entry: Entry, values: list[int], real_size: int) -> None:
        if len(values) % 2:
            raise TarError("archive/tar: invalid sparse map")
        segments = list(zip(values[::2], values[1::2], strict=True))
        end = total = 0
        for offset, length in segments:
            if offset < end or length < 0:
                raise TarError("archive/tar: invalid sparse map")
            end = offset + length
            total += length
        if end > real_size or total != self._data_bytes:
            raise TarError("archive/tar: invalid sparse map")
        entry.segments = segments
        entry.size_bytes = real_size


def _apply_pending(entry: Entry, size: int, pending: _Pending) -> int:
    if pending.long_name is not None:
        entry.name = pending.long_name
    if pending.long_link is not None:
        entry.link = pending.long_link
    for key, value in pending.pax.items():
        if key == b"mtime":
            entry.mtime_ns = _time_ns(value)
        elif key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            size = _decimal(value)
        elif key == b"uid":
            entry.uid = _decimal(value)
        elif key == b"gid":
            entry.gid = _decimal(value)
        elif key.startswith(_XATTR):
            if entry.xattrs is None:
                entry.xattrs = {}
            entry.xattrs[key[len(_XATTR) :]] = value
    return size


def _parse_pax(data: bytes, pending: _Pending) -> None:
    """Records of `length key=value newline`; an empty value takes the key away, except that an xattr may be empty."""
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        if space < 0:
            raise TarError("archive/tar: invalid tar header (PAX record)")
        length = _decimal(data[position:space])
        end = position + length
        if length < 5 or end > len(data) or data[end - 1] != _NEWLINE:
            raise TarError("archive/tar: invalid tar header (PAX record)")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise TarError("archive/tar: invalid tar header (PAX record)")
        if value and key in _COMMON_KEYS:
            pending.pax[key] = value
            position = end
            continue
        pending.is_sparse = pending.is_sparse or key.startswith(b"GNU.sparse.")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pending.sparse.append(value)
        elif 0 in key:
            raise TarError("archive/tar: invalid tar header (PAX record)")
        elif value or key.startswith(_XATTR):
            pending.pax[key] = value
        else:
            pending.pax.pop(key, None)
        position = end


def _verify_checksum(block: bytes, field: bytes) -> None:
    # One half of an Adler-32 sum is 1 and the sum of the bytes, modulo 65521, which a block of ASCII stays below: a sixth of the time.
    if block.isascii():
        unsigned = (zlib.adler32(block) & 0xFFFF) - (zlib.adler32(field) & 0xFFFF) + 8 * 32
    else:
        unsigned = sum(block) - sum(field) + 8 * 32
    if field == b"%06o\0 " % unsigned:
        return
    stored = _number(field)
    if stored == unsigned:
        return
    # Some old tars summed signed characters.
    signed = unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
    if stored != signed:
        raise TarError("archive/tar: invalid tar header")


@lru_cache(maxsize=256)
def _owner(fields: bytes) -> tuple[int, int, int]:
    """Mode, user and group: most files of an archive have those of others."""
    return _number(fields[:8]), _number(fields[8:16]), _number(fields[16:])


def _number(field: bytes) -> int:
    """An octal number, or GNU's base-256 where the first bit is set."""
    if field[-1] in b"\0 ":
        try:
            return int(field[:-1], 8)
        except ValueError:
            pass  # of another form
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (len(field) * 8 - 1)) - 1)
        return value - (1 << (len(field) * 8 - 1)) if field[0] & 0x40 else value
    digits = field.strip(b"\0 ").partition(b"\0")[0]
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise TarError("archive/tar: invalid tar header") from None


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise TarError("archive/tar: invalid tar header (number)")
    return int(text)


def _time_ns(text: bytes) -> int:
    seconds, _, fraction = text.partition(b".")
    digits = seconds if seconds.isdigit() else seconds.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 20 or (fraction and not fraction.isdigit()):
        raise TarError("archive/tar: invalid tar header (time)")
    time_ns = int(digits) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0")
    return time_ns if digits is seconds else -time_ns


def _check_name(entry: Entry) -> None:
    name, link = entry.name, entry.link
    if 0 in name or 0 in link or len(name) > _MAX_NAME_BYTES or len(link) > _MAX_NAME_BYTES:
        raise TarError("archive/tar: invalid tar header (name)")
