"""A container's record to the OCI runtime spec that its first process carries out. Pure: same arguments, same spec.

What stands in it is what dockerd's container has (28.5, oci/defaults.go and daemon/oci_linux.go), except that the cgroup namespace is
private on every host. Teul's additions, for which the OCI spec has no word, stand under "teul" (see `_extension`).
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from teul.model.config import ContainerConfig
from teul.model.container import Container
from teul.model.exec import ExecConfig
from teul.model.host_config import HostConfig
from teul.oci.runtime_spec import Capabilities, ConsoleSize, ExecExtension, ExecSpec, Extension, Mount, NamespaceKind, Process, Spec
from teul.services.containers.request.capabilities import choose_capabilities
from teul.services.containers.request.mounts import mounts_of
from teul.services.containers.request.security import choose_apparmor, choose_seccomp, parse_security_options
from teul.services.containers.spec.devices import ContainerDevices, asks_for_devices
from teul.services.containers.spec.mounts import build_id_maps, build_mounts, root_propagation
from teul.services.containers.spec.namespaces import build_namespaces, build_sysctls, namespace_donors
from teul.services.containers.spec.resources import build_devices, build_resources, build_rlimits
from teul.services.host import HostFacts

OCI_VERSION = "1.2.0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPaths:
    """Where things of the container are on the host.

    `bundle` is its directory below the run root, with the empty `rootfs` at which the child mounts the overlay; `directory` is its
    directory below the root, with upper, work and the network files; `network_files` is the directory whose network files it gets, if
    that is another container's (`container:` networks). `cgroup` as of `cgroups_path()`. `lower` are the image's layers, topmost first:
    directories, and numbers of mounts.
    """

    bundle: str
    directory: str
    cgroup: str
    lower: Sequence[str | int]
    network_files: str | None = None


def build_spec(
    container: Container,
    host: HostFacts,
    paths: ContainerPaths,
    *,
    devices: ContainerDevices | None = None,
    donor_pids: Mapping[NamespaceKind, int] | None = None,
    linked: Sequence[str] = (),
) -> Spec:
    """The spec of `container` as a JSON-able dict.

    `devices` are those of `gather_devices`; a container that asks for any (or is privileged) needs them. `donor_pids` are the first
    processes of the containers whose namespaces are joined, by "network", "pid" and "ipc" (see `namespace_donors`); `linked` is the
    environment that `spec.links` has for it. Raises InvalidParameter for options that only now turn out wrong.
    """
    config, host_config = container.config, container.host_config
    donor_pids = donor_pids or {}
    if devices is None and asks_for_devices(host_config):
        raise ValueError("the container asks for devices, and none were gathered")
    if set(donor_pids) != set(namespace_donors(host_config)):
        # security: without its donor the container would silently get a namespace that nobody asked for.
        raise ValueError("donor_pids does not fit the container's namespace modes")
    devices = devices or ContainerDevices()
    security = parse_security_options(host_config.security_opt or ())
    capabilities = choose_capabilities(host_config.cap_add, host_config.cap_drop, privileged=host_config.privileged, host=host)
    writable_cgroups = host_config.privileged if security.writable_cgroups is None else security.writable_cgroups
    mounts = build_mounts(
        host_config,
        host,
        asked=mounts_of(container),
        network_files=_network_files(paths),
        writable_cgroups=writable_cgroups,
        ipc_donor_pid=donor_pids.get("ipc"),
    )
    spec: Spec = {
        "ociVersion": OCI_VERSION,
        "process": _build_process(container, capabilities, linked),
        "root": {"path": f"{paths.bundle}/rootfs", "readonly": host_config.readonly_rootfs},
        "mounts": mounts,
        "linux": {
            "namespaces": build_namespaces(host_config, donor_pids),
            "cgroupsPath": paths.cgroup,
            "resources": build_resources(host_config, devices),
            # A /dev that the client mounts is used as it is.
            "devices": [] if _brings_dev(mounts) else build_devices(devices),
            "sysctl": build_sysctls(host_config, host),
            "maskedPaths": list(host_config.masked_paths or ()),
            "readonlyPaths": list(host_config.readonly_paths or ()),
        },
        "teul": _extension(config, host_config, paths),
    }
    if host_config.uts_mode != "host":
        spec["hostname"], spec["domainname"] = config.hostname, config.domainname
    if host_config.annotations:
        spec["annotations"] = dict(host_config.annotations)
    if security.no_new_privileges:
        spec["process"]["noNewPrivileges"] = True
    apparmor = choose_apparmor(security, privileged=host_config.privileged, host=host)
    if apparmor is not None:
        spec["process"]["apparmorProfile"] = apparmor
    id_maps = build_id_maps(mounts_of(container))
    if id_maps:
        spec["teul"]["idmaps"] = id_maps
    propagation = root_propagation(mounts)
    if propagation is not None:
        spec["linux"]["rootfsPropagation"] = propagation
    seccomp = choose_seccomp(security, privileged=host_config.privileged, capabilities=capabilities, host=host)
    if seccomp is not None:
        spec["linux"]["seccomp"] = seccomp
    return spec


def build_exec_spec(container: Container, exec_config: ExecConfig, spec: Spec, host: HostFacts, *, linked: Sequence[str] = ()) -> ExecSpec:
    """The spec of one more process in a running container. `linked` is as of `build_spec`, and as it is now.

    What `exec_config` does not say is inherited from the container's process in `spec`. docker: daemon/exec.go, exec_linux.go.
    """
    config = container.config
    process = spec["process"].copy()
    process["args"] = list(exec_config.cmd or ())
    environment = build_environment(config, terminal=exec_config.tty, linked=linked)
    process["env"] = merge_environment(environment, exec_config.env or ())
    process["cwd"] = exec_config.working_dir or config.working_dir or "/"
    process["terminal"] = exec_config.tty
    process.pop("consoleSize", None)
    if exec_config.tty and exec_config.console_size is not None:
        process["consoleSize"] = _console_size(exec_config.console_size)
    if exec_config.privileged:
        # docker: the container's seccomp filter and AppArmor profile stay, as for every exec.
        process["capabilities"] = _capability_sets(host.capabilities)
    inherited = spec["teul"]
    extension: ExecExtension = {
        "user": exec_config.user or config.user,
        "groups": _named_groups(container.host_config),
        "seccomp_bpf": inherited["seccomp_bpf"],
        "seccomp_flags": inherited["seccomp_flags"],
        "seccomp_forks": inherited.get("seccomp_forks", False),  # written by an engine that did not ask: the careful way
    }
    return {"process": process, "teul": extension}


def cgroups_path(host_config: HostConfig, default_parent: str, container_id: str) -> str:
    """The container's cgroup below the root of the hierarchies.

    security: the parent that the client names is cleaned as a path from the root, so it cannot lead out (docker: oci_linux.go withCgroups).
    """
    parent = posixpath.normpath("/" + (host_config.cgroup_parent or default_parent).lstrip("/"))
    return posixpath.join(parent, container_id)


def build_environment(config: ContainerConfig, *, terminal: bool, linked: Sequence[str] = ()) -> list[str]:
    """The environment of a container's processes but for HOME, which is in its passwd file."""
    environment = [f"PATH={DEFAULT_PATH}", f"HOSTNAME={config.hostname}"]
    if terminal:
        environment.append("TERM=xterm")
    return merge_environment([*environment, *linked], config.env or ())


