"""What a volume keeps of a file besides its data, owner, mode and times: which extended attributes, and where its holes are."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

# Labels (security.selinux) are for the host's policy to give, and the marks of an overlay (trusted.overlay) are none of the files'.
_KEPT_XATTRS = ("user.", "system.posix_acl_", "security.capability")


def kept_xattrs(fd: int) -> dict[bytes, bytes]:
    """The attributes of a file that go with it, in the order of their names. Raises `OSError`."""
    try:
        names = sorted(os.listxattr(fd))
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return {}  # the filesystem has no attributes
    return {os.fsencode(name): os.getxattr(fd, name) for name in names if name.startswith(_KEPT_XATTRS)}


def data_segments(fd: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are no holes, each as where it begins and how long it is; moves the file's position."""
    at = 0
    while at < size_bytes:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # nothing but a hole from here on
        if at >= size_bytes:
            return  # the file has grown meanwhile
        end = min(os.lseek(fd, at, os.SEEK_HOLE), size_bytes)
        yield at, end - at
        at = end
