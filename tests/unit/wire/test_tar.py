"""The tar reader, judged by what Python's tarfile and GNU tar write, and attacked with what nobody should write."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.wire.tar import BLOCK_BYTES, Entry, TarError, TarReader, Truncated


class BytesSource:
    """`Source` over bytes, in pieces of `piece_bytes`."""

    def __init__(self, data: bytes, piece_bytes: int = 1 << 20) -> None:
        self._data = data
        self._piece_bytes = piece_bytes

    def take(self, count: int) -> bytes:
        return b"".join(self.pieces(count))

    def pieces(self, count: int) -> Iterator[memoryview]:
        while count:
            piece = self._data[: min(count, self._piece_bytes)]
            if not piece:
                raise Truncated
            self._data = self._data[len(piece) :]
            count -= len(piece)
            yield memoryview(piece)

    def block_after(self, count: int) -> bytes:
        self.take(count)
        return self.take(BLOCK_BYTES) if self._data else b""


def read_all(data: bytes, piece_bytes: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    reader = TarReader(BytesSource(data, piece_bytes))
    entries = []
    while (entry := reader.next()) is not None:
        content = b"".join(reader.data())
        promised = entry.size_bytes if entry.segments is None else sum(length for _, length in entry.segments)
        assert len(content) == promised
        entries.append((entry, content))
    return entries


def archive(*members: tuple[tarfile.TarInfo, bytes], style: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def with_checksum(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def raw_header(
    name: bytes = b"f", size: int = 0, flag: bytes = b"0", *, magic: bytes = b"ustar\x0000", extra: dict[int, bytes] | None = None
) -> bytes:
    header = bytearray(512)
    header[: len(name)] = name
    header[100:108] = b"0000644\0"
    header[124:136] = b"%011o\0" % size
    header[156:157] = flag
    header[257:265] = magic
    for at, data in (extra or {}).items():
        header[at : at + len(data)] = data
    return with_checksum(header)


def pax(records: dict[str, str] | list[tuple[str, str]], flag: bytes = b"x") -> bytes:
    body = b""
    for key, value in records.items() if isinstance(records, dict) else records:
        rest = f" {key}={value}\n".encode()
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        body += str(length).encode() + rest
    return raw_header(b"pax", len(body), flag) + body + bytes(-len(body) % 512)


def block(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


END = bytes(1024)


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("piece_bytes", [1, 1 << 20])
def test_what_tarfile_writes_is_read(style: int, piece_bytes: int) -> None:
    data = archive(
        member("d", type=tarfile.DIRTYPE, mode=0o1777, uid=1, gid=2, mtime=1_700_000_000),
        member("d/f", b"x" * 700, mode=0o4755, uid=3, gid=4, mtime=5),
        member("d/l", type=tarfile.SYMTYPE, linkname="../else where"),
        member("d/h", type=tarfile.LNKTYPE, linkname="d/f"),
        member("c", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("b", type=tarfile.BLKTYPE, devmajor=259, devminor=70),
        member("p", type=tarfile.FIFOTYPE),
        member("long/" + "n" * 90 + "/" + "m" * 60, b"y"),
        style=style,
    )
    entries = read_all(data, piece_bytes)
    assert [(entry.type, entry.name.rstrip(b"/"), entry.link) for entry, _ in entries] == [
        (b"5", b"d", b""),
        (b"0", b"d/f", b""),
        (b"2", b"d/l", b"../else where"),
        (b"1", b"d/h", b"d/f"),
        (b"3", b"c", b""),
        (b"4", b"b", b""),
        (b"6", b"p", b""),
        (b"0", b"long/" + b"n" * 90 + b"/" + b"m" * 60, b""),
    ]
    directory, (file, content), *_ = (entries[0][0], *entries[1:])
    assert (directory.mode, directory.uid, directory.gid, directory.mtime_ns) == (0o1777, 1, 2, 1_700_000_000_000_000_000)
    assert (file.mode, file.uid, file.gid, file.size_bytes, content) == (0o4755, 3, 4, 700, b"x" * 700)
    assert (entries[4][0].major, entries[4][0].minor, entries[5][0].major, entries[5][0].minor) == (1, 3, 259, 70)


def test_names_and_links_of_any_length_are_read() -> None:
    name, link = "n" * 3000, "l" * 2000
    for style in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        [(entry, _)] = read_all(archive(member(name, type=tarfile.SYMTYPE, linkname=link), style=style))
        assert (entry.name, entry.link) == (name.encode(), link.encode())


def test_numbers_beyond_octal_are_read() -> None:
    big = member("f", b"", uid=3_000_000_000, gid=4_000_000_000, mtime=-5)
    [(entry, _)] = read_all(archive(big, style=tarfile.GNU_FORMAT))
    assert (entry.uid, entry.gid, entry.mtime_ns) == (3_000_000_000, 4_000_000_000, -5_000_000_000)
    [(entry, _)] = read_all(archive(member("f", uid=3_000_000_000, gid=4_000_000_000), style=tarfile.PAX_FORMAT))
    assert (entry.uid, entry.gid) == (3_000_000_000, 4_000_000_000)


def test_times_have_nanoseconds_and_may_be_before_1970() -> None:
    for text, expected in (("1.5", 1_500_000_000), ("-1.25", -1_250_000_000), ("7", 7_000_000_000), ("1.1234567899", 1_123_456_789)):
        [(entry, _)] = read_all(pax({"mtime": text}) + raw_header() + END)
        assert entry.mtime_ns == expected


def test_extended_attributes_are_bytes_and_may_be_empty() -> None:
    data = archive(member("f", pax_headers={"SCHILY.xattr.user.a": "b=c\nd", "SCHILY.xattr.user.empty": ""}))
    [(entry, _)] = read_all(data)
    assert entry.xattrs == {b"user.a": b"b=c\nd", b"user.empty": b""}


def test_an_empty_value_takes_a_record_away() -> None:
    [(entry, _)] = read_all(pax([("path", "x"), ("path", "")]) + raw_header(b"f") + END)
    assert entry.name == b"f"


def test_extended_headers_hold_for_one_entry_only() -> None:
    entries = read_all(pax({"path": "long", "linkpath": "t", "SCHILY.xattr.user.a": "1"}) + raw_header(flag=b"2") + raw_header(b"g") + END)
    assert [(entry.name, entry.link, entry.xattrs) for entry, _ in entries] == [(b"long", b"t", {b"user.a": b"1"}), (b"g", b"", None)]


def test_a_global_header_is_passed_over() -> None:
    """docker: as Go's reader, which leaves it to the caller, who ignores it."""
    [(entry, _)] = read_all(pax({"path": "no"}, flag=b"g") + raw_header(b"f") + END)
    assert entry.name == b"f"


