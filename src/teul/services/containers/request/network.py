"""Which network a new container joins, and which other options that rules out.

docker: runconfig/hostconfig*.go (conflicts), api/server/router/container (MAC address, "default"), daemon/container_operations.go
(endpoint settings).
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable

import msgspec

from teul.errors import InvalidParameter
from teul.model.config import ContainerConfig
from teul.model.egress import parse_egress
from teul.model.host_config import HostConfig
from teul.model.network_config import EndpointSettings, NetworkingConfig
from teul.network.endpoint_options import find_problems
from teul.network.ports.plan import parse_host_address, parse_host_ports, parse_port

DEFAULT_NETWORK = "bridge"
_MAC = re.compile(r"[0-9a-fA-F]{2}((:[0-9a-fA-F]{2}){5}|(-[0-9a-fA-F]{2}){5})|[0-9a-fA-F]{4}(\.[0-9a-fA-F]{4}){2}")
_PREDEFINED = frozenset({"bridge", "host", "none", "default"})
LINKS_AND_HOST = "conflicting options: host type networking can't be used with links. This would result in undefined behavior"


def network_donor(host_config: HostConfig) -> str | None:
    """The container whose network is shared (`container:<name or id>`), as the client named it."""
    kind, colon, donor = host_config.network_mode.partition(":")
    return donor if kind == "container" and colon else None


def is_user_defined(network_mode: str) -> bool:
    """Whether the mode names a network of the user's."""
    return bool(network_mode) and network_mode not in _PREDEFINED and not network_mode.startswith("container:")


def has_own_network(host_config: HostConfig) -> bool:
    """Whether the container gets a network namespace of its own."""
    return host_config.network_mode != "host" and network_donor(host_config) is None


def normalise_networking(
    config: ContainerConfig, host_config: HostConfig, networking: NetworkingConfig | None
) -> tuple[NetworkingConfig, list[str]]:
    """ "default" becomes the network that it means, a container-wide MAC address the endpoint's. Returns warnings beside the result.

    Changes `config` and `host_config`. Raises InvalidParameter.
    """
    endpoints = dict(networking.endpoints_config or {}) if networking is not None else {}
    if host_config.network_mode in ("", "default"):
        host_config.network_mode = DEFAULT_NETWORK
        if "default" in endpoints:
            endpoints[DEFAULT_NETWORK] = endpoints.pop("default")
    elif is_user_defined(host_config.network_mode):
        # docker: on a network of the user's a link is an alias of the endpoint, which has it for itself.
        host_config.links = None
    warnings: list[str] = []
    if config.mac_address:
        if host_config.network_mode not in ("host", "none") and network_donor(host_config) is None:
            _move_mac_address(config, host_config.network_mode, endpoints)
        config.mac_address = ""
        warnings.append("The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.")
    return NetworkingConfig(endpoints_config=endpoints), warnings


def check_network(config: ContainerConfig, host_config: HostConfig, networking: NetworkingConfig) -> list[str]:
    """Returns warnings. Raises InvalidParameter for contradictions, NotImplementedHere for networks that cannot be joined yet."""
    _check_donor(config, host_config)
    if host_config.uts_mode == "host" and config.hostname:
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    if host_config.network_mode == "host" and host_config.links:
        raise InvalidParameter(LINKS_AND_HOST)
    check_ports(config, host_config)
    check_egress(host_config)
    _check_endpoints(networking)
    if host_config.network_mode == "host" and host_config.port_bindings:
        return ["Published ports are discarded when using host network mode"]
    return []


