"""Seccomp filters on the running kernel."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from support.needs import needs
from teul.linux import process, seccomp
from teul.linux.syscalls import libc
from teul.oci.seccomp_profile import default_profile, kernel_version, resolve_profile

pytestmark = needs("root", "seccomp")

GOARCH = {"x86_64": "amd64", "aarch64": "arm64"}


def default_filter(*capabilities: str) -> bytes:
    resolved = resolve_profile(
        default_profile(),
        capabilities=frozenset(capabilities),
        architecture=GOARCH[os.uname().machine],
        kernel=kernel_version(os.uname().release),
    )
    assert resolved is not None
    return seccomp.compile_filter(resolved)


def profile(*names: str, action: str, **fields: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": list(names), "action": action, **fields}]}


def under(program: bytes, function: Callable[[], int], *, flags: int = seccomp.SECCOMP_FILTER_FLAG_SPEC_ALLOW) -> int:
    """Run `function` in a child under the filter; its result, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            seccomp.install_filter(program, flags)
            status = function()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def error_of(function: Callable[[], object]) -> int:
    try:
        function()
    except OSError as error:
        return error.errno or 255
    return 0


def raw(number: int, *args: int) -> int:
    """errno of a raw system call, 0 when it works."""
    return ctypes.get_errno() if libc.syscall(number, *args) < 0 else 0


def test_under_dockers_profile_plain_things_work() -> None:
    def plain() -> int:
        os.listdir("/")
        socket.socketpair()[0].close()
        child = os.fork()
        if child == 0:
            os._exit(0)
        return os.waitpid(child, 0)[1]

    assert under(default_filter(), plain) == 0


@pytest.mark.parametrize(
    ("attempt", "number"),
    [
        (lambda: process.unshare(process.CLONE_NEWUSER), errno.EPERM),
        (lambda: process.unshare(process.CLONE_NEWNS), errno.EPERM),
        (lambda: socket.socket(40, socket.SOCK_STREAM), errno.EPERM),  # AF_VSOCK
    ],
)
def test_under_dockers_profile_dangerous_things_do_not(attempt: Callable[[], object], number: int) -> None:
    assert under(default_filter(), lambda: error_of(attempt)) == number


def test_a_capability_opens_the_profile() -> None:
    assert under(default_filter("CAP_SYS_ADMIN"), lambda: error_of(lambda: process.unshare(process.CLONE_NEWNS))) == 0


def test_clone3_and_calls_of_the_future_do_not_exist() -> None:
    program = default_filter()
    assert under(program, lambda: raw(435, 0, 0)) == errno.ENOSYS
    assert under(program, lambda: raw(4000)) == errno.ENOSYS


def test_the_answer_is_the_errno_that_was_asked() -> None:
    program = seccomp.compile_filter(profile("getpgid", action="SCMP_ACT_ERRNO", errnoRet=errno.ENOTTY))
    assert under(program, lambda: error_of(lambda: os.getpgid(0))) == errno.ENOTTY


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_killing_actions_kill(action: str) -> None:
    assert under(seccomp.compile_filter(profile("getpgid", action=action)), lambda: os.getpgid(0)) == -signal.SIGSYS


def test_the_process_shows_that_it_is_filtered() -> None:
    def status() -> int:
        lines = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
        return 0 if (lines["Seccomp"], lines["Seccomp_filters"]) == ("2", "1") else 1

    assert under(default_filter(), status) == 0


@pytest.mark.parametrize("flags", [0, seccomp.SECCOMP_FILTER_FLAG_LOG, seccomp.SECCOMP_FILTER_FLAG_TSYNC])
def test_flags_reach_the_kernel(flags: int) -> None:
    program = seccomp.compile_filter(profile("getpgid", action="SCMP_ACT_ERRNO", errnoRet=errno.ENOTTY))
    assert under(program, lambda: error_of(lambda: os.getpgid(0)), flags=flags) == errno.ENOTTY


def test_under_an_outer_filter_without_seccomp_the_old_call_is_taken() -> None:
    """seccomp(2) answers ENOSYS there; prctl(PR_SET_SECCOMP) does the same without flags."""
    outer = seccomp.compile_filter(profile("seccomp", action="SCMP_ACT_ERRNO", errnoRet=errno.ENOSYS))
    inner = seccomp.compile_filter(profile("getpgid", action="SCMP_ACT_ERRNO", errnoRet=errno.ENOTTY))

    def nested() -> int:
        seccomp.install_filter(inner)
        return error_of(lambda: os.getpgid(0))

    assert under(outer, nested) == errno.ENOTTY
    assert under(outer, lambda: error_of(lambda: seccomp.install_filter(inner, seccomp.SECCOMP_FILTER_FLAG_LOG))) == errno.ENOSYS


def test_a_program_the_kernel_refuses_is_an_error() -> None:
    assert under(default_filter(), lambda: error_of(lambda: seccomp.install_filter(b"\xff" * 8))) == errno.EINVAL
