"""The system calls that a worker may make once it is shut in: what handling files, memory and time takes, and nothing that reaches further.

No socket, process, signal to others, mount, namespace, key, BPF program, trace, ioctl or file handle. A worker that only reads has no
call that changes a name or its attributes either.

The filter is written here, instruction by instruction, so that a worker's start neither needs libseccomp nor pays for it.
"""

from __future__ import annotations

import os

from teul.linux.call_numbers import numbers_of
from teul.linux.seccomp import allow_program

_READING = (
    *("read", "write", "open", "close", "stat", "fstat", "lstat", "lseek", "mmap", "mprotect", "munmap", "brk"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "pread64", "pwrite64", "readv", "writev", "access"),
    *("sched_yield", "mremap", "madvise", "dup", "getpid", "exit", "fcntl", "getcwd", "fchdir", "readlink"),
    *("gettimeofday", "getuid", "getgid", "geteuid", "getegid", "getppid", "sigaltstack", "gettid", "getxattr"),
    *("lgetxattr", "fgetxattr", "futex", "sched_getaffinity", "getdents64", "restart_syscall", "clock_gettime"),
    *("flistxattr", "llistxattr"),
    *("exit_group", "openat", "newfstatat", "readlinkat", "faccessat", "getrandom", "statx", "openat2", "faccessat2"),
)
_CHANGING = (
    *("ftruncate", "mkdir", "rmdir", "link", "unlink", "symlink", "chmod", "fchmod", "chown", "fchown", "lchown"),
    *("mknod", "setxattr", "lsetxattr", "fsetxattr", "mkdirat", "mknodat", "fchownat", "unlinkat", "linkat"),
    *("symlinkat", "fchmodat", "utimensat", "fchmodat2", "copy_file_range"),
)


def allowed_calls(machine: str, *, changing: bool) -> dict[str, int]:
    """The allowed calls by name, with their numbers on `machine`; nothing for a machine that is not known here."""
    return numbers_of([*_READING, *_CHANGING] if changing else _READING, machine)


def worker_filter(*, changing: bool) -> bytes:
    """The filter for this machine. `changing`: for a worker that makes, renames or marks files. ENOSYS for an unknown machine."""
    machine = os.uname().machine
    return allow_program(machine, allowed_calls(machine, changing=changing).values())
