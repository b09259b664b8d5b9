"""Driver options of one container's endpoint, from Docker's labels to values. Pure.

Source: moby daemon/container_operations.go (validateEndpointSettings), libnetwork/netlabel, libnetwork/osl (setSysctls). What is not
listed here is a label for a driver that somebody else has written: it is kept in the record and means nothing to the engine's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from teul.errors import InvalidParameter, System

SYSCTLS = "com.docker.network.endpoint.sysctls"
INTERFACE = "com.docker.network.endpoint.ifname"

_FAMILIES = ("ipv4", "ipv6", "mpls")
# docker: the command line has made it lower case.
_PLACEHOLDERS = ("IFNAME", "ifname")
_LONGEST_NAME_BYTES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """What the options of an endpoint mean. `interface` is the name of the link inside, "" for the network's next; `sysctls` are settings
    of that link, as (the name's five parts, the fourth of which stands for the link, value)."""

    interface: str = ""
    sysctls: tuple[tuple[tuple[str, ...], str], ...] = ()


def find_problems(options: Mapping[str, str]) -> list[str]:
    """What is wrong with the options of an endpoint that a client asks for, in Docker's words."""
    if SYSCTLS not in options:
        return []
    return [
        f"unrecognised network interface sysctl '{setting}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', "
        "'X' must be 'ipv4', 'ipv6' or 'mpls'"
        for setting in options[SYSCTLS].split(",")
        if not _is_of_an_interface(setting)
    ]


def parse_endpoint_options(options: Mapping[str, str]) -> EndpointOptions:
    """What an endpoint that is made now is to have. Raises System for a setting, InvalidParameter for a name, that there cannot be."""
    interface = options.get(INTERFACE, "")
    if interface and not _is_link_name(interface):
        raise InvalidParameter(f"invalid interface name: {interface}")
    settings = options[SYSCTLS].split(",") if SYSCTLS in options else []
    return EndpointOptions(interface=interface, sysctls=tuple(_parse_sysctl(setting) for setting in settings))


def _is_of_an_interface(setting: str) -> bool:
    parts = setting.split(".", 4)
    return len(parts) == 5 and parts[1] in _FAMILIES and parts[3] in _PLACEHOLDERS


def _parse_sysctl(setting: str) -> tuple[tuple[str, ...], str]:
    name, equals, value = setting.partition("=")
    if not equals:
        raise System(f"expected sysctl '{setting}' to have format name=value")
    parts = tuple(name.split("."))
    if len(parts) != 5:
        raise System(f"expected sysctl '{setting}' to have format net.X.Y.IFNAME.Z")
    # security: a part is the name of one file, so the path stays among the settings of the container's own network.
    if parts[0] != "net" or not all(parts) or any("/" in part or "\0" in part for part in parts):
        raise System(f"{'/'.join(('/proc/sys', *parts))} is not a sysctl file")
    return parts, value


def _is_link_name(name: str) -> bool:
    """Whether the kernel takes it for the name of a link (dev_valid_name), and as it stands: a `%` has it choose a number."""
    fits = len(name.encode("utf-8", "surrogateescape")) <= _LONGEST_NAME_BYTES
    return fits and name not in (".", "..") and not any(sign in "/:%\0" or sign.isspace() for sign in name)
