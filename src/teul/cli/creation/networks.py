"""`--network` in its long form, and the options about a container's endpoint: to the API's EndpointsConfig. Pure."""

from __future__ import annotations

from teul.cli.creation.mounts import split_csv
from teul.model.link import parse_link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Document = dict[str, Any]

_PREDEFINED = ("default", "bridge", "host", "none")
_HEXADECIMAL = "0123456789abcdefABCDEF"
# Of a MAC-48 address, an EUI-64, and an IP over InfiniBand link-layer address.
_MAC_BYTES = (6, 8, 20)


def is_user_defined(name: str) -> bool:
    return name not in _PREDEFINED and not name.startswith("container:")


def check_link(text: str) -> str:
    """A link as it is given, `container` or `container:alias`. Raises `ValueError`."""
    parse_link(text)
    return text


def check_mac_address(text: str) -> None:
    """Raise `ValueError` for what is no MAC address in any of the spellings that Go reads."""
    digits = text.strip()
    separator = digits[4:5] if digits[4:5] == "." else digits[2:3]
    size = 4 if separator == "." else 2
    groups = digits.split(separator) if separator in (":", "-", ".") and separator else []
    is_hexadecimal = all(len(group) == size and all(digit in _HEXADECIMAL for digit in group) for group in groups)
    if not is_hexadecimal or len(groups) * size // 2 not in _MAC_BYTES:
        raise ValueError(f"{text} is not a valid mac address")


def parse_network(text: str) -> Document:
    """`name` or `name=…,alias=…,ip=…`. Raises `ValueError`."""
    if not _has_fields(text):
        return {"Target": text}
    network: Document = {"Target": ""}
    for field in split_csv(text):
        name, equals, value = field.lower().partition("=")
        if not equals or not name:
            raise ValueError(f"invalid field {field}")
        _set_field(network, name.strip(), value.strip())
    if not network["Target"]:
        raise ValueError("network name/id is not specified")
    return network


def _has_fields(text: str) -> bool:
    """docker: the long form is told by an equals sign with a letter, digit or underscore on either side; all else is a name."""
    return any(
        text[index] == "=" and all(side.isascii() and (side.isalnum() or side == "_") for side in (text[index - 1], text[index + 1]))
        for index in range(1, len(text) - 1)
    )


def _set_field(network: Document, name: str, value: str) -> None:
    if name == "name":
        network["Target"] = value
    elif name == "alias":
        network.setdefault("Aliases", []).append(value)
    elif name in ("ip", "ip6", "mac-address"):
        network[name] = value
    elif name == "link-local-ip":
        network.setdefault("LinkLocalIPs", []).append(value)
    elif name == "driver-opt":
        option, equals, setting = value.partition("=")
        if not equals or not option:
            raise ValueError("invalid key value pair format in driver options")
        network.setdefault("DriverOpts", {})[option.strip()] = setting.strip()
    elif name == "gw-priority":
        network["GwPriority"] = _priority(value)
    else:
        raise ValueError(f"invalid field key {name}")


def _priority(text: str) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"invalid gw-priority ({text}): invalid syntax")
    if not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"invalid gw-priority ({text}): value out of range")
    return int(text)


def build_endpoints(
    networks: list[Document], single: dict[str, str], *, aliases: list[str], links: list[str], link_local: list[str]
) -> Document:
    """EndpointsConfig of `networks`; the options without a network's name belong to the first. Raises `ValueError`.

    Nothing is said about a single network without special wishes.
    """
    given = networks or [{"Target": "default"}]
    _merge(given[0], single, aliases=aliases, links=links, link_local=link_local)
    endpoints: Document = {}
    for network in given:
        endpoint = _endpoint(network)
        if network["Target"] in endpoints:
            raise ValueError(f'network "{network["Target"]}" is specified multiple times')
        endpoints[network["Target"]] = endpoint
    if len({is_user_defined(name) for name in endpoints}) > 1:
        raise ValueError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    return {} if len(given) == 1 and not any(endpoints.values()) else endpoints


def _merge(network: Document, single: dict[str, str], *, aliases: list[str], links: list[str], link_local: list[str]) -> None:
    if aliases and network.get("Aliases"):
        raise ValueError("conflicting options: cannot specify both --network-alias and per-network alias")
    words = {"ip": "IPv4 address", "ip6": "IPv6 address", "mac-address": "MAC address"}
    for name, value in single.items():
        if value and network.get(name):
            raise ValueError(f"conflicting options: cannot specify both --{name} and per-network {words[name]}")
        if value:
            network[name] = value
    if link_local and network.get("LinkLocalIPs"):
        raise ValueError("conflicting options: cannot specify both --link-local-ip and per-network link-local IP addresses")
    if aliases:
        network["Aliases"] = aliases
    if link_local:
        network["LinkLocalIPs"] = link_local
    # docker: on the default bridge a link is an option of the container, on any other network one of its endpoint.
    if links and is_user_defined(network["Target"]):
        network["Links"] = links


def _endpoint(network: Document) -> Document:
    if not network["Target"].strip():
        raise ValueError("no name set for network")
    if not is_user_defined(network["Target"]) and network.get("Aliases"):
        raise ValueError("network-scoped aliases are only supported for user-defined networks")
    endpoint: Document = {key: network[key] for key in ("Aliases", "DriverOpts", "GwPriority", "Links") if network.get(key)}
    addresses = {"IPv4Address": network.get("ip"), "IPv6Address": network.get("ip6"), "LinkLocalIPs": network.get("LinkLocalIPs")}
    given = {key: value for key, value in addresses.items() if value}
    if given:
        endpoint["IPAMConfig"] = given
    if network.get("mac-address"):
        check_mac_address(network["mac-address"])
        endpoint["MacAddress"] = network["mac-address"]
    return endpoint
