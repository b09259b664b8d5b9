"""Files that a command writes for its user: whole or not at all, and only where a plain file belongs."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SPECIAL = (
    (stat.S_ISDIR, "cannot write to a directory"),
    (stat.S_ISLNK, "cannot write to a symbolic link directly"),
    (stat.S_ISFIFO, "cannot write to a named pipe (FIFO)"),
    (stat.S_ISSOCK, "cannot write to a socket"),
    (stat.S_ISCHR, "cannot write to a character device file"),
    (stat.S_ISBLK, "cannot write to a block device file"),
)


def reason(error: OSError) -> str:
    """What went wrong, in the small letters in which Go's messages go on: `no such file or directory`."""
    return error.strerror.lower() if error.strerror else str(error)


def check_output(path: str) -> None:
    """Refuse a path at which no plain file can be put. Raises `ValueError` with docker's reason (moby/sys atomicwriter)."""
    directory = os.path.dirname(path)
    if directory:
        try:
            if not stat.S_ISDIR(os.stat(directory).st_mode):
                raise NotADirectoryError(20, "Not a directory")
        except OSError as error:
            raise ValueError(f"invalid output path: stat {directory}: {reason(error)}") from None
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"failed to stat output path: lstat {path}: {reason(error)}") from None
    for is_kind, text in _SPECIAL:
        if is_kind(mode):
            raise ValueError(text)


@contextmanager
def replacing(path: str, *, mode: int = 0o600) -> Iterator[int]:
    """A descriptor of a new file that takes the place of `path`, with `mode`, when the block ends well; else nothing is left of it.

    Raises `OSError`.
    """
    temporary = f"{path}.{os.urandom(8).hex()}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            yield fd
            os.fchmod(fd, mode)  # open(2) would take the umask off
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
