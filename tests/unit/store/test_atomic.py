"""Files are whole or not there; trees go away completely."""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from teul.store.atomic import remove_tree, replace_file, sync_directory, sync_filesystem, write_all, write_new_file

BOTH_KINDS = pytest.mark.parametrize("durable", [False, True], ids=["not-durable", "durable"])
BOTH_WRITERS = pytest.mark.parametrize("write", [replace_file, write_new_file])


@pytest.fixture
def umask() -> Iterator[None]:
    """The tightest one there is."""
    before = os.umask(0o777)
    yield
    os.umask(before)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that decide what a power cut leaves, in their order."""
    recorded: list[str] = []

    def record(name: str, describe: Callable[..., str]) -> None:
        real = getattr(os, name)

        def recording(*arguments: Any) -> Any:
            recorded.append(f"{name} {describe(*arguments)}")
            return real(*arguments)

        monkeypatch.setattr(os, name, recording)

    record("fsync", lambda fd: "directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
    record("rename", lambda _old, new: os.path.basename(new))
    record("link", lambda _old, new: os.path.basename(new))
    return recorded


def fail(monkeypatch: pytest.MonkeyPatch, name: str, *, after: int = 0) -> None:
    """Make `os.<name>` fail with a full disk from its call number `after` on."""
    real, left = getattr(os, name), [after]

    def failing(*arguments: Any) -> Any:
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        return real(*arguments)

    monkeypatch.setattr(os, name, failing)


@BOTH_KINDS
def test_a_replaced_file_is_the_new_one_and_nothing_else_is_left(tmp_path: Path, *, durable: bool) -> None:
    path = tmp_path / "file"
    replace_file(str(path), b"old", durable=durable)
    replace_file(str(path), b"new", durable=durable)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@BOTH_KINDS
def test_a_new_file_is_never_an_old_one(tmp_path: Path, *, durable: bool) -> None:
    path = tmp_path / "file"
    write_new_file(str(path), b"old", durable=durable)
    with pytest.raises(FileExistsError):
        write_new_file(str(path), b"new", durable=durable)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@BOTH_WRITERS
@pytest.mark.usefixtures("umask")
def test_the_mode_is_what_was_asked_for_whatever_the_umask(tmp_path: Path, write: Callable[..., None]) -> None:
    write(str(tmp_path / "secret"), b"", durable=False)
    write(str(tmp_path / "public"), b"", 0o644, durable=False)
    assert [(tmp_path / name).stat().st_mode & 0o7777 for name in ("secret", "public")] == [0o600, 0o644]


def test_the_mode_of_the_old_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o777)
    replace_file(str(path), b"", 0o640, durable=False)
    assert path.stat().st_mode & 0o7777 == 0o640


def test_a_symlink_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "goal").write_bytes(b"old")
    (tmp_path / "file").symlink_to("goal")
    with pytest.raises(FileExistsError):
        write_new_file(str(tmp_path / "file"), b"new", durable=False)
    replace_file(str(tmp_path / "file"), b"new", durable=False)
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "goal").read_bytes() == b"old"


@pytest.mark.parametrize("call", ["write", "fchmod", "fsync", "rename"])
def test_a_replacement_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    descriptors = len(os.listdir("/proc/self/fd"))
    fail(monkeypatch, call)
    with pytest.raises(OSError, match="No space left"):
        replace_file(str(path), b"new", durable=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("call", ["write", "fchmod", "fsync", "link"])
def test_a_new_file_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    fail(monkeypatch, call)
    with pytest.raises(OSError, match="No space left"):
        write_new_file(str(tmp_path / "file"), b"new", durable=True)
    assert os.listdir(tmp_path) == []


@BOTH_WRITERS
def test_a_disk_that_is_full_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., None]) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    fail(monkeypatch, "write", after=2)
    with pytest.raises(OSError, match="No space left"):
        write(str(tmp_path / "file"), b"0123456789", durable=False)
    assert os.listdir(tmp_path) == []


def test_a_directory_that_cannot_be_synced_is_told_with_the_new_file_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    fail(monkeypatch, "fsync", after=1)
    with pytest.raises(OSError, match="No space left"):
        replace_file(str(path), b"new", durable=True)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_durable_file_is_synced_before_it_has_its_name_and_its_name_after_that(tmp_path: Path, calls: list[str]) -> None:
    replace_file(str(tmp_path / "file"), b"x", durable=True)
    write_new_file(str(tmp_path / "new"), b"x", durable=True)
    assert calls == ["fsync file", "rename file", "fsync directory", "fsync file", "link new", "fsync directory"]


def test_what_need_not_be_durable_waits_for_no_disk(tmp_path: Path, calls: list[str]) -> None:
    """Starts are on a budget of milliseconds."""
    replace_file(str(tmp_path / "file"), b"x", durable=False)
    write_new_file(str(tmp_path / "new"), b"x", durable=False)
    assert calls == ["rename file", "link new"]


def test_a_relative_name_is_synced_in_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    replace_file("file", b"x", durable=True)
    assert calls == ["fsync file", "rename file", "fsync directory"]


def test_no_two_writers_share_a_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads have one process id between them, and a process may have that of one that was killed while it wrote."""
    real, names = os.rename, []

    def rename(old: str, new: str) -> None:
        names.append(old)
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    path = tmp_path / "file"
    contents = [str(number).encode() * 5000 for number in range(10)]
    with ThreadPoolExecutor(max_workers=8) as threads:
        for _ in threads.map(lambda number: replace_file(str(path), contents[number % 10], durable=False), range(400)):
            pass
    assert len(set(names)) == 400
    assert all(re.fullmatch(re.escape(str(path)) + r"\.[0-9a-f]{16}\.new", name) for name in names)
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["file"]


