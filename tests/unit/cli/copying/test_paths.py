"""What `cp SOURCE DESTINATION` means."""

from __future__ import annotations

from pathlib import Path

import pytest

from teul.cli.copying.paths import (
    Place,
    base,
    clean,
    joined,
    keep_ending,
    local_destination,
    local_source,
    plan,
    renamed,
    resolved,
    split_argument,
    split_entry,
)
from teul.cli.errors import CliError


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("box:/a", ("box", "/a")),
        ("box:a:b", ("box", "a:b")),
        ("/a:b", ("", "/a:b")),
        ("./a:b", ("", "./a:b")),
        ("a", ("", "a")),
        ("-", ("", "-")),
    ],
)
def test_a_colon_tells_containers_from_files(argument: str, parts: tuple[str, str]) -> None:
    assert split_argument(argument) == parts


def test_paths_are_taken_apart_as_go_does() -> None:
    assert [clean(path) for path in ("", "/", "//a//b/", "/../a/./b/..")] == [".", "/", "/a/b", "/a"]
    assert [base(path) for path in ("", "/", "/a/", "/a/.", "a")] == [".", "/", "a", ".", "a"]
    assert [split_entry(path) for path in ("/a/b", "/a/b/", "/a/b/.", "/", "a")] == [
        ("/a", "b"),
        ("/a", "b"),
        ("/a/b", "."),
        ("/", "/"),
        (".", "a"),
    ]
    assert [keep_ending("/a", path) for path in ("a", "a/", "a/.", ".")] == ["/a", "/a/", "/a/.", "/a/."]
    assert keep_ending("/", "/.") == "/."


def test_links_keep_the_name_that_the_user_knows() -> None:
    assert resolved("/a/link", "/b/file") == ("/b/file", "link")
    assert resolved("/a/link/.", "/b/dir") == ("/b/dir/.", "")
    assert resolved("/a/link/", "/b/dir") == ("/b/dir/", "link")
    assert resolved("/a/same", "/b/same") == ("/b/same", "")
    assert joined("/a/link", "../b") == "/b"
    assert joined("/a/link", "/b") == "/b"


FILE, DIRECTORY = Place("/s/file"), Place("/s/dir", is_directory=True)


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        (FILE, Place("/d", is_directory=True), ("/d", "", "")),
        (DIRECTORY, Place("/d", is_directory=True), ("/d", "", "")),
        (FILE, Place("/d/other"), ("/d", "file", "other")),
        (FILE, Place("/d/new", exists=False), ("/d", "file", "new")),
        (DIRECTORY, Place("/d/new/", exists=False), ("/d", "dir", "new")),
        (Place("/s/dir/.", is_directory=True), Place("/d/new", exists=False), ("/d", ".", "new")),
        (Place("/s/x", rebase="link"), Place("/d/new", exists=False), ("/d", "link", "new")),
    ],
)
def test_where_it_goes_and_what_it_is_called(source: Place, destination: Place, expected: tuple[str, str, str]) -> None:
    assert plan(source, destination) == expected


@pytest.mark.parametrize(
    ("source", "destination", "message"),
    [
        (DIRECTORY, Place("/d/file"), "cannot copy directory"),
        (FILE, Place("/d/new/", exists=False), "no such directory"),
        (FILE, Place("/d/new/.", exists=False), "no such directory"),
    ],
)
def test_what_cannot_be(source: Place, destination: Place, message: str) -> None:
    with pytest.raises(CliError, match=message):
        plan(source, destination)


def test_names_in_the_archive() -> None:
    assert renamed(b"dir/dir", "dir", "new") == b"new/dir"
    assert renamed(b"/bin", "/", "new") == b"new/bin"
    assert renamed(b"./a", ".", "new") == b"new/a"
    assert renamed(b"a", "", "") == b"a"


def test_what_is_here(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_text("")
    (tmp_path / "link").symlink_to("dir")
    for text, follow, path, rebase, is_directory in [
        ("dir/file", False, "dir/file", "", False),
        ("link", False, "link", "", False),
        ("link", True, "dir", "link", True),
        ("link/", False, "dir/", "link", True),
        ("link/.", False, "dir/.", "", True),
        ("link/file", False, "dir/file", "", False),
    ]:
        place = local_source(f"{tmp_path}/{text}", follow=follow)
        assert (place.path, place.rebase, place.is_directory) == (f"{tmp_path}/{path}", rebase, is_directory), text
    for text, message in [("none", f"lstat {tmp_path}/none: no such file or directory"), ("dir/file/", "not a directory")]:
        with pytest.raises(CliError) as raised:
            local_source(f"{tmp_path}/{text}", follow=False)
        assert raised.value.message == message


def test_what_is_to_be_here(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("dir")
    (tmp_path / "dangling").symlink_to("dir/new")
    (tmp_path / "loop").symlink_to("loop")
    for text, path, exists, is_directory in [
        ("file", "file", True, False),
        ("link", "dir", True, True),
        ("dangling", "dir/new", False, False),
        ("new", "new", False, False),
    ]:
        place = local_destination(f"{tmp_path}/{text}")
        assert (place.path, place.exists, place.is_directory) == (f"{tmp_path}/{path}", exists, is_directory), text
    for text, message in [
        ("none/new", f"stat {tmp_path}/none: no such file or directory"),
        ("file/new", f"lstat {tmp_path}/file/new: not a directory"),
        ("loop", f"too many symlinks in {tmp_path}/loop"),
    ]:
        with pytest.raises(CliError) as raised:
            local_destination(f"{tmp_path}/{text}")
        assert raised.value.message == message
