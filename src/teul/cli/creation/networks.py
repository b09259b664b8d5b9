"""`--network` in its long form, and the options about a container's endpoint: to the API's EndpointsConfig. Pure."""

from __future__ import annotations

from teul.cli.creation.mounts import split_csv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Document = dict[str, Any]

_PREDEFINED = ("default", "bridge", "host", "none")


def is_user_defined(name: str) -> bool:
    return name not in _PREDEFINED and not name.startswith("container:")


def parse_network(text: str) -> Document:
    """`name` or `name=…,alias=…,ip=…`. Raises `ValueError`."""
    if "=" not in text:
        return {"Target": text}
    network: Document = {"Target": ""}
    for field in split_csv(text):
        name, equals, value = (part.strip() for part in field.lower().partition("="))
        if not equals or not name:
            raise ValueError(f"invalid field {field}")
        if name == "name":
            network["Target"] = value
        elif name == "alias":
            network.setdefault("Aliases", []).append(value)
        elif name in ("ip", "ip6", "mac-address"):
            network[name] = value
        elif name == "link-local-ip":
            network.setdefault("LinkLocalIPs", []).append(value)
        elif name == "driver-opt":
            option, has_value, setting = value.partition("=")
            if not has_value or not option:
                raise ValueError("invalid key value pair format in driver options")
            network.setdefault("DriverOpts", {})[option.strip()] = setting.strip()
        elif name == "gw-priority":
            network["GwPriority"] = _priority(value)
        else:
            raise ValueError(f"invalid field key {name}")
    if not network["Target"]:
        raise ValueError("network name/id is not specified")
    return network


def _priority(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"invalid gw-priority ({text}): invalid syntax") from None


def build_endpoints(
    networks: list[Document], single: dict[str, str], *, aliases: list[str], links: list[str], link_local: list[str]
) -> Document:
    """EndpointsConfig of `networks`; the options without a network's name belong to the first. Raises `ValueError`."""
    networks = networks or [{"Target": "default"}]
    _merge(networks[0], single, aliases=aliases, links=links, link_local=link_local)
    endpoints: Document = {}
    for network in networks:
        if network["Target"] in endpoints:
            raise ValueError(f'network "{network["Target"]}" is specified multiple times')
        endpoints[network["Target"]] = _endpoint(network)
    if len({is_user_defined(name) for name in endpoints}) > 1:
        raise ValueError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    return endpoints


def _merge(network: Document, single: dict[str, str], *, aliases: list[str], links: list[str], link_local: list[str]) -> None:
    words = {"ip": "IPv4 address", "ip6": "IPv6 address", "mac-address": "MAC address"}
    for name, value in single.items():
        if value and network.get(name):
            raise ValueError(f"conflicting options: cannot specify both --{name} and per-network {words[name]}")
        if value:
            network[name] = value
    if aliases and network.get("Aliases"):
        raise ValueError("conflicting options: cannot specify both --network-alias and per-network alias")
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
    if not is_user_defined(network["Target"]) and network.get("Aliases"):
        raise ValueError("network-scoped aliases are only supported for user-defined networks")
    endpoint: Document = {key: network[key] for key in ("Aliases", "DriverOpts", "GwPriority", "Links") if key in network}
    addresses = {"IPv4Address": network.get("ip"), "IPv6Address": network.get("ip6"), "LinkLocalIPs": network.get("LinkLocalIPs")}
    given = {key: value for key, value in addresses.items() if value}
    if given:
        endpoint["IPAMConfig"] = given
    if network.get("mac-address"):
        endpoint["MacAddress"] = network["mac-address"]
    return endpoint
