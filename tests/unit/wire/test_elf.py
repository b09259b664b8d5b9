"""ELF files, made here byte by byte: both classes, both byte orders, and every way to point outside of the file."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.wire.elf import (
    DT_NEEDED,
    DT_RPATH,
    DT_RUNPATH,
    DT_SONAME,
    DT_STRSZ,
    DT_STRTAB,
    PT_DYNAMIC,
    PT_INTERP,
    PT_LOAD,
    InvalidElf,
    parse_elf,
)

BASE = 0x10000


@dataclass
class Maker:
    """Lays out header, program headers, interpreter, strings and dynamic table one after another."""

    bits: int = 64
    little: bool = True
    machine: int = 62
    interpreter: bytes | None = b"/lib64/ld.so\0"
    dynamic: list[tuple[int, bytes]] = field(default_factory=list)
    header_count: int | None = None
    string_address: int | None = None
    terminated: bool = True

    def build(self) -> bytes:
        order = "<" if self.little else ">"
        wide = self.bits == 64
        header_bytes, entry_bytes = (64, 56) if wide else (52, 32)
        strings = b"\0" + b"".join(text + b"\0" for _, text in self.dynamic)
        interpreter = self.interpreter or b""
        segment_count = 2 + (self.interpreter is not None)
        start = header_bytes + entry_bytes * segment_count
        strings_at = start + len(interpreter)
        dynamic_at = strings_at + len(strings)
        entries, offset = b"", 1
        word = "qQ" if wide else "iI"
        for tag, text in self.dynamic:
            entries += struct.pack(order + word, tag, offset)
            offset += len(text) + 1
        address = BASE + strings_at if self.string_address is None else self.string_address
        entries += struct.pack(order + word, DT_STRTAB, address) + struct.pack(order + word, DT_STRSZ, len(strings))
        if self.terminated:
            entries += struct.pack(order + word, 0, 0)
        total = dynamic_at + len(entries)
        segments = [(PT_LOAD, 0, BASE, total), (PT_DYNAMIC, dynamic_at, BASE + dynamic_at, len(entries))]
        if self.interpreter is not None:
            segments.append((PT_INTERP, start, BASE + start, len(interpreter)))
        table = b"".join(self._segment(order, *segment) for segment in segments)
        return self._header(order, header_bytes, entry_bytes, len(segments)) + table + interpreter + strings + entries

    def _header(self, order: str, header_bytes: int, entry_bytes: int, count: int) -> bytes:
        identity = b"\x7fELF" + bytes((2 if self.bits == 64 else 1, 1 if self.little else 2, 1)) + b"\0" * 9
        sizes = (header_bytes, entry_bytes, count if self.header_count is None else self.header_count, 0, 0, 0)
        address = "Q" if self.bits == 64 else "I"
        return identity + struct.pack(f"{order}HHI{address * 3}I6H", 3, self.machine, 1, 0, header_bytes, 0, 0, *sizes)

    def _segment(self, order: str, kind: int, offset: int, address: int, size: int) -> bytes:
        if self.bits == 64:
            return struct.pack(order + "IIQQQQQQ", kind, 4, offset, address, address, size, size, 1)
        return struct.pack(order + "IIIIIIII", kind, offset, address, address, size, size, 4, 1)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("little", [True, False])
def test_everything_that_the_loader_reads(bits: int, little: bool) -> None:
    dynamic = [
        (DT_NEEDED, b"libc.so.6"),
        (DT_NEEDED, b"libm.so.6"),
        (DT_RPATH, b"/a:/b"),
        (DT_RUNPATH, b"$ORIGIN/../lib::/c"),
        (DT_SONAME, b"libx.so.1"),
    ]
    elf = parse_elf(Maker(bits=bits, little=little, dynamic=dynamic).build())
    assert elf.abi == (bits, little, 62)
    assert elf.interpreter == "/lib64/ld.so"
    assert elf.needed == ("libc.so.6", "libm.so.6")
    assert elf.rpath == ("/a", "/b")
    assert elf.runpath == ("$ORIGIN/../lib", "/c")
    assert elf.soname == "libx.so.1"


def test_a_table_without_an_end_mark_ends_with_its_segment() -> None:
    assert parse_elf(Maker(dynamic=[(DT_NEEDED, b"a")], terminated=False).build()).needed == ("a",)


def test_a_static_file_needs_nothing() -> None:
    header = Maker(interpreter=None, header_count=0).build()[:64]
    elf = parse_elf(header)
    assert elf.interpreter is None
    assert elf.needed == ()


def test_a_dynamic_table_without_strings_names_nothing() -> None:
    data = bytearray(Maker(interpreter=None).build())
    position = data.rindex(struct.pack("<qQ", DT_STRSZ, 1)) - 16
    data[position : position + 16] = struct.pack("<qQ", 0x6FFFFEF5, 0)  # some other tag in DT_STRTAB's place
    assert parse_elf(bytes(data)).needed == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "magic"),
        (b"\x7fELF", "class"),
        (b"\x7fELF\x03\x01" + b"\0" * 60, "class"),
        (b"\x7fELF\x02\x03" + b"\0" * 60, "class"),
        (b"\x7fELF\x02\x01" + b"\0" * 20, "outside"),
        (Maker(header_count=5000).build(), "5000 program headers"),
        (Maker(header_count=40).build(), "outside"),
        (Maker(string_address=7).build(), "in no segment"),
        (Maker(dynamic=[(DT_NEEDED, b"x" * 5000)]).build(), "no string"),
    ],
)
def test_files_that_point_outside_of_themselves_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidElf, match=message):
        parse_elf(data)


def test_a_string_behind_the_table_is_refused() -> None:
    data = Maker(dynamic=[(DT_NEEDED, b"abc")]).build()
    with pytest.raises(InvalidElf, match="no string"):
        parse_elf(data.replace(struct.pack("<qQ", DT_NEEDED, 1), struct.pack("<qQ", DT_NEEDED, 1 << 40)))


def test_program_headers_that_are_too_small_are_refused() -> None:
    data = bytearray(Maker().build())
    data[54:56] = struct.pack("<H", 8)
    with pytest.raises(InvalidElf, match="program headers of 8 bytes"):
        parse_elf(bytes(data))


def test_an_interpreter_outside_of_the_file_is_refused() -> None:
    data = Maker().build()
    with pytest.raises(InvalidElf, match="outside"):
        parse_elf(data[: data.index(b"/lib64")])


@given(data=st.binary(max_size=200), spot=st.integers(min_value=0, max_value=400), bits=st.sampled_from([32, 64]))
def test_any_bytes_give_a_value_or_our_own_error(data: bytes, spot: int, bits: int) -> None:
    """Random bytes, and a good file with random bytes written into it."""
    whole = Maker(bits=bits, dynamic=[(DT_NEEDED, b"libc.so.6"), (DT_RUNPATH, b"/x")]).build()
    for candidate in (data, b"\x7fELF" + data, whole[:spot] + data + whole[spot + len(data) :], whole[:spot]):
        try:
            parse_elf(candidate)
        except InvalidElf:
            continue
