"""Which addresses a name stands for, and which name an address has, as one container sees it. Pure; nothing is known of packets here.

docker: daemon/libnetwork, Sandbox.ResolveName and Network.ResolveName, for all that is decided here. Names compare without case; Docker
compares networks' names and the aliases of links by case, which a client that varies the case of its queries cannot keep.
"""

from __future__ import annotations

import ipaddress
import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from teul.network.agent.messages import View

V = TypeVar("V", str, "tuple[str, ...]")

_IPV4_DOMAIN, _IPV6_DOMAIN = ".in-addr.arpa", ".ip6.arpa"
_DIGITS = frozenset("0123456789abcdef")


class Network:
    """The names of one network, by their lower-case spelling."""

    __slots__ = ("id", "name", "names", "reverse")

    def __init__(self, network_id: str, name: str) -> None:
        self.id = network_id
        self.name = name
        self.names: dict[str, tuple[str, ...]] = {}
        self.reverse: dict[str, str] = {}

    def copy(self) -> Network:
        """Another table with the same entries."""
        other = Network(self.id, self.name)
        other.names, other.reverse = dict(self.names), dict(self.reverse)
        return other

    def change(self, names: Mapping[str, list[str]], reverse: Mapping[str, str]) -> None:
        """Set these entries, and take away those that are empty. Raises ValueError for what is no address."""
        for name, addresses in names.items():
            _set(self.names, name.lower(), tuple(str(ipaddress.ip_address(address)) for address in addresses))
        for address, owner in reverse.items():
            _set(self.reverse, str(ipaddress.ip_address(address)), owner)


class Names:
    """All tables, and every container's way to look into them."""

    def __init__(self) -> None:
        self.networks: dict[str, Network] = {}

    def addresses(self, view: View, name: str, version: int) -> list[str] | None:
        """The addresses of IP version `version` that `name` stands for, in random order; None if no network of the view knows the name.

        An empty list says that the name is known and has no such address. A name with dots is looked for as a whole first, and then, from
        the right, as a name and the network that it is to be found in: "a.b.c" is "a.b" in "c", then "a" in "b.c". For each of
        these the view's links are asked first, in all networks; a network where the name is an alias of a link has it as no other name.
        """
        name = name.lower()
        for wanted, network_name in _readings(name):
            found = self._linked(view, wanted, network_name)
            if found is None:
                found = self._named(view, wanted, network_name)
            if found is not None:
                chosen = [address for address in dict.fromkeys(found) if (":" in address) == (version == 6)]
                random.shuffle(chosen)
                return chosen
        return None

    def owner(self, view: View, name: str) -> str | None:
        """The name of whoever has the address that `name`, below in-addr.arpa or ip6.arpa, asks for; None if no network knows."""
        address = _address_in(name.lower())
        if address is None:
            return None
        for network in self._of(view):
            owner = network.reverse.get(address)
            if owner is not None:
                return owner
        return None

    def _linked(self, view: View, name: str, network_name: str) -> tuple[str, ...] | None:
        for network in self._of(view):
            if network_name in {"", network.name.lower()}:
                addresses = _find_alias(view, network.id, name)
                if addresses:
                    return tuple(addresses)
        return None

    def _named(self, view: View, name: str, network_name: str) -> tuple[str, ...] | None:
        for network in self._of(view):
            if network_name in {"", network.name.lower()} and _find_alias(view, network.id, name) is None:
                addresses = network.names.get(name)
                if addresses is not None:
                    return addresses
        return None

    def _of(self, view: View) -> Iterator[Network]:
        for network_id in view["networks"]:
            network = self.networks.get(network_id)
            if network is not None:
                yield network


def checked(view: View) -> View:
    """The view with names in lower case and addresses in their usual spelling. Raises ValueError, KeyError, TypeError for what is none."""
    return {
        "networks": [str(network_id) for network_id in view["networks"]],
        "links": {
            network_id: {alias.lower(): [str(ipaddress.ip_address(address)) for address in addresses] for alias, addresses in links.items()}
            for network_id, links in view["links"].items()
        },
        "servers": [str(server) for server in view["servers"]],
        "forwards": bool(view["forwards"]),
        "allowed": [[str(rule).lower() for rule in rules] for rules in view.get("allowed", ())],
    }


def is_allowed(view: View, name: str) -> bool:
    """Whether each of the egress policies allows a name to be asked for: by itself, or as one below "*."."""
    name = name.lower()
    return all(any(name.endswith(rule[1:]) if rule.startswith("*.") else name == rule for rule in rules) for rules in view["allowed"])


def _find_alias(view: View, network_id: str, name: str) -> list[str] | None:
    links = view["links"].get(network_id)
    return links.get(name) if links else None


def _readings(name: str) -> Iterator[tuple[str, str]]:
    """(name, network) as which a name may be meant, the likeliest first; no network means any."""
    yield name, ""
    dot = name.rfind(".")
    while dot >= 0:
        yield name[:dot], name[dot + 1 :]
        dot = name.rfind(".", 0, dot)


def _address_in(name: str) -> str | None:
    """The address that a name below in-addr.arpa or ip6.arpa stands for, None if there is none."""
    try:
        if name.endswith(_IPV4_DOMAIN):
            return str(ipaddress.IPv4Address(".".join(reversed(name.removesuffix(_IPV4_DOMAIN).split(".")))))
        digits = name.removesuffix(_IPV6_DOMAIN).split(".")
        if name.endswith(_IPV6_DOMAIN) and len(digits) == 32 and all(digit in _DIGITS for digit in digits):
            return str(ipaddress.IPv6Address(int("".join(reversed(digits)), 16)))
    except ValueError:
        pass  # a name that stands for no address
    return None


def _set(entries: dict[str, V], key: str, value: V) -> None:
    if value:
        entries[key] = value
    else:
        entries.pop(key, None)
