"""A container's networks, as its record has them. Pure."""

from __future__ import annotations

from teul.errors import Forbidden, InvalidParameter, Refusal
from teul.model.container import Container
from teul.model.lifecycle import Status
from teul.model.network import HOST, NONE, Network
from teul.model.network_config import EndpointSettings
from teul.services.containers.request.network import check_endpoint_settings, network_donor


def gateway_priorities(container: Container) -> dict[str, int]:
    """What was asked about which network is the way out, by the network's name."""
    return {name: settings.gw_priority for name, settings in container.wanted_networks.items()}


def check_connect(container: Container, network: Network, settings: EndpointSettings) -> bool:
    """Whether connecting changes anything: a container that does not run may be told twice. Raises as Docker does.

    docker: daemon/container_operations.go, updateNetworkSettings.
    """
    if network_donor(container.host_config) is not None:
        raise InvalidParameter(_SHARED)
    problem = check_endpoint_settings(network.name, settings)
    if problem:
        raise InvalidParameter(problem)
    if network.driver == "host" and container.host_config.network_mode != HOST:
        raise InvalidParameter("cannot connect container to host network - container must be created in host network mode")
    if network.name in container.endpoints:
        raise Forbidden(f"endpoint with name {container.name} already exists in network {network.name}")
    if network.name in container.wanted_networks and not container.state.has_process:
        return False
    for other in container.wanted_networks:
        if HOST in (other, network.name):
            raise InvalidParameter(_SHARED)
        if NONE in (other, network.name):
            raise InvalidParameter("container cannot be connected to multiple networks with one of the networks in private (none) mode")
    if network.config_only and container.state.has_process:  # docker: of a container that does not run, its start finds out
        raise Forbidden("cannot create endpoint on configuration-only network")
    return True


def check_alive(container: Container) -> None:
    """Raise Refusal, as Docker does, for a container that is about to be no more."""
    if container.state.status in (Status.REMOVING, Status.DEAD):
        raise Refusal(f"Container {container.id} is marked for removal and cannot be connected or disconnected to the network")


_SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
