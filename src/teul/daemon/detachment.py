"""What an engine that was started on demand takes from the command that started it, and gives up before it does anything else.

Such an engine is to stand like one that a service manager has started, whoever ran `teul run`, and outlive that session: it holds none of
the caller's mounts, dies with none of the caller's cgroups, and neither it nor its containers are held to the caller's limits and
priorities. The session of its own, the signals and the environment are given by the command (cli/engine.py), before the exec.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Callable, Iterator
from functools import partial

from teul.linux import cgroups, process

log = logging.getLogger(__name__)

_UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
# A running container costs the engine a handful of descriptors, and containers inherit the limit. fs/file.c, sysctl_nr_open; as
# `LimitNOFILE=infinity` in the units of dockerd and containerd.
_DESCRIPTORS = 1 << 20
# Those of a service (systemd-system.conf(5), which keeps the kernel's own: asm-generic/resource.h), but for core files and the number of
# processes: both are unlimited, as in dockerd's unit.
_LIMITS = {
    "RLIMIT_AS": _UNLIMITED,
    "RLIMIT_CORE": _UNLIMITED,
    "RLIMIT_CPU": _UNLIMITED,
    "RLIMIT_DATA": _UNLIMITED,
    "RLIMIT_FSIZE": _UNLIMITED,
    "RLIMIT_MEMLOCK": (8 << 20, 8 << 20),
    "RLIMIT_MSGQUEUE": (819200, 819200),
    "RLIMIT_NICE": (0, 0),
    "RLIMIT_NPROC": _UNLIMITED,
    "RLIMIT_RSS": _UNLIMITED,
    "RLIMIT_RTPRIO": (0, 0),
    "RLIMIT_RTTIME": _UNLIMITED,
    "RLIMIT_STACK": (8 << 20, resource.RLIM_INFINITY),
}


def leave_caller(*, first_fd: int = 3) -> None:
    """Give up what the caller left to this process, which must have one thread. What cannot be given up is logged, and stays.

    Descriptors from `first_fd` on are closed.
    """
    process.close_from(first_fd)
    os.umask(0o022)
    for what, step in _steps():
        try:
            step()
        except OSError as error:
            log.warning("the engine keeps the %s of the command that started it: %s", what, error)


def _steps() -> Iterator[tuple[str, Callable[[], object]]]:
    yield "signals", process.reset_library_signals
    yield "working directory", partial(os.chdir, "/")
    yield "scheduling policy", partial(os.sched_setscheduler, 0, os.SCHED_OTHER, os.sched_param(0))
    yield "nice value", partial(os.setpriority, os.PRIO_PROCESS, 0, 0)
    yield "I/O priority", process.reset_io_priority
    yield "personality", process.reset_personality
    yield "OOM score", process.reset_oom_score
    yield "limits", _reset_limits
    yield "cgroups", _leave_cgroups
    # After the cgroups: processors can be had only of the cpuset that this process is in.
    yield "processors", partial(os.sched_setaffinity, 0, range(os.sysconf("SC_NPROCESSORS_CONF")))
    yield "groups", _become_root


def _reset_limits() -> None:
    """Set every limit as far as it can be; then those that stay below what they should be are raised as one `OSError`."""
    with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
        descriptors = min(_DESCRIPTORS, int(file.read()))
    with open("/proc/sys/kernel/threads-max", encoding="ascii") as file:
        signals = int(file.read()) // 2  # kernel: what the first process has, kernel/fork.c, fork_init()
    limits = {**_LIMITS, "RLIMIT_NOFILE": (descriptors, descriptors), "RLIMIT_SIGPENDING": (signals, signals)}
    refused = [name for name, wanted in limits.items() if not _set_limit(getattr(resource, name), wanted)]
    if refused:
        raise OSError(errno.EPERM, f"setrlimit {', '.join(refused)}: {os.strerror(errno.EPERM)}")


def _set_limit(kind: int, wanted: tuple[int, int]) -> bool:
    """Whether the limit could be set. If not, it takes CAP_SYS_RESOURCE, and the soft limit is as near as the hard one lets it be."""
    try:
        resource.setrlimit(kind, wanted)
    except ValueError:  # EPERM, as Python tells it
        _soft, hard = resource.getrlimit(kind)
        soft = wanted[0] if hard == resource.RLIM_INFINITY else hard if wanted[0] == resource.RLIM_INFINITY else min(wanted[0], hard)
        resource.setrlimit(kind, (soft, hard))
        return False
    return True


def _leave_cgroups() -> None:
    failures = cgroups.leave(cgroups.detect())
    if failures:
        raise OSError(failures[0].errno, "; ".join(str(failure.strerror) for failure in failures))


def _become_root() -> None:
    """The groups that a service of root's has; an engine of somebody else keeps its own."""
    if os.geteuid() == 0:
        os.setgroups([0])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
