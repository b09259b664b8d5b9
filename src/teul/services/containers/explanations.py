"""How packets get to a container and from it, explained: the facts are gathered here, and turned into paths by `network/paths/`."""

from __future__ import annotations

import ipaddress
import os
from functools import partial

import msgspec

from teul.aio import run_blocking
from teul.errors import InvalidParameter, System
from teul.model.container import Container, ContainerEndpoint, PublishedPort
from teul.model.explanation import Explanation
from teul.model.network import BRIDGE, Network
from teul.network.allocation import describe, gateways
from teul.network.endpoints import mac_for
from teul.network.ipam import Address
from teul.network.names import HostNames
from teul.network.paths.explanation import Question, explain, parse_question
from teul.network.paths.facts import Facts, InsideFacts, NetworkFact, Subject
from teul.network.paths.gather import look_at_host, look_inside
from teul.services.containers.attachments import gateway_priorities
from teul.services.containers.bundle import read_host_file
from teul.services.containers.registry import ContainerRegistry
from teul.services.containers.request.network import network_donor
from teul.services.containers.run import Runs
from teul.services.containers.spec.network_files import RESOLVER_ADDRESS, upstream_servers, uses_resolver
from teul.services.networks.records import bridge_of, names_on, wire_of
from teul.services.networks.service import Networks

# A port that the host will give, as an example: the first of those that IANA has put aside for that.
_EXAMPLE_PORT = 49152


class Explanations:
    """Explains containers' networks. Changes nothing, and asks nobody but the kernel. Used from the event loop only."""

    def __init__(self, registry: ContainerRegistry, runs: Runs, networks: Networks, host_names: HostNames) -> None:
        self._registry = registry
        self._runs = runs
        self._networks = networks
        self._host_names = host_names

    async def explain(self, reference: str, *, port: str = "", asker: str = "") -> Explanation:
        """`port` is as of `paths.explanation.parse_question`; `asker` is the address of the one whose packets are asked about.

        Raises NotFound, InvalidParameter, System where the host does not tell.
        """
        question = _question(port) if port else None
        address = _address(asker) if asker else None
        container = self._registry.get(reference)
        donor = self._donor(container)
        subject = self._subject(container, donor, await run_blocking(read_host_file, "/etc/resolv.conf"))
        bridged = [network for network in self._networks.list() if network.driver == "bridge" and not network.config_only]
        bridges = {bridge_of(network).name: _fact(network) for network in bridged}
        inside = await self._inside(donor) if subject.is_running else None
        try:
            host = await run_blocking(partial(look_at_host, self._host_names, subject, bridges=bridges, asker=address))
        except OSError as error:
            raise System(f"the host's network cannot be looked at: {error.strerror or error}") from error
        facts = Facts(subject=subject, host=host, inside=inside, asker=address)
        # The rules of a host may be many, and to judge them takes a while.
        return await run_blocking(explain, facts, question)

    def _donor(self, container: Container) -> Container:
        """The container whose network it has: it itself, if it has its own."""
        reference = network_donor(container.host_config)
        if reference is None:
            return container
        return self._registry.get(reference)

    async def _inside(self, donor: Container) -> InsideFacts | None:
        process = self._runs.of(donor.id).process
        if process is None or process.exit.done():
            return None
        # The process may end meanwhile, and its descriptor be another's by then.
        pidfd = os.dup(process.pidfd)
        try:
            return await run_blocking(look_inside, pidfd)
        except ProcessLookupError:
            return None
        except OSError as error:
            raise System(f"the network of container {donor.id} cannot be looked at: {error.strerror or error}") from error
        finally:
            os.close(pidfd)

    def _subject(self, container: Container, donor: Container, host_resolv_conf: str) -> Subject:
        is_running = container.state.has_process and donor.state.has_process
        endpoints = donor.endpoints if is_running else self._planned(donor)
        named = {name: self._networks.get(name) for name in endpoints if self._networks.has(name)}
        ways_out = gateways([*endpoints.values()], gateway_priorities(donor))
        mode = container.host_config.network_mode
        return Subject(
            id=container.id,
            name=container.name,
            status=str(container.state.status),
            is_running=is_running,
            mode=f"container:{donor.name}" if donor is not container else mode if mode in ("host", "none") else "",
            networks={name: _fact(network) for name, network in named.items()},
            endpoints=[*endpoints.values()],
            way_out={version: endpoint.network_name for version, endpoint in ways_out.items()},
            relayed=[each for endpoint in endpoints.values() for each in self._networks.ports.relayed(endpoint)],
            resolver=_resolver(donor, endpoints, host_resolv_conf),
        )

    def _planned(self, container: Container) -> dict[str, ContainerEndpoint]:
        """The endpoints that a start might give: with the addresses and ports that were asked for, and examples of others."""
        found: dict[str, ContainerEndpoint] = {}
        for name, settings in container.wanted_networks.items():
            network = self._networks.get(name) if self._networks.has(name) else None
            if network is None or not network.has_links or network.config_only:
                continue
            side = wire_of(network) if network.is_wire else bridge_of(network)
            asked = settings.ipam_config
            wanted = {4: asked.ipv4_address if asked else "", 6: asked.ipv6_address if asked else ""}
            addresses: dict[int, Address] = {}
            for segment in side.segments:
                version = segment.subnet.version
                example = (segment.gateway or segment.host_address or segment.subnet.network_address + 1) + 1
                addresses.setdefault(version, ipaddress.ip_address(wanted[version]) if wanted[version] else example)
            if addresses:
                found[name] = describe(
                    network,
                    side,
                    container.id,
                    [*addresses.values()],
                    mac=mac_for(next(iter(addresses.values()))),
                    host_interface="",
                    container_interface=f"eth{len(found)}",
                ).endpoint
        for name, groups in self._networks.ports.plan(container, found, gateway_priorities(container)).items():
            ports = [
                PublishedPort(
                    container_port=group.container_port,
                    protocol=group.protocol,
                    host_address=str(address),
                    host_port=(group.first or _EXAMPLE_PORT) + (number if group.first != group.last or not group.first else 0),
                )
                for number, group in enumerate(groups)
                for address in group.addresses
            ]
            found[name] = msgspec.structs.replace(found[name], ports=tuple(ports))
        return found