def test_of_many_that_make_a_new_file_one_does(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def attempt(number: int) -> bytes | None:
        data = str(number).encode() * 1000
        try:
            write_new_file(str(path), data, durable=False)
        except FileExistsError:
            return None
        return data

    with ThreadPoolExecutor(max_workers=8) as threads:
        written = [data for data in threads.map(attempt, range(50)) if data is not None]
    assert written == [path.read_bytes()]
    assert os.listdir(tmp_path) == ["file"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where each write takes a few bytes only."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:700]))
    path, new = tmp_path / "file", tmp_path / "new"
    old_and_new = {b"a" * 5000, b"b" * 9000}
    replace_file(str(path), b"a" * 5000, durable=False)
    done = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())
            if new.exists():
                seen.add(new.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(200):
            replace_file(str(path), (b"a" * 5000, b"b" * 9000)[number % 2], durable=False)
        write_new_file(str(new), b"a" * 5000, durable=False)
    finally:
        done.set()
        reader.join()
    assert seen <= old_and_new


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


def plant(root: Path, *, depth: int = 4, width: int = 3) -> None:
    """A tree that takes a while to remove."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(width):
        (root / f"file-{number}").touch()
        if depth:
            plant(root / f"directory-{number}", depth=depth - 1, width=width)


def test_a_tree_that_many_remove_at_once_is_gone_for_all_of_them(tmp_path: Path) -> None:
    """Whatever one of them meets may have been removed by another a moment ago; so it was with an exec's files in a container's bundle."""
    for number in range(10):
        tree = tmp_path / f"tree-{number}"
        plant(tree)
        parts = [tree, tree / "directory-0", tree / "directory-1" / "directory-2", tree]
        with ThreadPoolExecutor(len(parts)) as threads:
            for done in [threads.submit(remove_tree, str(part)) for part in parts]:
                done.result()
        assert not tree.exists()


def test_what_is_put_into_a_tree_while_it_is_removed_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exec that begins at the end of its container makes its directory in the bundle that is being removed."""
    tree = tmp_path / "bundle"
    plant(tree, depth=1)
    real, late = os.rmdir, [tree / "directory-0" / "exec" / "file", tree / "exec" / "file"]

    def rmdir(path: str, *, dir_fd: int | None = None) -> None:
        for file in [file for file in late if path == file.parent.parent.name or str(path) == str(file.parent.parent)]:
            late.remove(file)
            file.parent.mkdir()
            file.touch()
        real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", rmdir)
    remove_tree(str(tree))
    assert late == []
    assert not tree.exists()


def test_a_tree_that_does_not_stop_growing_is_an_error_and_no_endless_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "bundle"
    plant(tree, depth=0)
    real = os.rmdir

    def rmdir(path: str, *, dir_fd: int | None = None) -> None:
        (tree / "more").touch()
        real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", rmdir)
    with pytest.raises(OSError, match="Directory not empty"):
        remove_tree(str(tree))


def test_syncing_needs_a_filesystem(tmp_path: Path) -> None:
    sync_filesystem(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        sync_filesystem(str(tmp_path / "missing"))


def test_syncing_a_directory_needs_a_directory(tmp_path: Path) -> None:
    sync_directory(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_directory(str(tmp_path / "file"))