def merge_environment(variables: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Each name once, at its first place, with its last value; an override without `=` takes the variable out.

    docker: container/env.go ReplaceOrAppendEnvValues.
    """
    merged = {variable.partition("=")[0]: variable for variable in variables}
    for override in overrides:
        name, equals, _ = override.partition("=")
        if equals:
            merged[name] = override
        else:
            merged.pop(name, None)
    return list(merged.values())


def _build_process(container: Container, capabilities: Sequence[str], linked: Sequence[str]) -> Process:
    config, host_config = container.config, container.host_config
    process: Process = {
        "terminal": config.tty,
        # The numbers of the user are in the image's passwd file, which only the child sees: "teul" has the name.
        "user": {"uid": 0, "gid": 0, "additionalGids": [int(group) for group in host_config.group_add or () if _is_number(group)]},
        "args": [container.path, *container.args],
        "env": build_environment(config, terminal=config.tty, linked=linked),
        "cwd": config.working_dir or "/",
        "capabilities": _capability_sets(capabilities),
        "rlimits": build_rlimits(host_config),
        "oomScoreAdj": host_config.oom_score_adj,
    }
    if config.tty and any(host_config.console_size):
        process["consoleSize"] = _console_size(host_config.console_size)
    return process


def _capability_sets(capabilities: Sequence[str]) -> Capabilities:
    # security: nothing inheritable (CVE-2022-24769), nothing ambient: a user other than root gets no capability through exec.
    return {"bounding": list(capabilities), "effective": list(capabilities), "permitted": list(capabilities)}


def _console_size(size: tuple[int, int]) -> ConsoleSize:
    return {"height": size[0], "width": size[1]}


def _extension(config: ContainerConfig, host_config: HostConfig, paths: ContainerPaths) -> Extension:
    """What the OCI spec has no word for. The launcher, which compiles the seccomp filter, fills in its path."""
    own_pids = host_config.pid_mode in ("", "private")
    return {
        "rootfs": {"lower": list(paths.lower), "upper": f"{paths.directory}/upper", "work": f"{paths.directory}/work"},
        "seccomp_bpf": None,
        "seccomp_flags": 0,
        "seccomp_forks": True,
        "user": config.user,
        "groups": _named_groups(host_config),
        "init": bool(host_config.init) and own_pids,
    }


def _network_files(paths: ContainerPaths) -> list[tuple[str, str]]:
    directory = paths.network_files or paths.directory
    return [(f"/etc/{name}", f"{directory}/{name}") for name in ("resolv.conf", "hostname", "hosts")]


def _named_groups(host_config: HostConfig) -> list[str]:
    return [group for group in host_config.group_add or () if not _is_number(group)]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _brings_dev(mounts: Sequence[Mount]) -> bool:
    return any(mount["destination"] == "/dev" and mount["type"] == "bind" for mount in mounts)
