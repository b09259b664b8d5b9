"""What the engine was told of its default bridge, and the addresses that it has by that. Pure.

docker: daemon/daemon_unix.go (getDefaultBridgeIPAMConf), libnetwork/drivers/bridge.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from teul.errors import InvalidParameter
from teul.model.network import AddressRange
from teul.network.ipam import Address, Subnet, first_usable

GATEWAY_LABELS = {4: "DefaultGatewayIPv4", 6: "DefaultGatewayIPv6"}
"""By IP version, the name of the auxiliary address by which a network's containers go out, where that is not the bridge's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressing:
    """What was asked for of one IP version: the bridge's own address with its subnet, the stretch that containers get theirs out of, and
    the way out. None: it is the engine's choice."""

    address: ipaddress.IPv4Interface | ipaddress.IPv6Interface | None = None
    ip_range: Subnet | None = None
    gateway: Address | None = None

    def at(self, address: ipaddress.IPv4Interface | ipaddress.IPv6Interface | None) -> Addressing:
        """The same, of a bridge that has this address."""
        return self if address is None else dataclasses.replace(self, address=address)

    def subnet(self, recorded: AddressRange | None) -> Subnet | None:
        """The subnet that was asked for, None for any. One that there is stays if it contains what was asked for."""
        if self.address is not None:
            return self.address.network
        if self.ip_range is None or recorded is None:
            return self.ip_range
        there = ipaddress.ip_network(recorded.subnet)
        return there if _contains(there, self.ip_range) else self.ip_range

    def in_subnet(self, subnet: Subnet, recorded: AddressRange | None) -> AddressRange:
        """What the record has of the bridge in this subnet. Raises InvalidParameter."""
        if self.ip_range is not None and not _contains(subnet, self.ip_range):
            raise InvalidParameter("invalid address subpool")
        if self.gateway is not None and self.gateway not in subnet:
            raise InvalidParameter("default gateway ip must be part of the network")
        if self.address is not None:
            own = str(self.address.ip)
        elif recorded is not None and recorded.subnet == str(subnet):
            own = recorded.gateway
        else:
            own = str(first_usable(subnet, self.ip_range))
        return AddressRange(
            subnet=str(subnet),
            gateway=own,
            ip_range=str(self.ip_range) if self.ip_range is not None else "",
            auxiliary={GATEWAY_LABELS[subnet.version]: str(self.gateway)} if self.gateway is not None else {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultBridge:
    """The options of the default bridge. `host_binding` is where it publishes ports that do not say; `mtu` 0 is that of the host's way out.

    Without `ipv6` it has no IPv6. With a `name` it is a bridge of the administrator's, which is used with the addresses that it has.
    If it `is_disabled` there is none.
    """

    name: str = ""
    is_disabled: bool = False
    host_binding: str = "0.0.0.0"
    ipv4: Addressing = Addressing()
    ipv6: Addressing | None = None
    mtu: int = 0
    has_icc: bool = True
    is_masqueraded: bool = True

    @property
    def versions(self) -> dict[int, Addressing]:
        """What was asked for, by IP version."""
        return {4: self.ipv4} if self.ipv6 is None else {4: self.ipv4, 6: self.ipv6}

    @property
    def has_subnets(self) -> bool:
        """Whether a subnet was asked for, which then is taken whatever the host uses."""
        return any(addressing.subnet(None) is not None for addressing in self.versions.values())

    def with_addresses(self, own: Sequence[ipaddress.IPv4Interface | ipaddress.IPv6Interface]) -> DefaultBridge:
        """What was asked for, of a bridge that has these addresses, of which the first of each version counts. Raises InvalidParameter."""
        found = {version: next((each for each in own if each.version == version), None) for version in (4, 6)}
        return dataclasses.replace(self, ipv4=self.ipv4.at(found[4]), ipv6=self.ipv6.at(found[6]) if self.ipv6 is not None else None)

    def agrees_with(self, ranges: Sequence[AddressRange]) -> bool:
        """Whether a bridge that has this is as was asked for."""
        recorded: dict[int, AddressRange] = {ipaddress.ip_network(each.subnet).version: each for each in ranges}
        if set(recorded) != set(self.versions):
            return False
        for version, addressing in self.versions.items():
            subnet = addressing.subnet(recorded[version]) or ipaddress.ip_network(recorded[version].subnet)
            if addressing.in_subnet(subnet, recorded[version]) != recorded[version]:
                return False
        return True


AS_USUAL = DefaultBridge()
"""What it is if nothing was said."""


def _contains(subnet: Subnet, inner: Subnet) -> bool:
    return subnet.version == inner.version and inner.network_address in subnet and inner.prefixlen >= subnet.prefixlen