@pytest.mark.parametrize(
    ("mode", "size"),
    [
        (b"0000644\0", b"00000000005\0"),
        (b"000644 \0", b"          5 "),
        (b"644\0\0\0\0\0", b"000000000005"),
        (b"00000644", b"5\0rubbish\0\0\0"),
    ],
)
def test_numbers_stand_in_their_fields_in_many_ways(mode: bytes, size: bytes) -> None:
    ((entry, data),) = read_all(raw_header(extra={100: mode, 124: size}) + block(b"hello") + END)
    assert (entry.mode, data) == (0o644, b"hello")


def test_a_number_may_be_left_out() -> None:
    ((entry, _),) = read_all(raw_header(extra={100: bytes(8), 108: b" " * 8, 116: bytes(8), 136: b" " * 11 + b"\0"}) + END)
    assert (entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (0, 0, 0, 0)


@pytest.mark.parametrize("text", [b"%6o\0 ", b"%07o\0", b" %05o\0 ", b"%o       "])
def test_checksums_stand_in_their_field_in_many_ways(text: bytes) -> None:
    header = bytearray(raw_header())
    header[148:156] = b" " * 8
    header[148:156] = (text % sum(header)).ljust(8)[:8]
    ((entry, _),) = read_all(bytes(header) + END)
    assert entry.name == b"f"


def test_names_end_at_the_first_zero() -> None:
    ((entry, _),) = read_all(raw_header(b"f\0rest", flag=b"2", extra={157: b"target\0rest", 345: b"dir\0rest"}) + END)
    assert (entry.name, entry.link) == (b"dir/f", b"target")


def test_data_that_nobody_reads_is_passed_over() -> None:
    reader = TarReader(BytesSource(archive(member("a", b"1" * 1000), member("b", b"2"))))
    first = reader.next()
    assert first is not None
    assert b"".join(reader.data(10)) == b"1" * 10
    second = reader.next()
    assert second is not None
    assert (second.name, b"".join(reader.data())) == (b"b", b"2")


def test_links_have_no_data_whatever_their_size_says() -> None:
    """As Go: the size of a hard link is that of its target."""
    entries = read_all(raw_header(b"l", 512, b"1", extra={157: b"f"}) + raw_header(b"g") + END)
    assert [(entry.name, entry.size_bytes) for entry, _ in entries] == [(b"l", 0), (b"g", 0)]


def test_a_file_of_old_whose_name_ends_in_a_slash_is_a_directory() -> None:
    entries = read_all(
        raw_header(b"d/", flag=b"\0", magic=bytes(8)) + raw_header(b"f", flag=b"\0", magic=bytes(8)) + raw_header(b"c", flag=b"7") + END
    )
    assert [entry.type for entry, _ in entries] == [b"5", b"0", b"0"]


def test_checksums_over_signed_bytes_are_accepted() -> None:
    header = bytearray(raw_header("ü".encode()))
    signed = sum(byte - 256 if byte > 127 else byte for byte in header[:148] + b" " * 8 + header[156:])
    header[148:156] = b"%06o\0 " % signed
    assert read_all(bytes(header) + END)[0][0].name == "ü".encode()


def test_checksums_of_the_largest_header_there_is() -> None:
    """All of it the last character of ASCII, in the name and in what the format leaves unused."""
    header = bytearray(raw_header(b"\x7f" * 100))
    header[500:512] = b"\x7f" * 12
    header[148:156] = b"%06o\0 " % sum(header[:148] + b" " * 8 + header[156:])
    assert read_all(bytes(header) + END)[0][0].name == b"\x7f" * 100


def test_the_end_may_go_without_its_blocks() -> None:
    assert len(read_all(raw_header() + raw_header(b"g"))) == 2
    assert read_all(b"") == []
    assert read_all(END + b"whatever follows is not looked at") == []


SPARSE_DATA = block(b"AAAA" + b"BBBB")


def old_sparse(segments: list[tuple[int, int]], size: int, real: int, *, extended: bytes = b"") -> bytes:
    fields = b"".join(b"%011o\0%011o\0" % segment for segment in segments).ljust(96, b"\0")
    extra = {386: fields, 482: b"\1" if extended else b"\0", 483: b"%011o\0" % real}
    return raw_header(b"s", size, b"S", magic=b"ustar  \0", extra=extra) + extended


def test_sparse_files_in_the_old_gnu_format() -> None:
    [(entry, data)] = read_all(old_sparse([(0, 4), (1000, 4)], 8, 2000) + SPARSE_DATA + END)
    assert (entry.type, entry.segments, entry.size_bytes, data) == (b"0", [(0, 4), (1000, 4)], 2000, b"AAAABBBB")


def test_sparse_files_with_more_segments_than_fit_into_the_header() -> None:
    more = b"".join(b"%011o\0%011o\0" % (5000 + at * 10, 1) for at in range(4)).ljust(504, b"\0")
    extended = [(at * 1000, 1) for at in range(4)]
    [(entry, data)] = read_all(old_sparse(extended, 8, 9000, extended=more + b"\0" + bytes(7)) + SPARSE_DATA + END)
    assert entry.segments == [*extended, (5000, 1), (5010, 1), (5020, 1), (5030, 1)]
    assert data == b"AAAABBBB"


@pytest.mark.parametrize(
    ("headers", "prefix"),
    [
        (
            [
                ("GNU.sparse.size", "2000"),
                ("GNU.sparse.numblocks", "2"),
                *[("GNU.sparse.offset", "0"), ("GNU.sparse.numbytes", "4")],
                *[("GNU.sparse.offset", "1000"), ("GNU.sparse.numbytes", "4")],
            ],
            b"",
        ),
        ([("GNU.sparse.size", "2000"), ("GNU.sparse.map", "0,4,1000,4"), ("GNU.sparse.name", "s")], b""),
        (
            [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "2000"), ("GNU.sparse.name", "s")],
            block(b"2\n0\n4\n1000\n4\n"),
        ),
    ],
    ids=["0.0", "0.1", "1.0"],
)
def test_sparse_files_in_the_pax_formats(headers: list[tuple[str, str]], prefix: bytes) -> None:
    data = pax(headers) + raw_header(b"s", len(prefix) + 8) + prefix + SPARSE_DATA + raw_header(b"next") + END
    [(entry, content), (following, _)] = read_all(data)
    assert (entry.name, entry.segments, entry.size_bytes, content) == (b"s", [(0, 4), (1000, 4)], 2000, b"AAAABBBB")
    assert following.name == b"next"


