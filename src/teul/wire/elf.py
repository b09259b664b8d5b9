"""What a dynamically linked ELF file asks for: its interpreter, its libraries, and where to look for them.

Pure: bytes to values, every offset checked against the size of the file, so that any input gives a value or `InvalidElf`. Only the
program headers are read, never the sections, for a stripped file need not have those; that is how the dynamic loader reads it too.
Source: System V ABI, chapters 4 and 5; elf(5).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"\x7fELF"

# elf.h
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NULL, DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_SONAME, DT_RPATH, DT_RUNPATH = 0, 1, 5, 10, 14, 15, 29

# No file that a loader would accept comes near these limits; they bound the work that a hostile file can cause.
_MAX_PROGRAM_HEADERS = 4096
_MAX_DYNAMIC_ENTRIES = 65536
_MAX_STRING_BYTES = 4096


class InvalidElf(Exception):
    """Not an ELF file, or an ELF file that places its parts outside of itself."""


@dataclass(frozen=True, slots=True)
class Elf:
    """`rpath` and `runpath` are as written in the file, with `$ORIGIN` and friends unexpanded, split at the colons."""

    bits: int
    little_endian: bool
    machine: int
    interpreter: str | None
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    soname: str | None

    @property
    def abi(self) -> tuple[int, bool, int]:
        """What two files must share for one to load the other."""
        return self.bits, self.little_endian, self.machine


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size_bytes: int


class _File:
    """The file's bytes, read in the class and byte order that the header says."""

    def __init__(self, data: bytes) -> None:
        if data[:4] != MAGIC:
            raise InvalidElf("no ELF magic number")
        if len(data) < 20 or data[4] not in (1, 2) or data[5] not in (1, 2):
            raise InvalidElf("unknown ELF class or byte order")
        self.data = data
        self.bits = 64 if data[4] == 2 else 32
        self.order = "<" if data[5] == 1 else ">"

    def unpack(self, format_: str, offset: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(self.order + format_, self.data, offset)
        except (struct.error, OverflowError) as error:
            raise InvalidElf(f"offset {offset} is outside of the file") from error

    def part(self, offset: int, size_bytes: int) -> bytes:
        if offset + size_bytes > len(self.data):
            raise InvalidElf(f"{size_bytes} bytes at {offset} are outside of the file")
        return self.data[offset : offset + size_bytes]

    def segments(self) -> list[_Segment]:
        if self.bits == 64:
            (table,) = self.unpack("Q", 32)
            entry_bytes, count = self.unpack("HH", 54)
        else:
            (table,) = self.unpack("I", 28)
            entry_bytes, count = self.unpack("HH", 42)
        if count > _MAX_PROGRAM_HEADERS:
            raise InvalidElf(f"{count} program headers")
        if count and entry_bytes < (56 if self.bits == 64 else 32):
            raise InvalidElf(f"program headers of {entry_bytes} bytes")
        return [self._segment(table + index * entry_bytes) for index in range(count)]

    def _segment(self, offset: int) -> _Segment:
        if self.bits == 64:
            kind, _flags, start, address, _physical, size = self.unpack("IIQQQQ", offset)
        else:
            kind, start, address, _physical, size = self.unpack("IIIII", offset)
        return _Segment(kind, start, address, size)


def parse_elf(data: bytes) -> Elf:
    """What `data`, a whole ELF file, asks for. A static file has no interpreter and needs nothing. Raises `InvalidElf`."""
    file = _File(data)
    (machine,) = file.unpack("H", 18)
    segments = file.segments()
    interpreter: str | None = None
    dynamic: list[tuple[int, int]] = []
    for segment in segments:
        if segment.kind == PT_INTERP:
            interpreter = _text(file.part(segment.offset, segment.size_bytes))
        elif segment.kind == PT_DYNAMIC:
            dynamic = _dynamic_entries(file, segment)
    strings = _string_table(file, segments, dict(dynamic)) if dynamic else b""

    def named(*tags: int) -> list[str]:
        return [_string(strings, value) for tag, value in dynamic if tag in tags]

    return Elf(
        bits=file.bits,
        little_endian=file.order == "<",
        machine=machine,
        interpreter=interpreter,
        needed=tuple(named(DT_NEEDED)),
        rpath=_directories(named(DT_RPATH)),
        runpath=_directories(named(DT_RUNPATH)),
        soname=next(iter(named(DT_SONAME)), None),
    )


def _dynamic_entries(file: _File, segment: _Segment) -> list[tuple[int, int]]:
    format_, entry_bytes = ("qQ", 16) if file.bits == 64 else ("iI", 8)
    entries: list[tuple[int, int]] = []
    for index in range(min(segment.size_bytes // entry_bytes, _MAX_DYNAMIC_ENTRIES)):
        tag, value = file.unpack(format_, segment.offset + index * entry_bytes)
        if tag == DT_NULL:
            break
        entries.append((tag, value))
    return entries


def _string_table(file: _File, segments: list[_Segment], dynamic: dict[int, int]) -> bytes:
    """DT_STRTAB is an address in memory: the segment that is loaded there says where it is in the file."""
    if DT_STRTAB not in dynamic:
        return b""
    address, size_bytes = dynamic[DT_STRTAB], dynamic.get(DT_STRSZ, 0)
    for segment in segments:
        if segment.kind == PT_LOAD and segment.address <= address < segment.address + segment.size_bytes:
            return file.part(segment.offset + address - segment.address, size_bytes)
    raise InvalidElf("the dynamic string table is in no segment")


def _string(strings: bytes, offset: int) -> str:
    end = strings.find(b"\0", offset, offset + _MAX_STRING_BYTES)
    if offset >= len(strings) or end < 0:
        raise InvalidElf(f"no string at {offset} of the dynamic string table")
    return _text(strings[offset:end])


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _directories(values: list[str]) -> tuple[str, ...]:
    return tuple(part for value in values for part in value.split(":") if part)
