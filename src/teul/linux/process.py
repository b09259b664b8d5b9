"""Processes and namespaces: clone3, unshare, setns, prctl, pidfd, close_range. stdlib and ctypes only."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import struct

from teul.linux.syscalls import check, libc, syscall

# linux/sched.h
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PARENT = 0x00008000
CLONE_INTO_CGROUP = 0x200000000

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
_PF_FORKNOEXEC = 0x40  # include/linux/sched.h; proc_pid_stat(5), field 9
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_IOPRIO_WHO_PROCESS = 1  # linux/ioprio.h
_PTRACE_DETACH = 17  # linux/ptrace.h
_M_ARENA_MAX = -8  # malloc.h
_PF_EXITING = 0x00000004  # linux/sched.h
_PIDFD_INFO_EXIT = 1 << 3  # linux/pidfd.h
_PIDFD_INFO_SIZE = 64  # PIDFD_INFO_SIZE_VER0, Linux 6.13
_PIDFD_GET_INFO = 0xC000_FF0B | (_PIDFD_INFO_SIZE << 16)  # _IOWR(0xFF, 11, struct pidfd_info)


class clone_args(ctypes.Structure):
    """linux/sched.h, struct clone_args (CLONE_ARGS_SIZE_VER2)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


_prctl = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, use_errno=True)(
    ("prctl", libc)
)
_ptrace = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, use_errno=True)(("ptrace", libc))
_personality = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_ulong, use_errno=True)(("personality", libc))
_setns = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, use_errno=True)(("setns", libc))
_unshare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, use_errno=True)(("unshare", libc))
_sethostname = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, use_errno=True)(("sethostname", libc))
_setdomainname = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, use_errno=True)(("setdomainname", libc))


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument."""
    check(_prctl(option, value, 0, 0, 0), "prctl", str(option))


def reset_io_priority() -> None:
    """Have no I/O priority of one's own (IOPRIO_CLASS_NONE): it follows from the nice value. ioprio_set(2)."""
    syscall("ioprio_set", _IOPRIO_WHO_PROCESS, 0, 0)


def reset_oom_score() -> None:
    """Be as likely a victim of the OOM killer as any process. proc_pid_oom_score_adj(5)."""
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)


def reset_personality() -> None:
    """Be an ordinary process of Linux again: no address at a fixed place, no other machine's name. personality(2), PER_LINUX."""
    check(_personality(0), "personality")


def reset_library_signals() -> None:
    """Let the signals that libc keeps for its threads have their default action again, where they are ignored.

    glibc's posix_spawn(3) has its children ignore them (sysdeps/unix/sysv/linux/spawni.c), and its sigaction(3) refuses them.
    """
    action = ctypes.create_string_buffer(32)  # linux/signal_types.h, struct sigaction: the handler first
    default = ctypes.create_string_buffer(32)
    for number in (32, 33):
        syscall("rt_sigaction", number, None, ctypes.addressof(action), 8)
        if struct.unpack_from("=Q", action)[0] == signal.SIG_IGN:
            syscall("rt_sigaction", number, ctypes.addressof(default), None, 8)


def set_name(name: str) -> None:
    """The name that ps shows in brackets for this process, cut to 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    prctl(PR_SET_NAME, ctypes.addressof(buffer))


def argument_area() -> tuple[int, int]:
    """Where this process's command line stands in its memory: (address, size). Fork keeps it. proc_pid_stat(5), fields 48 and 49."""
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    return start, end - start


def set_title(title: str, area: tuple[int, int]) -> None:
    """Replace what ps shows as the command line, within the room that the original one had. `area` as of `argument_area`."""
    address, size = area
    ctypes.memmove(address, title.encode()[: size - 1].ljust(size, b"\0"), size)


def unshare(flags: int) -> None:
    """unshare(2)."""
    check(_unshare(flags), "unshare", hex(flags))


def setns(fd: int, flags: int) -> None:
    """setns(2); `fd` is a namespace file or, since Linux 5.8, a pidfd with several namespaces in `flags`."""
    check(_setns(fd, flags), "setns", hex(flags))


def set_hostname(name: str) -> None:
    """sethostname(2) in this UTS namespace."""
    raw = name.encode()
    check(_sethostname(raw, len(raw)), "sethostname", name)


def set_domainname(name: str) -> None:
    """setdomainname(2) in this UTS namespace."""
    raw = name.encode()
    check(_setdomainname(raw, len(raw)), "setdomainname", name)


def fork_sibling(cgroup_fd: int = -1) -> int:
    """fork(2) whose child is a child of the caller's parent (CLONE_PARENT), born in the cgroup v2 directory `cgroup_fd` if given.

    Moving a process into its cgroup afterwards would wait for an RCU grace period of all CPUs (10 to 20 ms). Only for
    single-threaded processes: the interpreter's own fork hooks are run, libc's are not.
    """
    flags = CLONE_PARENT | (CLONE_INTO_CGROUP if cgroup_fd >= 0 else 0)
    arguments = clone_args(flags=flags, cgroup=max(cgroup_fd, 0))  # with CLONE_PARENT, the child's end signal is the caller's own
    return _fork("clone3", ctypes.addressof(arguments), ctypes.sizeof(arguments))