def test_a_sparse_map_may_go_over_several_blocks() -> None:
    numbers = [(at * 100, 1) for at in range(200)]
    text = block(b"200\n" + b"".join(b"%d\n%d\n" % pair for pair in numbers))
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "30000"}
    [(entry, content)] = read_all(pax(headers) + raw_header(b"s", len(text) + 200) + text + block(b"z" * 200) + END)
    assert entry.segments == numbers
    assert content == b"z" * 200


@pytest.mark.parametrize(
    "data",
    [
        old_sparse([(0, 4), (2, 4)], 8, 2000) + SPARSE_DATA,
        old_sparse([(0, 4), (1000, 4)], 8, 1003) + SPARSE_DATA,
        old_sparse([(0, 4), (1000, 5)], 8, 2000) + SPARSE_DATA,
        pax({"GNU.sparse.map": "0,4,1000", "GNU.sparse.size": "2000"}) + raw_header(b"s", 8) + SPARSE_DATA,
        pax({"GNU.sparse.map": "0,8"}) + raw_header(b"s", 8) + SPARSE_DATA,
        pax({"GNU.sparse.map": "0,x", "GNU.sparse.size": "9"}) + raw_header(b"s", 8) + SPARSE_DATA,
        pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}) + raw_header(b"s", 100) + bytes(512),
        pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "5"}) + raw_header(b"s", 512) + block(b"99999999\n"),
    ],
)
def test_sparse_maps_that_lie_are_refused(data: bytes) -> None:
    with pytest.raises(TarError):
        read_all(data + END)


