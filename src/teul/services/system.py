"""What the engine says about itself and its host: `docker version` and `docker info`.

Figures are read when they are asked for; a figure that cannot be found out is empty or zero, never guessed.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from teul.aio import run_blocking
from teul.linux.cgroups import Layout
from teul.model.container import Container
from teul.model.lifecycle import Status
from teul.model.runtime import OWN_ONLY, Runtimes
from teul.oci.platform import host_platform
from teul.services.containers.cdi import CdiDevices
from teul.services.containers.request.log_drivers import JSON_FILE
from teul.services.host import LimitSupport, gather_host_facts, host_name

API_VERSION = (1, 51)
MINIMUM_API_VERSION = (1, 24)


class ContainerLister(Protocol):
    """Knows all containers; `services.containers.service.Containers` is one."""

    def list(self) -> Sequence[Container]: ...


class ImageCounter(Protocol):
    """Knows how many images there are; `services.images.service.Images` is one."""

    def count(self) -> int: ...


class ListenerCounter(Protocol):
    """Knows how many listen to events; `services.events.Events` is one."""

    @property
    def listeners(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What the composition root knows of this engine.

    `engine_id` stays the same for a root; `snapshotter` is the form that new layers get there; `hosts` are the addresses that the engine
    listens on, `tls` and `tls_verify` how it does on TCP. `log_driver` is that of containers that do not say.
    """

    engine_id: str
    version: str
    root: str
    run_root: str
    snapshotter: str
    cgroups: Layout
    hosts: tuple[str, ...] = ()
    seccomp: bool = True
    rootless: bool = False
    debug: bool = False
    log_driver: str = JSON_FILE
    tls: bool = False
    tls_verify: bool = False
    runtimes: Runtimes = OWN_ONLY
    cdi_directories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """The engine's version, and its host's."""

    version: str
    api_version: str
    minimum_api_version: str
    os: str
    architecture: str
    kernel_version: str
    python_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """Everything that `docker info` shows."""

    facts: EngineFacts
    containers_running: int
    containers_paused: int
    containers_stopped: int
    images: int
    driver_status: list[tuple[str, str]]
    cgroup_driver: str
    cgroup_version: str
    limits: LimitSupport
    ipv4_forwarding: bool
    open_files: int
    listeners: int
    time_ns: int
    hostname: str
    kernel_version: str
    operating_system: str
    operating_system_version: str
    machine: str
    cpus: int
    memory_bytes: int
    security_options: list[str]
    warnings: list[str] = field(default_factory=list)
    cdi_devices: list[str] = field(default_factory=list)

    @property
    def containers(self) -> int:
        """How many containers there are, in whatever state."""
        return self.containers_running + self.containers_paused + self.containers_stopped


class System:
    """Answers questions about the engine as a whole."""

    def __init__(self, facts: EngineFacts, containers: ContainerLister, images: ImageCounter, events: ListenerCounter) -> None:
        self.facts = facts
        self._containers = containers
        self._images = images
        self._events = events

    def version(self) -> Version:
        """The answer to `docker version`. Never waits: clients ask for it before everything else."""
        host = host_platform()
        return Version(
            version=self.facts.version,
            api_version=render_version(API_VERSION),
            minimum_api_version=render_version(MINIMUM_API_VERSION),
            os=host.os,
            architecture=host.architecture,
            kernel_version=os.uname().release,
            python_version=platform.python_version(),
        )

    async def info(self) -> Info:
        """The answer to `docker info`: counts containers and images and reads the host's figures."""
        statuses = Counter(container.state.status for container in self._containers.list())
        running = statuses[Status.RUNNING] + statuses[Status.RESTARTING]
        paused = statuses[Status.PAUSED]
        return await run_blocking(
            _read_info,
            self.facts,
            running=running,
            paused=paused,
            stopped=statuses.total() - running - paused,
            images=self._images.count(),
            listeners=self._events.listeners,
        )


def render_version(version: tuple[int, int]) -> str:
    """`1.51`"""
    return f"{version[0]}.{version[1]}"