def _fork(call: str, *arguments: int) -> int:
    ctypes.pythonapi.PyOS_BeforeFork()
    try:
        pid = syscall(call, *arguments)
    except OSError:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
        raise
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    return pid


def fork_sibling_under_filter() -> int:
    """As `fork_sibling`, by the older clone(2): Docker's seccomp profile answers ENOSYS to clone3(2), whose flags it cannot see."""
    return _fork("clone", CLONE_PARENT, 0)


def stop_tracing(pid: int, signal_number: int) -> None:
    """Let a stopped child go on that has made us its tracer (ptrace(2), PTRACE_TRACEME), with the signal that stopped it, and for good.

    Not with SIGTRAP, which the kernel sends only since there is a tracer.
    """
    number = 0 if signal_number == signal.SIGTRAP else signal_number
    check(_ptrace(_PTRACE_DETACH, pid, None, number), "ptrace(PTRACE_DETACH)", str(pid))


def kill_and_wait(pidfd: int) -> None:
    """End a process, whosever child it is, and wait for its end; its parent reaps it."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return
    end = select.poll()
    end.register(pidfd, select.POLLIN)
    end.poll()


def has_executed(pid: int) -> bool:
    """Whether the process has executed a program since it was forked; also of a zombie. False if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return False
    return not int(fields[6]) & _PF_FORKNOEXEC


def children_of(pid: int) -> list[int]:
    """The pids of the children that hang on the process's first thread; none of a process that is not there."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def close_from(first_fd: int) -> None:
    """Close every descriptor from `first_fd` on. close_range(2), Linux 5.9."""
    syscall("close_range", first_fd, 0xFFFFFFFF, 0)


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor from 3 on that is not in `keep`."""
    first = 3
    for fd in sorted(keep):
        if fd > first:
            syscall("close_range", first, fd - 1, 0)
        first = max(first, fd + 1)
    close_from(first)


def exit_status_of(pid: int, pidfd: int) -> int | None:
    """The wait status of the ended process `pid`, for a caller that is not its parent; None if it cannot be known.

    Until the parent has reaped the process, its stat file has the status (proc_pid_stat(5), field 52); afterwards the pidfd remembers,
    since Linux 6.15.
    """
    status = _zombie_status(pid)
    return status if status is not None else _remembered_status(pidfd)


def _zombie_status(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[49]) if fields[0] in "ZX" else None


def _remembered_status(pidfd: int) -> int | None:
    buffer = bytearray(_PIDFD_INFO_SIZE)
    struct.pack_into("=Q", buffer, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)
    except OSError:
        return None
    mask: int = struct.unpack_from("=Q", buffer)[0]
    status: int = struct.unpack_from("=i", buffer, 60)[0]
    return status if mask & _PIDFD_INFO_EXIT else None


def open_root(pidfd: int) -> int:
    """A descriptor, as of O_PATH, of the root directory of the process. Raises ProcessLookupError if it has ended, or is about to."""
    try:
        root_fd = os.open(f"/proc/{_pid_of(pidfd)}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(errno.ESRCH, "the process has ended") from error
    if is_ending(pidfd):
        # Its number may be another process's by now, and so the root.
        os.close(root_fd)
        raise ProcessLookupError(errno.ESRCH, "the process has ended")
    return root_fd


def _pid_of(pidfd: int) -> int:
    """The number of the process; -1 once it was reaped."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def is_ending(pidfd: int) -> bool:
    """Whether the process has ended or is on its way out: it may already have let go of its namespaces while it still counts as alive.

    Blocks no longer than procfs does. proc_pid_stat(5), field 9.
    """
    if _has_ended(pidfd):
        return True
    try:
        with open(f"/proc/{_pid_of(pidfd)}/stat", encoding="ascii", errors="replace") as file:
            flags = int(file.read().rpartition(")")[2].split()[6])
    except (OSError, IndexError):
        return True  # it was reaped meanwhile
    return bool(flags & _PF_EXITING) or _has_ended(pidfd)


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def share_malloc_arena() -> None:
    """Have all threads allocate from one arena (mallopt(3), M_ARENA_MAX): threads that mostly wait need no arenas of their own.

    Where libc is not glibc there is no such knob, and nothing happens.
    """
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Give free pages of libc's heap back to the kernel (malloc_trim(3)), where libc is glibc."""
    trim = getattr(libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


def started_at(pid: int) -> int:
    """The process's start in clock ticks since boot, 0 if it is gone: with the pid, a name that is never used twice.

    proc_pid_stat(5), field 22.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return 0


def copy_descriptor(pidfd: int, fd: int) -> int:
    """A descriptor of our own for what `fd` is in the process of `pidfd`, close-on-exec. pidfd_getfd(2), Linux 5.6."""
    return syscall("pidfd_getfd", pidfd, fd, 0)


def open_pidfd(pid: int) -> int:
    """A descriptor for process `pid` that stays true when the number is used again.

    Raises `ProcessLookupError` also for a process that is gone while its number lives on as that of its group or session: what the kernel
    says to that has changed with the versions.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if pid <= 0 or error.errno not in {errno.EINVAL, errno.ENOENT}:
            raise
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from error
