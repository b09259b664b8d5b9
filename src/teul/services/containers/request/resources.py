"""The limits of a request against each other and against what the host's cgroups can do.

A limit that the host does not know is taken out with a warning, a wrong limit is refused: dockerd's rules, order and sentences.
docker: daemon/daemon_unix.go (verifyPlatformContainerResources), runconfig/hostconfig_unix.go.
"""

from __future__ import annotations

from teul.errors import InvalidParameter
from teul.model.host_config import HostConfig
from teul.services.host import HostFacts, parse_kernel_list

MINIMUM_MEMORY_BYTES = 6 << 20
_BILLION = 1_000_000_000
_NO_CGROUP = "or the cgroup is not mounted."

# kernel: what a cgroup's cpu.rt_period_us is unless somebody writes it.
_REALTIME_PERIOD_US = 1_000_000


def check_resources(host_config: HostConfig, host: HostFacts, *, update: bool = False) -> list[str]:
    """Check the limits and take out those that this host lacks; the warnings say which. Raises InvalidParameter.

    In an `update` a limit that is not said stays as it is, so a swap limit may come without a memory limit.
    """
    warnings: list[str] = []
    _check_realtime(host_config, host)
    _check_memory(host_config, host, warnings, update=update)
    _check_oom_and_pids(host_config, host, warnings)
    _check_cpu(host_config, host, warnings)
    _check_cpuset(host_config, host, warnings)
    _check_block_io(host_config, host, warnings)
    return warnings


def _check_realtime(limits: HostConfig, host: HostFacts) -> None:
    if limits.io_maximum_bandwidth:
        raise InvalidParameter("invalid option: QoS maximum bandwidth configuration is not supported on linux")
    if limits.io_maximum_iops:
        raise InvalidParameter("invalid option: QoS maximum IOPs configuration is not supported on linux")
    if (limits.cpu_realtime_period or limits.cpu_realtime_runtime) and not host.limits.cpu_realtime:
        raise InvalidParameter("kernel does not support CPU real-time scheduler")
    if limits.cpu_realtime_runtime > (limits.cpu_realtime_period or _REALTIME_PERIOD_US):
        raise InvalidParameter("cpu real-time runtime cannot be higher than cpu real-time period")
    if limits.cpu_shares < 0:
        raise InvalidParameter(f"invalid CPU shares ({limits.cpu_shares}): value must be a positive integer")


def _check_memory(limits: HostConfig, host: HostFacts, warnings: list[str], *, update: bool) -> None:
    if limits.memory_swappiness == -1:
        limits.memory_swappiness = None
    if limits.memory and limits.memory < MINIMUM_MEMORY_BYTES:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if limits.memory > 0 and not host.limits.memory:
        warnings.append(f"Your kernel does not support memory limit capabilities {_NO_CGROUP} Limitation discarded.")
        limits.memory, limits.memory_swap = 0, -1
    if limits.memory > 0 and limits.memory_swap != -1 and not host.limits.swap:
        warnings.append(f"Your kernel does not support swap limit capabilities {_NO_CGROUP} Memory limited without swap.")
        limits.memory_swap = -1
    if limits.memory > 0 and 0 < limits.memory_swap < limits.memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if limits.memory == 0 and limits.memory_swap > 0 and not update:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    _check_swappiness(limits, host, warnings)
    if limits.memory_reservation > 0 and not host.limits.memory_reservation:
        warnings.append(f"Your kernel does not support memory soft limit capabilities {_NO_CGROUP} Limitation discarded.")
        limits.memory_reservation = 0
    if 0 < limits.memory_reservation < MINIMUM_MEMORY_BYTES:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if 0 < limits.memory < limits.memory_reservation:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")
    # docker: the router drops these two for every API since 1.42; the kernel's files do nothing since 5.16.
    limits.kernel_memory = limits.kernel_memory_tcp = 0


def _check_swappiness(limits: HostConfig, host: HostFacts, warnings: list[str]) -> None:
    if limits.memory_swappiness is None:
        return
    if not host.limits.memory_swappiness:
        warnings.append(f"Your kernel does not support memory swappiness capabilities {_NO_CGROUP} Memory swappiness discarded.")
        limits.memory_swappiness = None
    elif not 0 <= limits.memory_swappiness <= 100:
        raise InvalidParameter(f"Invalid value: {limits.memory_swappiness}, valid memory swappiness range is 0-100")


