"""Made-up archives: the index of one shows what unpacking it makes, and damaged ones are refused or taken, with nothing written elsewhere.

The same archives in the same order in each run, as many as there is time for: TEUL_FUZZ_SECONDS=600 asks more of them.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import shutil
import struct
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kernel.workers.archive_cases import archive, member
from support.needs import needs
from support.trees import differences, tree
from teul.aio import SlowWork
from teul.linux import mounts
from teul.oci.digest import Digest
from teul.snapshots import erofs
from teul.store.layer_files import INDEX_FILE
from teul.workers.client import InvalidArchive
from teul.workers.layers import Limits, index_blob, unpack

pytestmark = needs("root", "overlayfs")

Member = tuple[tarfile.TarInfo, bytes]

_SECONDS = int(os.environ.get("TEUL_FUZZ_SECONDS", "3"))
_LIMITS = Limits(layer_bytes=1 << 26)
_SETTINGS = settings(
    max_examples=20 * _SECONDS,  # more than are judged in that time on a machine that has nothing else to do
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

# --- archives ------------------------------------------------------------------------------------------------------------

_BASES = ["a", "b", "c", "d", "e", "f", "f" * 255, "\udcff", ".x", "..y", "wh.a"]
_bases = st.sampled_from(_BASES[:6]) | st.sampled_from(_BASES)
_WHITEOUTS = [*(f".wh.{base}" for base in _BASES[:6]), ".wh..wh..opq", ".wh..wh.plnk", ".wh..x"]
_ODD = ["..", ".", "", ".wh.", ".wh..", ".wh...", "g" * 256, ".wh." + "g" * 252]
_above = st.lists(_bases, max_size=3).map(lambda parts: "".join(f"{part}/" for part in parts))
_prefixes = st.sampled_from(["", "", "", "./", "/", ".//"])
_lasts = st.one_of(_bases, _bases, _bases, st.sampled_from(_WHITEOUTS), st.integers(0, 40).map(lambda n: _ODD[n] if n < len(_ODD) else "a"))
_names = st.builds("{}{}{}".format, _prefixes, _above, _lasts)
_targets = st.one_of(
    st.builds("{}{}{}".format, st.sampled_from(["", "../", "./", "../../"]), _above, st.one_of(_bases, st.sampled_from(["", "..", "."]))),
    st.sampled_from(["/a", "/", "..", "../outside", "/outside/canary", "t" * 450, "t" * 4095, "t" * 4096, ""]),
)
_modes = st.sampled_from([0o644, 0o755, 0, 0o4755, 0o2711, 0o1777, 0o7777])
_owners = st.sampled_from([0, 0, 0, 1, 70_000, 2**31 + 1, 2**32 - 2])
_times = st.sampled_from(["0", "1600000000", "1600000000.123456789", "-1.5", "9000000000", "99999999999", "-99999999999"])


def _acl(*entries: tuple[int, int, int]) -> str:
    return (struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)).decode(errors="surrogateescape")


_XATTRS = [
    ("user.a", "1"),
    ("user.b", "v" * 300),
    ("user.c", "v" * 1000),
    ("user.", "x"),
    ("security.selinux", "label"),
    ("security.capability", "\1\0\0\2" + "\0" * 16),
    ("security.capability", "\1\0\0\2"),
    ("security.capability", "\1\0\0\3" + "\0" * 16 + "\1\0\0\0"),
    ("trusted.overlay.opaque", "y"),
    ("nonsense", "x"),
    ("system.posix_acl_access", _acl((1, 6, -1), (2, 7, 1000), (4, 4, 7), (16, 7, -1), (32, 0, -1))),
    ("system.posix_acl_access", _acl((1, 6, -1), (4, 4, -1), (32, 0, -1))),
    ("system.posix_acl_access", _acl((1, 6, -1), (4, 4, -1), (16, 3, -1), (32, 0, -1))),
    ("system.posix_acl_access", _acl((1, 6, -1), (32, 0, -1))),
    ("system.posix_acl_default", _acl((1, 6, -1), (2, 7, 1000), (4, 4, -1), (16, 7, -1), (32, 0, -1))),
    ("system.posix_acl_default", _acl((1, 6, -1), (4, 4, -1), (32, 0, -1))),
]
# Values that are refused are rare, or nothing else would be tried.
_GOOD_XATTRS = [xattr for number, xattr in enumerate(_XATTRS) if number not in (3, 6, 13)]
_xattrs: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.just({}),
    st.just({}),
    st.lists(st.sampled_from(_GOOD_XATTRS), max_size=3).map(dict),
    st.integers(0, 20).flatmap(lambda n: st.lists(st.sampled_from(_XATTRS if not n else _GOOD_XATTRS), max_size=1)).map(dict),
)


@st.composite
def _members(draw: st.DrawFn) -> Member:
    name = draw(_names)
    kind = draw(st.sampled_from([b"0", b"0", b"0", b"5", b"5", b"5", b"1", b"1", b"2", b"2", b"3", b"4", b"6", b"sparse"]))
    fields: dict[str, Any] = {"mode": draw(_modes), "uid": draw(_owners), "gid": draw(_owners)}
    headers = {"mtime": draw(_times)} | {f"SCHILY.xattr.{key}": value for key, value in draw(_xattrs).items()}
    data = b""
    if kind == b"0":
        data = random.Random(draw(st.integers(0, 9))).randbytes(draw(st.sampled_from([0, 1, 511, 512, 513, 4096, 5000])))
    elif kind == b"sparse":
        kind = b"0"
        steps = draw(st.lists(st.tuples(st.sampled_from([0, 1, 512, 4096, 5000]), st.sampled_from([0, 1, 511, 512, 1024])), max_size=4))
        at, numbers = 0, []
        for gap, length in steps:
            at += gap
            numbers += [at, length]
            at += length
        data = random.Random(at).randbytes(sum(numbers[1::2]))
        size = at + draw(st.sampled_from([0, 1, 512, 10_000]))
        headers |= {"GNU.sparse.map": ",".join(map(str, numbers or [0, 0])), "GNU.sparse.size": str(size), "GNU.sparse.name": name}
    elif kind == b"1":
        fields["linkname"] = draw(_names)
    elif kind == b"2":
        fields["linkname"] = draw(_targets)
    elif kind in b"34":
        fields |= {"devmajor": draw(st.sampled_from([1, 1, 7, 4095, 0])), "devminor": draw(st.sampled_from([3, 300, 1, 256]))}
    return member(name, data, type=kind, pax_headers=headers, **fields)


class Made:
    """An archive; what is printed of it are its entries."""

    def __init__(self, members: list[Member], damages: str = "") -> None:
        self.members = members
        self.data = _on_ground(archive(*members))
        self.damages = damages

    def __repr__(self) -> str:
        entries = (f"{info.name[:40]!r} {info.type!r} {info.linkname[:40]!r} {info.get_info()}"[:600] for info, _ in self.members)
        return "\n".join(("", *entries, self.damages))


_archives = st.lists(_members(), min_size=1, max_size=25).map(Made)

# Directories, so that much is found where later members look for it, and symlinks that lead to some of them.
_GROUND = archive(
    *(member(name, type=tarfile.DIRTYPE, mode=0o755) for name in ("a", "a/a", "a/b", "b", "b/a", "c")),
    *(member(name, type=tarfile.SYMTYPE, linkname=target) for name, target in (("d", "a"), ("a/d", "../b"), ("e", "a/a"))),
    *(member(name, b"x") for name in ("f", "a/f", "b/f")),
)[:-10240].rstrip(b"\0")


def _on_ground(data: bytes) -> bytes:
    return _GROUND + bytes(-len(_GROUND) % 512) + data


# --- both ways -----------------------------------------------------------------------------------------------------------


class Bench:
    """Where archives are unpacked and indexed, again and again, with something beside it that nobody may touch."""

    def __init__(self, place: Path, runner: asyncio.Runner) -> None:
        self._place = place
        self._runner = runner
        self._slow = SlowWork()
        self._canary = place / "outside" / "canary"
        self._canary.parent.mkdir()
        self._canary.write_bytes(b"x")
        self.began_ns = time.time_ns()

    def both(self, data: bytes, stack: ExitStack) -> tuple[str, str] | str:
        """The unpacked directory and the top of the mounted index; or what is said of an archive that both refuse."""
        work = Path(tempfile.mkdtemp(dir=self._place))
        stack.callback(shutil.rmtree, work)
        (work / "fs").mkdir(0o755)
        (work / "index").mkdir()
        (work / "blob").write_bytes(data)
        left, right = self._runner.run(self._run(work, Digest.of(data)))
        assert self._canary.read_bytes() == b"x"
        assert [entry.name for entry in os.scandir(self._canary.parent)] == ["canary"]
        assert sorted(os.listdir(work)) == ["blob", "fs", "index"]
        assert set(os.listdir(work / "index")) <= {INDEX_FILE, "root"}
        if (work / "index/root").exists():  # of a worker that has refused the archive
            assert os.listdir(work / "index/root") == []
        assert isinstance(left, str) == isinstance(right, str), (left, right)
        if isinstance(left, str):
            return left
        assert left.size_bytes == right.unpacked.size_bytes
        assert not right.unindexable
        fd = erofs.mount_layer(str(work / "index" / INDEX_FILE), str(work / "blob"))
        stack.callback(os.close, fd)
        return str(work / "fs"), f"/proc/self/fd/{fd}"

    async def _run(self, work: Path, diff_id: Digest) -> tuple[Any, Any]:
        unpacking = unpack(str(work / "blob"), "", str(work / "fs"), _LIMITS, self._slow, diff_id=diff_id)
        results = await asyncio.gather(
            unpacking, index_blob(str(work / "blob"), str(work / "index"), _LIMITS, diff_id=diff_id), return_exceptions=True
        )
        left, right = (result.message if isinstance(result, InvalidArchive) else result for result in results)
        for result in (left, right):
            if isinstance(result, BaseException):
                raise result
        return left, right

    def compare(self, unpacked: str, indexed: str) -> None:
        found = [
            (path, fact, left, right)
            for path, fact, left, right in differences(tree(unpacked), tree(indexed))
            # Of a directory that has no entry the time is that of the unpacking.
            if fact != "mtime" or left < self.began_ns
        ]
        assert not found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    if reason := erofs.refusal(str(tmp_path)):
        pytest.skip(f"this kernel mounts no index here: {reason}")
    with asyncio.Runner() as runner:
        yield Bench(tmp_path, runner)


def as_long_as_there_is_time(strategy: st.SearchStrategy[Any], judge: Callable[[Any], None]) -> int:
    """How many examples were judged. After a failure there is time to find the smallest one that fails."""
    end = time.monotonic() + _SECONDS
    judged = 0

    @_SETTINGS
    @given(strategy)
    def example(value: Any) -> None:
        nonlocal end, judged
        if time.monotonic() > end:
            return
        try:
            judge(value)
        except BaseException:
            end = math.inf
            raise
        judged += 1

    example()
    return judged


# --- judgements ----------------------------------------------------------------------------------------------------------


def test_an_index_shows_what_unpacking_makes_of_anything(bench: Bench) -> None:
    taken = 0

    def judge(made: Made) -> None:
        nonlocal taken
        with ExitStack() as stack:
            both = bench.both(made.data, stack)
            if not isinstance(both, str):
                taken += 1
                bench.compare(*both)

    judged = as_long_as_there_is_time(_archives, judge)
    assert taken > judged // 10, f"{taken} of {judged} archives were good"


def test_layers_together_look_the_same_either_way(bench: Bench, tmp_path: Path) -> None:
    def judge(layers: list[Made]) -> None:
        with ExitStack() as stack:
            made = [both for layer in layers if not isinstance(both := bench.both(layer.data, stack), str)]
            tops = [_merged(list(one_way), Path(tempfile.mkdtemp(dir=tmp_path)), stack) for one_way in zip(*made, strict=True)]
            if tops:
                bench.compare(*tops)

    # Some directories are the same in all layers, so that they are merged.
    few = st.lists(_members(), min_size=1, max_size=6).map(Made)
    assert as_long_as_there_is_time(st.lists(few, min_size=2, max_size=3), judge)


def _merged(layers: list[str], place: Path, stack: ExitStack) -> str:
    """What a container sees of `layers`, the lowest first."""
    stack.callback(shutil.rmtree, place)
    options: list[tuple[str, str | int]] = []
    for layer in reversed(layers):
        layer_fd = os.open(layer, os.O_PATH | os.O_DIRECTORY)
        stack.callback(os.close, layer_fd)
        options.append(("lowerdir+", layer_fd))
    for name in ("upper", "work"):
        (place / name).mkdir(0o755)
        options.append((f"{name}dir", str(place / name)))
    top_fd = mounts.new_filesystem("overlay", options, source="overlay")
    stack.callback(os.close, top_fd)
    return f"/proc/self/fd/{top_fd}"


@st.composite
def _damaged(draw: st.DrawFn) -> Made:
    made = draw(_archives)
    data = bytearray(made.data)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        if draw(st.booleans()):
            # In a header more is meant than in data; its checksum is made to fit.
            block = at // 512 * 512
            data.extend(bytes(-len(data) % 512))
            at = block + draw(st.sampled_from([0, 1, 100, 108, 116, 124, 130, 136, 140, 156, 157, 257, 263, 329, 337, 345, 386, 482, 483]))
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1) | st.sampled_from([b"0", b"7", b"\0", b" ", b"\x80", b"\xff", b"/"]))
            data[block + 148 : block + 156] = b" " * 8
            data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
            made.damages += f"{block}+{at - block}: {data[at]}; "
        elif draw(st.integers(0, 5)):
            data[at] = draw(st.integers(0, 255))
            made.damages += f"{at}: {data[at]}; "
        else:
            del data[at:]
            data.extend(draw(st.binary(max_size=600)))
            made.damages += f"cut at {at}; "
    made.data = bytes(data) or b"x"
    return made


def test_a_damaged_archive_is_refused_or_taken_by_both(bench: Bench) -> None:
    refused = 0

    def judge(made: Made) -> None:
        nonlocal refused
        with ExitStack() as stack:
            both = bench.both(made.data, stack)
            if isinstance(both, str):
                refused += 1
            else:
                bench.compare(*both)

    judged = as_long_as_there_is_time(_damaged(), judge)
    assert 0 < refused < judged
