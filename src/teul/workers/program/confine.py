"""Shut a worker into one directory, for good."""

from __future__ import annotations

import os
import resource
import signal

from teul.linux.caps import set_capabilities
from teul.linux.process import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, prctl

# Enough for a decompressor's window and output; a decompression bomb runs into this limit instead of filling the host's memory.
_ADDRESS_SPACE_BYTES = 2 << 30
# Twice the deepest path that fits into PATH_MAX.
_DESCRIPTORS = 8192

# What it takes to make files of any owner and kind. CAP_SYS_ADMIN is not among them: the engine marks opaque directories itself.
UNPACK_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP")


def confine(root: str, capabilities: tuple[str, ...], parent_pid: int) -> None:
    """Make `root` this process's "/", keep only `capabilities`, and set the limits. Raises `OSError`; then no input may be read.

    Ends the process if the engine, `parent_pid`, has died meanwhile: nobody would read the report.
    """
    harden(parent_pid)
    os.chroot(root)
    os.chdir("/")
    keep_capabilities(capabilities)


def harden(parent_pid: int) -> None:
    """What `confine` does before the new root: end with the engine, hide from other processes, set the limits and the umask."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)
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


def keep_capabilities(capabilities: tuple[str, ...]) -> None:
    """Give up all capabilities but these, for good."""
    set_capabilities(effective=capabilities, permitted=capabilities, inheritable=(), ambient=(), bounding=capabilities)
