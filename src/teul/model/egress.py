"""What a container may reach beyond its own networks: the rules that a user gives, read and put into their normal form. Pure.

    10.0.0.0/8, 192.0.2.7, fd00::/8    networks and addresses
    example.org, *.example.org         a name, or all names below one, each with the addresses that it has when it is asked for
    lan                                the private networks; link-local addresses, where a cloud's metadata are, are none
    none                               nothing; it stands alone
    any                                no policy; it stands alone

A policy is a list of what is allowed. What is not allowed is refused, of either version of IP.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_RULES = 256
ANY, NONE, LAN = "any", "none", "lan"

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network

_LAN = tuple(ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
# As registries and name servers have them: an underscore stands in names of services.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_NAME = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicy:
    """What is allowed. `rules` is what the record keeps; `networks` do not overlap; `names` are in lower case, "*." before some."""

    rules: tuple[str, ...]
    networks: tuple[Subnet, ...] = ()
    names: tuple[str, ...] = ()

    def allows_name(self, name: str) -> bool:
        """Whether a name, without a dot at its end, may be asked for."""
        name = name.lower()
        return any(name.endswith(rule[1:]) if rule.startswith("*.") else name == rule for rule in self.names)


def parse_egress(rules: Sequence[str] | None) -> EgressPolicy | None:
    """The policy of these rules, each of which may be several with commas between them; None where there is none (no rules, or `any`).

    Raises ValueError with a sentence for the user.
    """
    if rules is None:
        return None
    texts = [text.strip() for rule in rules for text in rule.split(",")]
    if not any(texts):
        raise ValueError('an egress policy needs a rule; "none" allows nothing, and "any" is no policy')
    if len(texts) > MAX_RULES:
        raise ValueError(f"an egress policy has at most {MAX_RULES} rules, not {len(texts)}")
    found: dict[str, Subnet | None] = {}
    for text in texts:
        word = text.lower()
        if word in (ANY, NONE) and len(texts) > 1:
            raise ValueError(f'egress rule "{word}" stands alone')
        found.update({word: None} if word in (ANY, NONE, LAN) else _rule(text))
    if ANY in found:
        return None
    networks = [network for network in found.values() if network is not None]
    if LAN in found:
        networks += _LAN
    names = tuple(rule for rule, network in found.items() if network is None and rule not in (NONE, LAN))
    return EgressPolicy(rules=tuple(found), networks=_collapsed(networks), names=names)


def _rule(text: str) -> dict[str, Subnet | None]:
    """One rule in its normal form, with the network that it is, if it is one."""
    if "/" in text or ":" in text or re.fullmatch(r"[0-9.]+", text):
        network = _network(text)
        return {str(network.network_address if network.prefixlen == network.max_prefixlen else network): network}
    return {_name(text): None}


def _network(text: str) -> Subnet:
    try:
        if "%" in text:  # the zone of a link-local address means something to one machine only
            raise ValueError(text)
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'invalid egress rule "{text}": neither an address nor a network') from None
    if network != ipaddress.ip_interface(text).network or ipaddress.ip_interface(text).ip != network.network_address:
        raise ValueError(f'invalid egress rule "{text}": it has bits beyond its prefix; {network} is the network')
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f'invalid egress rule "{text}": IPv4 addresses are written as such')
    return network


def _name(text: str) -> str:
    name = text.lower().removesuffix(".")
    if name == "*":
        raise ValueError('invalid egress rule "*": "any" is no policy, and "0.0.0.0/0,::/0" allows all addresses')
    labels = name.removeprefix("*.").split(".")
    is_name = len(name) <= _MAX_NAME and all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()
    if not is_name or (len(labels) < 2 and not name.startswith("*.")):
        raise ValueError(f'invalid egress rule "{text}": neither an address, a network or a domain name, nor "lan", "none" or "any"')
    return name


def _collapsed(networks: Sequence[Subnet]) -> tuple[Subnet, ...]:
    """The same addresses in as few networks as possible: those of one set do not overlap."""
    ipv4 = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
    ipv6 = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
    return (*ipaddress.collapse_addresses(ipv4), *ipaddress.collapse_addresses(ipv6))
