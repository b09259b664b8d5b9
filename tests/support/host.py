"""The host's state that a container engine can dirty, as sets of lines that can be compared."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

from support import processes

_ENGINES = re.compile(r"\bteul\b|\bmonitor\b|\bdockerd\b|\bcontainerd")
_ENGINES_CGROUP = re.compile(r"/[^/]*(?:teul|docker)|/[0-9a-f]{64}\b")
_ENGINES_OWN = re.compile(r"\bteul[-_]?[0-9a-f]*\b")  # another engine that ended meanwhile takes its own things along
_COUNTERS = re.compile(r"\[[0-9:]+\]")
_OURS = re.compile(r"^(teul|docker|containerd|tmp[a-z0-9_]{8}$)")


@dataclass(frozen=True, slots=True)
class HostState:
    """Sorted lines by area. Counters, handles and other things that change by themselves are left out."""

    mounts: frozenset[str]
    cgroups: frozenset[str]
    links: frozenset[str]
    network_namespaces: frozenset[str]
    nft: frozenset[str]
    iptables: frozenset[str]
    processes: frozenset[str]
    files: frozenset[str]


def snapshot() -> HostState:
    return HostState(
        mounts=_mounts(),
        cgroups=_cgroups(),
        links=frozenset(os.listdir("/sys/class/net")),
        network_namespaces=_network_namespaces(),
        nft=_nft(),
        iptables=_iptables(),
        processes=_processes(),
        files=_files(),
    )


def difference(before: HostState, after: HostState) -> list[str]:
    """What is there now and was not, or was there and is not: one sentence each."""
    found: list[str] = []
    for area in (entry.name for entry in fields(HostState)):
        old, new = getattr(before, area), getattr(after, area)
        found += [f"{area}: left behind: {line}" for line in sorted(new - old)]
        if area in {"mounts", "links", "nft", "iptables"}:
            # Processes, files and cgroups of others come and go; a mount or a rule that is missing now was taken away by us.
            found += [f"{area}: taken away: {line}" for line in sorted(old - new) if not _ENGINES_OWN.search(line)]
    return found


def _mounts() -> frozenset[str]:
    """Mount point and type; ids and options of the whole line may change without a mount being made."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return frozenset(f"{fields[4]} ({fields[fields.index('-') + 1]})" for fields in lines)


def _cgroups() -> frozenset[str]:
    """Those that engines make: by an engine's name or a container's id. A host's own managers make others all the time."""
    mount_points = [
        line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[2] in {"cgroup", "cgroup2"}
    ]
    found = (directory for mount_point in mount_points for directory, _, _ in os.walk(mount_point))
    return frozenset(directory for directory in found if _ENGINES_CGROUP.search(directory))


def _nft() -> frozenset[str]:
    """Every line with the name of its table, without counters and handles."""
    table, lines = "", set()
    for line in _text("nft", "--stateless", "list", "ruleset").splitlines():
        table = line.removesuffix(" {") if line.startswith("table ") else table
        if line.strip() not in {"", "}"}:
            lines.add(f"{table}: {line.strip()}")
    return frozenset(lines)


def _network_namespaces() -> frozenset[str]:
    """Namespaces that a process is in, and those bound to a name."""
    in_use = {processes.namespace_of(pid, "net") for pid in processes.all_pids()}
    named = {f"/run/netns/{name}" for name in os.listdir("/run/netns")} if os.path.isdir("/run/netns") else set()
    return frozenset({name for name in in_use if name is not None} | named)


def _iptables() -> frozenset[str]:
    lines: set[str] = set()
    for program in ("iptables-legacy-save", "ip6tables-legacy-save"):
        lines |= {f"{program}: {_COUNTERS.sub('', line)}" for line in _lines(program) if not line.startswith("#")}
    return frozenset(lines)


def _processes() -> frozenset[str]:
    """Engines' processes by command line, and whatever runs in a pid namespace that is not ours."""
    own = processes.namespace_of(os.getpid(), "pid")
    found: set[str] = set()
    for pid in processes.all_pids():
        line = processes.command_line(pid)
        foreign = processes.namespace_of(pid, "pid") not in {own, None}
        if processes.is_alive(pid) and (foreign or _ENGINES.search(line)) and not _is_test_run(pid):
            found.add(f"{pid} {line}")
    return frozenset(found)


def _is_test_run(pid: int) -> bool:
    """This process or one of its ancestors: pytest itself, make, a shell."""
    current: int | None = os.getpid()
    while current:
        if current == pid:
            return True
        current = processes.parent_of(current)
    return False


def _files() -> frozenset[str]:
    found: set[str] = set()
    for directory in ("/tmp", "/var/tmp", "/run", "/dev/shm", "/var/lib", "/etc/docker"):
        if os.path.isdir(directory):
            found |= {f"{directory}/{name}" for name in os.listdir(directory) if directory == "/etc/docker" or _OURS.match(name)}
    return frozenset(found)


def _lines(*argv: str) -> frozenset[str]:
    return frozenset(line for line in _text(*argv).splitlines() if line.strip())


def _text(*argv: str) -> str:
    """What the program prints; nothing where it is not installed, since then nothing has used it either."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
