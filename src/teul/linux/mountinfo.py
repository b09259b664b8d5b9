"""What the kernel says of the mounts that this process sees. proc_pid_mountinfo(5)."""

from __future__ import annotations

import errno
import os

from teul.linux.syscalls import os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO


def mount_of(fd: int, own_fd: int | None = None) -> tuple[str, list[str]]:
    """Where the mount is that `fd` is on, and its optional fields ("shared:N", "master:N").

    `own_fd` is /proc/self, opened, for a process that is where /proc is somebody else's. Raises `OSError`, ENOENT if it is in another mount
    namespace or in none.
    """
    with _open_own(f"fdinfo/{fd}", own_fd) as info:
        mount_id = next(line.split()[1] for line in info if line.startswith(b"mnt_id:"))
    with _open_own("mountinfo", own_fd) as file:
        for line in file:
            words = line.split(b" ")
            if words[0] == mount_id:
                return os.fsdecode(_plain(words[4])), [field.decode() for field in words[6 : words.index(b"-")]]
    raise os_error(errno.ENOENT, "mountinfo", mount_id.decode())


def mount_points(top: str) -> list[str]:
    """Where something is mounted at or below the absolute path `top`, which has no symbolic links; also of the same file system."""
    with open("/proc/self/mountinfo", "rb") as file:
        places = [os.fsdecode(_plain(line.split(b" ")[4])) for line in file]
    return [place for place in places if place == top or place.startswith(f"{top}/")]


def _plain(written: bytes) -> bytes:
    """White space and backslashes are written in octal. Not by a codec: Python would look for its file, perhaps in another root."""
    first, *rest = written.split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)


def _open_own(name: str, own_fd: int | None) -> BinaryIO:
    if own_fd is None:
        return open(f"/proc/self/{name}", "rb")
    return open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=own_fd), "rb")
