"""Runs one command in a virtual machine that boots the host's own files, and returns its exit status.

    run_in_vm([sys.executable, "-m", "pytest", "tests/kernel"], kind="uml")

The machine sees the host's whole root read-only under a tmpfs, so the project, its environment and its interpreter stand where they
stand here, and nothing that the command does reaches the host. It is born into a process-id namespace of its own: when the deadline
passes, or this process dies in any way, the kernel kills every process of it. Files of a run live in one temporary directory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

PROJECT_PATH = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GUEST_PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest.py")

# Exit statuses of our own, apart from those of a test run: a machine that does not boot must never look like a test result.
EXIT_NO_RESULT = 120
EXIT_DEADLINE = 124


class MachineMissing(Exception):
    """What the machine is made of is not installed; the text says which package to install."""


class MachineFailed(Exception):
    """The machine could not be started; its console says more."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a guest is told (`job.json`), in its own words."""

    kind: str
    command: Sequence[str]
    modules_path: str
    """The kernel's module tree, as a path that host and guest share."""
    modules: Sequence[str]
    results_type: str
    results_source: str
    results_options: str
    network_commands: Sequence[Sequence[str]] = ()
    directory: str = PROJECT_PATH
    without_vectors: bool = False
    """Whether AVX must look absent, since the machine does not keep its registers."""
    environment: dict[str, str] = field(default_factory=dict)
    visible: Sequence[str] = (PROJECT_PATH, sys.prefix, sys.base_prefix)
    """Paths that the command needs wherever they are, even in /tmp."""


class Machine(Protocol):
    """One way to boot."""

    kind: str
    lacks: frozenset[str]
    """Needs of tests (support/needs.py) that this host may promise and the machine does not meet."""
    deadline_seconds: float

    def job(self, command: Sequence[str], job_path: str) -> Job:
        """What to tell the guest. Raises MachineMissing when this host cannot boot one."""
        ...

    def boot(self, job_path: str, console_fd: int) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """Start the machine on the job in `job_path`, its console written to `console_fd`; leaving the context ends it."""
        ...


def run_on(machine: Machine, command: Sequence[str], *, environment: dict[str, str] | None = None, quiet: bool = False) -> int:
    """Run `command` in `machine`, its output copied to our stdout as it comes, and return its exit status.

    EXIT_DEADLINE when the machine's time was up, EXIT_NO_RESULT when it ended without a result; both print why. Nothing is left
    behind in any case. Raises MachineMissing.
    """
    with tempfile.TemporaryDirectory(prefix="teul-vm-") as job_path:
        job = machine.job(command, job_path)
        job.environment.update(_environment(machine) | (environment or {}))
        with open(f"{job_path}/job.json", "w", encoding="utf-8") as file:
            json.dump(vars(job), file)
        started = time.monotonic()
        with open(f"{job_path}/console", "wb") as console, open(f"{job_path}/output", "w+b") as output:
            try:
                with machine.boot(job_path, console.fileno()) as process:
                    in_time = _follow(process, output, deadline=started + machine.deadline_seconds)
            except MachineFailed as error:
                _explain(f"{job_path}/console", machine, str(error))
                return EXIT_NO_RESULT
            _copy(output)
        status = _read_status(f"{job_path}/status")
        seconds = time.monotonic() - started
        if status is None:
            _explain(f"{job_path}/console", machine, "ended without a result" if in_time else f"was killed after {seconds:.0f} s")
            return EXIT_NO_RESULT if in_time else EXIT_DEADLINE
        if not quiet:
            print(f"[{machine.kind}: exit status {status} after {seconds:.1f} s, boot included]", flush=True)
        return status


def run_in_vm(command: Sequence[str], *, kind: str, environment: dict[str, str] | None = None) -> int:
    """`run_on` by the machine's name, "uml" or "qemu"."""
    from vm import qemu, uml

    machines: dict[str, Machine] = {"uml": uml.UserModeLinux(), "qemu": qemu.Qemu()}
    return run_on(machines[kind], command, environment=environment)


def main(machine: Machine, arguments: list[str]) -> int:
    """The command line that both machines share: `[--deadline SECONDS] [--if-installed] [--] COMMAND…`."""
    parser = argparse.ArgumentParser(description=f"Run a command in a virtual machine ({machine.kind}) with cgroup v2 alone.")
    parser.add_argument("--deadline", type=float, default=machine.deadline_seconds, metavar="SECONDS")
    parser.add_argument("--if-installed", action="store_true", help="succeed where the machine is not installed, unless it was promised")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    machine.deadline_seconds = options.deadline
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that contexts are left
    try:
        return run_on(machine, options.command)
    except MachineMissing as error:
        is_excused = options.if_installed and machine.kind not in _promised()
        print(f"[{machine.kind}: {'skipped: ' if is_excused else ''}{error}]", file=sys.stderr)
        return 0 if is_excused else EXIT_NO_RESULT


@contextlib.contextmanager
def contained(arguments: Sequence[str], *, writable_path: str, output_fd: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process tree in its own process-id and mount namespaces that ends with this context, or with this process at the latest.

    Of the root filesystem it can write `writable_path` alone: a guest that breaks its own read-only mount of our root meets this one.
    """
    # An own /run too: the host's sockets are none of the guest's business, and virtiofsd wants to write its lock there.
    narrow = 'mount --bind "$1" "$1" && mount -t tmpfs tmpfs /run && mount -o remount,bind,ro / && shift && exec "$@"'
    process = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--fork", "--pid", "--kill-child=KILL", "--mount-proc"),
            *("sh", "-c", narrow, "sh", writable_path),
            *arguments,
        ],
        stdin=subprocess.DEVNULL,
        stdout=output_fd,
        stderr=output_fd,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        # kernel: the first process of a process-id namespace ends after every other in it has, and `unshare` ends after that one.
        # Killing `unshare` instead would return while the rest is still dying.
        for pid in _children(process.pid) or [process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return []


def _promised() -> set[str]:
    return set(os.environ.get("TEUL_PROMISED", "").replace(",", " ").split())


def _environment(machine: Machine) -> dict[str, str]:
    environment = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    path = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    return environment | {
        "TEUL_PROMISED": " ".join(sorted(_promised() - machine.lacks)),
        "PATH": os.pathsep.join(dict.fromkeys(filter(None, path))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "150",
        "TERM": "dumb",
    }


def _follow(process: subprocess.Popen[bytes], output: BinaryIO, *, deadline: float) -> bool:
    """Copy `output` while the machine runs; False when the deadline came first."""
    while process.poll() is None:
        _copy(output)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _copy(output: BinaryIO) -> None:
    data = output.read()
    if data:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _read_status(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except FileNotFoundError:
        return None


def _explain(console_path: str, machine: Machine, what: str) -> None:
    with open(console_path, encoding="utf-8", errors="replace") as file:
        tail = "".join(file.readlines()[-40:])
    print(f"[{machine.kind}: the machine {what}; the end of its console:]\n{tail}", file=sys.stderr, flush=True)
