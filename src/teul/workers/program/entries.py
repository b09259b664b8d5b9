"""An entry of an archive becomes a file: what unpacking a layer (`extract`) and copying into a container (`place`) do alike.

Where the two differ on purpose, the caller says how. Nothing here looks up a path: files are given by descriptor, or by their name in an
open directory.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection

from teul.store.atomic import write_all
from teul.wire.tar import BLOCK, CHARACTER, FIFO, Entry, TarReader

# A file is opened only if it is new: a file of that name that exists already may be a symlink, a FIFO or a device.
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Before 1902 and after 2262 a time is nonsense: beyond what ext4 stores, and beyond what dockerd takes for one. The kernel cuts it further
# to what the filesystem can store.
_MIN_TIME_NS, _MAX_TIME_NS = -(1 << 31) * 10**9, (1 << 63) - 1
# security: trusted.overlay.* would let an archive redirect a directory to other ones; user.overlay.* is the same for rootless mounts,
# and no archive has business with the rest of trusted.* either (containerd drops it too).
FORBIDDEN_XATTRS = (b"trusted.", b"user.overlay.")


class Refused(ValueError):
    """An entry that is not made into a file, because no honest archive has such an entry or because docker does not place it."""


def write_data(reader: TarReader, fd: int, entry: Entry) -> None:
    """Write the data of `entry`, at which `reader` stands, to the new file `fd`; a sparse file gets holes."""
    if entry.segments is None:
        for piece in reader.data():
            write_all(fd, piece)
        return
    for offset, length in entry.segments:
        os.lseek(fd, offset, os.SEEK_SET)
        for piece in reader.data(length):
            write_all(fd, piece)
    os.ftruncate(fd, entry.size_bytes)


def set_xattrs(target: int | bytes, xattrs: dict[bytes, bytes], *, required: Collection[bytes] = ()) -> None:
    """Set the attributes of a descriptor, or of a name in the current directory, which is not followed if it is a symlink.

    Attributes of overlayfs are left out. An attribute that the filesystem does not support or permit is passed over; but not being
    permitted (EPERM) to set one of the `required` attributes is an error. Raises `OSError`.
    """
    for name, value in xattrs.items():
        if name.startswith(FORBIDDEN_XATTRS):
            continue
        try:
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            # docker: a filesystem without the attribute, or one that this kind of file cannot have, is no reason to refuse the archive;
            # neither are labels of a security module (security.selinux) that only the host's own policy may set.
            if error.errno == errno.ENOTSUP or (error.errno == errno.EPERM and name not in required):
                continue
            raise


def make_node(parent_fd: int, base: bytes, entry: Entry, *, mode: int, name: bytes) -> None:
    """Make a FIFO or a device; errors call the entry `name`. Raises `Refused` for a device that cannot be, and `OSError`."""
    if entry.type == FIFO:
        os.mkfifo(base, mode, dir_fd=parent_fd)
        return
    assert entry.type in (CHARACTER, BLOCK), "the reader passes no other types"
    check_device(entry, name)
    kind = stat.S_IFCHR if entry.type == CHARACTER else stat.S_IFBLK
    os.mknod(base, kind | mode, os.makedev(entry.major, entry.minor), dir_fd=parent_fd)


def check_device(entry: Entry, name: bytes) -> None:
    """Raise `Refused` for a device that cannot be."""
    # kernel: 12 bits of major and 20 of minor (linux/kdev_t.h)
    if not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
        raise Refused(f'invalid device "{os.fsdecode(name)}": no device {entry.major}:{entry.minor}')


def bounded_time(time_ns: int) -> int:
    """`time_ns`, or the nearest time that is kept."""
    return time_ns if _MIN_TIME_NS <= time_ns <= _MAX_TIME_NS else min(max(time_ns, _MIN_TIME_NS), _MAX_TIME_NS)


def counts(status: os.stat_result) -> bool:
    """Whether a file's size is part of its layer's."""
    return stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)


def bytes_below(path: bytes) -> int:
    """How much the layer has in a directory and nowhere else."""
    total = 0
    names: dict[int, int] = {}  # of a file with several, those that were seen
    pending = [path]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(entry.path)
                elif counts(status):
                    names[status.st_ino] = names.get(status.st_ino, 0) + 1
                    if names[status.st_ino] == status.st_nlink:
                        total += status.st_size
    return total
