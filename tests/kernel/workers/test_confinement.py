"""What a worker that has been taken over can reach: nothing but its directory, by each defence for itself.

The attacks run in real workers (`probe`), behind the confinement that a job has. One test leaves the filter out, one leaves the namespaces
and privileges out: what both refuse is refused twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import encodings
import os
import platform
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.needs import needs
from teul.errors import System
from teul.linux import seccomp
from teul.workers import client
from teul.workers.client import Program, running_worker

pytestmark = needs("root")

JOBS = ("unpack", "split", "stat", "place", "changes")
READING_JOBS = ("split", "stat", "changes")
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
PTRACE_SEIZE = 0x4206
KEY_SPEC_SESSION_KEYRING = 0xFFFFFFFD
ABSTRACT = f"teul-test-confinement-{os.getpid()}"
# A module that also does as a codec, which is called as the module is.
PLANTED = """
import codecs
def getregentry():
    return codecs.CodecInfo(lambda text, errors="strict": (b"", len(text)), None)
"""
# What nobody needs the filter for: privileges and namespaces refuse it.
REFUSED_WITHOUT_A_FILTER = frozenset(
    ("mount", "umount2", "pivot_root", "chroot", "ptrace", "setns", "unshare", "pidfd_open", "syslog", "init_module", "sethostname")
)


def calls(engine: int, namespace_fd: int) -> list[tuple[str, list[int | str]]]:
    """Calls that a worker has no use for, with arguments that would do something, or fail for another reason than a refusal.

    The first word is the call's name.
    """
    return [
        ("mount", ["none", "/", "tmpfs", 0, 0]),
        ("umount2", ["/", 2]),
        ("pivot_root", [".", "."]),
        ("chroot", ["/"]),
        ("open_tree", [0xFFFFFF9C, "/", 1]),
        ("fsopen", ["tmpfs", 0]),
        ("ptrace", [PTRACE_SEIZE, engine, 0, 0]),
        ("process_vm_readv", [engine, 0, 0, 0, 0, 0]),
        ("pidfd_open", [engine, 0]),
        ("setns", [namespace_fd, CLONE_NEWNET]),
        ("unshare", [CLONE_NEWNS]),
        ("unshare (user)", [CLONE_NEWUSER]),
        ("clone", [CLONE_NEWUSER | 0x200, 0, 0, 0, 0]),
        ("clone3", [0, 0]),
        ("execve", ["/none", 0, 0]),
        ("tgkill", [1, 1, 0]),
        ("keyctl", [0, KEY_SPEC_SESSION_KEYRING, 0]),
        ("add_key", ["user", "teul", "x", 1, KEY_SPEC_SESSION_KEYRING]),
        ("bpf", [0, "\2\0\0\0\4\0\0\0\4\0\0\0\1", 72]),
        ("perf_event_open", ["", 0, 0xFFFFFFFF, 0xFFFFFFFF, 0]),
        ("open_by_handle_at", [0xFFFFFF9C, "", 0]),
        ("name_to_handle_at", [0xFFFFFF9C, "/", "", "", 0]),
        ("io_uring_setup", [1, ""]),
        ("userfaultfd", [0]),
        ("socket", [2, 1, 0]),
        ("socketpair", [1, 1, 0, ""]),
        ("memfd_create", ["teul", 0]),
        ("ioctl", [2, 0x5412, "x"]),
        ("prctl", [4, 1, 0, 0, 0]),
        ("prlimit64", [0, 7, 0, ""]),
        ("seccomp", [2, 0, ""]),
        ("syslog", [3, "", 16]),
        ("init_module", ["", 1, ""]),
        ("sethostname", ["teul", 4]),
        ("shmget", [0, 4096, 0o1600]),
        ("inotify_init1", [0]),
    ]


class Attacked:
    """The host as the worker finds it: directories with traps in them, and sockets to reach."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.devices = [("kmsg", stat.S_IFCHR, 1, 11), ("mem", stat.S_IFCHR, 1, 1), ("null", stat.S_IFCHR, 1, 3), *_block_device()]
        for name in ("root", "lower", "upper", "work", "stage"):
            (directory / name).mkdir()
        for name in ("root", "lower"):
            for device, kind, major, minor in self.devices:
                os.mknod(directory / name / device, kind | 0o600, os.makedev(major, minor))
            (directory / name / "outward").symlink_to("/etc/passwd")
            (directory / name / "outward-directory").symlink_to("/etc")
            plant_modules(directory / name)

    async def attack(self, job: str, *, without: tuple[str, ...] = (), foreign: bool = False) -> dict[str, str]:
        """What each attack from inside of a worker with this job came to."""
        resolve = seccomp._library().seccomp_syscall_resolve_name
        namespace_fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            numbered = [(name, resolve(name.split()[0].encode()), arguments) for name, arguments in calls(os.getpid(), namespace_fd)]
            probe = {
                "without": without,
                "foreign": foreign,
                "devices": self.devices,
                "engine": os.getpid(),
                "port": self.port,
                "abstract": ABSTRACT,
                "calls": [call for call in numbered if "filter" not in without or call[0] in REFUSED_WITHOUT_A_FILTER],
            }
            order: Any = {"job": job, "parent_pid": os.getpid(), "probe": probe, **self._order(job)}
            program = Program("probe", errors={"system": System}, death="the worker died", bug="the probe failed")
            async with running_worker(program, order, stdin=asyncio.subprocess.DEVNULL, pass_fds=(namespace_fd,)) as worker:
                while "done" not in (line := await worker.line()):
                    assert line == {"entered": True}
                found: dict[str, str] = line["done"]
                return found
        finally:
            os.close(namespace_fd)

    def _order(self, job: str) -> dict[str, Any]:
        if job in ("unpack", "split"):
            return {"root": str(self.directory / "root"), "compression": "", "hash": False, "limit_bytes": 1, "limit_entries": 1}
        lower, upper = [str(self.directory / "lower")], str(self.directory / "upper")
        if job == "changes":
            return {"upper": str(self.directory / "root"), "lower": lower}
        overlay = {"lower": lower, "upper": upper, "work": str(self.directory / "work")}
        view: dict[str, Any] = {
            "pidfd": None,
            "overlay": overlay,
            "stage": str(self.directory / "stage"),
            "binds": [],
            "user": "",
            "read_only": job == "stat",
        }
        return {"view": view, "path": "/", "user": "", "no_overwrite": False, "read_only_root": False}


