"""Users by name in the container's own files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from teul.linux.paths import read_foreign_file
from teul.linux.users import UserError, needs_no_look, resolve

PASSWD = "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1001:Anna:/home/anna:/bin/sh\nbroken\n"
GROUP = "root:x:0:\nwheel:x:10:root,anna\nanna:x:1001:\nvideo:x:44:anna\n"


@pytest.fixture
def root_fd(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, [0, 10], "/root"),
        ("anna", 1000, 1001, [1001, 10, 44], "/home/anna"),
        ("1000", 1000, 1001, [1001, 10, 44], "/home/anna"),
        ("4242", 4242, 0, [0], "/"),
        ("anna:video", 1000, 44, [44], "/home/anna"),
        ("4242:77", 4242, 77, [77], "/"),
    ],
)
def test_names_and_numbers(root_fd: int, user: str, uid: int, gid: int, groups: list[int], home: str) -> None:
    """Docker's rules: a named group replaces the user's other groups."""
    who = resolve(root_fd, user, [])
    assert (who.uid, who.gid, who.groups, who.home) == (uid, gid, groups, home)


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ("nobody-here", "unable to find user nobody-here: no matching entries in passwd file"),
        ("anna:none", "unable to find group none: no matching entries in group file"),
        ("99999999999", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("anna:-1", "uids and gids must be in range 0-2147483647"),
        ("-", "unable to find user -: no matching entries in passwd file"),
        ("9223372036854775808", "unable to find user 9223372036854775808: no matching entries in passwd file"),
        ("\u0661", "unable to find user \u0661: no matching entries in passwd file"),
        ("anna:\u0661", "unable to find group \u0661: no matching entries in group file"),
    ],
)
def test_unknown_names_are_docker_errors(root_fd: int, user: str, text: str) -> None:
    """The text is API."""
    with pytest.raises(UserError, match=text):
        resolve(root_fd, user, [])


@pytest.mark.parametrize(
    ("user", "uid", "gid"),
    [("1000", 1000, 0), ("7:1000", 7, 1000), ("1000:1000", 1000, 1000), ("0", 0, 0), ("00", 0, 0), ("+7", 7, 0), ("-0", 0, 0)],
)
def test_a_number_is_an_id_and_never_a_name(root_fd: int, tmp_path: Path, user: str, uid: int, gid: int) -> None:
    """The attack of CVE-2016-3697: somebody named like a number is root."""
    (tmp_path / "etc/passwd").write_text("1000:x:0:0::/root:/bin/sh\nroot:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("1000:x:0:\nroot:x:0:\n")
    who = resolve(root_fd, user, [])
    assert (who.uid, who.gid) == (uid, gid)


@pytest.mark.parametrize(
    ("user", "needless"),
    [
        ("", True),
        ("7", True),
        ("7:8", True),
        (":8", True),
        ("-1", False),
        ("7:-1", False),
        ("anna", False),
        ("7:video", False),
        ("1:2:3", False),
    ],
)
def test_only_names_and_what_is_no_id_must_be_looked_up(user: str, needless: bool) -> None:
    assert needs_no_look(user) is needless


def test_what_is_no_regular_file_is_not_even_opened(root_fd: int, tmp_path: Path) -> None:
    """A container can have a FIFO there, or a device."""
    (tmp_path / "etc/passwd").unlink()
    os.mkfifo(tmp_path / "etc/passwd")
    with pytest.raises(UserError, match="unable to find user anna"):
        resolve(root_fd, "anna", [], read_foreign_file)
    (tmp_path / "etc/passwd").unlink()
    (tmp_path / "etc/passwd").write_text("anna:x:5:6::/:\n")
    assert resolve(root_fd, "anna", [], read_foreign_file).uid == 5


def test_an_additional_group_of_digits_is_an_id(root_fd: int, tmp_path: Path) -> None:
    (tmp_path / "etc/group").write_text("44:x:0:\n")
    assert resolve(root_fd, "4242", ["44"]).groups == [0, 44]


def test_a_link_out_of_the_root_is_resolved_inside_it(root_fd: int, tmp_path: Path) -> None:
    """An image whose passwd is a link to /etc/passwd gets its own file, never the host's."""
    (tmp_path / "etc/passwd").rename(tmp_path / "etc/real")
    (tmp_path / "etc/passwd").symlink_to("/../../../../etc/real")
    assert resolve(root_fd, "anna", []).uid == 1000


def test_a_fifo_in_place_of_passwd_does_not_hang(root_fd: int, tmp_path: Path) -> None:
    """Whatever is not a regular file counts as missing."""
    (tmp_path / "etc/passwd").unlink()
    os.mkfifo(tmp_path / "etc/passwd")
    assert resolve(root_fd, "7", []).uid == 7
