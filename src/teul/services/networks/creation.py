"""From a request for a network to its record: what is asked for is checked, all of it, before anything is made. Pure.

Source: moby daemon/network.go, daemon/libnetwork (controller.go, network.go, drivers/bridge).
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from teul.errors import Forbidden, InvalidParameter, NotFound, System
from teul.model.network import PREDEFINED, WIRE_DRIVERS, AddressRange, Ipam, Network
from teul.model.network_config import CreateNetwork, IpamConfig
from teul.network.default_bridge import GATEWAY_LABELS
from teul.network.ipam import Address, Subnet, first_usable, unusable
from teul.network.options import BRIDGE_NAME, ENABLE_IPV4, ENABLE_IPV6, parse_boolean, parse_options
from teul.network.wire import dummy_name
from teul.services.networks.egress import check_networks, policy_of
from teul.services.networks.records import bridge_of, wire_of

_DEFAULT_IPAM = "default"
_LINK_LOCAL = ipaddress.IPv6Network("fe80::/64")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetWish:
    """A subnet that a network is to have. `subnet` None: any free one, with a prefix of `size` if that is given."""

    version: int
    subnet: Subnet | None = None
    size: int | None = None
    ip_range: Subnet | None = None
    gateway: Address | None = None
    auxiliary: tuple[tuple[str, Address], ...] = ()


def check_request(request: CreateNetwork) -> tuple[Network, list[SubnetWish]]:
    """The record, without its subnets, and what it wants of those. Raises as Docker does."""
    if request.name in (*PREDEFINED, "default"):
        # docker: the text ends in a space.
        raise Forbidden(f"operation is not permitted on predefined {request.name} network ")
    driver = request.driver or "bridge"
    if driver == "overlay":
        raise Forbidden(
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'
        )
    options = dict(request.options or {})
    ipv4 = _is_enabled(request.enable_ipv4, ENABLE_IPV4, options, default=True)
    ipv6 = _is_enabled(request.enable_ipv6, ENABLE_IPV6, options, default=False)
    ipam = request.ipam
    wishes = _check_ipam((ipam.config if ipam is not None else None) or [], ipv6=ipv6)
    if not request.name.strip():
        raise InvalidParameter("invalid name: name is empty")
    _check_operators(request)
    if not request.config_only:
        _check_driver(driver, request.ipam.driver if request.ipam is not None else "")
    policy = policy_of(request.egress)
    network = Network(
        id=secrets.token_hex(32),
        name=request.name,
        created_at_ns=time.time_ns(),
        driver="null" if request.config_only else driver,
        enable_ipv4=ipv4,
        enable_ipv6=ipv6,
        ipam=Ipam(driver=(ipam.driver if ipam is not None else "") or _DEFAULT_IPAM, options=ipam.options if ipam is not None else None),
        internal=request.internal,
        attachable=request.attachable,
        config_from=request.config_from.network if request.config_from is not None else "",
        config_only=request.config_only,
        options=options,
        labels=dict(request.labels or {}),
        egress=list(policy.rules) if policy is not None else None,
    )
    if policy is not None:
        check_networks([network])
        if network.config_only:
            raise InvalidParameter("configuration network can not contain an egress policy")
    if not network.config_only and not network.config_from:
        check_options(network)
    return network, _complete(network, wishes)


def wishes_of(network: Network) -> list[SubnetWish]:
    """What a network wants that has another's configuration: the subnets that stand there."""
    wishes = [
        SubnetWish(
            version=ipaddress.ip_network(entry.subnet).version,
            subnet=ipaddress.ip_network(entry.subnet),
            ip_range=ipaddress.ip_network(entry.ip_range) if entry.ip_range else None,
            gateway=ipaddress.ip_address(entry.gateway) if entry.gateway else None,
            auxiliary=tuple((name, ipaddress.ip_address(address)) for name, address in entry.auxiliary.items()),
        )
        for entry in network.ipam.ranges or ()
    ]
    return _complete(network, wishes)


def check_options(network: Network) -> None:
    """Raise as Docker does for options that the network's driver does not take."""
    if network.is_wire:
        wire_of(network)
        return
    parse_options(network.options)
    if not network.enable_ipv4 and not network.enable_ipv6:
        raise InvalidParameter("IPv4 or IPv6 must be enabled")


