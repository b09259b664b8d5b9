"""From a checked request to a whole container: what the image says is merged in, and Docker's defaults are filled.

docker: daemon/commit.go (merge), daemon/create.go, daemon/container.go (newContainer), daemon/daemon_unix.go (adaptContainerSettings).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from teul.errors import InvalidParameter
from teul.model.config import ContainerConfig, HealthConfig
from teul.model.container import Container
from teul.model.document import Empty
from teul.model.host_config import HostConfig, LogConfig, RestartPolicy
from teul.model.image import Image
from teul.model.mount import PlannedMount
from teul.model.network_config import EndpointSettings, NetworkingConfig
from teul.oci.documents import encode_document
from teul.oci.image_config import Healthcheck, ImageConfig
from teul.services.containers.request.check import CheckedRequest
from teul.services.containers.request.log_drivers import JSON_FILE
from teul.services.containers.request.mounts import plan_mounts
from teul.services.host import HostFacts

DEFAULT_SHM_BYTES = 64 << 20
DEFAULT_READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DEFAULT_MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)


def complete(
    checked: CheckedRequest,
    image: Image,
    *,
    container_id: str,
    name: str,
    now_ns: int,
    host: HostFacts,
    inherited: Sequence[PlannedMount] = (),
    find_container_id: Callable[[str], str | None] = lambda _reference: None,
    shallow_read_only: bool = False,
) -> Container:
    """The record of a new container, whose volumes that nobody has named have no name yet.

    `inherited` are the mounts that it gets from others (`VolumesFrom`). `find_container_id` makes names in `container:<name>` ids, so that
    they survive a renaming; a name that it does not know stays, to be found (or missed) at start. Raises InvalidParameter.
    """
    config = merge_image_config(checked.config, image.config)
    if config.entrypoint == [""]:
        config.entrypoint = None
    if not config.entrypoint and not config.cmd:
        raise InvalidParameter("no command specified")
    host_config = fill_host_config(checked.host_config, host, find_container_id=find_container_id)
    if not config.hostname:
        config.hostname = host.hostname if host_config.network_mode == "host" else container_id[:12]
    planned = plan_mounts(host_config, inherited=inherited, volumes=config.volumes or (), shallow_read_only=shallow_read_only)
    command = [*(config.entrypoint or ()), *(config.cmd or ())]
    return Container(
        id=container_id,
        name=name,
        created_at_ns=now_ns,
        image_id=str(image.image_id),
        image_reference=config.image,
        image_manifest=describe_manifest(image),
        path=command[0],
        args=command[1:],
        config=config,
        host_config=host_config,
        networking=checked.networking,
        attachments=_attachments(config, host_config, checked.networking),
        mounts=[mount.point for mount in planned if mount.point is not None],
        planned=planned,
        asked=checked.config,
    )


def _attachments(config: ContainerConfig, host_config: HostConfig, networking: NetworkingConfig | None) -> dict[str, EndpointSettings]:
    """The networks of a new container by the names that the client gave them. docker: updateContainerNetworkSettings."""
    mode = host_config.network_mode
    if config.network_disabled or mode.startswith("container:"):
        return {}
    asked = (networking.endpoints_config if networking is not None else None) or {}
    return {name: settings or EndpointSettings() for name, settings in asked.items()} or {mode: EndpointSettings()}


def describe_manifest(image: Image) -> dict[str, Any]:
    """The descriptor of the chosen manifest, with its platform, as the container keeps it."""
    descriptor = msgspec.structs.replace(image.chosen.descriptor, annotations=None, platform=image.chosen.platform)
    found: dict[str, Any] = msgspec.json.decode(encode_document(descriptor))
    return found


def merge_image_config(config: ContainerConfig, image: ImageConfig) -> ContainerConfig:
    """`config` with the image's values where it has none of its own. Neither argument is changed."""
    merged = msgspec.structs.replace(config)
    merged.user = config.user or image.user
    merged.exposed_ports = _merge_set(config.exposed_ports, image.exposed_ports)
    merged.volumes = _merge_set(config.volumes, image.volumes)
    merged.env = _merge_environment(config.env, image.env)
    merged.labels = {**(image.labels or {}), **(config.labels or {})}
    if not config.entrypoint:
        # docker: the request's entrypoint drops the image's command with the image's entrypoint; "" or [] drops only the entrypoint.
        merged.cmd = config.cmd or image.cmd
        merged.entrypoint = image.entrypoint if config.entrypoint is None else config.entrypoint
    merged.healthcheck = _merge_health(config.healthcheck, image.healthcheck)
    merged.working_dir = config.working_dir or image.working_dir
    merged.stop_signal = config.stop_signal or image.stop_signal
    merged.shell = config.shell or image.shell
    return merged


