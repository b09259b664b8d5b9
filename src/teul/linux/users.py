"""Names of users and groups, looked up in the container's own passwd and group files.

Docker's rules and texts (moby/sys user): "name|uid[:group|gid]"; a number needs no entry; an unknown name is an error.
security: a number is an id and never a name: an image may have a user *named* 1000 who is root (CVE-2016-3697).
"""

from __future__ import annotations

from teul.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Reader = Callable[[int, str, int], bytes]

_PASSWD_LIMIT_BYTES = 4 << 20
_MAX_ID = (1 << 31) - 1
_MAX_NUMBER = (1 << 63) - 1  # what Go's Atoi takes for a number, of either sign


class UserError(Exception):
    """The user asked for cannot be used; the text is Docker's."""


class ResolvedUser:
    """Numbers to run with, and the home directory that belongs to them."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def resolve(root_fd: int, user: str, extra_groups: list[str], read: Reader = paths.read_in_root) -> ResolvedUser:
    """Resolve `user` and the additional groups inside the root, of which `read` reads the files. Raises `UserError`, `OSError`."""
    name, _, group = user.partition(":")
    passwd = _read_entries(read, root_fd, "/etc/passwd", 7)
    groups = _read_entries(read, root_fd, "/etc/group", 4)
    uid, gid, home, login = _find_user(passwd, name)
    supplementary: list[int] = []
    if group:
        gid = _find_group(groups, group, "unable to find group {}: no matching entries in group file")
    elif login:
        supplementary = [_number(entry[2]) for entry in groups if login in entry[3].split(",") and _is_number(entry[2])]
    for extra in extra_groups:
        supplementary.append(_find_group(groups, extra, "unable to find group {}: no matching entries in group file"))
    # security: the primary group is listed too, or a program could shed it and slip past a negative group permission (CVE-2022-36109).
    return ResolvedUser(uid, gid, list(dict.fromkeys([gid, *supplementary])), home or "/")


def needs_no_look(user: str) -> bool:
    """Whether `user` can be used in whatever root: who is named by numbers that ids can have needs no entry."""
    return all(_is_number(part) and 0 <= int(part) <= _MAX_ID for part in user.split(":", 1) if part)


def _find_user(passwd: list[list[str]], name: str) -> tuple[int, int, str, str]:
    wanted = name or "0"
    number = int(wanted) if _is_number(wanted) else None
    for entry in passwd:
        if not (_is_number(entry[2]) and _is_number(entry[3])):
            continue
        if entry[0] == wanted if number is None else int(entry[2]) == number:
            return _number(entry[2]), _number(entry[3]), entry[5], entry[0]
    if number is None:
        raise UserError(f"unable to find user {name}: no matching entries in passwd file")
    return _number(wanted), 0, "", ""


def _find_group(groups: list[list[str]], name: str, text: str) -> int:
    if _is_number(name):
        return _number(name)
    for entry in groups:
        if entry[0] == name and _is_number(entry[2]):
            return _number(entry[2])
    raise UserError(text.format(name))


def _is_number(text: str) -> bool:
    # docker: as Go's strconv.Atoi, signs included. Not isdigit() alone: that takes the digits of every script.
    digits = text[1:] if text[:1] in ("+", "-") else text
    return digits.isascii() and digits.isdigit() and abs(int(text)) <= _MAX_NUMBER


def _number(text: str) -> int:
    value = int(text)
    if not 0 <= value <= _MAX_ID:
        raise UserError("uids and gids must be in range 0-2147483647")
    return value


def _read_entries(read: Reader, root_fd: int, path: str, fields: int) -> list[list[str]]:
    try:
        text = read(root_fd, path, _PASSWD_LIMIT_BYTES).decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return []
    rows = [line.strip().split(":") for line in text.split("\n") if line and not line.startswith("#")]
    return [row + [""] * (fields - len(row)) for row in rows if len(row) >= min(fields, 3)]
