"""Egress policies in the engine's nftables tables, rendered as data: who is held to what, as elements. The rules are in `egress_rules`."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from teul.linux.nftables import SetElement
from teul.model.container import ContainerEndpoint
from teul.network.firewall.egress_rules import BRIDGE_DECLARATIONS, BRIDGE_RULES
from teul.network.firewall.table import check_link_name, check_table_name
from teul.network.ipam import Address, Subnet

_SETS = ("policed_networks", *(f"{name}{version}" for name in ("policed", "allowed", "network_allowed") for version in (4, 6)))
NAMED_SETS = tuple(f"{name}{version}" for name in ("named", "used", "network_named", "network_used") for version in (4, 6))
REFUSED_SETS = ("refused4", "refused6")
LEFT_SETS = (*NAMED_SETS, *REFUSED_SETS)
"""The sets that fill while policies are in force."""
Values = Sequence[str | int]
_MAX_TIMEOUT_SECONDS = 86400


class Element(NamedTuple):
    """One element: of which set, of the table of which family."""

    family: str
    set_name: str
    key: str


class Refusal(NamedTuple):
    """What was refused: packets from an address, to the address, protocol and port that the program named. Protocols without ports: 0."""

    source: Address
    destination: Address
    protocol: int
    port: int
    packets: int


def container_elements(places: Mapping[str, Sequence[ContainerEndpoint]], allowed: Iterable[Subnet]) -> frozenset[Element]:
    """What holds a container to its policy: its endpoints by the bridge that they are on, and the networks that are `allowed`.

    It may send from each of its addresses by each of its links, as the kernel inside may choose to. Raises ValueError for what is no name.
    """
    endpoints = [endpoint for each in places.values() for endpoint in each]
    addresses = [ipaddress.ip_address(address) for each in endpoints for address in (each.ipv4, each.ipv6) if address]
    links = [each.host_interface for each in endpoints if each.host_interface]
    for name in (*places, *links):
        check_link_name(name)
    found = [Element("inet", f"policed{address.version}", f'"{bridge}" . {address}') for bridge in places for address in addresses]
    found += [
        Element("inet", f"allowed{address.version}", f"{address} . {subnet}")
        for subnet in allowed
        for address in addresses
        if address.version == subnet.version
    ]
    found += [Element("bridge", "guarded", f'"{link}"') for link in links]
    found += [Element("bridge", f"sources{address.version}", f'"{link}" . {address}') for link in links for address in addresses]
    return frozenset(found)


def network_elements(bridge: str, allowed: Iterable[Subnet]) -> frozenset[Element]:
    """What holds all containers on a bridge to their network's policy. Raises ValueError for what is no name."""
    check_link_name(bridge)
    found = [Element("inet", f"network_allowed{subnet.version}", f'"{bridge}" . {subnet}') for subnet in allowed]
    return frozenset([Element("inet", "policed_networks", f'"{bridge}"'), *found])


def render_change(table: str, removed: Iterable[Element], added: Iterable[Element]) -> str:
    """The script that takes elements out of the tables and puts others in.

    It fails where one of the first is not there, or one of the others overlaps another, or no container was policed so far.
    """
    check_table_name(table)
    return _elements("delete", table, removed) + _elements("add", table, added)


def render_exactly(table: str, wanted: Collection[Element]) -> str:
    """The script after which these elements are in the tables and no others, in one transaction.

    Of the bridges' table nothing is said if nobody is guarded: `render_unguarded` removes it.
    """
    check_table_name(table)
    script = "".join(f"flush set inet {table} {name}\n" for name in _SETS)
    if any(element.family == "bridge" for element in wanted):
        names = [(line.split()[0], line.split()[1]) for line in BRIDGE_DECLARATIONS]
        script += _table(table, BRIDGE_DECLARATIONS)
        script += "".join(f"flush {kind} bridge {table} {name}\n" for kind, name in names)
        script += _table(table, BRIDGE_RULES)
    return script + _elements("add", table, wanted)


def render_unguarded(table: str) -> str:
    """The script that removes the table of the bridge family, whether it is there or not."""
    check_table_name(table)
    return f"add table bridge {table}\ndelete table bridge {table}\n"


def render_resolved(table: str, addresses: Mapping[tuple[str, Address], float]) -> str:
    """The script that lets sources reach addresses of names for a number of seconds from now on, whatever was said of them before.

    A source is a container's address, or the name of a network's bridge.
    """
    check_table_name(table)
    elements: dict[str, list[tuple[str, str]]] = {}
    for (source, address), seconds in addresses.items():
        key = _key((source, str(address)))
        timeout = f" timeout {max(1, min(int(seconds), _MAX_TIMEOUT_SECONDS))}s"
        elements.setdefault(f"{'network_' if _is_bridge(source) else ''}named{address.version}", []).append((key, timeout))
    script = ""
    for name, entries in elements.items():
        keys = ", ".join(key for key, _timeout in entries)
        # kernel: before 6.12 an element that is there keeps its time; to delete one that is not there fails.
        script += f"add element inet {table} {name} {{ {keys} }}\ndelete element inet {table} {name} {{ {keys} }}\n"
        script += f"add element inet {table} {name} {{ {', '.join(key + timeout for key, timeout in entries)} }}\n"
    return script


def render_forgotten(table: str, left: Mapping[str, Sequence[SetElement]], is_forgotten: Callable[[Values], bool]) -> str:
    """The script that takes out of the table what policies have `left` there, in `LEFT_SETS`, if it is to be forgotten; source first."""
    check_table_name(table)
    script = ""
    for name, elements in left.items():
        keys = [_key(element.values) for element in elements if is_forgotten(element.values)]
        if keys:
            # One may expire meanwhile, and to delete what is not there fails.
            script += "".join(f"{verb} element inet {table} {name} {{ {', '.join(keys)} }}\n" for verb in ("add", "delete"))
    return script


def refusals(left: Mapping[str, Sequence[SetElement]]) -> list[Refusal]:
    """What was refused, as the elements of `REFUSED_SETS` tell."""
    found: list[Refusal] = []
    for element in (each for elements in left.values() for each in elements):
        source, destination, protocol, port = element.values
        addresses = ipaddress.ip_address(source), ipaddress.ip_address(destination)
        found.append(Refusal(*addresses, protocol=int(protocol), port=int(port), packets=element.packets))
    return found


def _key(values: Sequence[str | int]) -> str:
    first, *others = values
    source = f'"{first}"' if _is_bridge(str(first)) else str(ipaddress.ip_address(first))
    destination = str(ipaddress.ip_address(others[0]))
    return " . ".join([source, destination, *(str(int(number)) for number in others[1:])])


def _is_bridge(source: str) -> bool:
    """Whether a source is a bridge's name, and no address. Raises ValueError for what is neither."""
    try:
        ipaddress.ip_address(source)
    except ValueError:
        check_link_name(source)
        return True
    return False


def _table(table: str, lines: Sequence[str]) -> str:
    return "\n".join([f"table bridge {table} {{", *(f"\t{line}" for line in lines), "}", ""])


def _elements(verb: str, table: str, elements: Iterable[Element]) -> str:
    listed: dict[tuple[str, str], list[str]] = {}
    for element in sorted(elements):
        listed.setdefault((element.family, element.set_name), []).append(element.key)
    return "".join(f"{verb} element {family} {table} {name} {{ {', '.join(keys)} }}\n" for (family, name), keys in listed.items())
