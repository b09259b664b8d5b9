"""The system calls that the agent may make."""

from __future__ import annotations

import pytest

from teul.network.agent.program.confine import allowed_calls

# What would reach further: files, other processes, programs, privileges, the kernel's inside, sockets that listen anew.
FORBIDDEN = {
    *("open", "openat", "openat2", "creat", "stat", "mount", "chroot", "unlink", "rename", "ioctl", "memfd_create"),
    *("clone", "clone3", "fork", "vfork", "execve", "execveat", "kill", "tgkill", "tkill", "ptrace", "process_vm_readv", "pidfd_getfd"),
    *("setuid", "setresuid", "capset", "prctl", "setns", "unshare", "bpf", "keyctl", "seccomp", "perf_event_open", "io_uring_setup"),
    *("bind", "listen"),
}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_no_call_reaches_further_than_sockets_and_memory(machine: str) -> None:
    calls = allowed_calls(machine)
    assert calls.keys().isdisjoint(FORBIDDEN)
    assert {"recvmsg", "sendto", "socket", "connect", "accept4", "epoll_ctl", "epoll_pwait", "close", "exit_group"} <= calls.keys()
    assert len(set(calls.values())) == len(calls)


def test_of_a_machine_that_is_not_known_nothing_is_known() -> None:
    assert allowed_calls("vax") == {}
