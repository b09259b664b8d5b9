"""Layers with every kind of entry that an archive may have, in groups that one image each is made of, the lowest layer first.

Beside each group stands where Teul and dockerd differ on purpose, and why; `docs/compat.md` has the same in general words.
"""

from __future__ import annotations

import io
import os
import random
import re
import struct
import tarfile
from dataclasses import dataclass, field
from typing import Any

from kernel.workers.archive_cases import archive, device, directory, hard_link, member, symlink

Member = tuple[tarfile.TarInfo, bytes]


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact of paths that match, in the layers or only in what all of them together show, which Teul has otherwise."""

    path: str
    fact: str
    reason: str

    def explains(self, path: bytes, fact: str) -> bool:
        return bool(re.fullmatch(self.path, os.fsdecode(path))) and bool(re.fullmatch(self.fact, fact))


@dataclass(frozen=True, slots=True)
class Case:
    """An image. `docker_refuses` and `teul_refuses` are part of the error where only one of the two takes it."""

    layers: list[bytes]
    differences: tuple[Difference, ...] = ()
    docker_refuses: str = ""
    teul_refuses: str = ""
    reason: str = field(default="", kw_only=True)


# Of every layer, but of no container: there the topmost directory is the container's own.
OF_ALL = (Difference(r"\.", "mode|owner|mtime|attributes", "the top directory's entry is kept, though no container shows it"),)

_BEFORE_1970 = "times before 1970 are kept; dockerd has 1970 in their place, but for symlinks"
_INHERITED = "files do not inherit what a directory's default ACL says, for the archive says what they have"
_CAPABILITIES_OF_LINKS = "a link's entry does not take the file's capabilities away"
_OPAQUE = "spec: a directory that stands where a whiteout was hides the lower one, in whichever order they come"
_AUFS = "records of aufs are no files"
_TRUSTED = "attributes by which an image could change what overlayfs shows"
_LABELS = "what only the host's security policy may set is passed over"


def _gnu(*members: Member) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _xattrs(**values: bytes) -> dict[str, str]:
    """PAX records; a name's dots are written as double underscores."""
    return {f"SCHILY.xattr.{name.replace('__', '.')}": value.decode(errors="surrogateescape") for name, value in values.items()}


