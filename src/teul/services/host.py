"""What containers need to know of the host: read once by `gather_host_facts`, a plain value ever after.

Everything that judges or plans containers takes a `HostFacts`, so it is pure and can be tested for hosts that are not here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from teul.linux import caps, cgroups
from teul.model.runtime import OWN_ONLY, Runtimes
from teul.oci.platform import Platform, detected_platform, host_platform
from teul.oci.seccomp_profile import kernel_version


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSupport:
    """Which limits the cgroups of this host know. A limit that is not known is dropped with a warning, as dockerd does."""

    memory: bool = True
    swap: bool = True
    memory_swappiness: bool = True
    memory_reservation: bool = True
    oom_kill_disable: bool = True
    kernel_memory: bool = False
    pids: bool = True
    cpu_shares: bool = True
    cpu_quota: bool = True
    cpu_realtime: bool = False
    cpuset: bool = True
    blkio_weight: bool = True
    blkio_weight_device: bool = True
    blkio_throttle: bool = True


_AMD64 = Platform(os="linux", architecture="amd64")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """A host as containers see it.

    `architecture` is Go's name (amd64), and `platform` says more exactly which. `capabilities` are those that the engine can hand out,
    `known_capabilities` those that the kernel has, both in the kernel's order. `cpuset_cpus` and `cpuset_mems` are kernel lists ("0-3"),
    empty if not known.
    `thermal_throttle_paths` are sysfs directories that Docker hides. `apparmor_profiles` are the loaded profiles; None without AppArmor.
    `runtimes` are what the engine's administrator has added; `cdi_directories` have documents of devices (CDI).
    """

    architecture: str
    kernel: tuple[int, int]
    hostname: str
    cpus: int
    cgroup_mode: str
    limits: LimitSupport
    capabilities: tuple[str, ...]
    known_capabilities: tuple[str, ...]
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    seccomp: bool = True
    apparmor_profiles: frozenset[str] | None = None
    sysctls: frozenset[str] = frozenset()
    in_user_namespace: bool = False
    thermal_throttle_paths: tuple[str, ...] = ()
    platform: Platform = _AMD64
    runtimes: Runtimes = OWN_ONLY
    cdi_directories: tuple[str, ...] = ()


# Kernel parameters that are set in every container with a network of its own, where the kernel has them.
NETWORK_SYSCTLS = ("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range")

# kernel: CONFIG_NR_CPUS ends at 8192; a longer list is an attempt to make the engine count.
_LARGEST_LISTED = 8192


def host_name() -> str:
    """The host's name. The kernel takes any bytes for one, and JSON only text.

    docker: what is no UTF-8 becomes U+FFFD (Go, encoding/json).
    """
    return os.fsencode(os.uname().nodename).decode("utf-8", "replace")


def gather_host_facts(layout: cgroups.Layout) -> HostFacts:
    """Read the facts from the kernel. A few small files; do it once."""
    known = caps.CAPABILITIES[: caps.last_capability() + 1]
    effective, _, _ = caps.get_capabilities()
    ours = set(caps.names(effective))
    cpuset = _cpuset_files(layout)
    return HostFacts(
        architecture=host_platform().architecture,
        kernel=kernel_version(os.uname().release),
        hostname=host_name(),
        cpus=len(os.sched_getaffinity(0)),
        cgroup_mode=layout.mode,
        limits=_limit_support(layout),
        capabilities=tuple(name for name in known if name in ours),
        known_capabilities=known,
        cpuset_cpus=_read(cpuset[0]).strip(),
        cpuset_mems=_read(cpuset[1]).strip(),
        seccomp="Seccomp:" in _read("/proc/self/status"),
        apparmor_profiles=_apparmor_profiles(),
        sysctls=frozenset(name for name in NETWORK_SYSCTLS if os.path.exists("/proc/sys/" + name.replace(".", "/"))),
        in_user_namespace=_read("/proc/self/uid_map").split() != ["0", "0", "4294967295"],
        thermal_throttle_paths=_thermal_throttle_paths(),
        platform=detected_platform(_processor_flags()),
    )


def _processor_flags() -> list[str]:
    """Of the first processor, in the kernel's words; none where the kernel does not speak of them so."""
    lines = (line.partition(":") for line in _read("/proc/cpuinfo").splitlines())
    return next((value.split() for name, _, value in lines if name.strip() == "flags"), [])


