"""What the kernel says of the mounts that this process sees. proc_pid_mountinfo(5)."""

from __future__ import annotations

import errno
import os

from teul.linux.syscalls import os_error


def mount_of(fd: int) -> tuple[str, list[str]]:
    """Where the mount is that `fd` is on, and its optional fields ("shared:N", "master:N").

    Raises `OSError`, ENOENT if it is in another mount namespace or in none.
    """
    with open(f"/proc/self/fdinfo/{fd}", "rb") as info:
        mount_id = next(line.split()[1] for line in info if line.startswith(b"mnt_id:"))
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            words = line.split(b" ")
            if words[0] == mount_id:
                place = words[4].decode("unicode_escape").encode("latin-1")  # white space and backslashes are written in octal
                return os.fsdecode(place), [field.decode() for field in words[6 : words.index(b"-")]]
    raise os_error(errno.ENOENT, "mountinfo", mount_id.decode())
