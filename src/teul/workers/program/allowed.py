"""The system calls that a worker may make once it is shut in: what handling files, memory and time takes, and nothing that reaches further.

No socket, process, signal to others, mount, namespace, key, BPF program, trace, ioctl or file handle. A worker that only reads has no
call that changes a name or its attributes either.

The filter is written here, instruction by instruction, so that a worker's start neither needs libseccomp nor pays for it.
"""

from __future__ import annotations

import os

from teul.linux.seccomp import allow_program

# By architecture: (x86-64, AArch64); asm/unistd.h. None: the architecture has no such call.
_READING: dict[str, tuple[int, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "open": (2, None),
    "close": (3, 57),
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "readv": (19, 65),
    "writev": (20, 66),
    "access": (21, None),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "dup": (32, 23),
    "getpid": (39, 172),
    "exit": (60, 93),
    "fcntl": (72, 25),
    "getcwd": (79, 17),
    "fchdir": (81, 50),
    "readlink": (89, None),
    "gettimeofday": (96, 169),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getegid": (108, 177),
    "getppid": (110, 173),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "getxattr": (191, 8),
    "lgetxattr": (192, 9),
    "fgetxattr": (193, 10),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "getdents64": (217, 61),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "exit_group": (231, 94),
    "openat": (257, 56),
    "newfstatat": (262, 79),
    "readlinkat": (267, 78),
    "faccessat": (269, 48),
    "getrandom": (318, 278),
    "statx": (332, 291),
    "openat2": (437, 437),
    "faccessat2": (439, 439),
}
_CHANGING: dict[str, tuple[int, int | None]] = {
    "ftruncate": (77, 46),
    "mkdir": (83, None),
    "rmdir": (84, None),
    "link": (86, None),
    "unlink": (87, None),
    "symlink": (88, None),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "mknod": (133, None),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "mkdirat": (258, 34),
    "mknodat": (259, 33),
    "fchownat": (260, 54),
    "unlinkat": (263, 35),
    "linkat": (265, 37),
    "symlinkat": (266, 36),
    "fchmodat": (268, 53),
    "utimensat": (280, 88),
    "fchmodat2": (452, 452),
}
_COLUMNS = {"x86_64": 0, "aarch64": 1}


def allowed_calls(machine: str, *, changing: bool) -> dict[str, int]:
    """The allowed calls by name, with their numbers on `machine`; nothing for a machine that is not known here."""
    column = _COLUMNS.get(machine)
    calls = {**_READING, **_CHANGING} if changing else _READING
    return {name: number for name, numbers in calls.items() if column is not None and (number := numbers[column]) is not None}


def worker_filter(*, changing: bool) -> bytes:
    """The filter for this machine. `changing`: for a worker that makes, renames or marks files. ENOSYS for an unknown machine."""
    machine = os.uname().machine
    return allow_program(machine, allowed_calls(machine, changing=changing).values())
