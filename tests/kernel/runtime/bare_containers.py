"""Containers without an engine: OCI specs written by hand, a busybox root, and a `Supervisor` that starts them.

What services would decide is decided by the test; everything below them is real. A `Bench` gives each test a directory and ends what
the test leaves running. All containers of a run have one supervisor (and so one keeper) unless the test brings its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import pytest_asyncio

from support import processes
from support.images import BUSYBOX
from teul.aio import Tasks
from teul.linux import cgroups, seccomp
from teul.oci.seccomp_profile import default_profile, kernel_version, resolve_profile
from teul.runtime.engine.attachment import Attachment
from teul.runtime.engine.process import ExitRecord, Process
from teul.runtime.engine.supervisor import PendingAttachment, Supervisor
from teul.runtime.messages import Launch, Wants
from teul.store.atomic import remove_tree

T = TypeVar("T")
Spec = dict[str, Any]
Change = Callable[[Spec], None]

# Long enough for a virtual machine with one slow processor: it only ends what would hang for ever.
DEADLINE_SECONDS = 90.0
CGROUP_PARENT = f"/teul-bare-{os.getpid()}"
MEGABYTE = 1 << 20
CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        [
            "CHOWN",
            "DAC_OVERRIDE",
            "FSETID",
            "FOWNER",
            "MKNOD",
            "NET_RAW",
            "SETGID",
            "SETUID",
            "SETFCAP",
            "SETPCAP",
            "NET_BIND_SERVICE",
            "SYS_CHROOT",
            "KILL",
            "AUDIT_WRITE",
        ]
    )
]
DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
NAMESPACE_FILES = {"mount": "mnt", "pid": "pid", "uts": "uts", "ipc": "ipc", "network": "net", "cgroup": "cgroup"}
PASSWD = "root:x:0:0:root:/root:/bin/sh\njudge:x:1234:2345:Judge:/home/judge:/bin/sh\n"
GROUP = "root:x:0:\nvideo:x:44:judge\njudges:x:2345:\nextra:x:3456:judge\n"


async def within(awaitable: Awaitable[T], what: str = "it") -> T:
    """The result of `awaitable`; fails when it does not come."""
    try:
        return await asyncio.wait_for(awaitable, DEADLINE_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{what} did not come within {DEADLINE_SECONDS:g} s") from None


async def eventually(check: Callable[[], T], what: str) -> T:
    """The first truthy result of `check`, asked again and again while the event loop runs."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (result := check()):
            await asyncio.sleep(0.01)
        return result
    raise AssertionError(f"not true in time: {what}")


def mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    """One entry of a spec's `mounts`."""
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def bind(source: Path | str, destination: str, *options: str) -> dict[str, Any]:
    return mount(destination, "bind", str(source), *(options or ("rbind", "rprivate")))


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has run to its end."""

    code: int
    out: str
    err: str
    record: ExitRecord


@dataclass
class Running:
    """A started container or exec."""

    bench: Bench
    name: str
    directory: Path
    process: Process
    plan: cgroups.Plan
    attachment: Attachment | None
    spec: Spec
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def root(self) -> Path:
        """Its root directory, seen from the host."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def log(self) -> Path:
        return self.directory / "log.json"

    def namespace(self, kind: str) -> str:
        return os.readlink(f"/proc/{self.pid}/ns/{kind}")

    def status(self) -> dict[str, str]:
        """/proc/PID/status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    async def read_until(self, text: str) -> str:
        """Read output until `text` is in it; all output so far."""
        await within(self._read_until(text.encode()), f"{text!r} in the output")
        return self.out.decode()

    async def _read_until(self, text: bytes) -> None:
        assert self.attachment is not None
        if text in self.out:
            return
        async for stream, data in self.attachment:
            (self.out if stream == 1 else self.err).extend(data)
            if text in self.out:
                return
        raise AssertionError(f"the output ended without {text!r}: {bytes(self.out)!r} {bytes(self.err)!r}")

    async def read_all(self) -> None:
        """Read output to its end."""
        assert self.attachment is not None

        async def read(attachment: Attachment) -> None:
            async for stream, data in attachment:
                (self.out if stream == 1 else self.err).extend(data)

        await within(read(self.attachment), "the end of the output")

    async def write(self, text: str) -> None:
        assert self.attachment is not None
        await within(self.attachment.write(text.encode()))

    async def ended(self) -> Ended:
        """Wait for its end, reading what it writes."""
        if self.attachment is not None:
            await self.read_all()
            await self.attachment.close()
        record = await within(asyncio.shield(self.process.exit), f"the end of {self.name}")
        return Ended(record.exit_code, self.out.decode(errors="replace"), self.err.decode(errors="replace"), record)

    async def kill(self) -> Ended:
        self.process.signal(signal.SIGKILL)
        return await self.ended()

    async def attach(self, *, stdin: bool = False) -> Attachment:
        return await self.process.attach(stdin=stdin, stdout=True, stderr=True)

    def log_lines(self, *, rotated: int = 0) -> list[dict[str, Any]]:
        path = Path(f"{self.log}.{rotated}") if rotated else self.log
        return [json.loads(line) for line in path.read_text().splitlines()]

    async def exec(self, *args: str, process: dict[str, Any] | None = None, teul: dict[str, Any] | None = None, **options: Any) -> Running:
        """Start one more process in it. `process` and `teul` change the container's own; `options` as of `Bench.start`."""
        terminal = options.get("tty", False)
        request = {**self.spec["process"], "args": list(args), "terminal": terminal, **(process or {})}
        extension = {name: self.spec["teul"][name] for name in ("user", "groups", "seccomp_bpf", "seccomp_flags")}
        directory = self.bench.new_directory(f"{self.name}-exec")
        (directory / "config.json").write_text(json.dumps({"process": request, "teul": {**extension, **(teul or {})}}))
        message = {"kind": "exec", "cgroup": self.plan, "joins": ["container"], "keyring": f"teul-test-{self.name}"}
        return await self.bench.launch(message, directory, self.plan, self.spec, donors=[self.process.pidfd], **options)

    async def ask(self, script: str) -> str:
        """What a shell in it answers."""
        answer = await (await self.exec("sh", "-c", script)).ended()
        assert answer.code == 0, answer
        return answer.out


