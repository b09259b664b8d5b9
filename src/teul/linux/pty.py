"""Pseudo terminals of a given devpts instance."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios

from teul.linux.syscalls import os_error

TIOCSPTLCK = 0x40045431  # asm-generic/ioctls.h
TIOCGPTPEER = 0x5441
TIOCGPTN = 0x80045430


def open_pair(ptmx_fd_path: str, *, dir_fd: int | None = None) -> tuple[int, int, int]:
    """Open a new terminal from the given ptmx; returns (master, slave, number of the slave in /dev/pts).

    The slave is opened through the master (TIOCGPTPEER), not by a path that the container could have replaced.
    """
    master_fd = os.open(ptmx_fd_path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        # security: whatever the container has put at this path, only a real ptmx (major 5, minor 2) is used.
        if os.fstat(master_fd).st_rdev != os.makedev(5, 2):
            raise os_error(errno.ENXIO, "open", ptmx_fd_path)
        fcntl.ioctl(master_fd, TIOCSPTLCK, struct.pack("=i", 0))
        slave_fd = fcntl.ioctl(master_fd, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        number: int = struct.unpack("=I", fcntl.ioctl(master_fd, TIOCGPTN, b"\0" * 4))[0]
    except OSError:
        os.close(master_fd)
        raise
    return master_fd, slave_fd, number


def make_controlling(slave_fd: int) -> None:
    """Start a session whose controlling terminal is `slave_fd`."""
    os.setsid()
    fcntl.ioctl(slave_fd, termios.TIOCSCTTY, 0)


def set_size(fd: int, rows: int, columns: int) -> None:
    """TIOCSWINSZ: the program in the terminal gets SIGWINCH. Raises `OSError`, also for a size that no terminal has."""
    if not (0 <= rows < 1 << 16 and 0 <= columns < 1 << 16):
        raise OSError(errno.EINVAL, f"TIOCSWINSZ: no size of a terminal: {rows}x{columns}")
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("=HHHH", rows, columns, 0, 0))
