"""Shut a worker into one directory, for good.

A worker ends up as two processes. The one that the engine started enters namespaces of its own and forks, since a process-id namespace
holds the children of who made it; then it lets go of everything, waits for the other one and passes on its end. The other one, PID 1
of that namespace, shuts itself in and does the work. Each falls with the one before it: the parent-death signal ends the first with the
engine and the second with the first, and SIGTERM, which the engine sends to end a worker, has the first kill the second and reap it.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
from typing import NoReturn

from teul.linux import mounts
from teul.linux.caps import set_capabilities
from teul.linux.imports import forbid_imports
from teul.linux.process import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    close_from,
    prctl,
    unshare,
)
from teul.linux.seccomp import install_filter
from teul.workers.program.allowed import worker_filter
from teul.workers.program.report import report

# Enough for a decompressor's window and output; a decompression bomb runs into this limit instead of filling the host's memory.
_ADDRESS_SPACE_BYTES = 2 << 30
# Twice the deepest path that fits into PATH_MAX.
_DESCRIPTORS = 8192

# What it takes to make files of any owner and kind. CAP_SYS_ADMIN is not among them: the engine marks opaque directories itself.
UNPACK_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP")

# security: no file that a worker sees may be opened as a device or give privileges to it.
MOUNT_ATTRIBUTES = mounts.MOUNT_ATTR_NODEV | mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NOEXEC

# Namespaces that a kernel may have been built without. The mount namespace is not among them: nothing would hold without it.
_OPTIONAL = {"pid": CLONE_NEWPID, "net": CLONE_NEWNET, "ipc": CLONE_NEWIPC, "uts": CLONE_NEWUTS, "cgroup": CLONE_NEWCGROUP}
_ENDING = frozenset({signal.SIGTERM, signal.SIGCHLD})


def confine(root: str, capabilities: tuple[str, ...], parent_pid: int, *, changing: bool) -> None:
    """Make `root` all that this process can reach, keep only `capabilities`, and set the limits.

    Raises `OSError`; then no input may be read. `changing` as for `lock`. Ends the process if the engine, `parent_pid`, has died meanwhile:
    nobody would read the report.
    """
    seclude(parent_pid)
    root_fd = mounts.clone_tree(root)
    mounts.set_attributes(root_fd, add=MOUNT_ATTRIBUTES, propagation=mounts.MS_PRIVATE)
    mounts.attach_at(root_fd, root)
    enter_root(root_fd)
    lock(capabilities, changing=changing)


def seclude(parent_pid: int) -> None:
    """End with the engine, hide from other processes, set the limits, and go on in namespaces of one's own, as another process.

    The host's files are all still there, and nothing that is mounted from now on is seen on the host. But no module can be loaded any more,
    for the root is about to become somebody else's.
    """
    forbid_imports()
    _end_with_parent()
    if os.getppid() != parent_pid:
        os._exit(1)
    _harden()
    missing = _unshare()
    mounts.set_propagation("/", mounts.MS_PRIVATE | mounts.MS_REC)
    if "pid" not in missing:
        _become_first()
    if missing:
        report({"missing_namespaces": missing})


def enter_root(root_fd: int) -> None:
    """Make the attached mount whose top `root_fd` is the root, and forget all other mounts; closes the descriptor."""
    os.fchdir(root_fd)
    mounts.pivot_root_here()
    os.close(root_fd)


def lock(capabilities: tuple[str, ...], *, changing: bool) -> None:
    """Give up all capabilities but these, and all system calls but those of `allowed`, for good.

    `changing`: the worker makes more than plain files, or changes what files are called and whose they are.
    """
    keep_capabilities(capabilities)
    install_filter(worker_filter(changing=changing))


def keep_capabilities(capabilities: tuple[str, ...]) -> None:
    """Give up all capabilities but these, for good."""
    set_capabilities(effective=capabilities, permitted=capabilities, inheritable=(), ambient=(), bounding=capabilities)


def _end_with_parent() -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _harden() -> None:
    # security: no ptrace and no /proc/<pid>/mem for other processes of our uid, no core file with data of an image or a container.
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, _ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
    ):
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)  # noqa: PLW2901 - clamped
        resource.setrlimit(limit, (value, value))
    os.umask(0)


def _unshare() -> list[str]:
    """Enter a mount namespace and all others that the kernel has; returns the names of those that it lacks."""
    flags = CLONE_NEWNS
    for flag in _OPTIONAL.values():
        flags |= flag
    try:
        unshare(flags)
    except OSError as error:
        if not _is_unknown(error):
            raise
    else:
        return []
    unshare(CLONE_NEWNS)
    missing = []
    for name, flag in _OPTIONAL.items():
        try:
            unshare(flag)
        except OSError as error:
            if not _is_unknown(error):
                raise
            missing.append(name)
    return missing


def _is_unknown(error: OSError) -> bool:
    """unshare(2): EINVAL is a namespace that the kernel was built without."""
    return error.errno in (errno.EINVAL, errno.ENOSYS)


def _become_first() -> None:
    """Go on as PID 1 of the new process-id namespace, while the process as it was waits for the end."""
    # Before the fork, so that no SIGTERM is lost between the fork and the wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    outer_fd = os.pidfd_open(os.getpid())
    inner = os.fork()
    if inner:
        _wait_for(inner)
    _end_with_parent()
    # getppid(2) says 0 in here, whether the parent lives or not.
    if select.select([outer_fd], [], [], 0)[0]:
        os._exit(1)
    os.close(outer_fd)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def _wait_for(inner: int) -> NoReturn:
    """Hold nothing, kill `inner` when told to end, and end as `inner` does."""
    # The engine sees the end of the report, and of an archive, when the worker itself has closed its descriptors.
    close_from(0)
    set_capabilities(effective=(), permitted=(), inheritable=())
    while True:
        if signal.sigwait(_ENDING) == signal.SIGTERM:
            os.kill(inner, signal.SIGKILL)
        ended, status = os.waitpid(inner, os.WNOHANG)
        if ended:
            break
    if os.WIFSIGNALED(status):
        # As the shell says it: a signal of its own could not end this process before it has unblocked and reset it.
        os._exit(128 + os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))