def plant_modules(root: Path) -> None:
    """Modules and a codec of the root's, wherever the interpreter would look for what it has not loaded yet."""
    for place in {os.path.realpath(path) for path in (*sys.path, *encodings.__path__) if os.path.isdir(path)}:
        directory = root / place.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("teul_planted.py", "colorsys.py"):
            (directory / name).write_text(PLANTED)


def _block_device() -> list[tuple[str, int, int, int]]:
    for path in sorted(Path("/sys/block").glob("*/dev")):
        major, minor = map(int, path.read_text().split(":"))
        return [("disk", stat.S_IFBLK, major, minor)]
    return []


@pytest.fixture
def attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attacked]:
    monkeypatch.setattr(client, "_BOOT", client._BOOT.replace("teul.workers.program.{program}", "kernel.workers.{program}"))
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind("\0" + ABSTRACT)
        abstract.listen()
        yield Attacked(tmp_path, listening.getsockname()[1])


def assert_all_refused(found: dict[str, str], *, but: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    assert len(found) > 20
    done = {name for name, result in found.items() if result == "done"}
    assert done <= but, f"the worker could {', '.join(sorted(done - but))}"


@pytest.mark.parametrize("job", JOBS)
async def test_a_worker_that_was_taken_over_reaches_nothing(attacked: Attacked, job: str) -> None:
    found = await attacked.attack(job)
    makes = set() if job in READING_JOBS else {f"make {name}" for name, *_ in attacked.devices}
    assert_all_refused(found, but=makes)
    assert {found[name] for name, _ in calls(0, 0)} <= {"EPERM", "ENOSYS"}
    assert {found["connect to the host"], found["connect to an abstract socket"]} == {"EPERM"}
    assert found["own pid"] == "1"


@pytest.mark.parametrize("job", JOBS)
async def test_without_the_filter_namespaces_mounts_and_privileges_hold(attacked: Attacked, job: str) -> None:
    found = await attacked.attack(job, without=("filter",))
    makes = set() if job in READING_JOBS else {f"make {name}" for name, *_ in attacked.devices}
    privileged = {"mount", "umount2", "pivot_root", "setns", "unshare", "sethostname", "syslog"} if job == "changes" else set()
    assert_all_refused(found, but=makes | privileged | {"signal the first process"})
    assert found["own pid"] == "1", "the first process that it can name is itself"
    assert {found["signal the engine"], found["ptrace"], found["pidfd_open"]} == {"ESRCH"}
    assert found["connect to the host"] in ("ENETUNREACH", "ECONNREFUSED")
    assert found["connect to an abstract socket"] == "ECONNREFUSED"
    if job != "changes":
        assert {found["mount"], found["setns"], found["chroot"], found["unshare"]} == {"EPERM"}


@pytest.mark.parametrize("job", JOBS)
async def test_the_filter_and_the_mount_hold_where_nothing_else_does(attacked: Attacked, job: str) -> None:
    found = await attacked.attack(job, without=("namespaces", "capabilities"))
    assert_all_refused(found, but=set() if job in READING_JOBS else {f"make {name}" for name, *_ in attacked.devices})


@pytest.mark.parametrize("job", ["unpack", "split", "stat"])
async def test_only_the_mount_keeps_devices_shut(attacked: Attacked, job: str) -> None:
    """The attack is a real one: on a mount that has devices they open."""
    found = await attacked.attack(job, without=("nodev",))
    assert found["read null"] == "done"
    assert (await attacked.attack(job))["read null"] == "EACCES"


@pytest.mark.parametrize(("lacking", "pid"), [("net", "1"), ("pid", "")])
async def test_a_namespace_that_the_kernel_lacks_is_left_out_and_told(
    attacked: Attacked, caplog: pytest.LogCaptureFixture, lacking: str, pid: str
) -> None:
    client._log_missing.cache_clear()
    for _ in range(2):
        found = await attacked.attack("unpack", without=(f"{lacking} namespace",))
        assert_all_refused(found, but={f"make {name}" for name, *_ in attacked.devices})
        assert (found["own pid"] == "1") == bool(pid), "without the namespace there is nothing to be the first of"
    assert [record.getMessage() for record in caplog.records if record.name == client.__name__] == [
        f"this kernel has no {lacking} namespaces; workers that open archives are confined without"
    ]


async def test_a_namespace_that_cannot_be_had_now_is_an_error(attacked: Attacked) -> None:
    """A limit (user.max_net_namespaces) is no reason to open an archive with less protection."""
    with pytest.raises(System, match="no space left on device"):
        await attacked.attack("unpack", without=("room for namespaces",))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a processor with a second set of numbers")
async def test_calls_of_another_architecture_end_the_worker(attacked: Attacked) -> None:
    assert await attacked.attack("unpack", without=("filter",), foreign=True) == {"foreign": "1"}
    with pytest.raises(System, match="the worker died"):
        await attacked.attack("unpack", foreign=True)


def test_no_module_is_loaded_any_more() -> None:
    """security: in a container's root it would be the container's. Neither by name nor, as codecs are, by the way."""
    program = (
        "import sys; from teul.linux.imports import forbid_imports; forbid_imports()\n"
        "for attempt in (lambda: __import__('colorsys'), lambda: b'x'.decode('cp037'), lambda: __import__('_lzma')):\n"
        "    try: attempt(); print('loaded')\n"
        "    except (ImportError, LookupError): print('refused')"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["refused"] * 3