def _check_donor(config: ContainerConfig, host_config: HostConfig) -> None:
    donor = network_donor(host_config)
    if donor is None and host_config.network_mode != "container":
        return
    if not donor:
        raise InvalidParameter("invalid network mode: invalid container format container:<name|id>")
    if config.hostname:
        raise InvalidParameter("conflicting options: hostname and the network mode")
    if host_config.links:
        raise InvalidParameter(
            "conflicting options: container type network can't be used with links. This would result in undefined behavior"
        )
    if host_config.dns:
        raise InvalidParameter("conflicting options: dns and the network mode")
    if host_config.extra_hosts:
        raise InvalidParameter("conflicting options: custom host-to-IP mapping and the network mode")
    if host_config.port_bindings or host_config.publish_all_ports:
        raise InvalidParameter("conflicting options: port publishing and the container type network mode")
    if config.exposed_ports:
        raise InvalidParameter("conflicting options: port exposing and the container type network mode")


def check_ports(config: ContainerConfig, host_config: HostConfig) -> None:
    """Raise InvalidParameter for what is no port, no range of ports, or no address."""
    for port in [*(host_config.port_bindings or ()), *(config.exposed_ports or ())]:
        _parse(parse_port, port)
    for bindings in (host_config.port_bindings or {}).values():
        for binding in bindings or ():
            _parse(parse_host_ports, binding.host_port)
            try:
                parse_host_address(binding.host_ip)
            except ValueError:
                raise InvalidParameter(f"invalid host IP address: {json.dumps(binding.host_ip)}") from None


def check_egress(host_config: HostConfig) -> None:
    """Put the egress policy into its normal form. Raises InvalidParameter."""
    try:
        policy = parse_egress(host_config.egress)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None
    if policy is not None and not has_own_network(host_config):
        raise InvalidParameter("conflicting options: egress policy and the network mode")
    host_config.egress = list(policy.rules) if policy is not None else None


def _parse(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except ValueError:
        raise InvalidParameter(f"invalid port specification: {json.dumps(text)}") from None


def _check_endpoints(networking: NetworkingConfig) -> None:
    problems: list[str] = []
    for name, endpoint in (networking.endpoints_config or {}).items():
        if endpoint is None:
            problems.append(f"invalid config for network {name}: EndpointsConfig is nil")
            continue
        problem = check_endpoint_settings(name, endpoint)
        if problem:
            problems.append(f"invalid config for network {name}: {problem}")
    if problems:
        raise InvalidParameter("\n".join(problems))


def check_endpoint_settings(name: str, endpoint: EndpointSettings) -> str:
    """What is wrong with what is asked of one network, in Docker's words; "" if nothing is."""
    problems: list[str] = []
    addresses = endpoint.ipam_config
    if name in _PREDEFINED:
        if addresses is not None and (addresses.ipv4_address or addresses.ipv6_address):
            problems.append("user-specified IP address is supported on user-defined networks only")
        if endpoint.aliases:
            problems.append("network-scoped aliases are only supported for user-defined networks")
    if addresses is not None:
        if addresses.ipv4_address and not _is_address(addresses.ipv4_address, 4):
            problems.append(f"invalid IPv4 address: {addresses.ipv4_address}")
        if addresses.ipv6_address and not _is_address(addresses.ipv6_address, 6):
            problems.append(f"invalid IPv6 address: {addresses.ipv6_address}")
        problems.extend(
            f"invalid link-local IP address: {address}"
            for address in addresses.link_local_ips or ()
            if not (_is_address(address, 4) or _is_address(address, 6))
        )
    if endpoint.mac_address and not _MAC.fullmatch(endpoint.mac_address):
        return f"invalid MAC address {endpoint.mac_address}"
    problems += find_problems(endpoint.driver_opts or {})
    return "invalid endpoint settings:\n" + "\n".join(problems) if problems else ""


def _is_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def _move_mac_address(config: ContainerConfig, network: str, endpoints: dict[str, EndpointSettings | None]) -> None:
    if endpoints and network not in endpoints:
        raise InvalidParameter(
            "unable to migrate container-wide MAC address to a specific network: "
            "HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks"
        )
    endpoint = endpoints.get(network) or EndpointSettings()
    if endpoint.mac_address not in ("", config.mac_address):
        raise InvalidParameter(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty"
        )
    endpoints[network] = msgspec.structs.replace(endpoint, mac_address=config.mac_address)