class Bench:
    """Makes containers for one test below `base`."""

    def __init__(self, base: Path, lower: Path, supervisor: Supervisor) -> None:
        self.base = base
        self.lower = lower
        self.supervisor = supervisor
        self.layout = cgroups.detect()
        self._numbers = itertools.count(1)
        self._started: list[Running] = []
        self._made: list[cgroups.Plan] = []

    def new_directory(self, name: str) -> Path:
        directory = self.base / f"{name}-{next(self._numbers)}"
        directory.mkdir()
        return directory

    def make_layer(self, files: dict[str, str] | None = None, links: dict[str, str] | None = None) -> Path:
        """A directory with `files` (text by path) and symbolic `links` (target by path), to be put over the busybox root."""
        layer = self.new_directory("layer")
        for path, text in (files or {}).items():
            (layer / path).parent.mkdir(parents=True, exist_ok=True)
            (layer / path).write_text(text)
            (layer / path).chmod(0o755)
        for path, target in (links or {}).items():
            (layer / path).parent.mkdir(parents=True, exist_ok=True)
            (layer / path).symlink_to(target)
        return layer

    def spec(self, directory: Path, args: tuple[str, ...], *, tty: bool, layers: tuple[Path, ...]) -> Spec:
        """What Docker's defaults come to; `layers` lie over the busybox root, the topmost first."""
        (directory / "upper").mkdir()
        (directory / "work").mkdir()
        (directory / "rootfs").mkdir()
        quiet = ("nosuid", "noexec", "nodev")
        return {
            "ociVersion": "1.2.0",
            "root": {"path": str(directory / "rootfs"), "readonly": False},
            "hostname": "bare",
            "process": {
                "terminal": tty,
                "args": list(args),
                "env": ["PATH=/bin:/usr/bin"],
                "cwd": "/",
                "user": {"uid": 0, "gid": 0},
                "capabilities": {name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")},
                "rlimits": [],
                "noNewPrivileges": False,
            },
            "mounts": [
                mount("/proc", "proc", "proc", *quiet),
                mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
                mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
                mount("/sys", "sysfs", "sysfs", *quiet, "ro"),
                mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", *quiet),
                mount("/dev/mqueue", "mqueue", "mqueue", *quiet),
                mount("/dev/shm", "tmpfs", "shm", *quiet, "mode=1777", "size=67108864"),
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("mount", "pid", "uts", "ipc", "network", "cgroup")],
                "devices": [
                    {"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor, "fileMode": 0o666}
                    for name, major, minor in DEVICES
                ],
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
            "teul": {
                "rootfs": {
                    "lower": [str(layer) for layer in (*layers, self.lower)],
                    "upper": str(directory / "upper"),
                    "work": str(directory / "work"),
                },
                "seccomp_bpf": None,
                "seccomp_flags": 0,
                "user": "",
                "groups": [],
                "init": False,
            },
        }

    async def start(
        self,
        *args: str,
        change: Change | None = None,
        layers: tuple[Path, ...] = (),
        resources: dict[str, Any] | None = None,
        message: dict[str, Any] | None = None,
        supervisor: Supervisor | None = None,
        **options: Any,
    ) -> Running:
        """Start a container of program `args`.

        `change` edits the spec, `message` adds to the launch message; `options`: tty, stdin, attach, log, size (see `launch`).
        """
        directory = self.new_directory("container")
        spec = self.spec(directory, args, tty=options.get("tty", False), layers=layers)
        if change is not None:
            change(spec)
        plan = cgroups.plan(self.layout, f"{CGROUP_PARENT}/{directory.name}", resources)
        self._made.append(plan)
        (directory / "config.json").write_text(json.dumps(spec))
        pid = next((entry for entry in spec["linux"]["namespaces"] if entry["type"] == "pid"), None)
        launch = {
            "kind": "create",
            "cgroup": plan,
            "new_pids": pid is not None and not pid.get("path"),
            "kill_cgroup": pid is None or bool(pid.get("path")),
            **(message or {}),
        }
        return await self.launch(launch, directory, plan, spec, supervisor=supervisor, **options)

    async def launch(
        self,
        message: dict[str, Any],
        directory: Path,
        plan: cgroups.Plan,
        spec: Spec,
        *,
        tty: bool = False,
        stdin: str = "null",
        attach: bool = True,
        log: dict[str, Any] | None = None,
        size: tuple[int, int] = (0, 0),
        donors: Sequence[int] = (),
        supervisor: Supervisor | None = None,
    ) -> Running:
        """Send `message`, completed by what the options say, and wait until the program runs."""
        whole: dict[str, Any] = {
            "id": directory.name,
            "keyring": f"teul-test-{directory.name}",
            "directory": str(directory),
            "terminal": tty,
            "rows": size[0],
            "columns": size[1],
            "stdin": stdin,
            "log": None if log is None else {"path": str(directory / "log.json"), "max_bytes": 0, "max_files": 1, "attrs": "", **log},
            "spill_directory": str(directory),
            "kill_cgroup": False,
            "new_pids": False,
            "joins": [],
            "mounts": 0,
            "networks": [],
            **message,
        }
        attachment, pending = None, []
        if attach:
            wants: Wants = {"stdin": stdin != "null", "stdout": True, "stderr": True}
            attachment, far = await Attachment.pending(terminal=tty, wants=wants)
            pending = [PendingAttachment(far, wants)]
        try:
            process = await within((supervisor or self.supervisor).start(cast("Launch", whole), attach=pending, donors=donors), "the start")
        except BaseException:
            if attachment is not None:
                await attachment.close()
            raise
        running = Running(self, directory.name, directory, process, plan, attachment, spec)
        self._started.append(running)
        return running

    async def run(self, *args: str, **options: Any) -> Ended:
        """Start a container and wait for its end."""
        return await (await self.start(*args, **options)).ended()

    async def script(self, text: str, **options: Any) -> Ended:
        """Run a shell script."""
        return await self.run("sh", "-c", text, **options)

    async def ask(self, text: str, **options: Any) -> str:
        """The output of a shell script that must succeed."""
        answer = await self.script(text, **options)
        assert answer.code == 0, answer
        return answer.out

    def remains(self) -> list[str]:
        """What containers of this test have left on the host: processes, cgroups, mounts."""
        left = [directory for plan in self._made for directory in plan["directories"] if os.path.exists(directory)]
        left += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.base) in line]
        left += [
            f"process {pid} {processes.command_line(pid)}"
            for pid in processes.all_pids()
            if processes.is_alive(pid) and any(plan["path"] in _cgroup_of(pid) for plan in self._made)
        ]
        return left

    async def close(self) -> None:
        """End what runs, and check that nothing is left."""
        for running in self._started:
            if running.attachment is not None:
                await running.attachment.close()
            if not running.process.exit.done():
                running.process.signal(signal.SIGKILL)
        for running in self._started:
            await within(asyncio.shield(running.process.exit), f"the end of {running.name}")
        for plan in self._made:
            cgroups.kill(plan)
        await eventually(lambda: not self.remains(), f"nothing is left: {self.remains()}")


