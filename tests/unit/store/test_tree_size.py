"""The size of what a container has written, however it is nested and whatever becomes of it meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from teul.store.atomic import remove_tree
from teul.store.tree_size import size_of_tree


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    tree = tmp_path / "upper"
    tree.mkdir()
    yield tree
    remove_tree(str(tree))  # deeper than pytest can go


def test_files_are_counted_and_hard_links_once(tree: Path) -> None:
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/file").write_bytes(b"x" * 100)
    (tree / "a/b/file").write_bytes(b"x" * 10)
    os.link(tree / "a/file", tree / "a/b/again")
    os.symlink("/etc", tree / "a/link")
    assert size_of_tree(str(tree)) == 110 + len("/etc")
    assert size_of_tree(str(tree / "nothing")) == 0


def test_a_tree_may_be_deeper_than_a_path_is_long(tree: Path) -> None:
    """A container makes such a one with `mkdir` and `cd` in a loop, and its neighbours want to be listed all the same."""
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d" * 100, dir_fd=fd)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    os.write(file, b"x" * 7)
    os.close(file)
    os.close(fd)
    assert size_of_tree(str(tree)) == 7


def test_a_directory_that_becomes_a_symlink_is_not_followed(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """security: else a container could have the engine walk through the host's files."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"x" * 1000)
    (tree / "swapped").mkdir()
    (tree / "file").write_bytes(b"x")
    scandir = os.scandir

    def swap(fd: int) -> Any:
        entries = list(scandir(fd))
        for entry in entries:
            entry.stat(follow_symlinks=False)
        if (tree / "swapped").is_dir() and not (tree / "swapped").is_symlink():
            (tree / "swapped").rmdir()
            (tree / "swapped").symlink_to(outside)
        return _Entries(entries)

    monkeypatch.setattr(os, "scandir", swap)
    assert size_of_tree(str(tree)) == 1


def test_a_directory_that_is_moved_does_not_lead_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parent is another one then, and above that may be anything."""
    (tree.parent / "secret").write_bytes(b"x" * 1000)
    (tree / "a/b/c").mkdir(parents=True)
    (tree / "a/b/c/file").write_bytes(b"x")
    scandir = os.scandir

    def move(fd: int) -> Any:
        entries = list(scandir(fd))
        if (tree / "a/b/c").exists() and any(entry.name == "file" for entry in entries):
            (tree / "a/b/c").rename(tree / "c")
        return _Entries(entries)

    monkeypatch.setattr(os, "scandir", move)
    assert size_of_tree(str(tree)) == 1


class _Entries(list[Any]):
    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_error: object) -> None:
        return
