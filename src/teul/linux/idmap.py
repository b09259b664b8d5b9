"""Mounts that show other owners of files than the file system has (MOUNT_ATTR_IDMAP of mount_setattr(2), Linux 5.12). stdlib only.

The kernel takes the mapping from a user namespace. One is made for each mount, by a process that ends at once; nobody ever is in it.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence

from teul.linux import mounts
from teul.linux.process import CLONE_NEWUSER, PR_SET_PDEATHSIG, prctl, unshare
from teul.linux.syscalls import os_error

# The first id in the file system, the first id that is seen, and how many. The order of user_namespaces(7), "inside, outside, length".
Range = Sequence[int]


class UserNamespace:
    """A user namespace that has no mapping yet. It can be given one later, by whoever may, wherever that process is by then."""

    __slots__ = ("_fd", "_gid_map_fd", "_uid_map_fd")

    def __init__(self) -> None:
        """In a process with one thread, which sees the host's /proc. Raises `OSError`."""
        told_fd, tell_fd = os.pipe2(os.O_CLOEXEC)
        waits_fd, ends_fd = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            _be_inside(tell_fd, waits_fd, (told_fd, ends_fd))
        try:
            os.close(tell_fd)
            os.close(waits_fd)
            number = int(os.read(told_fd, 16) or errno.ESRCH)
            if number:
                raise os_error(number, "unshare", "a user namespace for ids")
            directory_fd = _open_process(pid)
            try:
                self._fd = os.open("ns/user", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)
                self._uid_map_fd = os.open("uid_map", os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory_fd)
                self._gid_map_fd = os.open("gid_map", os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory_fd)
            finally:
                os.close(directory_fd)
        finally:
            os.close(told_fd)
            os.close(ends_fd)
            os.waitpid(pid, 0)

    def apply(self, mount_fd: int, uids: Sequence[Range], gids: Sequence[Range]) -> None:
        """Have the detached mount, and all below it, show ids by these ranges; ids in none of them are shown as the overflow id.

        To be called once. Raises `OSError`: EINVAL where the file system cannot, EPERM where a mount shows other ids already.
        """
        for fd, ranges in ((self._uid_map_fd, uids), (self._gid_map_fd, gids)):
            os.write(fd, "".join(f"{inside} {outside} {count}\n" for inside, outside, count in ranges).encode())
        mounts.map_ids(mount_fd, self._fd)

    def close(self) -> None:
        """The mount goes on without it."""
        for fd in (self._fd, self._uid_map_fd, self._gid_map_fd):
            os.close(fd)


def _be_inside(tell_fd: int, waits_fd: int, others: tuple[int, ...]) -> None:
    """In the fork: make the namespace, say so, and end when it has been opened."""
    number = errno.EIO
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for fd in others:
            os.close(fd)
        try:
            unshare(CLONE_NEWUSER)
            number = 0
        except OSError as error:
            number = error.errno or errno.EIO
        os.write(tell_fd, str(number).encode())
        os.read(waits_fd, 1)
    finally:
        os._exit(0)


def _open_process(pid: int) -> int:
    """The /proc directory of our own child, whose number there is another one if this process is in a pid namespace of its own."""
    pidfd = os.pidfd_open(pid)
    try:
        with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as info:
            number = next(line.split()[1] for line in info if line.startswith("Pid:"))
    finally:
        os.close(pidfd)
    return os.open(f"/proc/{number}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def map_owner(namespace: UserNamespace, mount_fd: int, uid: int, gid: int) -> None:
    """Have what belongs to the owner of the mount's top be shown as `uid`'s and `gid`'s, and the other way round; nobody else's is."""
    namespace.apply(mount_fd, *owner_ranges(mount_fd, uid, gid))


def owner_ranges(mount_fd: int, uid: int, gid: int) -> tuple[list[Range], list[Range]]:
    """What `map_owner` maps, of users and of groups."""
    owner = os.fstat(mount_fd)
    return [(owner.st_uid, uid, 1)], [(owner.st_gid, gid, 1)]
