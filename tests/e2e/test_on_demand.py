"""Nobody starts the engine, nobody looks after it: the first command does, and it leaves when it has nothing to do."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import images, processes
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from support.unix_http import Client
from teul.linux import cgroups

pytestmark = [needs("root", "busybox", "overlayfs")]

# Everything that a process hands down, set as no service manager would. Its arguments: a directory to stand in, files to write its pid to,
# and the command.
STRANGE_CALLER = """
import ctypes, os, resource, signal, sys
directory, joins, *command = sys.argv[1:]
for file in joins.split(","):
    with open(file, "w") as joined:
        joined.write("0")
os.chdir(directory)
os.umask(0o077)
with open("/proc/self/oom_score_adj", "w") as file:
    file.write("321")
libc = ctypes.CDLL(None)
ioprio_set = {"x86_64": 251, "aarch64": 30}[os.uname().machine]
assert libc.syscall(ioprio_set, 1, 0, 3 << 13) == 0  # the idle class
assert libc.personality(0x0040000) >= 0  # ADDR_NO_RANDOMIZE
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.setpriority(os.PRIO_PROCESS, 0, 7)
may_raise = int(open("/proc/self/status").read().split("CapEff:")[1].split()[0], 16) >> 24 & 1  # CAP_SYS_RESOURCE
for name, value in {"NOFILE": 64, "CORE": 0, "FSIZE": 1 << 30, "MEMLOCK": 1 << 16, "STACK": 4 << 20, "MSGQUEUE": 5}.items():
    kind = getattr(resource, "RLIMIT_" + name)
    resource.setrlimit(kind, (value, value if may_raise else resource.getrlimit(kind)[1]))
os.setgroups([4242])
os.setresgid(4243, 4243, 4243)
os.set_inheritable(os.open("/", os.O_RDONLY), True)
for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2, signal.SIGCHLD})
os.execv(command[0], command)
"""

TEUL = str(Path(sys.executable).with_name("teul"))


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory for an engine that no one has started; whatever was started in it is ended."""
    directory = Path(tempfile.mkdtemp(prefix="teul-demand-", dir="/tmp"))
    yield directory
    for pid in engines(directory):
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not processes.belonging_to(str(directory)), "the engines are gone", timeout_seconds=20.0)
    shutil.rmtree(directory)


def environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TEUL_ROOT": f"{home}/root", "TEUL_RUN_ROOT": f"{home}/run", "LANG": "C.UTF-8"}


def engines(home: Path) -> list[int]:
    """Processes that serve this home and were not started by another such process (as a keeper is)."""
    serving = [pid for pid in processes.mentioning(str(home)) if " serve " in processes.command_line(pid)]
    return [pid for pid in serving if processes.parent_of(pid) not in serving and not _is_below(pid, serving)]


def _is_below(pid: int, others: list[int]) -> bool:
    parent = processes.parent_of(pid)
    while parent and parent != 1:
        if parent in others:
            return True
        parent = processes.parent_of(parent)
    return False


