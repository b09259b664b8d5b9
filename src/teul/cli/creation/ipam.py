"""The options of `network create` about addresses, to the request's IPAM document. Pure.

What docker's client refuses is refused here, with its texts; all else is the engine's to judge.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network
    from typing import Any

    Document = dict[str, Any]


def build_ipam_config(
    subnets: Sequence[str], *, ranges: Sequence[str], gateways: Sequence[str], auxiliary: Mapping[str, str]
) -> list[Document]:
    """One document for each subnet, with what of the rest lies in it. Raises `ValueError`.

    docker: what is no address at all lies in no subnet; an option that lies in several subnets is taken by each.
    """
    if len(subnets) < max(len(ranges), len(gateways)):
        raise ValueError("every ip-range or gateway must have a corresponding subnet")
    configs: dict[str, Document] = {}
    for subnet in subnets:
        for other in configs:
            if _contains(subnet, other) or _contains(other, subnet):
                raise ValueError("multiple overlapping subnet configuration is not supported")
        configs[subnet] = {"Subnet": subnet, "AuxiliaryAddresses": {}}
    for text in ranges:
        for config in _matching(configs, text, f"no matching subnet for range {text}"):
            if "IPRange" in config:
                first, subnet = config["IPRange"], config["Subnet"]
                raise ValueError(f"cannot configure multiple ranges ({text}, {first}) on the same subnet ({subnet})")
            config["IPRange"] = text
    for text in gateways:
        for config in _matching(configs, text, f"no matching subnet for gateway {text}"):
            if "Gateway" in config:
                first, subnet = config["Gateway"], config["Subnet"]
                raise ValueError(f"cannot configure multiple gateways ({text}, {first}) for the same subnet ({subnet})")
            config["Gateway"] = text
    for name, text in auxiliary.items():
        for config in _matching(configs, text, f"no matching subnet for aux-address {text}"):
            config["AuxiliaryAddresses"][name] = text
    return list(configs.values())


def _matching(configs: Mapping[str, Document], text: str, problem: str) -> list[Document]:
    found = [config for subnet, config in configs.items() if _contains(subnet, text)]
    if not found:
        raise ValueError(problem)
    return found


def _contains(subnet: str, text: str) -> bool:
    network = _parse_subnet(subnet, "invalid subnet: ")
    if "/" in text:
        _parse_subnet(text, "")
        return ip_interface(text).ip in network
    try:
        return ip_address(text) in network
    except ValueError:
        return False


def _parse_subnet(text: str, prefix: str) -> IPv4Network | IPv6Network:
    try:
        if text.count("/") != 1:
            raise ValueError
        return ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{prefix}invalid CIDR address: {text}") from None
