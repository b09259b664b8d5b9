"""Running the program of an OCI runtime, with the command line that runc has, and what it says when it fails.

Source: runc(8), and what containerd's go-runc asks of a runtime: `--root`, `--log`, `--log-format` before the command.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

from teul.linux import mounts, process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from teul.runtime.messages import Delegation

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_NOT_EXECUTED = 255
_UNIFIED = "/sys/fs/cgroup/unified"


class RuntimeRefusal(Exception):
    """The runtime did not do what it was asked to; the text is its own."""


def command_of(delegation: Delegation, words: Sequence[str], *, log: str | None = None) -> list[str]:
    """The whole command line."""
    logged = ["--log", log, "--log-format", "json"] if log is not None else []
    return [delegation["path"], "--root", delegation["root"], *logged, *words]


def invoke(delegation: Delegation, words: Sequence[str], *, log: str, stdio: tuple[int, int, int]) -> None:
    """Run the runtime with these streams and wait for it. Raises `RuntimeRefusal`. The runtime ends with this process."""
    command = command_of(delegation, words, log=log)
    pid = os.fork()
    if pid == 0:
        _become(command, stdio)
    _pid, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise RuntimeRefusal(_last_error(log) or f"{delegation['name']} did not {words[0]} the container: it ended with {code}")


def delete(delegation: Delegation) -> None:
    """Become the runtime as it deletes a container, by force. A container that it does not know is none of its business."""
    process.unshare(process.CLONE_NEWNS)
    mounts.set_propagation("/", mounts.MS_SLAVE | mounts.MS_REC)
    hide_unified_cgroups()
    execute(command_of(delegation, ["delete", "--force", delegation["container"]]))


def execute(command: Sequence[str]) -> None:
    """Become the runtime. Raises `OSError`."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) != signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.execve(command[0], list(command), _ENVIRONMENT)


def hide_unified_cgroups() -> None:
    """In the mount namespace of this process, whose mounts the host does not see, have what crun calls no hybrid host.

    crun refuses hosts with both kinds of cgroups. Its processes are born in the container's unified cgroup, in which it need do nothing.
    """
    if os.path.ismount(_UNIFIED):
        mounts.unmount(_UNIFIED, lazily=True)


def _become(command: Sequence[str], stdio: tuple[int, int, int]) -> None:
    """In a fork: the streams in place, then the runtime."""
    try:
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
        null_fd = os.open("/dev/null", os.O_RDWR)
        for number, fd in enumerate(stdio):
            os.dup2(fd if fd >= 0 else null_fd, number)
        execute(command)
    finally:
        os._exit(_NOT_EXECUTED)


def _last_error(log: str) -> str:
    """The last message in the runtime's log that tells of an error; empty if there is none."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal", "panic") and entry.get("msg"):
            return str(entry["msg"]).strip()
    return ""