def test_a_sparse_map_has_an_end() -> None:
    endless = bytes(504) + b"\1" + bytes(7)
    with pytest.raises(TarError, match="sparse map too long"):
        read_all(old_sparse([(0, 1)], 1, 10, extended=endless * 10_000))


def test_a_sparse_map_before_the_data_has_an_end_too() -> None:
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "5"}
    text = b"1000000\n" + bytes(6 << 20)
    with pytest.raises(TarError, match="sparse map too long"):
        read_all(pax(headers) + raw_header(b"s", len(text)) + text)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x" * 512, "invalid tar header"),
        (raw_header()[:511], "unexpected EOF"),
        (raw_header(b"f", 5000) + b"short", "unexpected EOF"),
        (raw_header(b"L", 10, b"L") + block(b"name"), "unexpected EOF"),
        (raw_header(b"L", 1 << 21, b"L"), "header field too long"),
        (raw_header(flag=b"V"), "unhandled tar header type 86"),
        (raw_header(extra={124: b"notoctal"}), "invalid tar header"),
        (raw_header(extra={124: b"\xff" * 12}), "negative number"),
        (raw_header(flag=b"x", extra={124: (-512).to_bytes(12, "big", signed=True)}) + END, "negative number"),
        (pax({"size": "-1"}) + raw_header(), "number"),
        (pax({"uid": "1.5"}) + raw_header(), "number"),
        (pax({"uid": str(2**32 - 1)}) + raw_header(), "owner"),
        (pax({"gid": str(2**40)}) + raw_header(), "owner"),
        (pax({"mtime": "1e9"}) + raw_header(), "time"),
        (pax({"mtime": "1.x"}) + raw_header(), "time"),
        (pax({"path": "a\0b"}) + raw_header(), "name"),
        (pax({"path": "n" * 70_000}) + raw_header(), "name"),
        (raw_header(b"p", 9, b"x") + block(b"nospaces!") + raw_header(), "PAX record"),
        (raw_header(b"p", 6, b"x") + block(b"99 a=b") + raw_header(), "PAX record"),
        (raw_header(b"p", 7, b"x") + block(b"7 abcd\n") + raw_header(), "PAX record"),
        (raw_header(b"p", 6, b"x") + block(b"6 a=bc") + raw_header(), "PAX record"),
        (raw_header(b"p", 6, b"x") + block(b"6 =bc\n") + raw_header(), "PAX record"),
        (raw_header(b"p", 6, b"x") + block(b"0 a=b\n") + raw_header(), "PAX record"),
    ],
)
def test_malformed_archives_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(TarError, match=message):
        read_all(data + (b"" if "EOF" in message else END))


_valid = archive(
    member("a", b"1" * 600),
    member("n" * 200, b"2", pax_headers={"SCHILY.xattr.user.a": "b"}),
    member("l", type=tarfile.SYMTYPE, linkname="a"),
)


@given(st.integers(0, len(_valid) - 1), st.binary(min_size=1, max_size=12))
def test_any_damage_gives_entries_or_our_error(position: int, damage: bytes) -> None:
    data = _valid[:position] + damage + _valid[position + len(damage) :]
    try:
        read_all(data)
    except TarError:
        return


@given(st.integers(0, len(_valid)))
def test_an_archive_cut_anywhere_gives_entries_or_our_error(length: int) -> None:
    try:
        read_all(_valid[:length], 100)
    except TarError:
        return


_names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300).filter(
    lambda name: name.strip("/") != ""
)


@given(
    st.lists(st.tuples(_names, st.binary(max_size=1500), st.integers(0, 2**32 - 2), st.floats(0, 2**35)), max_size=4),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_whatever_tarfile_can_write_comes_back(files: list[tuple[str, bytes, int, float]], style: int) -> None:
    data = archive(*(member(name, content, uid=uid, mtime=int(mtime)) for name, content, uid, mtime in files), style=style)
    read = [(entry.name.decode(), content, entry.uid, entry.mtime_ns) for entry, content in read_all(data)]
    assert read == [(name, content, uid, int(mtime) * 10**9) for name, content, uid, mtime in files]
