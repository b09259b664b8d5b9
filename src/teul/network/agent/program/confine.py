"""What the agent gives up before it reads its first foreign byte: files, privileges, other processes, and most system calls."""

from __future__ import annotations

import os
import resource

from teul.linux import mounts
from teul.linux.call_numbers import numbers_of
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

# No call that opens a file, makes a process, sends a signal, or changes what this process may do.
_CALLS = (
    *("read", "write", "close", "fstat", "lseek", "mmap", "mprotect", "munmap", "brk", "rt_sigaction", "rt_sigprocmask"),
    *("rt_sigreturn", "sched_yield", "mremap", "madvise", "dup", "getpid", "socket", "connect", "sendto", "recvfrom"),
    *("sendmsg", "recvmsg", "shutdown", "getsockname", "getpeername", "setsockopt", "getsockopt", "exit", "fcntl"),
    *("sigaltstack", "gettid", "futex", "restart_syscall", "clock_gettime", "exit_group", "epoll_wait", "epoll_ctl"),
    *("epoll_pwait", "accept4", "getrandom"),
)


def allowed_calls(machine: str) -> dict[str, int]:
    """The allowed calls by name, with their numbers on `machine`; nothing for a machine that is not known here."""
    return numbers_of(_CALLS, machine)


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
