"""`-p` and `--expose`: port specifications to the API's PortBindings and ExposedPorts. Pure (go-connections nat, ParsePortSpec)."""

from __future__ import annotations

from teul.cli.options.keyvalues import to_dictionary
from teul.cli.options.values import is_ip_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROTOCOLS = ("tcp", "udp", "sctp")


def parse_publish(values: list[str]) -> dict[str, list[dict[str, str]]]:
    """`-p` options as PortBindings: `80/tcp` to its host addresses and ports. Raises `ValueError`."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for value in values:
        text = _from_long_form(value) if "=" in value else value
        for port, binding in _parse_one(text):
            bindings.setdefault(port, []).append(binding)
    return bindings


def parse_expose(values: list[str]) -> dict[str, dict[str, Any]]:
    """`--expose` options as ExposedPorts. Raises `ValueError`."""
    exposed: dict[str, dict[str, Any]] = {}
    for value in values:
        ports, protocol = _split_protocol(value)
        try:
            first, last = _parse_range(ports)
        except ValueError as error:
            raise ValueError(f"invalid range format for --expose: {error}") from None
        exposed.update({f"{port}/{protocol}": {} for port in range(first, last + 1)})
    return exposed


def _from_long_form(value: str) -> str:
    fields = value.split(",")
    for field in fields:
        if not field.partition("=")[0] or "=" not in field:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{field}')")
    parts = {"protocol": "tcp", "published": "", "target": "", **to_dictionary(fields)}
    return f"{parts['published']}:{parts['target']}/{parts['protocol']}"


def _parse_one(text: str) -> list[tuple[str, dict[str, str]]]:
    spec, protocol = _split_protocol(text)
    address, host, container = _split_parts(spec)
    if not container:
        raise ValueError(f"no port specified: {text}<empty>")
    try:
        first, last = _parse_range(container)
    except ValueError:
        raise ValueError(f"invalid containerPort: {container}") from None
    if not host:
        return [(f"{port}/{protocol}", {"HostIp": address, "HostPort": ""}) for port in range(first, last + 1)]
    try:
        host_first, host_last = _parse_range(host)
    except ValueError:
        raise ValueError(f"invalid hostPort: {host}") from None
    if host_last - host_first != last - first:
        if first != last:
            raise ValueError(f"invalid ranges specified for container and host Ports: {container} and {host}")
        # One container port and a range: the engine takes a free port of the range.
        return [(f"{first}/{protocol}", {"HostIp": address, "HostPort": f"{host_first}-{host_last}"})]
    return [
        (f"{first + offset}/{protocol}", {"HostIp": address, "HostPort": str(host_first + offset)}) for offset in range(last - first + 1)
    ]


def _split_protocol(text: str) -> tuple[str, str]:
    ports, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise ValueError(f"invalid proto: {protocol}")
    return ports, protocol


def _split_parts(spec: str) -> tuple[str, str, str]:
    """`[address:][host:]container`; an IPv6 address stands in brackets."""
    rest, _, container = spec.rpartition(":")
    address, _, host = rest.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        raise ValueError(f"invalid port specification: {spec}: an IPv6 address needs brackets")
    if address and not is_ip_address(address):
        raise ValueError(f"invalid IP address: {address}")
    return address, host, container


def _parse_range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    ports = [first, last if dash else first]
    if not all(port.isascii() and port.isdigit() and int(port[:6]) < 65536 for port in ports):
        raise ValueError(f"invalid port range: {text}")
    if int(ports[0]) > int(ports[1]):
        raise ValueError(f"invalid range specified for port: {text}")
    return int(ports[0]), int(ports[1])
