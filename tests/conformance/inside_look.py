"""A look at a container from the inside: a shell script prints what it finds, section by section, and is compared as data."""

from __future__ import annotations

import json
import re
from pathlib import Path

from support import images, processes
from support.docker_host import DockerHost

GOLDEN = Path(__file__).with_name("golden") / "inside_look.json"

# Every section is `== name` and its lines. Only busybox is used, and nothing that changes the container before it is printed.
# Nothing in it may change the host: some of the containers are privileged.
PROBE = r"""
section() { echo "== $1"; }
section capabilities; grep '^Cap' /proc/self/status
section "no new privileges"; grep '^NoNewPrivs' /proc/self/status
section seccomp; grep '^Seccomp:' /proc/self/status
section "user and groups"; id; grep -E '^(Uid|Gid|Groups)' /proc/self/status
section namespaces; for n in cgroup ipc mnt net pid user uts; do echo "$n $(readlink /proc/self/ns/$n)"; done
section mounts; cat /proc/self/mounts
section "root propagation"; grep ' / / ' /proc/self/mountinfo | grep -o 'shared:\|master:' || echo private
section devices; cd /dev; for d in *; do [ -L $d ] || stat -c '%A %U %G %t,%T %n' $d; done; cd /
section "device links"; for f in fd stdin stdout stderr ptmx core; do echo "$f $(readlink /dev/$f)"; done
section "device access"
for d in null zero full random urandom tty; do test -r /dev/$d && test -w /dev/$d && echo "$d rw"; done
mknod /tmp/kmsg c 1 11 2>&1; (: < /tmp/kmsg) 2>&1; rm -f /tmp/kmsg
section "masked paths"
for p in /proc/asound /proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats /proc/sched_debug \
         /proc/scsi /sys/firmware /sys/devices/virtual/powercap; do
  if [ -d $p ]; then echo "$p directory with $(ls $p | wc -l)"
  elif [ -e $p ]; then echo "$p $(stat -c %F $p), $(head -c 1 $p 2>/dev/null | wc -c) readable"; fi
done
section "read-only paths"
for p in /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger /sys /sys/fs/cgroup; do
  [ -e $p ] && echo "$p $(awk -v p=$p '$2 == p {split($4, o, ","); m = o[1]} END {print m ? m : "-"}' /proc/self/mounts)"
done
for f in /proc/sys/kernel/panic /proc/sys/vm/swappiness /sys/kernel/mm/ksm/run; do
  (: >> $f) 2>/dev/null && echo "$f opens for writing"
done
for d in / /tmp /dev /sys/fs/cgroup; do mkdir $d/judge 2>/dev/null && rmdir $d/judge && echo "$d takes directories"; done
section descriptors; for f in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$f ] && echo "$f $(readlink /proc/$$/fd/$f | sed 's/:.*//')"; done
section environment; tr '\0' '\n' < /proc/$$/environ | sort
section cgroup; cut -d: -f2- /proc/self/cgroup | sort
section "cgroup mounts"; ls -1 /sys/fs/cgroup
section limits; cat /proc/self/limits
section "process one"; tr '\0' '\n' < /proc/1/cmdline | head -1; cat /proc/self/oom_score_adj; umask; pwd
section "signals ignored and blocked"; grep -E '^(SigBlk|SigIgn)' /proc/self/status
section keyring; grep -c . /proc/keys
section uts; hostname | wc -c; cat /proc/sys/kernel/domainname
section files; cat /etc/hosts; ls -l /etc/hostname /etc/hosts /etc/resolv.conf | awk '{print $1, $3, $4, $NF}'
ls -ld / /tmp /root /dev/shm /proc/1 | awk '{print $1, $3, $4, $NF}'
section network; ls -1 /sys/class/net; ip -o addr | awk '{print $2, $3}' | sort -u; ip route | awk '{print $1}'
cd /proc/sys/net; cat ipv4/ip_unprivileged_port_start ipv4/ping_group_range
for f in ipv6/conf/*/disable_ipv6; do echo "$f $(cat $f)"; done; cd /
section "calls that must fail"
unshare -m true 2>&1; mount -t proc proc /tmp 2>&1; chroot / true 2>&1; dmesg 2>&1 >/dev/null
section "what changed nothing outside"; ls /tmp
"""

CONTAINERS: dict[str, tuple[str, ...]] = {
    "default": (),
    "privileged": ("--privileged",),
    "read-only": ("--read-only",),
    "user": ("--user", "judge"),
    "tty": ("-t",),
    "no network": ("--network", "none"),
    "limits": ("-m", "64m", "--cpus", "0.5", "--pids-limit", "60", "--ulimit", "nofile=512:1024"),
    "init": ("--init",),
    "unconfined": ("--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges", "--cap-drop", "ALL"),
}

Look = dict[str, list[str]]


def look(host: DockerHost, options: tuple[str, ...]) -> Look:
    """Run the probe in a container with these options; sections as keys, normalised lines as values."""
    output = host.docker("run", "--rm", "--hostname", "looker", *options, "busybox", "sh", "-c", PROBE)
    sections: Look = {"exit": [str(output.exit_code), *output.stderr.splitlines()]}
    lines: list[str] = []
    for line in output.stdout.replace("\r\n", "\n").splitlines():
        if line.startswith("== "):
            lines = sections.setdefault(line.removeprefix("== "), [])
        else:
            lines.append(line)
    own = {kind: processes.namespace_of(host.pid, kind) for kind in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")}
    if "namespaces" in sections:
        sections["namespaces"] = [
            f"{kind} {'host' if own[kind] == value else 'its own'}" for kind, value in (line.split() for line in sections["namespaces"])
        ]
    return {name: [normalise(line) for line in section] for name, section in sections.items()}


def look_everywhere(host: DockerHost) -> dict[str, Look]:
    host.load(images.busybox().docker_archive())
    return {name: look(host, options) for name, options in CONTAINERS.items()}


_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\b[0-9a-f]{64}\b", "<id>"),
        (r"\b[0-9a-f]{12}\b", "<short-id>"),
        (r"lowerdir=\S+?(?=,upperdir)", "lowerdir=<layers>"),
        (r"upperdir=\S+?(?=,workdir)", "upperdir=<upper>"),
        (r"workdir=[^, ]+", "workdir=<work>"),
        (r"judged-dockerd-[0-9a-f]+", "<parent>"),
        (r"teul(?:-[0-9a-f]{8})?(?=/<id>)", "<parent>"),
        (r"\b172\.\d+\.\d+\.\d+", "<ip>"),
        (r"pipe:\[\d+\]|socket:\[\d+\]", "<pipe>"),
        (r"size=\d+k,nr_inodes=\d+", "size=<size>"),
        (r"/tmp/teul-[a-z]+-\w+", "<base>"),
        (r"^(Max (?:processes|pending signals) +)\d+ +\d+", r"\1<host's>"),
    )
)


def normalise(line: str) -> str:
    for pattern, replacement in _RULES:
        line = pattern.sub(replacement, line)
    return line


def save_golden(looks: dict[str, Look]) -> None:
    GOLDEN.write_text(json.dumps(looks, indent=1, ensure_ascii=False) + "\n")


def load_golden() -> dict[str, Look]:
    looks: dict[str, Look] = json.loads(GOLDEN.read_text())
    return looks
