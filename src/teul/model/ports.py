"""A running container's ports as inspection and lists show them. Pure."""

from __future__ import annotations

from teul.model.container import Container, PublishedPort


def port_map(container: Container) -> dict[str, list[PublishedPort]]:
    """By the container's port (`80/tcp`), where it is published; nowhere if it is only exposed. Empty without a way out.

    docker: daemon/network.go, getPortMapInfo: what the endpoints have, with each address of the host.
    """
    if not container.state.has_process or not any(endpoint.gateway or endpoint.gateway6 for endpoint in container.endpoints.values()):
        return {}
    asked = [*(container.config.exposed_ports or ()), *(container.host_config.port_bindings or ())]
    found: dict[str, list[PublishedPort]] = {normal_port(port): [] for port in asked}
    for endpoint in container.endpoints.values():
        for port in endpoint.ports:
            found.setdefault(f"{port.container_port}/{port.protocol}", []).append(port)
    return found


def normal_port(port: str) -> str:
    """`80` is `80/tcp`."""
    number, slash, protocol = port.partition("/")
    return f"{number}/{protocol.lower() if slash else 'tcp'}"
