"""Mounts of indexed layers, and whether this host makes them. Everything here blocks.

A mount is detached: it is held by its descriptor, is in no mount table, and goes when the last descriptor, and the last overlay that
stands on it, has gone. Whoever mounts one layer twice has its files twice in memory.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import struct

from teul.linux import mounts
from teul.store.atomic import remove_tree, write_new_file
from teul.wire.erofs import Inode, encode

log = logging.getLogger(__name__)

# security: overlayfs goes by its own mount's attributes; these are for whoever gets at a layer by its descriptor.
_ATTRIBUTES = mounts.MOUNT_ATTR_RDONLY | mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NODEV

# kernel: CVE-2024-56750. Before Linux 6.12.2 a mount of a file with blocks smaller than a page ends in a panic. A distribution's kernel of
# that number may have the correction; nobody can tell without trying.
_PANICKING = re.compile(r"6\.12(\.[01])?(?![.\d])")

# What layers cannot do without: the mark of an opaque directory, programs' capabilities, access control. Each is an option of the kernel's.
_NEEDED_XATTRS = {
    b"trusted.overlay.opaque": b"y",
    b"security.capability": struct.pack("<IIIII", 0x02000000, 1 << 10, 0, 0, 0),
    b"system.posix_acl_access": struct.pack("<I", 2)
    + b"".join(struct.pack("<HHi", *entry) for entry in ((1, 7, -1), (2, 5, 1), (4, 5, -1), (16, 5, -1), (32, 5, -1))),
    b"user.any": b"x",
}


def mount_layer(index_path: str, archive_path: str) -> int:
    """A detached mount of the layer; returns its descriptor. Raises `OSError`."""
    index_fd = os.open(index_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        archive_fd = os.open(archive_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # By descriptor, for fsconfig(2) takes at most 255 bytes of a path.
            source, device = (f"/proc/self/fd/{fd}" for fd in (index_fd, archive_fd))
            return mounts.new_filesystem("erofs", [("device", device)], _ATTRIBUTES, source=source)
        finally:
            os.close(archive_fd)
    finally:
        os.close(index_fd)


def refusal(directory: str) -> str:
    """Why layers below `directory` cannot be mounted by their indexes, found out by trying it once; "" if they can.

    Leaves nothing in the directory. Raises `OSError` if nothing can be written there.
    """
    release = os.uname().release
    if _PANICKING.match(release):
        return f"Linux {release} panics on an EROFS file with blocks smaller than a page (CVE-2024-56750)"
    place = os.path.join(directory, "try-erofs")
    remove_tree(place)
    os.mkdir(place, 0o700)
    try:
        top = Inode(stat.S_IFDIR | 0o755)
        top.xattrs = _NEEDED_XATTRS
        head, metadata = encode(top, first_block=4, archive_bytes=1024)
        write_new_file(f"{place}/index", head + metadata, durable=False)
        write_new_file(f"{place}/archive", bytes(1024), durable=False)
        os.mkdir(f"{place}/upper")
        os.mkdir(f"{place}/work")
        return _try(place)
    finally:
        remove_tree(place)


def _try(place: str) -> str:
    try:
        layer_fd = mount_layer(f"{place}/index", f"{place}/archive")
    except OSError as error:
        return str(error)
    try:
        for name, value in _NEEDED_XATTRS.items():
            if os.getxattr(f"/proc/self/fd/{layer_fd}", name) != value:
                return f"the kernel's EROFS has another value of {os.fsdecode(name)}"
        options = (("lowerdir+", layer_fd), ("upperdir", f"{place}/upper"), ("workdir", f"{place}/work"))
        os.close(mounts.new_filesystem("overlay", options, source="overlay"))
    except OSError as error:
        return str(error)
    finally:
        os.close(layer_fd)
    return ""