def test_eight_commands_at_once_agree_on_one_engine(home: Path) -> None:
    """All of them work, and when the dust has settled there is one engine."""
    commands = [
        subprocess.Popen([TEUL, "ps", "-a"], env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for command in commands:
        stdout, stderr = command.communicate(timeout=60)
        assert (command.returncode, stderr) == (0, "")
        assert stdout.startswith("CONTAINER ID")
    eventually(lambda: len(engines(home)) == 1, "one engine is left")


def test_engine_that_was_killed_is_started_again_by_the_next_command(home: Path) -> None:
    """A stale socket and stale locks do not stop it; the container from before is still there."""
    archive = home / "busybox.tar"
    archive.write_bytes(images.busybox().docker_archive())

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([TEUL, *arguments], env=environment(home), capture_output=True, text=True, timeout=60, check=False)

    assert run("load", "-i", str(archive)).returncode == 0
    container = run("run", "-d", "busybox", "sleep", "1000").stdout.strip()
    for pid in engines(home):
        os.kill(pid, signal.SIGKILL)
    assert run("ps", "-q", "--no-trunc").stdout.strip() == container
    assert run("exec", container, "echo", "reached").stdout == "reached\n"
    assert run("rm", "-f", container).returncode == 0


def test_idle_engine_leaves() -> None:
    """With no container, no client and its time passed, the engine ends by itself with 0 and takes its socket along."""
    with Engine(idle_timeout_seconds=0.5) as engine:
        process = engine._process
        assert process is not None
        assert process.wait(20) == 0
        assert not engine.answers()
        assert not engine.processes(), "the keeper outlives its engine"


def test_engine_with_a_client_or_a_container_stays() -> None:
    """It waits for the last container's end, not for the last request."""
    with Engine(idle_timeout_seconds=0.5) as engine:
        engine.load(images.busybox().docker_archive())
        container = engine.must("run", "-d", "busybox", "sleep", "2")
        pid = engine.init_pid(container)
        process = engine._process
        assert process is not None
        assert process.wait(30) == 0
        assert not processes.is_alive(pid), "the engine left while its container was running"
        engine.start()
        assert engine.inspect(container)["State"]["ExitCode"] == 0
        engine.must("rm", container)


def test_client_that_stays_connected_keeps_the_engine() -> None:
    """`docker events` is a client, however quiet."""
    with Engine(idle_timeout_seconds=0.5) as engine:
        with Client(str(engine.socket_path)) as api:
            started = time.monotonic()
            api.expect(200, "GET", f"/events?since=0&until={time.time() + 2:.3f}")
            assert time.monotonic() - started > 1.5
        process = engine._process
        assert process is not None
        assert process.wait(20) == 0


@pytest.fixture
def leaves() -> Iterator[list[Path]]:
    """A cgroup of the test's own in every hierarchy; whoever is still in it keeps it from being removed, which fails the test."""
    layout = cgroups.detect()
    name = f"teul-demand-{os.getpid()}"
    made = [Path(mount, name) for mount in [*layout.hierarchies, *([layout.unified] if layout.unified else [])]]
    for directory in made:
        directory.mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):  # v1 takes no process where there are none
            if (directory / file).exists() and not (directory / file).read_text().strip():
                (directory / file).write_text((directory.parent / file).read_text())
    yield made
    for directory in made:
        assert not (directory / "cgroup.procs").read_text(), f"somebody is left in {directory}"
        directory.rmdir()


def start_strangely(home: Path, leaves: list[Path], *command: str) -> subprocess.CompletedProcess[str]:
    standing = home / "standing"
    standing.mkdir(exist_ok=True)
    joins = ",".join(f"{directory}/cgroup.procs" for directory in leaves)
    arguments = [sys.executable, "-c", STRANGE_CALLER, str(standing), joins, TEUL, *command]
    strange = environment(home) | {"SECRET": "hunter2", "PATH": f".:{os.environ['PATH']}:bin", "LC_ALL": "C"}
    return subprocess.run(arguments, env=strange, capture_output=True, text=True, timeout=60, check=False)


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def limits_of(pid: int) -> dict[str, tuple[str, str]]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): (line[26:47].strip(), line[47:68].strip()) for line in lines}