def check_parent(network: Network, others: Sequence[Network]) -> None:
    """Raise System, as Docker does, if one of the other networks does not leave room on the wire that this one is to be on.

    docker: each of the two drivers knows of its own networks only; where both have one parent, the kernel refuses a container's link.
    """
    if not network.is_wire or network.config_only:
        return
    wire = wire_of(network)
    for other in others:
        if other.driver != network.driver or other.config_only or wire_of(other).parent != wire.parent:
            continue
        if wire.kind == "ipvlan":
            raise System(f"network {dummy_name(wire.kind, other.id)} is already using parent interface {wire.parent}")
        if wire.mode == "passthru":
            raise System(f"cannot use mode passthru, macvlan network {other.id} is already using parent interface {wire.parent}")
        if wire_of(other).mode == "passthru":
            raise System(f"macvlan network {other.id} is already using parent interface {wire.parent} in mode passthru")


def check_overlap(wish: SubnetWish, own: Sequence[Subnet]) -> None:
    """Raise Forbidden if the subnet that is wished for is, or overlaps, one that the engine's networks (`own`) have."""
    if wish.subnet is not None and any(wish.subnet.version == other.version and wish.subnet.overlaps(other) for other in own):
        raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")


def check_bridge_name(network: Network, own: Sequence[Network]) -> None:
    """Raise Forbidden if one of the engine's networks (`own`) has the device that is asked for."""
    name = network.options.get(BRIDGE_NAME)
    other = next((each for each in own if name and bridge_of(each).name == name), None)
    if other is not None:
        raise Forbidden(
            f"cannot create network {network.id} ({name}): conflicts with network {other.id} ({name}): networks have same bridge name"
        )


def check_ways_out(network: Network, wishes: Sequence[SubnetWish]) -> None:
    """Raise InvalidParameter for a way out of a network that nothing leaves. docker: bridge/setup_ipv4_linux.go, setupGatewayIPv4."""
    names = {name for wish in wishes for name, _address in wish.auxiliary}
    if network.driver == "bridge" and network.internal and not names.isdisjoint(GATEWAY_LABELS.values()):
        raise InvalidParameter("no gateway can be set on an internal bridge network")


def as_range(wish: SubnetWish, subnet: Subnet, *, is_routed: bool) -> AddressRange:
    """The subnet as the record has it, its gateway chosen if need be. Without `is_routed` none is chosen. Raises as Docker does."""
    gateway = wish.gateway
    if gateway is None and is_routed:
        gateway = first_usable(subnet, wish.ip_range)
    if gateway is not None and (gateway not in subnet or int(gateway) in unusable(subnet)):
        raise InvalidParameter(f"failed to allocate gateway ({gateway}): Address already in use")
    taken = {gateway}
    for name, address in wish.auxiliary:
        if address in taken:
            raise System(f"failed to allocate secondary ip address ({name}:{address}): Address already in use")
        taken.add(address)
    return AddressRange(
        subnet=str(subnet),
        ip_range=str(wish.ip_range or ""),
        gateway=str(gateway or ""),
        auxiliary={name: str(address) for name, address in wish.auxiliary},
    )


def _is_enabled(given: bool | None, option: str, options: dict[str, str], *, default: bool) -> bool:
    if given is not None:
        options.pop(option, None)
        return given
    return parse_boolean(option, options[option]) if option in options else default


def _check_operators(request: CreateNetwork) -> None:
    if request.config_only:
        if request.ingress or request.internal or request.attachable or request.scope:
            raise Forbidden(
                "configuration network can only contain network specific fields. Network operator fields like "
                "[ ingress | internal | attachable | scope ] are not supported."
            )
        if request.config_from is not None and request.config_from.network:
            raise Forbidden("a configuration network cannot depend on another configuration network")
        return
    if request.config_from is not None and request.config_from.network:
        _check_dependent(request)
    if request.ingress:
        raise Forbidden("Ingress network can only be global scope network")
    if request.scope == "swarm":
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    if request.scope not in ("", "local", "global"):
        raise InvalidParameter(f"invalid scope: {request.scope}")


def _check_dependent(request: CreateNetwork) -> None:
    """A network that takes its configuration from another has none of its own."""
    ipam = request.ipam
    asks_for_addresses = ipam is not None and (ipam.driver not in ("", _DEFAULT_IPAM) or ipam.options or ipam.config)
    if asks_for_addresses or request.labels or request.enable_ipv4 is False or request.enable_ipv6:
        raise Forbidden("user specified configurations are not supported if the network depends on a configuration network")
    if request.options:
        raise Forbidden("network driver options are not supported if the network depends on a configuration network")


def _check_driver(driver: str, ipam_driver: str) -> None:
    if driver in ("host", "null"):
        # docker: only the engine itself makes these, once each.
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver != "bridge" and driver not in WIRE_DRIVERS:
        raise NotFound(f'plugin "{driver}" not found')
    if ipam_driver not in ("", _DEFAULT_IPAM):
        raise NotFound(f'plugin "{ipam_driver}" not found')


