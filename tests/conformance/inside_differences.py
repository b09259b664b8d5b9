"""What an inside look at Teul's containers may show that dockerd's do not, and the other way round, each with its reason."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from conformance.inside_look import Look


@dataclass(frozen=True, slots=True)
class Known:
    """Lines of a section (of all containers, or of one) that only one side shows."""

    section: str
    line: re.Pattern[str]
    reason: str
    container: str | None = None


def _known(section: str, line: str, reason: str, container: str | None = None) -> Known:
    return Known(section, re.compile(line), reason, container)


_PRIVATE_CGROUPS = "the cgroup namespace is private on all hosts; Docker's is the host's on cgroup v1"

KNOWN = (
    _known("namespaces", r"cgroup (its own|host)", _PRIVATE_CGROUPS),
    _known("cgroup", r".*:/(<parent>/<id>)?", _PRIVATE_CGROUPS),
    _known("mounts", r"cgroup2? /sys/fs/cgroup/unified .*", "the hybrid host's cgroup2 is shown as well; runc leaves it out"),
    _known("cgroup mounts", r"unified", "the same"),
    _known("mounts", r"(cgroup|tmpfs) /sys/fs/cgroup\S* .*", "options follow the host's mounts; checked by the section on read-only paths"),
    _known(
        "mounts",
        r"(tmpfs|proc) /proc/(interrupts|scsi|timer_stats|sched_debug|latency_stats|asound) .*",
        "newer Dockers mask more of /proc",
    ),
    _known("mounts", r"tmpfs /sys/(devices/virtual/powercap|devices/system/cpu/\S+) .*", "newer Dockers mask more of /sys"),
    _known("masked paths", r"/sys/devices/virtual/powercap .*", "the same"),
    _known("mounts", r"proc /proc/sysrq-trigger .*", "there is none in this kernel, or it is made read-only as Docker does"),
    _known(
        "mounts", r"overlay / overlay .*", "the layers' options (volatile, index, redirect) are the engine's; ro or rw is compared below"
    ),
    _known("mounts", r"\S+ /sbin/docker-init .*", "no program is put into the container: PID 1 is Teul's own process", "init"),
    _known("process one", r".*", "the same", "init"),
    _known("root propagation", r".*", "follows the propagation of the host's root mount"),
    _known("limits", r"Max open files .*", "Debian's unit file raises dockerd's own limit; inherited where nothing is asked", "default"),
    _known(
        "network",
        r"ipv6/conf/(all|default|lo)/disable_ipv6 [01]|lo inet6",
        "newer Dockers leave ::1 on the loopback and turn off IPv6 per interface",
    ),
    _known("files", r"f[ef]00::0?\tip6-(localnet|mcastprefix)", "newer Dockers write these without the zero"),
    _known("read-only paths", r"/sys/fs/cgroup (rw|ro|takes directories)", "the directory above the cgroups is read-only, too"),
    _known(
        "mounts", r"tmpfs /proc/(keys|timer_list) .*", "masked with a node of the container's own /dev in both; options follow that mount"
    ),
)


def unexplained(container: str, docker: Look, teul: Look) -> list[str]:
    """Lines that only one of the two shows and that no entry above explains. The order of lines does not matter."""
    problems: list[str] = []
    for section in sorted(docker.keys() | teul.keys()):
        theirs, ours = Counter(docker.get(section, [])), Counter(teul.get(section, []))
        problems += [f"{section}: only in Docker's: {line}" for line in (theirs - ours) if not _is_known(container, section, line)]
        problems += [f"{section}: only in Teul's: {line}" for line in (ours - theirs) if not _is_known(container, section, line)]
    return problems


def _is_known(container: str, section: str, line: str) -> bool:
    return any(entry.section == section and entry.container in {None, container} and entry.line.fullmatch(line.rstrip()) for entry in KNOWN)
