"""What directories of a layer get when everything else of it is there: default ACLs, set-gid bits and times.

An entry made in a directory would inherit its ACL, or its group if the directory is set-gid, and changes the directory's time.
"""

from __future__ import annotations

import os

from teul.workers.program.attributes import DEFAULT_ACL
from teul.workers.program.entries import bounded_time, set_xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class LateDirectories:
    """By the directory's path: `default_acls` as the attribute's value, `set_group_ids` as whole modes, `times` in nanoseconds."""

    def __init__(self) -> None:
        self.default_acls: dict[bytes, bytes] = {}
        self.set_group_ids: dict[bytes, int] = {}
        self.times: dict[bytes, int] = {}

    def forget(self, path: bytes) -> None:
        """Drop what was to be done to the directory `path`, which is removed, and to those below it."""
        below = path + b"/"
        for old in [old for old in self.times if old == path or old.startswith(below)]:
            del self.times[old]
            self.set_group_ids.pop(old, None)
            self.default_acls.pop(old, None)

    def finish(self, open_directory: Callable[[bytes], int]) -> None:
        """Do it. `open_directory` gives a descriptor of a directory, which stays its own. Raises `OSError` or `Refused`."""
        for path, acl in self.default_acls.items():
            fd = _readable(open_directory(path))
            try:
                set_xattrs(fd, {DEFAULT_ACL: acl})
            finally:
                os.close(fd)
        for path, mode in self.set_group_ids.items():
            fd = _readable(open_directory(path))
            try:
                os.fchmod(fd, mode)
            finally:
                os.close(fd)
        for path, time_ns in self.times.items():
            bounded = bounded_time(time_ns)
            parent, _, base = path.rpartition(b"/")
            os.utime(base or b".", ns=(bounded, bounded), dir_fd=open_directory(parent), follow_symlinks=False)


def _readable(directory_fd: int) -> int:
    return os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory_fd)
