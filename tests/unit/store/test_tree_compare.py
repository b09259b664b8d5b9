"""Two trees are the same, or there is a path where they are not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from teul.store.atomic import remove_tree
from teul.store.tree_compare import first_difference


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "a/b").mkdir(parents=True)
    (one / "a/b/file").write_bytes(b"content")
    (one / "a-file").write_bytes(b"")
    (one / "link").symlink_to("a")
    (one / "z").mkdir()
    shutil.copytree(one, other, symlinks=True)
    yield one, other
    remove_tree(str(one))
    remove_tree(str(other))


def _flip(path: Path) -> None:
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes().replace(b"c", b"C", 1))
    os.utime(path, ns=times)


def _relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("z")


def _become_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: list[tuple[str, Callable[[Path], object]]] = [
    ("a/b/file", _flip),
    ("a/b/file", Path.unlink),
    ("a/b/file", lambda path: path.chmod(0o600)),
    ("a/b/file", lambda path: os.utime(path, ns=(1, 1))),
    ("a-file", _become_a_directory),
    ("link", _relink),
    ("z", Path.rmdir),
    ("a/b", lambda path: path.chmod(0o700)),
    ("a/more", Path.touch),
    ("zz", Path.mkdir),
]


def test_a_copy_is_the_same(trees: tuple[Path, Path]) -> None:
    one, other = trees
    assert first_difference(str(one), str(other)) is None
    os.utime(other / "z", ns=(5, 5))
    assert first_difference(str(one), str(other)) is None, "unpacking makes directories that no archive speaks of"


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_every_change_is_found(trees: tuple[Path, Path], number: int) -> None:
    one, other = trees
    path, change = CHANGES[number]
    change(other / path)
    assert first_difference(str(one), str(other)) == first_difference(str(other), str(one)) == path


def test_trees_may_be_deeper_than_a_path_is_long(trees: tuple[Path, Path]) -> None:
    for tree in trees:
        fd = os.open(tree, os.O_RDONLY)
        for _ in range(300):
            os.mkdir("d" * 100, dir_fd=fd)
            below = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        if tree is trees[1]:
            os.mkdir("end", dir_fd=fd)
        os.close(fd)
    found = first_difference(*map(str, trees))
    assert found is not None
    assert found.endswith("/end")