def stat_of(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def test_engine_keeps_nothing_of_the_caller_that_it_was_started_by(home: Path, leaves: list[Path]) -> None:
    """It stands as a service manager would have started it, or the end of the caller's session would be the engine's."""
    started = start_strangely(home, leaves, "ps")
    assert (started.returncode, started.stderr) == (0, "")
    pid = eventually(lambda: engines(home), "there is an engine")[0]
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()} == {"/"}
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "0\n"
    assert Path(f"/proc/{pid}/personality").read_text() == "00000000\n"

    status = status_of(pid)
    assert status["Umask"] == "0022"
    assert (status["Gid"].split(), status["Groups"]) == (["0"] * 4, "0")
    assert int(status["SigBlk"], 16) == 0
    ignored = int(status["SigIgn"], 16)
    assert ignored == sum(1 << (number - 1) for number in (signal.SIGPIPE, signal.SIGXFSZ)), "more than Python ignores"
    assert status["Cpus_allowed_list"] == status_of(1)["Cpus_allowed_list"]

    stat = stat_of(pid)
    session, terminal, nice, policy = int(stat[3]), int(stat[4]), int(stat[16]), int(stat[38])
    assert (session, terminal, nice, policy) == (pid, 0, 0, os.SCHED_OTHER)
    assert _io_priority_class(pid) == 0

    limits = limits_of(pid)
    unlimited = "Max core file size", "Max file size", "Max processes", "Max address space", "Max data size", "Max cpu time"
    expected = dict.fromkeys(unlimited, ("unlimited", "unlimited")) | {
        "Max open files": (most := str(min(1 << 20, int(Path("/proc/sys/fs/nr_open").read_text()))), most),
        "Max stack size": (str(8 << 20), "unlimited"),
        "Max locked memory": (str(8 << 20), str(8 << 20)),
        "Max msgqueue size": ("819200", "819200"),
        "Max nice priority": ("0", "0"),
    }
    assert {name: limits[name] for name in expected} == {name: _attainable(name, *wanted) for name, wanted in expected.items()}

    variables = dict(item.split("=", 1) for item in Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0"))
    assert variables == {"PATH": os.environ["PATH"], "TEUL_ROOT": f"{home}/root", "TEUL_RUN_ROOT": f"{home}/run"}
    targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert "/" not in targets, "the caller's descriptor"
    assert (home / "run").stat().st_mode & 0o777 == 0o755, "the caller's umask"


def test_container_of_an_engine_on_demand_has_nothing_of_the_caller(home: Path, leaves: list[Path]) -> None:
    """Nor is a container held to the limits and priorities of whoever was the first to run one."""
    archive = home / "busybox.tar"
    archive.write_bytes(images.busybox().docker_archive())
    assert start_strangely(home, leaves, "load", "-i", str(archive)).returncode == 0
    started = start_strangely(home, leaves, "run", "-d", "--network", "none", "busybox", "sleep", "1000")
    assert started.returncode == 0, started.stderr
    container = started.stdout.strip()
    try:
        inspected = subprocess.run(
            [TEUL, "inspect", "-f", "{{.State.Pid}}", container],
            env=environment(home),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        pid = int(inspected.stdout)
        status, stat, limits = status_of(pid), stat_of(pid), limits_of(pid)
        assert (int(status["SigBlk"], 16), int(status["SigIgn"], 16)) == (0, 0)
        assert (int(stat[16]), int(stat[38])) == (0, os.SCHED_OTHER)
        assert _io_priority_class(pid) == 0
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "0\n"
        assert Path(f"/proc/{pid}/personality").read_text() == "00000000\n"
        assert limits["Max file size"] == ("unlimited", "unlimited")
        assert int(limits["Max open files"][0]) > 64
        assert limits["Max msgqueue size"] == ("819200", "819200")
    finally:
        removed = subprocess.run(
            [TEUL, "rm", "-f", container], env=environment(home), capture_output=True, text=True, timeout=60, check=False
        )
    assert removed.returncode == 0, removed.stderr


def _attainable(name: str, soft: str, hard: str) -> tuple[str, str]:
    """The limits that this machine lets an engine have: without CAP_SYS_RESOURCE no hard limit can be raised."""
    ours = limits_of(os.getpid())[name][1]
    if ours == "unlimited" or int(status_of(os.getpid())["CapEff"], 16) >> 24 & 1 or (hard != "unlimited" and int(hard) <= int(ours)):
        return soft, hard
    return ours if soft == "unlimited" else str(min(int(soft), int(ours))), ours


def _io_priority_class(pid: int) -> int:
    number = {"x86_64": 252, "aarch64": 31}[os.uname().machine]
    return int(ctypes.CDLL(None).syscall(number, 1, pid)) >> 13
