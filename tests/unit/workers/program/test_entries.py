"""An entry becomes a file: its data with holes, its attributes but overlayfs's, its time within reason, and no impossible device."""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from teul.wire.tar import BLOCK, CHARACTER, FIFO, Entry, TarReader
from teul.workers.program.entries import CREATE_FLAGS, Refused, bounded_time, make_node, set_xattrs, write_data
from teul.workers.program.streams import ChunkSource


def archive(data: bytes, pax_headers: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("f")
        info.size = len(data)
        info.pax_headers = pax_headers
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def written(path: Path, data: bytes, pax_headers: dict[str, str]) -> bytes:
    reader = TarReader(ChunkSource(iter([archive(data, pax_headers)])))
    entry = reader.next()
    assert entry is not None
    fd = os.open(path, CREATE_FLAGS, 0o600)
    try:
        write_data(reader, fd, entry)
    finally:
        os.close(fd)
    assert reader.next() is None
    return path.read_bytes()


def test_data_is_written_whole(tmp_path: Path) -> None:
    assert written(tmp_path / "f", b"content" * 1000, {}) == b"content" * 1000


def test_a_sparse_file_has_its_size_and_its_holes(tmp_path: Path) -> None:
    size = 4 << 20
    headers = {"GNU.sparse.map": f"0,5,{1 << 20},6", "GNU.sparse.size": str(size)}
    content = written(tmp_path / "f", b"startmiddle", headers)
    assert (len(content), content[:5], content[1 << 20 : (1 << 20) + 6]) == (size, b"start", b"middle")
    assert not content.replace(b"start", b"").replace(b"middle", b"").strip(b"\0")


def test_nothing_that_is_there_is_opened(tmp_path: Path) -> None:
    """Neither a file nor a symlink to nowhere."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            os.open(tmp_path / name, CREATE_FLAGS, 0o600)


class _Attributes:
    """Takes the place of setxattr(2), which refuses what is in `errors`."""

    def __init__(self, errors: dict[bytes, int]) -> None:
        self.errors = errors
        self.calls: list[tuple[int | bytes, bytes, bool]] = []

    def set(self, target: int | bytes, name: bytes, _value: bytes, *, follow_symlinks: bool = True) -> None:
        self.calls.append((target, name, follow_symlinks))
        if name in self.errors:
            raise OSError(self.errors[name], os.strerror(self.errors[name]))


@pytest.fixture
def attributes(monkeypatch: pytest.MonkeyPatch) -> _Attributes:
    fake = _Attributes({})
    monkeypatch.setattr(os, "setxattr", fake.set)
    return fake


def test_attributes_of_overlayfs_are_nobodys_to_set(attributes: _Attributes) -> None:
    names = [b"user.note", b"trusted.overlay.opaque", b"trusted.anything", b"user.overlay.redirect", b"security.capability"]
    set_xattrs(5, dict.fromkeys(names, b"x"))
    set_xattrs(b"name", dict.fromkeys(names, b"x"))
    assert attributes.calls == [
        (5, b"user.note", True),
        (5, b"security.capability", True),
        (b"name", b"user.note", False),
        (b"name", b"security.capability", False),
    ]


def test_attributes_that_cannot_be_set_are_passed_over(attributes: _Attributes) -> None:
    attributes.errors = {b"user.note": errno.ENOTSUP, b"security.selinux": errno.EPERM, b"security.capability": errno.EPERM}
    set_xattrs(5, dict.fromkeys([*attributes.errors, b"user.last"], b"x"))
    assert attributes.calls[-1] == (5, b"user.last", True)


def test_a_required_attribute_has_to_be_permitted_but_not_supported(attributes: _Attributes) -> None:
    """A layer is not unpacked without its programs' capabilities where they could be; a filesystem without them does as well."""
    attributes.errors = {b"security.capability": errno.EPERM}
    with pytest.raises(PermissionError):
        set_xattrs(5, {b"security.capability": b"x"}, required={b"security.capability"})
    attributes.errors = {b"security.capability": errno.ENOTSUP}
    set_xattrs(5, {b"security.capability": b"x"}, required={b"security.capability"})


def test_any_other_trouble_with_an_attribute_is_told(attributes: _Attributes) -> None:
    attributes.errors = {b"user.note": errno.ENOSPC}
    with pytest.raises(OSError, match="No space left"):
        set_xattrs(5, {b"user.note": b"x"})


@pytest.mark.parametrize(("major", "minor"), [(1 << 12, 0), (0, 1 << 20), (-1, 1), (1, -1)])
@pytest.mark.parametrize("kind", [CHARACTER, BLOCK])
def test_a_device_that_cannot_be_is_refused(kind: bytes, major: int, minor: int) -> None:
    entry = Entry(kind, b"./dev/x")
    entry.major, entry.minor = major, minor
    with pytest.raises(Refused, match=f'^invalid device "dev/x": no device {major}:{minor}$'):
        make_node(-1, b"x", entry, mode=0o600, name=b"dev/x")


def test_a_fifo_has_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        make_node(fd, b"p", Entry(FIFO, b"p", mode=0o4777), mode=0o600, name=b"p")
    finally:
        os.close(fd)
    assert stat.filemode((tmp_path / "p").lstat().st_mode) == "prw-------"


_LAST, _FIRST = (1 << 63) - 1, -(1 << 31) * 10**9


@pytest.mark.parametrize(("time_ns", "bounded"), [(0, 0), (-5, -5), (1 << 62, 1 << 62), (1 << 80, _LAST), (-(1 << 80), _FIRST)])
def test_a_time_stays_within_what_file_systems_keep(time_ns: int, bounded: int) -> None:
    assert bounded_time(time_ns) == bounded