def _question(port: str) -> Question:
    try:
        return parse_question(port)
    except ValueError:
        raise InvalidParameter(f'invalid port: "{port}"') from None


def _address(asker: str) -> Address:
    try:
        return ipaddress.ip_address(asker)
    except ValueError:
        raise InvalidParameter(f'invalid IP address: "{asker}"') from None


def _fact(network: Network) -> NetworkFact:
    if network.is_wire:
        parent = wire_of(network).parent
        return NetworkFact(name=network.name, driver=network.driver, internal=network.is_closed, parent=parent)
    return NetworkFact(name=network.name, driver=network.driver, internal=network.internal, bridge=bridge_of(network))


def _resolver(container: Container, endpoints: dict[str, ContainerEndpoint], host_resolv_conf: str) -> list[str]:
    """How names are resolved, in lines."""
    servers = upstream_servers(host_resolv_conf, container.host_config.dns or ())
    asked = ", ".join(servers) or "nobody"
    if not uses_resolver(msgspec.structs.replace(container, endpoints=endpoints)):
        where = f"/etc/resolv.conf names the servers that the container asks by itself: {asked}"
        return [where, f"containers are not found by name on the default network {BRIDGE}"] if BRIDGE in endpoints else [where]
    lines = [f"{RESOLVER_ADDRESS}, the engine's network agent, answers for names of these networks, and asks {asked} about all others"]
    return [*lines, *(f"on {name} it is called {', '.join(names_on(container, name))}" for name in endpoints if name != BRIDGE)]