def _limit_support(layout: cgroups.Layout) -> LimitSupport:
    """docker: pkg/sysinfo, which looks for the files on v1 and for the controllers on v2."""

    def has(controller: str, file: str) -> bool:
        return controller in layout.v1 and os.path.exists(os.path.join(layout.v1[controller], file))

    unified = layout.unified_controllers
    throttles = ("read_bps", "write_bps", "read_iops", "write_iops")
    return LimitSupport(
        memory="memory" in unified or has("memory", "memory.limit_in_bytes"),
        swap=_swap_limit_v2(layout) or has("memory", "memory.memsw.limit_in_bytes"),
        memory_swappiness=has("memory", "memory.swappiness"),
        memory_reservation="memory" in unified or has("memory", "memory.soft_limit_in_bytes"),
        oom_kill_disable=has("memory", "memory.oom_control"),
        kernel_memory=has("memory", "memory.kmem.limit_in_bytes"),
        pids="pids" in unified or "pids" in layout.v1,
        cpu_shares="cpu" in unified or has("cpu", "cpu.shares"),
        cpu_quota="cpu" in unified or has("cpu", "cpu.cfs_quota_us"),
        cpu_realtime=has("cpu", "cpu.rt_period_us"),
        cpuset="cpuset" in unified or "cpuset" in layout.v1,
        # kernel: the weight files of the root cgroup are missing where no scheduler with weights is built in.
        blkio_weight="io" in unified or has("blkio", "blkio.bfq.weight"),
        blkio_weight_device="io" in unified or has("blkio", "blkio.bfq.weight_device"),
        blkio_throttle="io" in unified or all(has("blkio", f"blkio.throttle.{name}_device") for name in throttles),
    )


def _swap_limit_v2(layout: cgroups.Layout) -> bool:
    """memory.swap.max stands in every v2 cgroup but the root; /proc/swaps tells whether the kernel was built to swap at all."""
    return "memory" in layout.unified_controllers and os.path.exists("/proc/swaps")


def _cpuset_files(layout: cgroups.Layout) -> tuple[str, str]:
    if "cpuset" in layout.v1:
        return tuple(os.path.join(layout.v1["cpuset"], f"cpuset.{name}") for name in ("cpus", "mems"))  # type: ignore[return-value]
    directory = layout.unified or "/sys/fs/cgroup"
    return os.path.join(directory, "cpuset.cpus.effective"), os.path.join(directory, "cpuset.mems.effective")


def _apparmor_profiles() -> frozenset[str] | None:
    if _read("/sys/module/apparmor/parameters/enabled")[:1] != "Y":
        return None
    lines = _read("/sys/kernel/security/apparmor/profiles").splitlines()
    return frozenset(line.rpartition(" (")[0] for line in lines)


def _thermal_throttle_paths() -> tuple[str, ...]:
    possible = _read("/sys/devices/system/cpu/possible").strip()
    paths = (f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in parse_kernel_list(possible))
    return tuple(path for path in paths if os.path.exists(path))


def parse_kernel_list(text: str) -> list[int]:
    """`0-2,5` to [0, 1, 2, 5], sorted, each once. Raises ValueError with Docker's text (moby pkg/parsers)."""
    numbers: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        bounds = (first, last) if dash else (first, first)
        if not all(bound.isascii() and bound.isdigit() for bound in bounds) or int(bounds[1]) < int(bounds[0]):
            raise ValueError(f"invalid format: {text}")
        if int(bounds[1]) > _LARGEST_LISTED:
            raise ValueError(f"value of out range, maximum is {_LARGEST_LISTED}")
        numbers.update(range(int(bounds[0]), int(bounds[1]) + 1))
    return sorted(numbers)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""  # the kernel was built without this file