def _check_oom_and_pids(limits: HostConfig, host: HostFacts, warnings: list[str]) -> None:
    if limits.oom_kill_disable is not None and not host.limits.oom_kill_disable:
        if limits.oom_kill_disable:
            warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
        limits.oom_kill_disable = None
    if limits.oom_kill_disable and not limits.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources."
        )
    if limits.pids_limit is not None and not host.limits.pids:
        if limits.pids_limit > 0:
            warnings.append(f"Your kernel does not support PIDs limit capabilities {_NO_CGROUP} PIDs limit discarded.")
        limits.pids_limit = None


def _check_cpu(limits: HostConfig, host: HostFacts, warnings: list[str]) -> None:
    if limits.nano_cpus > 0 and limits.cpu_period > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if limits.nano_cpus > 0 and limits.cpu_quota > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if limits.nano_cpus > 0 and not host.limits.cpu_quota:
        raise InvalidParameter("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
    if not 0 <= limits.nano_cpus <= host.cpus * _BILLION:
        raise InvalidParameter(
            f"range of CPUs is from 0.01 to {host.cpus}.00, as there are only {host.cpus} CPUs available",
        )
    if limits.cpu_shares > 0 and not host.limits.cpu_shares:
        warnings.append(f"Your kernel does not support CPU shares {_NO_CGROUP} Shares discarded.")
        limits.cpu_shares = 0
    if (limits.cpu_period or limits.cpu_quota) and not host.limits.cpu_quota:
        warnings.append("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
        limits.cpu_period = limits.cpu_quota = 0
    if limits.cpu_period and not 1000 <= limits.cpu_period <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < limits.cpu_quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if limits.cpu_percent > 0:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        limits.cpu_percent = 0


def _check_cpuset(limits: HostConfig, host: HostFacts, warnings: list[str]) -> None:
    if (limits.cpuset_cpus or limits.cpuset_mems) and not host.limits.cpuset:
        warnings.append(f"Your kernel does not support cpuset {_NO_CGROUP} Cpuset discarded.")
        limits.cpuset_cpus = limits.cpuset_mems = ""
    for requested, available, kind, plural in (
        (limits.cpuset_cpus, host.cpuset_cpus, "cpus", "CPUs"),
        (limits.cpuset_mems, host.cpuset_mems, "mems", "memory nodes"),
    ):
        try:
            numbers = parse_kernel_list(requested)
        except ValueError as error:
            raise InvalidParameter(f"Invalid value {requested} for cpuset {kind}: {error}") from None
        if not set(numbers) <= set(parse_kernel_list(available)):
            raise InvalidParameter(f"Requested {plural} are not available - requested {requested}, available: {available}")


def _check_block_io(limits: HostConfig, host: HostFacts, warnings: list[str]) -> None:
    if limits.blkio_weight > 0 and not host.limits.blkio_weight:
        warnings.append(f"Your kernel does not support Block I/O weight {_NO_CGROUP} Weight discarded.")
        limits.blkio_weight = 0
    if limits.blkio_weight and not 10 <= limits.blkio_weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if limits.blkio_weight_device and not host.limits.blkio_weight_device:
        warnings.append(f"Your kernel does not support Block I/O weight_device {_NO_CGROUP} Weight-device discarded.")
        limits.blkio_weight_device = []
    if host.limits.blkio_throttle:
        return
    if limits.blkio_device_read_bps:
        warnings.append(f"Your kernel does not support BPS Block I/O read limit {_NO_CGROUP} Block I/O BPS read limit discarded.")
        limits.blkio_device_read_bps = []
    if limits.blkio_device_write_bps:
        warnings.append(f"Your kernel does not support BPS Block I/O write limit {_NO_CGROUP} Block I/O BPS write limit discarded.")
        limits.blkio_device_write_bps = []
    if limits.blkio_device_read_iops:
        warnings.append(f"Your kernel does not support IOPS Block read limit {_NO_CGROUP} Block I/O IOPS read limit discarded.")
        limits.blkio_device_read_iops = []
    if limits.blkio_device_write_iops:
        warnings.append(f"Your kernel does not support IOPS Block write limit {_NO_CGROUP} Block I/O IOPS write limit discarded.")
        limits.blkio_device_write_iops = []