def _cgroup_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


@contextlib.asynccontextmanager
async def opened_supervisor(**options: Any) -> AsyncIterator[Supervisor]:
    """A supervisor of its own. Left by closing it; a test that wants it to die ends the keeper by itself."""
    async with Tasks() as tasks:
        supervisor = Supervisor(tasks, **options)
        await supervisor.open()
        try:
            yield supervisor
        finally:
            await supervisor.close()


@pytest.fixture(scope="session")
def busybox_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with busybox, its applets, and the files that programs look for."""
    root = tmp_path_factory.mktemp("busybox-root")
    for name in ("bin", "dev", "etc", "home/judge", "proc", "root", "sys", "tmp", "usr/bin", "var"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "home/judge").chmod(0o755)
    os.chown(root / "home/judge", 1234, 2345)
    (root / "bin/busybox").write_bytes(BUSYBOX.read_bytes())
    (root / "bin/busybox").chmod(0o755)
    for applet in subprocess.run([str(BUSYBOX), "--list"], check=True, capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    (root / "etc/not-executable").write_text("just text\n")
    return root


@pytest.fixture(scope="session")
def seccomp_filter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Docker's default profile, compiled."""
    profile = resolve_profile(
        default_profile(),
        capabilities=frozenset(CAPABILITIES),
        architecture={"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        kernel=kernel_version(os.uname().release),
    )
    assert profile is not None
    path = tmp_path_factory.mktemp("seccomp") / "default.bpf"
    path.write_bytes(seccomp.compile_filter(profile))
    return path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_supervisor() -> AsyncIterator[Supervisor]:
    async with opened_supervisor() as supervisor:
        yield supervisor


@pytest.fixture(scope="session")
def cgroup_parent() -> Iterator[str]:
    yield CGROUP_PARENT
    cgroups.prune(cgroups.detect(), CGROUP_PARENT)


@pytest_asyncio.fixture(loop_scope="session")
async def bench(tmp_path: Path, busybox_root: Path, shared_supervisor: Supervisor, cgroup_parent: str) -> AsyncIterator[Bench]:
    """Containers for one test; afterwards nothing of them is left."""
    made = Bench(tmp_path, busybox_root, shared_supervisor)
    yield made
    await made.close()
    _expect_no_loop()
    for upper in tmp_path.glob("*/upper"):
        remove_tree(str(upper))  # it may be deeper than pytest can remove


def _expect_no_loop() -> None:
    """A supervisor whose keeper was killed hears of each process's end. Between these tests nobody takes that from its loop, and the tests
    of other files may start so many processes that no more can be noted: it is enough to have noted one.
    """
    noted = signal.set_wakeup_fd(-1)
    if noted != -1:
        signal.set_wakeup_fd(noted, warn_on_full_buffer=False)
