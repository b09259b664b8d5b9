"""What a container's processes see of a process that comes among them: by exec, by a health check, by sharing its pid namespace.

The spy is a process inside with every capability that the container has, CAP_SYS_PTRACE among them, which looks at each new pid again
and again from the moment when it appears. What it may find is what the new program will be anyhow.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kernel.runtime.bare_containers import Bench, Running
from support.needs import needs
from teul.linux import caps, process

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]

_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_SYS_PTRACE")
_TIMES = 40


@dataclass
class Sighting:
    """One look at a pid that had not execed yet."""

    capabilities: int
    seccomp: int
    uids: set[int]
    descriptors: dict[int, str]
    directories: list[str]
    program: str
    """What came of opening the interpreter for writing."""


class Spy:
    """Looks from inside. `sightings` ends it and tells what it saw."""

    def __init__(self, pid: int, answer: socket.socket) -> None:
        self._pid = pid
        self._answer = answer

    def sightings(self) -> list[Sighting]:
        os.kill(self._pid, signal.SIGTERM)
        with self._answer.makefile("r") as file:
            found = json.load(file)
        os.waitpid(self._pid, 0)
        return [
            Sighting(
                each["caps"],
                each["seccomp"],
                set(each["uids"]),
                {int(fd): path for fd, path in each["fds"].items()},
                each["dirs"],
                each["program"],
            )
            for each in found
        ]


@contextlib.contextmanager
def spying_on(container: Running) -> Iterator[Spy]:
    ours, theirs = socket.socketpair()
    agent = os.fork()
    if agent == 0:
        with contextlib.suppress(BaseException):
            ours.close()
            process.setns(container.process.pidfd, process.CLONE_NEWPID | process.CLONE_NEWNS)
            inside = os.fork()
            if inside:
                signal.signal(signal.SIGTERM, lambda *_: os.kill(inside, signal.SIGTERM))
                os.waitpid(inside, 0)
            else:
                _spy(theirs)
        os._exit(0)
    theirs.close()
    try:
        yield Spy(agent, ours)
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(agent, signal.SIGTERM)
            os.waitpid(agent, 0)
        ours.close()


def _spy(answer: socket.socket) -> None:
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: ended.append(number))
    wanted = {name: list(_CAPABILITIES) for name in ("effective", "permitted", "inheritable", "ambient")}
    caps.drop_bounding(list(_CAPABILITIES))
    caps.set_capabilities(effective=wanted["effective"], permitted=wanted["permitted"], inheritable=[], ambient=[])
    known = {name for name in os.listdir("/proc") if name.isdigit()}
    found: list[dict[str, Any]] = []
    while not ended:
        for name in os.listdir("/proc"):
            if not name.isdigit() or name in known:
                continue
            with contextlib.suppress(OSError, ValueError):
                # Still the interpreter that will exec: whatever is done to it now is done to the engine's own code.
                while "python" in os.readlink(f"/proc/{name}/exe"):
                    found.append(_look(name))
            known.add(name)
    with contextlib.suppress(OSError):
        answer.sendall(json.dumps(found).encode())
    answer.close()
    os._exit(0)


def _look(pid: str) -> dict[str, Any]:
    status = dict(line.partition(":\t")[::2] for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    fds, directories = {}, []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            fds[fd] = os.readlink(f"/proc/{pid}/fd/{fd}")
            if os.path.isdir(f"/proc/{pid}/fd/{fd}"):
                directories.append(fds[fd])
    return {
        "caps": int(status["CapPrm"], 16) | int(status["CapEff"], 16) | int(status["CapBnd"], 16),
        "seccomp": int(status["Seccomp"]),
        "uids": [int(word) for word in status["Uid"].split()],
        "fds": fds,
        "dirs": directories,
        "program": _open_for_writing(f"/proc/{pid}/exe"),
    }


def _open_for_writing(path: str) -> str:
    # With O_TRUNC the mount is asked before it is found that the file is being executed, which it is all the time: nothing is cut off.
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    except OSError as error:
        answer = errno.errorcode[error.errno or 0]
    else:
        answer = "opened"
    return answer if "python" in os.readlink(path) else "execed"


def _mask(names: tuple[str, ...]) -> int:
    return sum(1 << caps.CAPABILITIES.index(name) for name in names)


def _check(sightings: list[Sighting], *, uid: int) -> None:
    for seen in sightings:
        assert seen.capabilities & ~_mask(_CAPABILITIES) == 0, f"a process with capabilities that the container lacks: {seen}"
        assert seen.seccomp == 2, f"a process without the container's filter: {seen}"
        assert seen.uids == {uid}, f"a process of another user: {seen}"
        # CVE-2019-5736. ETXTBSY would mean "not yet": the attacker keeps the file and comes back when nobody executes it.
        assert seen.program in ("EROFS", "execed"), f"the engine's interpreter can be written: {seen}"
        assert seen.directories == [], f"a directory of the host: {seen}"
        for fd, path in seen.descriptors.items():
            assert fd < 3 or path.startswith("socket:"), f"a descriptor that is not the program's: {seen}"
            assert path.startswith(("pipe:", "socket:", "/dev/null", "/dev/pts/")), f"the engine's own stream: {seen}"


@needs("seccomp")
@pytest.mark.parametrize("tty", [False, True])
async def test_an_exec_appears_as_what_it_will_be(bench: Bench, seccomp_filter: Path, *, tty: bool) -> None:
    def change(spec: Any) -> None:
        spec["process"]["capabilities"] = {name: list(_CAPABILITIES) for name in ("bounding", "effective", "permitted")}
        spec["teul"] |= {"seccomp_bpf": str(seccomp_filter), "seccomp_flags": 4, "seccomp_forks": True}

    container = await bench.start("sleep", "1000", change=change)
    teul = {"user": "7:7", "seccomp_bpf": str(seccomp_filter), "seccomp_flags": 4, "seccomp_forks": True}
    with spying_on(container) as spy:
        for _ in range(_TIMES):
            assert (await (await container.exec("true", tty=tty, teul=teul)).ended()).code == 0
        sightings = spy.sightings()
    assert any(seen.program != "execed" for seen in sightings), "nothing was seen: the test proves nothing"
    _check(sightings, uid=7)


@needs("seccomp")
async def test_a_container_that_joins_the_processes_of_another_appears_as_what_it_will_be(bench: Bench, seccomp_filter: Path) -> None:
    def change(spec: Any) -> None:
        spec["process"]["capabilities"] = {name: list(_CAPABILITIES) for name in ("bounding", "effective", "permitted")}
        spec["teul"] |= {"user": "7:7", "seccomp_bpf": str(seccomp_filter), "seccomp_flags": 4, "seccomp_forks": True}

    def join(spec: Any) -> None:
        change(spec)
        next(entry for entry in spec["linux"]["namespaces"] if entry["type"] == "pid")["path"] = "by pidfd"

    donor = await bench.start("sleep", "1000", change=change)
    with spying_on(donor) as spy:
        for _ in range(_TIMES):
            guest = await bench.start("true", change=join, message={"joins": ["pid"]}, donors=[donor.process.pidfd])
            assert (await guest.ended()).code == 0
        sightings = spy.sightings()
    assert any(seen.program != "execed" for seen in sightings), "nothing was seen: the test proves nothing"
    _check(sightings, uid=7)