def _check_ipam(configs: Sequence[IpamConfig], *, ipv6: bool) -> list[SubnetWish]:
    problems: list[str] = []
    wishes = [wish for config in configs if (wish := _parse_wish(config, problems, ipv6=ipv6)) is not None]
    if problems:
        raise InvalidParameter("invalid network config:\n" + "\n".join(problems))
    return wishes


def _parse_wish(config: IpamConfig, problems: list[str], *, ipv6: bool) -> SubnetWish | None:
    """One entry of a request; what is wrong with it is added to `problems`, and the result is then of no use."""
    if not config.subnet:
        return _without_subnet(config, problems)
    block = _prefix(config.subnet)
    if block is None:
        problems.append(f"invalid subnet {config.subnet}: invalid CIDR block notation")
        return None
    if block.version == 6 and not ipv6:
        return None  # docker: passed over
    subnet = block.network
    if block != ipaddress.ip_interface(f"{subnet.network_address}/{subnet.prefixlen}"):
        problems.append(f"invalid subnet {block}: it should be {subnet}")
    ip_range = _check_range(config.ip_range, subnet, problems)
    gateway = _check_address(config.gateway, subnet, problems, f"invalid gateway {config.gateway}")
    auxiliary = [
        (name, _check_address(text, subnet, problems, f"invalid auxiliary address {name}"))
        for name, text in (config.auxiliary_addresses or {}).items()
    ]
    if subnet.version == 6:
        problems += _ipv6_problems(subnet)
    is_any = subnet.network_address.is_unspecified
    return SubnetWish(
        version=subnet.version,
        subnet=None if is_any else subnet,
        size=subnet.prefixlen or None if is_any else None,
        ip_range=ip_range,
        gateway=gateway,
        auxiliary=tuple((name, address) for name, address in auxiliary if address is not None),
    )


def _without_subnet(config: IpamConfig, problems: list[str]) -> SubnetWish | None:
    """docker: a gateway alone asks for nothing that could be had, nor does a range alone."""
    if config.ip_range:
        problems.append(f"invalid ip-range {config.ip_range}: no parent subnet given")
    if config.gateway:
        problems.append(f"invalid gateway {config.gateway}: no parent subnet given")
    problems += [f"invalid auxiliary address {name}: no parent subnet given" for name in config.auxiliary_addresses or {}]
    return None


def _prefix(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    try:
        return ipaddress.ip_interface(text) if "/" in text else None
    except ValueError:
        return None


def _check_range(text: str, subnet: Subnet, problems: list[str]) -> Subnet | None:
    if not text:
        return None
    block = _prefix(text)
    if block is None:
        problems.append(f"invalid ip-range {text}: invalid CIDR block notation")
        return None
    inner = block.network
    if inner.version != subnet.version:
        problems.append(f"invalid ip-range {block}: parent subnet is an IPv{subnet.version} block")
        return None
    if inner.prefixlen < subnet.prefixlen:
        problems.append(f"invalid ip-range {block}: CIDR block is bigger than its parent subnet {subnet}")
    if block.ip != inner.network_address:
        problems.append(f"invalid ip-range {block}: it should be {inner}")
    if not subnet.overlaps(inner):
        problems.append(f"invalid ip-range {block}: parent subnet {subnet} doesn't contain ip-range")
    return inner


def _check_address(text: str, subnet: Subnet, problems: list[str], prefix: str) -> Address | None:
    if not text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        problems.append(f"{prefix}: invalid address")
        return None
    if address.version != subnet.version:
        problems.append(f"{prefix}: parent subnet is an IPv{subnet.version} block")
    elif address not in subnet:
        problems.append(f"{prefix}: parent subnet {subnet} doesn't contain this address")
    return address


def _ipv6_problems(subnet: Subnet) -> list[str]:
    if subnet.network_address.is_multicast:
        return [f"multicast subnet '{subnet}' is not allowed"]
    if subnet != _LINK_LOCAL and subnet.overlaps(_LINK_LOCAL):
        return [f"'{subnet}' clashes with the Link-Local prefix 'fe80::/64'"]
    return []


def _complete(network: Network, wishes: Sequence[SubnetWish]) -> list[SubnetWish]:
    """The wishes for each IP version that the network has: any subnet where none is wished for."""
    found: list[SubnetWish] = []
    for version, is_on in ((4, network.enable_ipv4), (6, network.enable_ipv6)):
        of_version = [wish for wish in wishes if wish.version == version]
        if len(of_version) > 1 and network.driver == "bridge":
            raise Forbidden("bridge driver doesn't support multiple subnets")
        if is_on:
            found += of_version or [SubnetWish(version=version)]
    return found
