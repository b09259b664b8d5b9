"""The system calls of a worker: their numbers, and what is not among them."""

from __future__ import annotations

import pytest

from teul.linux import seccomp
from teul.workers.program.allowed import allowed_calls

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# What the kernel names otherwise, or libseccomp learned late.
NEW = {"fchmodat2": 452, "openat2": 437, "faccessat2": 439}
REACHING = [
    "socket",
    "connect",
    "bind",
    "clone",
    "clone3",
    "fork",
    "vfork",
    "execve",
    "execveat",
    "kill",
    "tkill",
    "tgkill",
    "rt_sigqueueinfo",
    "pidfd_open",
    "pidfd_send_signal",
    "ptrace",
    "mount",
    "umount2",
    "move_mount",
    "open_tree",
    "fsopen",
    "pivot_root",
    "chroot",
    "setns",
    "unshare",
    "keyctl",
    "add_key",
    "bpf",
    "perf_event_open",
    "io_uring_setup",
    "ioctl",
    "prctl",
    "seccomp",
    "open_by_handle_at",
    "process_vm_readv",
    "init_module",
    "reboot",
    "capset",
]


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_libseccomps(machine: str) -> None:
    resolve = seccomp._library().seccomp_syscall_resolve_name_arch
    for name, number in allowed_calls(machine, changing=True).items():
        known = resolve(MACHINES[machine], name.encode())
        assert number == (NEW.get(name) if known == -1 else known), name


def test_what_one_architecture_lacks_it_lacks() -> None:
    """A call that AArch64 has is not left out there by mistake."""
    resolve = seccomp._library().seccomp_syscall_resolve_name_arch
    for name in set(allowed_calls("x86_64", changing=True)) - set(allowed_calls("aarch64", changing=True)):
        assert resolve(MACHINES["aarch64"], name.encode()) < 0, name


@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_that_reaches_further_is_allowed(machine: str) -> None:
    assert not set(REACHING) & set(allowed_calls(machine, changing=True))


@pytest.mark.parametrize("machine", MACHINES)
def test_a_worker_that_reads_changes_no_names(machine: str) -> None:
    reading = allowed_calls(machine, changing=False)
    changes = (
        "mk",
        "mount",
        "link",
        "unlink",
        "symlink",
        "rename",
        "chmod",
        "chown",
        "fchm",
        "fcho",
        "lchown",
        "set",
        "fset",
        "lset",
        "utime",
    )
    assert not [name for name in reading if name.startswith(changes)]