def _merge_set(own: dict[str, Empty] | None, inherited: dict[str, dict[str, object]] | None) -> dict[str, Empty] | None:
    if not own:
        return None if inherited is None else {name: Empty() for name in inherited}
    return own | {name: Empty() for name in inherited or () if name not in own}


def _merge_environment(own: list[str] | None, inherited: list[str] | None) -> list[str] | None:
    if not own:
        return None if inherited is None else list(inherited)
    names = {variable.partition("=")[0] for variable in own}
    return own + [variable for variable in inherited or () if variable.partition("=")[0] not in names]


def _merge_health(own: HealthConfig | None, inherited: Healthcheck | None) -> HealthConfig | None:
    if inherited is None:
        return own
    own = own or HealthConfig()
    return HealthConfig(
        test=own.test or inherited.test,
        interval=own.interval or inherited.interval_ns,
        timeout=own.timeout or inherited.timeout_ns,
        start_period=own.start_period or inherited.start_period_ns,
        start_interval=own.start_interval or inherited.start_interval_ns,
        retries=own.retries or inherited.retries,
    )


def fill_host_config(
    given: HostConfig, host: HostFacts, *, find_container_id: Callable[[str], str | None] = lambda _reference: None
) -> HostConfig:
    """`given` with dockerd's defaults where it says nothing. The argument is not changed."""
    filled = msgspec.structs.replace(given)
    filled.restart_policy = RestartPolicy(
        name=given.restart_policy.name or "no", maximum_retry_count=given.restart_policy.maximum_retry_count
    )
    filled.log_config = LogConfig(type=given.log_config.type or JSON_FILE, config=dict(given.log_config.config or {}))
    if given.memory > 0 and given.memory_swap == 0:
        filled.memory_swap = given.memory * 2
    filled.shm_size = given.shm_size or DEFAULT_SHM_BYTES
    filled.ipc_mode = _with_id(given.ipc_mode or "private", find_container_id)
    filled.pid_mode = _with_id(given.pid_mode, find_container_id)
    filled.network_mode = _with_id(given.network_mode, find_container_id)
    filled.cgroupns_mode = given.cgroupns_mode or "private"
    filled.runtime = given.runtime or host.runtimes.default
    filled.oom_kill_disable = given.oom_kill_disable or False
    if not _has_label(given) and (given.privileged or "host" in (given.ipc_mode, given.pid_mode)):
        # docker: daemon/create.go generateSecurityOpt; shown by inspection, without effect where SELinux is off.
        filled.security_opt = [*(given.security_opt or ()), "label=disable"]
    if not given.privileged:
        if given.masked_paths is None:
            filled.masked_paths = [*DEFAULT_MASKED_PATHS, *host.thermal_throttle_paths]
        if given.readonly_paths is None:
            filled.readonly_paths = list(DEFAULT_READONLY_PATHS)
    return filled


def _has_label(host_config: HostConfig) -> bool:
    return any(option.partition("=")[0] == "label" for option in host_config.security_opt or ())


def _with_id(mode: str, find_container_id: Callable[[str], str | None]) -> str:
    kind, _, reference = mode.partition(":")
    if kind != "container" or not reference:
        return mode
    return f"container:{find_container_id(reference) or reference}"
