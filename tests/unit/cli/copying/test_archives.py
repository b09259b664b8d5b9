"""Trees into archives and out of them: what is kept, and what a container's archive may not do to its reader."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
from pathlib import Path

import pytest

from teul.cli.copying.pack import pack
from teul.cli.copying.paths import local_source
from teul.cli.copying.unpack import Stream, unpack
from teul.cli.errors import CliError

Member = tuple[str, bytes, str | bytes]


def archive(*members: Member, mode: int = 0o644) -> bytes:
    """Members of (name, type, link or content), changed in 2001."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, what in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime, info.uid = kind, mode, 1_000_000_000, 12345
            if isinstance(what, bytes):
                info.size = len(what)
            else:
                info.linkname = what
            tar.addfile(info, io.BytesIO(what) if isinstance(what, bytes) else None)
    return buffer.getvalue()


def extract(data: bytes, directory: Path, old: str = "", new: str = "", *, piece_bytes: int = 700) -> int:
    source = io.BytesIO(data)
    stream = Stream(lambda: source.read(piece_bytes), lambda _: None)
    unpack(stream, str(directory), old, new)
    return stream.received_bytes


def tree(root: Path) -> dict[str, tuple[str, float, object]]:
    found: dict[str, tuple[str, float, object]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        what: object = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (stat.filemode(status.st_mode), status.st_mtime, what)
    return found


def test_what_is_packed_and_unpacked_is_the_same(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "file").write_bytes(os.urandom(200_000))
    (source / "deep" / "file").chmod(0o4751)
    (source / ("n" * 120)).write_text("a long name")
    (source / "link").symlink_to("deep/file")
    os.link(source / "deep" / "file", source / "deep" / "hard")
    os.mkfifo(source / "pipe")
    for path in [*source.rglob("*"), source]:
        os.utime(path, (10**9, 10**9), follow_symlinks=False)
    (source / "deep" / "er").chmod(0o500)
    target.mkdir()
    warnings: list[str] = []
    data = b"".join(pack(local_source(str(source), follow=False), warnings.append))
    assert extract(data, target) == len(data)
    assert tree(target / "source") == tree(source)
    assert os.path.samefile(target / "source" / "deep" / "file", target / "source" / "deep" / "hard")
    assert warnings == []
    again = tmp_path / "again"
    again.mkdir()
    extract(b"".join(pack(local_source(f"{source}/.", follow=False), warnings.append, ".", "new")), again)
    assert tree(again / "new") == tree(source)


def test_what_cannot_be_packed_is_told_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with socket.socket(socket.AF_UNIX) as listener, working_directory(tmp_path):
        listener.bind("s")
        warnings: list[str] = []
        data = b"".join(pack(local_source(str(tmp_path), follow=False), warnings.append))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == [tmp_path.name, f"{tmp_path.name}/a"]
    assert warnings == [f"Can't add file {tmp_path}/s to tar: archive/tar: sockets not supported"]


class working_directory:  # noqa: N801 - it is used as a function is
    """A unix socket's path has room for 107 bytes, which pytest's directories take for themselves."""

    def __init__(self, path: Path) -> None:
        self._path, self._before = path, os.getcwd()

    def __enter__(self) -> None:
        os.chdir(self._path)

    def __exit__(self, *details: object) -> None:
        os.chdir(self._before)


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 200_000)
    pieces = pack(local_source(f"{tmp_path}/a", follow=False), lambda _: None)
    next(pieces)
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(CliError, match="became shorter"):
        list(pieces)


def test_files_are_replaced_and_directories_merged(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(mode=0o700)
    (tmp_path / "dir" / "kept").write_text("kept")
    (tmp_path / "dir" / "file").symlink_to("/nowhere")
    extract(
        archive(("./", tarfile.DIRTYPE, ""), ("dir/", tarfile.DIRTYPE, ""), ("dir/file", tarfile.REGTYPE, b"new"), mode=0o755), tmp_path
    )
    assert (tmp_path / "dir" / "file").read_text() == "new"
    assert not (tmp_path / "dir" / "file").is_symlink()
    assert (tmp_path / "dir" / "kept").read_text() == "kept"
    assert stat.S_IMODE((tmp_path / "dir").stat().st_mode) == 0o755
    assert (tmp_path / "dir").stat().st_mtime == 10**9
    assert (tmp_path / "dir" / "file").stat().st_uid == os.geteuid()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("dir", tarfile.REGTYPE, b"")], 'cannot overwrite directory "{0}/dir" with non-directory "{0}"'),
        ([("file", tarfile.DIRTYPE, "")], 'cannot overwrite non-directory "{0}/file" with directory "{0}"'),
        ([("../out", tarfile.REGTYPE, b"")], '"../out" is outside of "{0}"'),
        ([("a/../../out", tarfile.REGTYPE, b"")], '"../out" is outside of "{0}"'),
        ([("dir/link", tarfile.SYMTYPE, "../../out")], 'invalid symlink "{0}/dir/link" -> "../../out"'),
        ([("hard", tarfile.LNKTYPE, "../out")], 'invalid hardlink "{0}/hard" -> "../out"'),
        ([("esc", tarfile.SYMTYPE, "/"), ("esc/tmp/out", tarfile.REGTYPE, b"")], "open {0}/esc/tmp: not a directory"),
        ([("esc", tarfile.SYMTYPE, "dir"), ("hard", tarfile.LNKTYPE, "esc/file")], "open {0}/esc: not a directory"),
    ],
)
def test_archives_that_would_reach_out_are_refused(tmp_path: Path, members: list[Member], message: str) -> None:
    inside = tmp_path / "inside"
    (inside / "dir").mkdir(parents=True)
    (inside / "file").write_text("")
    with pytest.raises(CliError) as raised:
        extract(archive(*members), inside)
    assert raised.value.message == message.format(inside)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside"]
    assert not Path("/tmp/out").exists()


def test_names_change_with_their_links(tmp_path: Path) -> None:
    extract(
        archive(("a/", tarfile.DIRTYPE, ""), ("a/x", tarfile.REGTYPE, b"1"), ("a/y", tarfile.LNKTYPE, "a/x"), mode=0o755),
        tmp_path,
        "a",
        "b",
    )
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["b", "b/x", "b/y"]
    assert os.path.samefile(tmp_path / "b" / "x", tmp_path / "b" / "y")


@pytest.mark.parametrize("data", [b"no archive at all" * 100, archive(("a", tarfile.REGTYPE, b"x" * 5000))[:2000]])
def test_broken_archives_are_errors(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CliError):
        extract(data, tmp_path)
