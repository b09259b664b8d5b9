"""Files are whole or not there; trees go away completely."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from teul.store.atomic import remove_tree, replace_file, sync_filesystem, write_all, write_new_file


def test_a_replaced_file_is_the_new_one_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(str(path), b"old")
    replace_file(str(path), b"new", mode=0o640)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_a_replacement_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_new_file_is_never_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_new_file(str(path), b"new")
    assert path.read_bytes() == b"old"


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    write_all(fd, b"0123456789")
    write_all(fd, memoryview(b"abcdef"))
    write_all(fd, b"")
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"0123456789abcdef"


def test_a_tree_is_removed_whatever_is_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"x")
    root = tmp_path / "root"
    for name in ("a/b/c", "a/d", "e"):
        (root / name).mkdir(parents=True)
    (root / "a/b/file").write_bytes(b"x")
    (root / "link").symlink_to(outside)
    (root / "a/link").symlink_to("../..")
    os.mkfifo(root / "e/fifo")
    remove_tree(str(root))
    assert os.listdir(tmp_path) == ["outside"]
    assert (outside / "kept").exists(), "a symlink was followed"


def test_a_file_a_link_or_nothing_at_all_is_removed_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    for name in ("link", "file", "missing"):
        remove_tree(str(tmp_path / name))
    assert os.listdir(tmp_path) == []


def test_a_tree_deeper_than_the_stack_and_the_descriptor_table_is_removed(tmp_path: Path) -> None:
    """An image may contain one, and must not be able to stay for ever."""
    descriptors = len(os.listdir("/proc/self/fd"))
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove_tree(str(tmp_path / "d"))
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_tree_is_removed_relative_to_a_descriptor(tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    fd = os.open(tmp_path, os.O_RDONLY)
    remove_tree(b"d", dir_fd=fd)
    os.close(fd)
    assert os.listdir(tmp_path) == []


def test_syncing_needs_a_filesystem(tmp_path: Path) -> None:
    sync_filesystem(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        sync_filesystem(str(tmp_path / "missing"))
