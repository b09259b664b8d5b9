"""Security options, kernel parameters and device rules as clients write them: text to checked values. Pure.

docker: daemon/daemon_unix.go (parseSecurityOpt), daemon/seccomp_linux.go, oci/oci.go (device rules); runc
libcontainer/configs/validate (which sysctls belong to a container).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from teul.errors import InvalidParameter
from teul.model.host_config import HostConfig
from teul.model.number import parse_int64
from teul.oci.seccomp_profile import default_profile, parse_profile, resolve_profile
from teul.services.containers.request.network import has_own_network
from teul.services.host import HostFacts

# The profile that dockerd loads; used where it is loaded, since loading a profile takes a program of its own.
DEFAULT_APPARMOR_PROFILE = "docker-default"
# Go's strconv.ParseBool.
_BOOLEANS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False)
_LARGEST_DEVICE_NUMBER = (1 << 32) - 1
_DEVICE_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")
_IPC_SYSCTLS = frozenset(
    {
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityOptions:
    """HostConfig.SecurityOpt, read. `seccomp` is "", "builtin", "unconfined" or a profile's JSON; None is "not said"."""

    no_new_privileges: bool = False
    writable_cgroups: bool | None = None
    seccomp: str = ""
    apparmor: str = ""


def parse_security_options(options: Iterable[str]) -> SecurityOptions:
    """Raises InvalidParameter. SELinux labels are read and, as in a dockerd without --selinux-enabled, not used."""
    parsed = SecurityOptions()
    for option in options:
        parsed = _apply_option(parsed, option)
    return parsed


def _apply_option(options: SecurityOptions, option: str) -> SecurityOptions:
    if option == "no-new-privileges":
        return replace(options, no_new_privileges=True)
    if option == "writable-cgroups":
        return replace(options, writable_cgroups=True)
    if option == "disable":
        return options
    separator = "=" if "=" in option else ":"
    key, found, value = option.partition(separator)
    if not found:
        raise InvalidParameter(f"invalid --security-opt 1: {_quote(option)}")
    if key == "label":
        return options
    if key == "apparmor":
        return replace(options, apparmor=value)
    if key == "seccomp":
        return replace(options, seccomp=value)
    if key == "no-new-privileges" and value in _BOOLEANS:
        return replace(options, no_new_privileges=_BOOLEANS[value])
    if key == "writable-cgroups" and value in _BOOLEANS:
        return replace(options, writable_cgroups=_BOOLEANS[value])
    raise InvalidParameter(f"invalid --security-opt 2: {_quote(option)}")


def choose_seccomp(options: SecurityOptions, *, privileged: bool, capabilities: Iterable[str], host: HostFacts) -> dict[str, Any] | None:
    """The OCI `linux.seccomp` of a container; None for no filter. Shared: not to be changed. Raises InvalidParameter."""
    if options.seccomp == "unconfined" or (privileged and not options.seccomp):
        return None
    if not host.seccomp:
        if options.seccomp not in ("", "builtin"):
            raise InvalidParameter("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
        return None
    profile = "" if options.seccomp == "builtin" else options.seccomp
    return _resolve(profile, frozenset(capabilities), host.architecture, host.kernel)


@functools.lru_cache(maxsize=64)
def _resolve(profile: str, capabilities: frozenset[str], architecture: str, kernel: tuple[int, int]) -> dict[str, Any] | None:
    # The result depends on these four arguments only, and most containers of a host share them.
    document = parse_profile(profile) if profile else default_profile()
    return resolve_profile(document, capabilities=capabilities, architecture=architecture, kernel=kernel)


def choose_apparmor(options: SecurityOptions, *, privileged: bool, host: HostFacts) -> str | None:
    """The AppArmor profile of a container; None where the host has no AppArmor. Raises InvalidParameter if it is not loaded."""
    if host.apparmor_profiles is None:
        return None  # docker: what was asked for is not looked at then
    if options.apparmor:
        if options.apparmor != "unconfined" and options.apparmor not in host.apparmor_profiles:
            raise InvalidParameter(f"apparmor failed to apply profile: {options.apparmor} is not loaded")
        return options.apparmor
    if privileged:
        return "unconfined"
    return DEFAULT_APPARMOR_PROFILE if DEFAULT_APPARMOR_PROFILE in host.apparmor_profiles else None


def normal_sysctl(name: str) -> str:
    """`net/ipv4/ip_forward` to `net.ipv4.ip_forward`: whichever of the two comes first is the separator (sysctl.d(5))."""
    slash, dot = name.find("/"), name.find(".")
    if slash >= 0 and (dot < 0 or slash < dot):
        return name.translate(str.maketrans("./", "/."))
    return name


def check_sysctls(host_config: HostConfig) -> None:
    """Only parameters of namespaces that the container has to itself may be set. Raises InvalidParameter.

    security: the child writes them as root; any other parameter would change the host.
    """
    for name in host_config.sysctls or {}:
        normal = normal_sysctl(name)
        if normal in _IPC_SYSCTLS or normal.startswith("fs.mqueue."):
            if host_config.ipc_mode == "host":
                raise InvalidParameter(f"sysctl {_quote(name)} is not allowed in the hosts ipc namespace")
        elif normal.startswith("net."):
            if not has_own_network(host_config):
                raise InvalidParameter(f"sysctl {_quote(name)} not allowed in host network namespace")
        elif normal == "kernel.hostname" and host_config.uts_mode != "host":
            raise InvalidParameter(f'sysctl {_quote(name)} is conflicting with OCI config "hostname"')
        elif normal != "kernel.domainname" or host_config.uts_mode == "host":
            raise InvalidParameter(f"sysctl {_quote(name)} is not in a separate kernel namespace")


def parse_device_rule(text: str) -> dict[str, Any]:
    """`c 1:3 rwm` to an OCI device cgroup rule; -1 stands for `*`. Raises InvalidParameter."""
    match = _DEVICE_RULE.fullmatch(text)
    if match is None:
        raise InvalidParameter(f"invalid device cgroup rule format: '{text}'")
    kind, major, minor, access = match.groups()
    return {"allow": True, "type": kind, "major": _device_number(major), "minor": _device_number(minor), "access": access}


def _device_number(text: str) -> int:
    if text == "*":
        return -1
    try:
        number = parse_int64(text)
    except ValueError as error:
        raise InvalidParameter(f"invalid device cgroup rule: number {text}: {error}") from None
    if number > _LARGEST_DEVICE_NUMBER:
        raise InvalidParameter(f"invalid device cgroup rule: number {text}: value out of range")
    return number


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