def _acl(*entries: tuple[int, int, int]) -> bytes:
    """linux/posix_acl_xattr.h: tag, permissions, id."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def acl_of(user: int, group: int, other: int, *, mask: int) -> bytes:
    return _acl((1, user, -1), (2, 7, 1000), (4, group, -1), (16, mask, -1), (32, other, -1))


MINIMAL_ACL = _acl((1, 6, -1), (4, 4, -1), (32, 0, -1))
CAPABILITY_2 = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
CAPABILITY_3 = struct.pack("<IIIIII", 0x03000001, 1 << 13, 0, 0, 0, 1000)


def _raw(name: str, data: bytes, *, kind: bytes, pax: list[tuple[str, str]] = (), **fields: Any) -> bytes:  # type: ignore[assignment]
    """One entry, with PAX records that may come twice."""
    records = b""
    for key, value in pax:
        body = f" {key}={value}\n".encode()
        length = len(body) + 2
        while len(str(length)) + len(body) != length:
            length = len(str(length)) + len(body)
        records += str(length).encode() + body
    encoded = b""
    if records:
        header = tarfile.TarInfo("PaxHeaders/x")
        header.type, header.size = tarfile.XHDTYPE, len(records)
        encoded += header.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)
    info = member(name, data, type=kind, **fields)[0]
    return encoded + info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


def _old_gnu_sparse() -> bytes:
    info = member("old", b"x" * 512)[0]
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[386:410] = b"%011o\0%011o\0" % (1024, 512)
    header[483:495] = b"%011o\0" % 4096
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"x" * 512 + bytes(1024)


_END = bytes(1024)
_dice = random.Random(1)
_SIZES = (0, 1, 511, 512, 513, 4095, 4096, 4097, 70_000)
_OWNERS = (0, 1, 65_534, 65_536, 2**21, 2**31 - 1, 2**31, 2**32 - 2)
_TIMES = ("0", "1", "1600000000.123456789", "1.000000001", "2147483648.5", "5000000000", "9000000000.25")
_EARLY = ("-1", "-1.5", "-0.25", "-2000000000.75")


def _timed(*times: str) -> bytes:
    members: list[Member] = []
    for number, time in enumerate(times):
        for info, data in (
            member(f"{number}-file", b"x"),
            directory(f"{number}-directory"),
            symlink(f"{number}-link", "x"),
            member(f"{number}-fifo", type=tarfile.FIFOTYPE),
        ):
            info.pax_headers = {"mtime": time}
            members.append((info, data))
    return archive(*members)


def _modes() -> list[Member]:
    members: list[Member] = []
    for mode in (0, 0o1, 0o644, 0o4755, 0o2755, 0o1644, 0o6711, 0o7777):
        for uid in (0, 5):
            name = f"{mode:04o}-{uid}"
            members += [member(f"file-{name}", b"x", mode=mode, uid=uid), directory(f"directory-{name}", mode=mode, gid=uid)]
            members += [member(f"directory-{name}/inside", b"y"), directory(f"directory-{name}/directory")]
            members += [member(f"fifo-{name}", type=tarfile.FIFOTYPE, mode=mode, gid=uid)]
            members += [device(f"null-{name}", tarfile.CHRTYPE, 1, 3, mode=mode, uid=uid)]
    return members


def _lower(*names: str) -> bytes:
    """A layer of files and directories to be hidden; a name that ends in a slash is a directory with files in it."""
    members: list[Member] = []
    for name in names:
        if name.endswith("/"):
            members += [directory(name, mode=0o750, uid=3), member(f"{name}one", b"lower one"), member(f"{name}two", b"lower two")]
            members += [directory(f"{name}sub"), member(f"{name}sub/three", b"lower three")]
        else:
            members.append(member(name, f"lower {name}".encode()))
    return archive(*members)


_SPARSE_1_0 = b"2\n0\n512\n4096\n1000\n"
_DATA = _dice.randbytes(1512)

CASES: dict[str, Case] = {
    "files": Case([archive(*(member(f"size-{size}", _dice.randbytes(size)) for size in _SIZES))]),
    "modes": Case([archive(*_modes()), archive(directory("directory-0000-0", mode=0o2711), member("directory-0000-0/upper"))]),
    "owners": Case(
        [
            archive(
                *(member(f"file-{owner}", uid=owner, mode=0o6755) for owner in _OWNERS),
                *(directory(f"directory-{owner}", gid=owner) for owner in _OWNERS),
                *(member(f"fifo-{owner}", type=tarfile.FIFOTYPE, uid=owner, gid=1) for owner in _OWNERS),
                member("link", type=tarfile.SYMTYPE, linkname="nowhere", uid=2**31, gid=2**32 - 2),
            )
        ]
    ),
    "times": Case([_timed(*_TIMES)]),
    "times before 1970": Case([_timed(*_EARLY)], (Difference(r"\d-(file|directory|fifo)", "mtime", _BEFORE_1970),)),
    "names": Case(
        [
            archive(
                member("n" * 255, b"1"),
                directory("d" * 255),
                member("d" * 255 + "/" + "m" * 255, b"2"),
                member("/".join(["deep" * 50] * 19), b"3"),
                member("/".join(["x" * 24] * 150), b"4"),
                member("not\udcff\udc80utf8", b"5"),
                directory("\udcfe"),
                member("\udcfe/\udcff", b"6"),
                member("with\nnewline \t\x01and\x7f", b"7"),
                member("back\\slash", b"8"),
                member("..data", b"9"),
                member("...", b"10"),
                member(".hidden", b"11"),
                member(" leading and trailing ", b"12"),
                member("é", b"13"),
                member("e\u0301", b"14"),
                member("colon:comma,", b"15"),
                member("wh.none", b"16"),
                member("a.wh.none", b"17"),
                symlink("to bytes", "\udcff\udcfe"),
            ),
            _gnu(member("g" * 255, b"x"), member("gnu/" + "g" * 200 + "/" + "h" * 200, b"y"), symlink("gnu/l", "t" * 3000)),
        ],
        (Difference(r"((deep){50}|x{24}|gnu)(/((deep){50}|x{24}|g{200}))*", "mtime", "nobody has given these directories a time"),),
    ),
    "a name too long": Case([archive(member("n" * 256))], docker_refuses="file name too long", teul_refuses="file name too long"),
    "a path that is too long for dockerd": Case(
        [archive(member("/".join(["d" * 200] * 20)))],
        docker_refuses="file name too long",
        reason="a path is counted from the layer's own top, not from the host's",
    ),
    "a path too long": Case(
        [archive(member("/".join(["d" * 200] * 21)))], docker_refuses="file name too long", teul_refuses="file name too long"
    ),
    "hard links": Case(
        [
            archive(
                directory("a"),
                directory("b"),
                member("a/f", b"content", mode=0o4755, uid=1),
                member("b/f", type=tarfile.LNKTYPE, linkname="a/f", mode=0o4755, uid=1),
                member("top", type=tarfile.LNKTYPE, linkname="./b/f", mode=0o4755, uid=1),
                member("absolute", type=tarfile.LNKTYPE, linkname="/a/f", mode=0o4755, uid=1),
                symlink("a/l", "../somewhere"),
                hard_link("b/l", "a/l"),
                member("fifo", type=tarfile.FIFOTYPE, mode=0o644),
                hard_link("fifo2", "fifo"),
                device("null", tarfile.CHRTYPE, 1, 3, mode=0o644),
                hard_link("null2", "null"),
            )
        ]
    ),
    "what a link's entry says of the file": Case(
        [
            archive(
                member("f", b"1", mode=0o600, uid=1, gid=2),
                member("g", type=tarfile.LNKTYPE, linkname="f", mode=0o4711, uid=3, gid=4, mtime=1_500_000_000),
                member("x", b"2", pax_headers=_xattrs(user__a=b"1", user__b=b"2")),
                member("y", type=tarfile.LNKTYPE, linkname="x", pax_headers=_xattrs(user__b=b"3", user__c=b"4")),
                member("l", type=tarfile.SYMTYPE, linkname="nowhere", uid=1),
                member("m", type=tarfile.LNKTYPE, linkname="l", uid=7, gid=8),
            )
        ]
    ),
    "a link to a file with capabilities": Case(
        [
            archive(
                member("lost", b"1", pax_headers=_xattrs(security__capability=CAPABILITY_2)),
                hard_link("lost2", "lost"),
                member("kept", b"1", pax_headers=_xattrs(security__capability=CAPABILITY_2)),
                member("kept2", type=tarfile.LNKTYPE, linkname="kept", pax_headers=_xattrs(security__capability=CAPABILITY_2)),
            )
        ],
        (Difference("lost2?", "attributes", _CAPABILITIES_OF_LINKS),),
    ),
    "symlinks": Case(
        [
            archive(
                directory("d"),
                symlink("relative", "d"),
                symlink("d/up", "../relative"),
                symlink("absolute", "/etc/passwd"),
                symlink("dangling", "nowhere"),
                symlink("out", "../../../../etc/passwd"),
                symlink("self", "self"),
                symlink("slash", "d/"),
                symlink("dots", "./d/.././d"),
                symlink("long", "t" * 4095),
                symlink("medium", "/".join(["t" * 200] * 10)),
                *(symlink(f"length-{length}", "u" * length) for length in (1, 59, 60, 99, 100, 101, 400, 440, 448, 449, 500, 512)),
            )
        ]
    ),
    "a symlink too long": Case([archive(symlink("l", "t" * 4096))], docker_refuses="file name too long", teul_refuses="file name too long"),
    "nodes": Case(
        [
            archive(
                member("fifo", type=tarfile.FIFOTYPE, mode=0o622, uid=3),
                device("null", tarfile.CHRTYPE, 1, 3, mode=0o666, gid=4),
                device("loop", tarfile.BLKTYPE, 7, 300, mode=0o4660),
                device("large", tarfile.CHRTYPE, 4095, 1_048_575),
                device("block zero", tarfile.BLKTYPE, 0, 0),
                device("minor", tarfile.CHRTYPE, 0, 256),
            )
        ]
    ),
    "a character device 0:0": Case(
        [archive(device("c", tarfile.CHRTYPE, 0, 0))],
        teul_refuses="character device 0:0",
        reason="it is how overlayfs writes a whiteout; in an archive a whiteout is a name that begins with .wh.",
    ),
    "attributes": Case(
        [
            archive(
                member("f", b"x", pax_headers=_xattrs(user__note=b"text", user__bytes=b"\0\xff\n=")),
                directory("d", pax_headers=_xattrs(user__note=b"of a directory")),
                member("nowhere", b"x", pax_headers=_xattrs(nonsense__x=b"1")),
                member("p", type=tarfile.FIFOTYPE, pax_headers=_xattrs(user__note=b"x")),
                member("l", type=tarfile.SYMTYPE, linkname="f", pax_headers=_xattrs(user__note=b"x")),
                member("many", b"x", pax_headers={f"SCHILY.xattr.user.number-{n}": "v" * n for n in range(1, 60)}),
                member("c2", b"x", uid=1, mode=0o4755, pax_headers=_xattrs(security__capability=CAPABILITY_2)),
                member("c3", b"x", pax_headers=_xattrs(security__capability=CAPABILITY_3)),
                member("c0", b"x", pax_headers=_xattrs(security__capability=b"")),
                *(member(f"shared-{n}", b"x", pax_headers=_xattrs(user__same=b"same")) for n in range(20)),
            )
        ]
    ),
    "empty attributes": Case(
        [archive(member("f", b"x", pax_headers=_xattrs(user__empty=b"", user__full=b"x")))],
        (Difference("f", "attributes", "an attribute may be empty; Go's tar reader takes it for none"),),
    ),
    "attributes of the host's": Case(
        [
            archive(
                member("t", b"x", pax_headers=_xattrs(trusted__any=b"1", user__overlay__opaque=b"y")),
                member("s", b"x", pax_headers=_xattrs(security__selinux=b"label", security__ima=b"\3")),
                member("sl", type=tarfile.SYMTYPE, linkname="s", pax_headers=_xattrs(security__selinux=b"label")),
            )
        ],
        (Difference("t", "attributes", _TRUSTED), Difference("sl?", "attributes", _LABELS)),
    ),
    "capabilities that are none": Case(
        [archive(member("c", b"x", pax_headers=_xattrs(security__capability=b"\1\0\0\1" + bytes(8))))],
        docker_refuses="invalid argument",
        teul_refuses="invalid attribute",
    ),
    "access control lists": Case(
        [
            archive(
                member("f", b"x", mode=0o670, pax_headers=_xattrs(system__posix_acl_access=acl_of(6, 4, 0, mask=7))),
                member("more", b"x", mode=0o777, pax_headers=_xattrs(system__posix_acl_access=acl_of(6, 4, 0, mask=4))),
                member("less", b"x", mode=0o4000, uid=7, pax_headers=_xattrs(system__posix_acl_access=acl_of(7, 7, 7, mask=7))),
                member("minimal", b"x", mode=0o640, pax_headers=_xattrs(system__posix_acl_access=MINIMAL_ACL)),
                member("minimal-less", b"x", mode=0o400, pax_headers=_xattrs(system__posix_acl_access=MINIMAL_ACL)),
                member("p", type=tarfile.FIFOTYPE, mode=0o644, pax_headers=_xattrs(system__posix_acl_access=acl_of(6, 4, 4, mask=6))),
                member("l", type=tarfile.SYMTYPE, linkname="f", pax_headers=_xattrs(system__posix_acl_access=acl_of(6, 4, 4, mask=6))),
                directory("d", mode=0o2775, gid=5, pax_headers=_xattrs(system__posix_acl_access=acl_of(7, 5, 5, mask=7))),
                directory("e", pax_headers=_xattrs(system__posix_acl_default=acl_of(7, 5, 5, mask=7))),
                directory("m", pax_headers=_xattrs(system__posix_acl_default=MINIMAL_ACL)),
            )
        ]
    ),
    "children of a directory with a default access control list": Case(
        [
            archive(
                directory("e", pax_headers=_xattrs(system__posix_acl_default=acl_of(6, 4, 0, mask=4))),
                member("e/f", b"x", mode=0o777),
                directory("e/d", mode=0o777),
                member("e/d/missing/f", b"x", mode=0o666),
                member("e/p", type=tarfile.FIFOTYPE, mode=0o666),
                symlink("e/l", "f"),
            )
        ],
        (
            Difference("e/(f|p|d|d/missing|d/missing/f)", "attributes", _INHERITED),
            Difference("e/d/missing", "mtime", "nobody has given this directory a time"),
        ),
    ),
    "an access control list that is none": Case(
        [archive(member("f", b"x", pax_headers=_xattrs(system__posix_acl_access=_acl((1, 6, -1)))))],
        docker_refuses="invalid argument",
        teul_refuses="invalid attribute",
    ),
    "a default access control list of a file": Case(
        [archive(member("f", b"x", pax_headers=_xattrs(system__posix_acl_default=MINIMAL_ACL)))],
        docker_refuses="permission denied",
        reason="the attribute is passed over, like every other that a file of its kind cannot have",
    ),
    "sparse files": Case(
        [
            b"".join(
                (
                    _raw(
                        "GNUSparseFile.0/s00",
                        _DATA,
                        kind=b"0",
                        pax=[
                            ("GNU.sparse.size", "10000"),
                            ("GNU.sparse.numblocks", "2"),
                            ("GNU.sparse.offset", "0"),
                            ("GNU.sparse.numbytes", "512"),
                            ("GNU.sparse.offset", "4096"),
                            ("GNU.sparse.numbytes", "1000"),
                            ("GNU.sparse.name", "s00"),
                        ],
                    ),
                    _raw(
                        "GNUSparseFile.0/s01",
                        _DATA,
                        kind=b"0",
                        pax=[
                            ("GNU.sparse.size", "10000"),
                            ("GNU.sparse.numblocks", "2"),
                            ("GNU.sparse.map", "1000,512,4096,1000"),
                            ("GNU.sparse.name", "s01"),
                        ],
                    ),
                    _raw(
                        "GNUSparseFile.0/s10",
                        _SPARSE_1_0 + bytes(512 - len(_SPARSE_1_0)) + _DATA,
                        kind=b"0",
                        pax=[
                            ("GNU.sparse.major", "1"),
                            ("GNU.sparse.minor", "0"),
                            ("GNU.sparse.name", "s10"),
                            ("GNU.sparse.realsize", "5096"),
                        ],
                    ),
                    archive(member("after", b"next")),
                )
            )
        ]
    ),
    "a sparse file of GNU's first format": Case(
        [_old_gnu_sparse()], docker_refuses="unhandled tar header type 83", reason="what other tools write and read is taken"
    ),
    "duplicates": Case(
        [
            archive(
                *(member("f-f", b"first"), member("f-f", b"second!", mode=0o600)),
                *(directory("d-f"), member("d-f/x/y", b"1"), member("d-f", b"file")),
                *(member("f-d", b"1"), directory("f-d", mode=0o700), member("f-d/in", b"2")),
                *(symlink("l-d", "f-f"), directory("l-d"), member("l-d/in", b"3")),
                *(directory("d-l"), member("d-l/x"), symlink("d-l", "f-f")),
                *(symlink("l-f", "f-f"), member("l-f", b"4")),
                *(symlink("l-l", "f-f"), symlink("l-l", "other")),
                *(member("p-f", type=tarfile.FIFOTYPE), member("p-f", b"5")),
                *(device("c-f", tarfile.CHRTYPE, 1, 3), member("c-f", b"6")),
                *(member("f-c", b"7"), device("f-c", tarfile.CHRTYPE, 1, 3)),
                *(directory("d-d", mode=0o700, uid=1), member("d-d/in", b"8"), directory("d-d", mode=0o2755, gid=2, mtime=5)),
                *(member("f-h", b"9"), hard_link("f-h", "f-f")),
                *(directory("d-h"), member("d-h/in"), hard_link("d-h", "l-f")),
                *(directory("d-d-f"), directory("d-d-f/a"), member("d-d-f"), directory("d-d-f", mtime=7), member("d-d-f/b")),
            )
        ],
        docker_refuses="duplicates of file paths not supported",
        reason="POSIX: the later of two entries wins",
    ),
    "a link to itself": Case(
        [archive(member("t", b"1"), hard_link("t", "t"))],
        docker_refuses="no such file or directory",
        reason="what it says is so already",
    ),
    "prefixes and parents": Case(
        [
            archive(
                directory("./", mode=0o711, uid=7),
                member("./dotted", b"1"),
                member("/slashed", b"2"),
                member("//twice//slashed", b"3"),
                member("no/parents/here", b"4", uid=3),
                member("late/child", b"5"),
                directory("late", mode=0o2750, uid=4, mtime=1_000_000),
                directory("/late/d/"),
                member("./a/./b", b"6"),
                directory("order", mtime=9),
                member("order/z"),
                directory("order/y/"),
                member("order/y/x"),
            ),
            archive(member("no/parents/there", b"7"), directory("/", mode=0o700)),
        ],
        (Difference("no|no/parents|a|twice", "mtime", "nobody has given these directories a time"),),
    ),
    "names that lead up": Case(
        [archive(member("a/../b"))],
        teul_refuses="is outside of the layer",
        reason="no honest archive has names with ..",
    ),
    "a way through a symlink": Case(
        [
            archive(
                *(directory("usr"), directory("usr/bin"), symlink("bin", "usr/bin"), member("bin/sh", b"x")),
                *(hard_link("h", "bin/sh"), directory("bin/d", mode=0o700), member("bin/d/f", b"y"), hard_link("bin/h2", "usr/bin/sh")),
                # Entries of one name by two ways; where the names are the same, dockerd refuses the archive.
                *(member("usr/bin/f-f", b"1"), member("bin/f-f", b"2", mode=0o600), directory("bin/d-f"), member("usr/bin/d-f", b"3")),
                *(member("bin/f-d"), directory("usr/bin/f-d", mode=0o700), symlink("bin/l-f", "sh"), member("usr/bin/l-f", b"4")),
                *(directory("bin/d-d", mode=0o2711), member("bin/d-d/in"), directory("usr/bin/d-d", mode=0o700, uid=1, mtime=5)),
                *(member("bin/f-l", b"5"), hard_link("linked", "bin/f-l"), symlink("usr/bin/f-l", "sh"), member("bin/h-f", b"6")),
                *(hard_link("usr/bin/h-f", "linked"), member("bin/p-f", type=tarfile.FIFOTYPE), member("usr/bin/p-f", b"7")),
                *(directory("bin/x-x", pax_headers=_xattrs(user__a=b"1")), directory("usr/bin/x-x", pax_headers=_xattrs(user__b=b"2"))),
                *(directory("bin/a-a", pax_headers=_xattrs(system__posix_acl_access=acl_of(6, 4, 0, mask=7))), directory("usr/bin/a-a")),
            ),
            archive(directory("usr"), symlink("lib", "usr"), member("lib/.wh.bin"), directory("usr/new")),
        ]
    ),
    "a way through an absolute symlink": Case(
        [archive(directory("usr"), symlink("bin", "/usr"), member("bin/sh", b"x"))],
        teul_refuses="is a symlink out of the layer",
        reason="only a layer's own relative symlinks are followed",
    ),
    "whiteouts": Case(
        [
            _lower("f", "g", "d/", "e/", "k/", "r/", "s", "t/", "u/"),
            archive(member(".wh.f"), member(".wh.d"), member("e/.wh.one"), member("e/.wh.sub"), member(".wh.nothing")),
            archive(
                *(member("k/.wh.one"), member("k/.wh.two"), member("k/.wh.sub"), member("k/new", b"1"), directory("k", mode=0o711)),
                *(member(".wh.g"), member("g", b"again"), member("f", b"again")),
                *(member(".wh.s"), directory("s", mode=0o700), member("s/in", b"2")),
                *(member("unknown/.wh.inside"), directory("d"), member("d/two", b"again")),
                *(member("r", b"a file"), symlink("t", "elsewhere"), member("u/sub", b"a file")),
            ),
        ],
        (Difference("unknown|e|u", "mtime", "nobody has given these directories a time"), Difference("s", "opaque", _OPAQUE)),
    ),
    "a directory where a whiteout was": Case(
        [_lower("a/"), archive(member(".wh.a"), directory("a", mode=0o700), member("a/x"))],
        (Difference("a", "opaque", _OPAQUE), Difference("a/(one|two|sub|sub/three)", "there", _OPAQUE)),
    ),
    "a whiteout of what the layer has": Case(
        [_lower("f", "b/"), archive(member("f", b"1"), member(".wh.f"), directory("b"), member(".wh.b"))],
        docker_refuses="file exists",
        reason="spec: a whiteout hides what lower layers have, in whichever order they come",
    ),
    "opaque directories": Case(
        [
            _lower("before/", "after/", "alone/", "two/", "nested/"),
            archive(
                *(directory("before"), member("before/.wh..wh..opq"), member("before/new", b"1")),
                *(directory("after"), member("after/new", b"1"), directory("after/sub"), member("after/.wh..wh..opq")),
                member("alone/.wh..wh..opq"),
                *(member("two/.wh..wh..opq"), directory("two", mode=0o755, uid=9)),
                *(member("nested/sub/.wh..wh..opq"), member("nested/sub/new"), member("fresh/.wh..wh..opq")),
            ),
            archive(member("before/newer", b"2"), directory("after/sub", mode=0o700)),
        ],
        (Difference("alone|nested|nested/sub|fresh|before|after", "mtime", "nobody has given these directories a time"),),
    ),
    "aufs's records": Case(
        [
            archive(
                *(directory(".wh..wh.plnk"), member(".wh..wh.plnk/1.2", b"x"), member(".wh..wh.aufs"), member("f", b"x")),
                *(directory("d"), directory("d/.wh..wh.orph"), member("d/g")),
            )
        ],
        (Difference(r"(d/)?\.wh\..*", "there", _AUFS),),
    ),
    "global headers": Case(
        [
            _raw("pax_global_header", b"52 comment=0123456789012345678901234567890123456789\n", kind=b"g")
            + _raw("f", b"x", kind=b"0")
            + _raw("g/pax_global_header", b"14 path=other\n", kind=b"g")
            + archive(member("h", b"y"))
        ]
    ),
    "archives before POSIX": Case(
        [_raw("f", b"x", kind=b"\0") + _raw("d/", b"", kind=b"\0", mode=0o750) + _raw("d/f", b"y", kind=b"\0") + _END]
    ),
    "contiguous files": Case(
        [_raw("f", b"x", kind=b"7") + _END],
        docker_refuses="unhandled tar header type 55",
        reason="POSIX: to be read as regular files",
    ),
    "many entries": Case(
        [
            archive(directory("many"), *(member(f"many/{number}", str(number).encode()) for number in range(2000))),
            archive(*(member(f"many/.wh.{number}") for number in range(0, 2000, 2)), directory("many", mode=0o711)),
        ]
    ),
}
