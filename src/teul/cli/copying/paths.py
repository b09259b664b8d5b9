"""What `cp SOURCE DESTINATION` means: which directory is unpacked into, and under which name. Pure but for looking at local links.

docker: moby/go-archive copy.go. A trailing `/` or `/.` says "a directory"; `/.` means its contents. The table of cases is in `plan`.
"""

from __future__ import annotations

import os
import posixpath

from teul.cli.errors import CliError
from teul.cli.files import reason

_MOST_LINKS = 10


class Place:
    """One end of a copy. `rebase` is the name that its entries are to have in the archive, if that is not the last part of `path`."""

    __slots__ = ("exists", "is_directory", "path", "rebase")

    def __init__(self, path: str, *, exists: bool = True, is_directory: bool = False, rebase: str = "") -> None:
        self.path = path
        self.exists = exists
        self.is_directory = is_directory
        self.rebase = rebase


def split_argument(argument: str) -> tuple[str, str]:
    """(container, path) of `CONTAINER:PATH`; the container is empty for a local path, which `/` or `.` at its beginning marks."""
    container, colon, path = argument.partition(":")
    if not colon or argument.startswith(("/", ".")):
        return "", argument
    return container, path


def clean(path: str) -> str:
    """As Go's: without `.`, `..`, doubled and trailing slashes."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def base(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or ("/" if path else ".")


def means_contents(path: str) -> bool:
    """Whether the last part is `.`."""
    return base(path) == "."


def split_entry(path: str) -> tuple[str, str]:
    """(directory, entry); the entry is `.` for the contents of a directory."""
    cleaned = clean(path) + ("/." if means_contents(path) else "")
    directory = cleaned[: cleaned.rfind("/") + 1]
    return clean(directory), base(cleaned)


def keep_ending(cleaned: str, original: str) -> str:
    """`cleaned`, with the `/` or `/.` that `original` ends in."""
    if means_contents(original) and not means_contents(cleaned):
        cleaned = cleaned + "." if cleaned.endswith("/") else cleaned + "/."
    return cleaned + "/" if original.endswith("/") and not cleaned.endswith("/") else cleaned


def absolute(path: str) -> str:
    return keep_ending(clean(os.path.join(os.getcwd(), path)), path)


def resolved(path: str, target: str) -> tuple[str, str]:
    """`target`, which a link at `path` leads to, ending as `path` does, and the name that its entries keep from `path`."""
    if means_contents(path) and not means_contents(target):
        target += "/."
    if path.endswith("/") and not target.endswith("/"):
        target += "/"
    return target, base(path) if base(path) != base(target) else ""


def joined(link: str, target: str) -> str:
    """Where the link at `link` leads to."""
    return target if target.startswith("/") else clean(f"{split_entry(link)[0]}/{target}")


def local_source(path: str, *, follow: bool) -> Place:
    """What is at the absolute `path`; a link as its last part is followed only with `follow`. Raises `CliError`."""
    try:
        if follow:
            path, rebase = resolved(path, os.path.realpath(path, strict=True))
        else:
            directory, slash, name = path.rpartition("/")
            real = os.path.realpath(directory or "/", strict=True).removesuffix("/") + slash + name
            rebase = base(path) if path.endswith("/") and base(path) != base(real) else ""
            path = real
        mode = os.lstat(path).st_mode
    except NotADirectoryError:
        raise CliError("not a directory") from None
    except OSError as error:
        raise CliError(f"lstat {error.filename}: {reason(error)}") from None
    return Place(path, is_directory=mode & 0o170000 == 0o040000, rebase=rebase)


def local_destination(path: str) -> Place:
    """Where something is to be put; links are followed, and nothing need be there but the directory above. Raises `CliError`."""
    original = path
    for _ in range(_MOST_LINKS + 2):
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return _new_place(path)
        except OSError as error:
            raise CliError(f"lstat {path}: {reason(error)}") from None
        if mode & 0o170000 != 0o120000:
            return Place(path, is_directory=mode & 0o170000 == 0o040000)
        path = joined(path, os.readlink(path.rstrip("/")))
    raise CliError(f"too many symlinks in {original}")


def _new_place(path: str) -> Place:
    parent = split_entry(path)[0]
    try:
        mode = os.stat(parent).st_mode
    except OSError as error:
        raise CliError(f"stat {parent}: {reason(error)}") from None
    if mode & 0o170000 != 0o040000:
        raise CliError("not a directory")
    return Place(path, exists=False)


def plan(source: Place, destination: Place) -> tuple[str, str, str]:
    """(the directory to unpack into, the name in the archive to replace, by what); nothing is replaced where both are empty.

    Raises `CliError` for what cannot be.
    """
    directory, new = split_entry(destination.path)
    old = source.rebase or split_entry(source.path)[1]
    if destination.exists and destination.is_directory:
        return destination.path, "", ""
    if destination.exists and source.is_directory:
        raise CliError("cannot copy directory")
    if not destination.exists and not source.is_directory and (destination.path.endswith("/") or means_contents(destination.path)):
        raise CliError("no such directory")
    return directory, old, new


def renamed(name: bytes, old: str, new: str) -> bytes:
    """The name of an archive's entry when `old` is called `new`. docker: the first occurrence; the root's name is empty."""
    if not old and not new:
        return name
    return name.replace(b"" if old == "/" else os.fsencode(old), os.fsencode(new), 1)
