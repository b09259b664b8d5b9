"""What the agent gives up before it reads its first foreign byte: files, privileges, other processes, and most system calls."""

from __future__ import annotations

import os
import resource

from teul.linux import mounts
from teul.linux.caps import drop_bounding, set_capabilities
from teul.linux.process import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWUTS,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    prctl,
    unshare,
)
from teul.linux.seccomp import allow_program, install_filter

# systemd's table of user ids has nothing here: nobody's, not even `nobody`'s, which other programs are.
_NOBODY = 2_000_000_053
_ADDRESS_SPACE_BYTES = 1 << 30
_EMPTY_ROOT = mounts.MOUNT_ATTR_RDONLY | mounts.MOUNT_ATTR_NODEV | mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NOEXEC

# By architecture: (x86-64, AArch64); asm/unistd.h. None: the architecture has no such call. No call that opens a file, makes a process,
# sends a signal, or changes what this process may do.
_CALLS: dict[str, tuple[int, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "dup": (32, 23),
    "getpid": (39, 172),
    "socket": (41, 198),
    "connect": (42, 203),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "shutdown": (48, 210),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    "setsockopt": (54, 208),
    "getsockopt": (55, 209),
    "exit": (60, 93),
    "fcntl": (72, 25),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "exit_group": (231, 94),
    "epoll_wait": (232, None),
    "epoll_ctl": (233, 21),
    "epoll_pwait": (281, 22),
    "accept4": (288, 242),
    "getrandom": (318, 278),
}
_COLUMNS = {"x86_64": 0, "aarch64": 1}


def allowed_calls(machine: str) -> dict[str, int]:
    """The allowed calls by name, with their numbers on `machine`; nothing for a machine that is not known here."""
    column = _COLUMNS.get(machine)
    return {name: number for name, numbers in _CALLS.items() if column is not None and (number := numbers[column]) is not None}


def confine() -> None:
    """Give it all up, for good. Raises `OSError`; then nothing foreign may be read.

    The network namespace stays the host's: that is where upstream servers are asked from. Nothing more can be imported afterwards.
    """
    _limit()
    prctl(PR_SET_DUMPABLE, 0)
    _leave_files()
    drop_bounding(())
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    set_capabilities(effective=(), permitted=(), inheritable=())
    # Once more: with another user id the kernel takes the process for one that others of that id may look into.
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    machine = os.uname().machine
    install_filter(allow_program(machine, allowed_calls(machine).values()))


def _limit() -> None:
    """As many descriptors as this process may have, three for each container; no core file with containers' names; memory has an end."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))


def _leave_files() -> None:
    """An empty root, in a mount namespace that nothing of the host's is mounted in: nothing that the host unmounts is held on to."""
    unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
    mounts.set_propagation("/", mounts.MS_PRIVATE | mounts.MS_REC)
    root_fd = mounts.new_filesystem("tmpfs", [("size", "4k"), ("mode", "555")], _EMPTY_ROOT)
    mounts.attach_at(root_fd, "/")
    os.fchdir(root_fd)
    mounts.pivot_root_here()
    os.close(root_fd)
