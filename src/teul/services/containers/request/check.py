"""Can this request to create a container be carried out? The entrance, and the checks of single fields.

The order of the checks and every sentence are dockerd's (28.5): clients show them, and some search them. What Docker allows but this
engine cannot do yet is refused as NotImplementedHere rather than silently left out.
docker: runconfig/, daemon/container.go (verifyContainerSettings), daemon/daemon_unix.go, daemon/names.go.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from teul.errors import InvalidParameter, NotImplementedHere
from teul.model.config import ContainerConfig, HealthConfig
from teul.model.container import CreateContainer
from teul.model.document import Document
from teul.model.exec import ExecConfig
from teul.model.health import RESTART_LABEL
from teul.model.host_config import HostConfig, RestartPolicy, Ulimit
from teul.model.network_config import NetworkingConfig
from teul.model.signals import parse_signal
from teul.model.terminal import check_console_size
from teul.oci.platform import Platform, suits
from teul.services.containers.request.capabilities import normalise_capabilities
from teul.services.containers.request.log_drivers import check_log_config
from teul.services.containers.request.mounts import check_absolute, check_not_root, clean_path, parse_volumes_from, plan_mounts
from teul.services.containers.request.network import check_network, normalise_networking
from teul.services.containers.request.resources import check_resources
from teul.services.containers.request.security import check_sysctls, parse_device_rule, parse_security_options
from teul.services.containers.request.tmpfs import merge_tmpfs_options
from teul.services.host import HostFacts

_NAME_CHARACTERS = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_NAME = re.compile(f"{_NAME_CHARACTERS}+")
_CDI = "cdi"
_MINIMUM_HEALTH_NS = 1_000_000
_ULIMITS = {
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice"),
    *("nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRequest:
    """A request that passed, with what the host cannot do taken out of it, and a warning for each such thing."""

    name: str | None
    config: ContainerConfig
    host_config: HostConfig
    networking: NetworkingConfig | None
    warnings: list[str]


def check_request(request: CreateContainer, host: HostFacts, *, exists: Callable[[str], bool]) -> CheckedRequest:
    """Judge all of `request` but what depends on its image. The request itself is not changed.

    `exists` tells whether a path of the host is there (for binds that must not be created). Raises InvalidParameter,
    NotImplementedHere.
    """
    _check_strings("container", request.config, request.host_config)
    check_console_size(request.host_config.console_size)
    config = msgspec.structs.replace(request.config)
    host_config = msgspec.structs.replace(request.host_config)
    networking, warnings = normalise_networking(config, host_config, request.networking)
    warnings += check_network(config, host_config, networking)
    if host_config.isolation not in ("", "default"):
        raise InvalidParameter(f"invalid isolation ({host_config.isolation}): linux only supports 'default'")
    if host_config.pids_limit is not None and host_config.pids_limit <= 0:
        host_config.pids_limit = None
    _check_mount_options(host_config)
    _check_config(config)
    _check_host_config(host_config, host, exists)
    warnings += check_resources(host_config, host)
    _check_modes(host_config)
    _check_runtime(host_config, host)
    warnings += _health_warnings(config)
    _refuse_unsupported(host_config)
    name = check_name(request.name) if request.name else None
    return CheckedRequest(name=name, config=config, host_config=host_config, networking=networking, warnings=warnings)


def check_name(name: str) -> str:
    """The name without its slash. Raises InvalidParameter."""
    bare = name.removeprefix("/")
    if not _NAME.fullmatch(bare):
        raise InvalidParameter(f"Invalid container name ({name}), only {_NAME_CHARACTERS} are allowed")
    return bare


def platform_warnings(image: Platform, host: HostFacts) -> list[str]:
    """Of an image that is not for this host, where nobody has asked for it. docker: daemon/create.go."""
    if suits(image, host.platform):
        return []
    mismatch = f"The requested image's platform ({image}) does not match the detected host platform ({host.platform})"
    return [f"{mismatch} and no specific platform was requested"]


def check_exec(config: ExecConfig) -> None:
    """Judge the request for one more process. Raises InvalidParameter."""
    if not config.cmd:
        raise InvalidParameter("No exec command specified")
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidParameter("Cwd must be an absolute path")
    _check_strings("exec", config)
    check_console_size(config.console_size)


def _check_strings(what: str, *documents: Document) -> None:
    """Refuse NUL bytes, which the kernel takes for the end of a string. docker: dockerd finds that out at start, or not at all.

    Labels and annotations are nobody's business but the client's.
    """
    for document in documents:
        # The names only: `msgspec.structs.fields` evaluates the annotations as well, 1 ms for each of these structs.
        for name, spelling in zip(document.__struct_fields__, document.__struct_encode_fields__, strict=True):
            if name not in ("labels", "annotations") and _has_nul(getattr(document, name)):
                raise InvalidParameter(f"invalid {what} configuration: {spelling} contains a NUL byte")


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, (list, tuple)):
        return any(map(_has_nul, value))
    if isinstance(value, dict):
        return any(map(_has_nul, value)) or any(map(_has_nul, value.values()))
    if isinstance(value, Document):
        return any(_has_nul(getattr(value, name)) for name in value.__struct_fields__)
    return False


def _check_mount_options(host_config: HostConfig) -> None:
    for mount in host_config.mounts or ():
        for kind, name, options in (
            ("volume", "VolumeOptions", mount.volume_options),
            ("bind", "BindOptions", mount.bind_options),
            ("tmpfs", "TmpfsOptions", mount.tmpfs_options),
        ):
            if options is not None and mount.type != kind:
                raise InvalidParameter(f"{name} must not be specified on mount type {json.dumps(mount.type)}")


def _check_config(config: ContainerConfig) -> None:
    if config.working_dir:
        if not config.working_dir.startswith("/"):
            raise InvalidParameter(f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path")
        config.working_dir = clean_path(config.working_dir)
    if config.stop_signal:
        parse_signal(config.stop_signal)
    for variable in config.env or ():
        if not variable.partition("=")[0]:
            raise InvalidParameter(f"invalid environment variable: {variable}")
    if config.healthcheck is not None:
        _check_health(config.healthcheck)
    restart = (config.labels or {}).get(RESTART_LABEL, "false")
    if restart not in ("true", "false"):
        raise InvalidParameter(f'label {RESTART_LABEL} must be "true" or "false", not {json.dumps(restart)}')


def _check_health(health: HealthConfig) -> None:
    for name, value in (("Interval", health.interval), ("Timeout", health.timeout)):
        _check_duration(name, value)
    if health.retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")
    for name, value in (("StartPeriod", health.start_period), ("StartInterval", health.start_interval)):
        _check_duration(name, value)


def _health_warnings(config: ContainerConfig) -> list[str]:
    """docker: an unknown type of probe is let pass, and nothing is probed. Here a warning says so."""
    test = config.healthcheck.test if config.healthcheck is not None else None
    if not test or test[0] in ("NONE", "CMD", "CMD-SHELL"):
        return []
    return [f"Unknown healthcheck type '{test[0]}' (expected 'CMD', 'CMD-SHELL' or 'NONE'): the container will have no health status."]


def _check_duration(name: str, value: int) -> None:
    if value and value < _MINIMUM_HEALTH_NS:
        raise InvalidParameter(f"{name} in Healthcheck cannot be less than 1ms")


def _check_host_config(host_config: HostConfig, host: HostFacts, exists: Callable[[str], bool]) -> None:
    if host_config.auto_remove and host_config.restart_policy.name not in ("", "no"):
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
    for volumes_from in host_config.volumes_from or ():
        parse_volumes_from(volumes_from)
    for mount in plan_mounts(host_config):
        if mount.type == "bind" and not mount.create_source and not exists(mount.source):
            raise InvalidParameter(f'invalid mount config for type "bind": bind source path does not exist: {mount.source}')
        if mount.type == "tmpfs":
            check_not_root(mount.destination)
            check_absolute(mount.destination)
            merge_tmpfs_options(mount.tmpfs_options)
    for entry in host_config.extra_hosts or ():
        _check_extra_host(entry)
    for address in host_config.dns or ():
        if not _is_address(address):
            raise InvalidParameter(f"bad nameserver address {address}")
    check_restart_policy(host_config.restart_policy)
    for field, names in (("CapAdd", host_config.cap_add), ("CapDrop", host_config.cap_drop)):
        normalise_capabilities(names or [], host, field=field)
    if "" in (host_config.annotations or {}):
        raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")
    for ulimit in host_config.ulimits or ():
        _check_ulimit(ulimit)
    for rule in host_config.device_cgroup_rules or ():
        parse_device_rule(rule)
    parse_security_options(host_config.security_opt or ())
    check_sysctls(host_config)
    check_log_config(host_config.log_config, exists=exists)


def _check_extra_host(entry: str) -> None:
    name, colon, address = entry.partition(":")
    if not colon or not name:
        raise InvalidParameter(f"bad format for add-host: {json.dumps(entry)}")
    if address != "host-gateway" and not _is_address(address):
        raise InvalidParameter(f"invalid IP address in add-host: {json.dumps(address)}")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def check_restart_policy(policy: RestartPolicy) -> None:
    """Raise InvalidParameter for a policy that does not exist, or a count that does not belong to it."""
    if policy.name in ("always", "unless-stopped", "no"):
        if policy.maximum_retry_count:
            negative = " and cannot be negative" if policy.maximum_retry_count < 0 else ""
            raise InvalidParameter(f"invalid restart policy: maximum retry count can only be used with 'on-failure'{negative}")
    elif policy.name == "on-failure":
        if policy.maximum_retry_count < 0:
            raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    elif policy.name:
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )


def _check_ulimit(ulimit: Ulimit) -> None:
    """The rules of the command line (go-units), kept for clients that send numbers of their own."""
    if ulimit.name not in _ULIMITS:
        raise InvalidParameter(f"invalid ulimit type: {ulimit.name}")
    if ulimit.hard == -1:
        return
    words = "ulimit soft limit must be less than or equal to hard limit: "
    if ulimit.soft == -1:
        raise InvalidParameter(f"{words}soft: -1 (unlimited), hard: {ulimit.hard}")
    if ulimit.soft > ulimit.hard:
        raise InvalidParameter(f"{words}{ulimit.soft} > {ulimit.hard}")


def _check_modes(host_config: HostConfig) -> None:
    kind, _, donor = host_config.ipc_mode.partition(":")
    if host_config.ipc_mode not in ("", "none", "private", "host", "shareable") and not (kind == "container" and donor):
        raise InvalidParameter(f"invalid IPC mode: {host_config.ipc_mode}")
    kind, _, donor = host_config.pid_mode.partition(":")
    if host_config.pid_mode not in ("", "host") and not (kind == "container" and donor):
        raise InvalidParameter(f"invalid PID mode: {host_config.pid_mode}")
    if host_config.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    if host_config.uts_mode not in ("", "host"):
        raise InvalidParameter(f"invalid UTS mode: {host_config.uts_mode}")
    if not -1000 <= host_config.oom_score_adj <= 1000:
        raise InvalidParameter(f"Invalid value {host_config.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if host_config.cgroupns_mode not in ("", "private", "host"):
        raise InvalidParameter(f"invalid cgroup namespace mode: {host_config.cgroupns_mode}")
    if host_config.userns_mode not in ("", "host"):
        raise InvalidParameter(f"invalid USER mode: {host_config.userns_mode}")


def _check_runtime(host_config: HostConfig, host: HostFacts) -> None:
    name = host_config.runtime or host.runtimes.default
    if not host.runtimes.has(name):
        raise InvalidParameter(f"unknown or invalid runtime name: {name}")
    if host.runtimes.find(name) is not None and host_config.init:
        raise NotImplementedHere(f"--init is not supported with runtime {name}: the process that it stands for is Teul's own runtime")


def _refuse_unsupported(host_config: HostConfig) -> None:
    for request in host_config.device_requests or ():
        if request.driver == _CDI:
            continue
        wanted = " ".join(f"[{' '.join(names)}]" for names in request.capabilities or ())
        raise NotImplementedHere(f"could not select device driver {json.dumps(request.driver)} with capabilities: [{wanted}]")
    if host_config.storage_opt:
        raise NotImplementedHere("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