def _read_info(facts: EngineFacts, *, running: int, paused: int, stopped: int, images: int, listeners: int) -> Info:
    limits = gather_host_facts(facts.cgroups).limits
    forwarding = _read("/proc/sys/net/ipv4/ip_forward").strip() == "1"
    release = parse_os_release(_read("/etc/os-release") or _read("/usr/lib/os-release"))
    host = os.uname()
    cdi = CdiDevices(facts.cdi_directories)
    return Info(
        facts=facts,
        containers_running=running,
        containers_paused=paused,
        containers_stopped=stopped,
        images=images,
        driver_status=[
            ("Snapshotter", facts.snapshotter),
            ("Backing Filesystem", _backing_filesystem(facts.root)),
            ("Supports d_type", "true"),
            ("Using metacopy", "false"),
            ("Native Overlay Diff", "true"),
            ("userxattr", "true" if facts.rootless else "false"),
        ],
        cgroup_driver="none" if facts.cgroups.mode == "none" else "cgroupfs",
        cgroup_version="2" if facts.cgroups.mode == "v2" else "1",
        limits=limits,
        ipv4_forwarding=forwarding,
        open_files=len(os.listdir("/proc/self/fd")),
        listeners=listeners,
        time_ns=time.time_ns(),
        hostname=host_name(),
        kernel_version=host.release,
        operating_system=release.get("PRETTY_NAME") or release.get("NAME") or "Linux",
        operating_system_version=release.get("VERSION_ID", ""),
        machine=host.machine,
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=_memory_bytes(),
        security_options=_security_options(facts),
        warnings=_warnings(facts, limits, forwarding=forwarding) + cdi.problems,
        cdi_devices=cdi.names(),
    )


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments of os-release(5), quotes removed."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def _backing_filesystem(root: str) -> str:
    """docker: the file system under the data root, all of ext2, 3 and 4 being `extfs`."""
    path, kind, longest = os.path.realpath(root), "", -1
    for line in _read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        mount_point = left.split(" ")[4]
        if len(mount_point) >= longest and (path + "/").startswith(mount_point.rstrip("/") + "/"):
            kind, longest = right.split(" ")[0], len(mount_point)
    return {"ext2": "extfs", "ext3": "extfs", "ext4": "extfs", "overlay": "overlayfs"}.get(kind, kind or "<unknown>")


def _memory_bytes() -> int:
    match = re.search(r"^MemTotal:\s+([0-9]+) kB", _read("/proc/meminfo"), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _security_options(facts: EngineFacts) -> list[str]:
    options = []
    if _read("/sys/module/apparmor/parameters/enabled").startswith("Y"):
        options.append("name=apparmor")
    if facts.seccomp:
        options.append("name=seccomp,profile=builtin")
    if os.path.exists("/sys/fs/selinux/enforce"):
        options.append("name=selinux")
    if facts.rootless:
        options.append("name=rootless")
    # Every container gets a cgroup namespace of its own, on cgroup v1 too.
    return [*options, "name=cgroupns"]


def _warnings(facts: EngineFacts, limits: LimitSupport, *, forwarding: bool) -> list[str]:
    """docker: what this host cannot do, in dockerd's words."""
    missing = (
        (limits.memory, "WARNING: No memory limit support"),
        (limits.swap or not limits.memory, "WARNING: No swap limit support"),
        (limits.cpu_quota, "WARNING: No cpu cfs quota support"),
        (limits.cpu_quota, "WARNING: No cpu cfs period support"),
        (limits.cpu_shares, "WARNING: No cpu shares support"),
        (limits.cpuset, "WARNING: No cpuset support"),
        (limits.pids, "WARNING: No pids limit support"),
        (forwarding, "WARNING: IPv4 forwarding is disabled"),
        (facts.seccomp, "WARNING: libseccomp is missing (Debian package libseccomp2): containers need --security-opt seccomp=unconfined"),
    )
    return exposure_warnings(facts) + [text for supported, text in missing if not supported]


def exposure_warnings(facts: EngineFacts) -> list[str]:
    """docker: who may connect without showing a certificate (daemon/info.go fillAPIInfo)."""
    if facts.tls_verify:
        return []
    scheme, missing = ("https", "TLS client verification") if facts.tls else ("http", "encryption")
    return [
        f"WARNING: API is accessible on {scheme}://{host.removeprefix('tcp://')} without {missing}.\n"
        "         Whoever can connect to it is root on the host."
        for host in facts.hosts
        if host.startswith("tcp://")
    ]


def _read(path: str) -> str:
    """The text of a small file, empty if this host does not have it or does not show it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
