"""How a container is put on this host, in Docker's words (API v1.51 HostConfig and Resources).

Sizes are bytes, CPU times microseconds, `nano_cpus` billionths of a CPU. None in a list or map is Go's nil and prints as null.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from teul.model.document import Document
from teul.model.mount import Mount


class RestartPolicy(Document):
    """`name` is one of "", no, always, unless-stopped, on-failure; the count belongs to on-failure."""

    name: str = ""
    maximum_retry_count: int = 0


class LogConfig(Document):
    """The log driver and its options."""

    type: str = ""
    config: dict[str, str] | None = None


class PortBinding(Document):
    """One place on the host where a container's port is published; both parts are text, and may be empty."""

    host_ip: str = ""
    host_port: str = ""


class DeviceMapping(Document):
    """A device node of the host given to the container; permissions are letters out of `rwm`."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Document):
    """Devices that a driver (a GPU's, CDI) is asked to add."""

    driver: str = ""
    count: int = 0
    device_ids: list[str] | None = None
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class WeightDevice(Document):
    """The share of block I/O on one device, 10 to 1000."""

    path: str = ""
    weight: int = 0


class ThrottleDevice(Document):
    """The most bytes or operations per second on one device."""

    path: str = ""
    rate: int = 0


class Ulimit(Document):
    """One resource limit; `name` as in `ulimit` (nofile, core …), -1 is unlimited."""

    name: str = ""
    hard: int = 0
    soft: int = 0


class Resources(Document):
    """The limits that `docker update` can change, and a few more that the API keeps with them."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = frozenset({"kernel_memory", "kernel_memory_tcp"})

    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = None
    blkio_device_write_iops: list[ThrottleDevice] | None = None
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    kernel_memory: int = 0
    kernel_memory_tcp: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = 0
    io_maximum_bandwidth: int = 0


class HostConfig(Resources):
    """Docker's HostConfig: everything about a container that depends on the host it runs on. `Egress` is Teul's own (`model.egress`)."""

    OMIT_EMPTY: ClassVar[frozenset[str]] = Resources.OMIT_EMPTY | {
        "annotations",
        "storage_opt",
        "tmpfs",
        "sysctls",
        "runtime",
        "mounts",
        "init",
        "egress",
    }
    STRING_OR_LIST: ClassVar[frozenset[str]] = frozenset({"cap_add", "cap_drop", "egress"})
    EMBEDDED_BEFORE: ClassVar[str | None] = "mounts"

    binds: list[str] | None = None
    container_id_file: str = ""
    log_config: LogConfig = msgspec.field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: tuple[int, int] = (0, 0)
    annotations: dict[str, str] | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    mounts: list[Mount] | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | None = None
    egress: list[str] | None = None
