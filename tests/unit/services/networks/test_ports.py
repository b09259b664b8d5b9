"""The ports of containers, over a host that does as it is told and sockets that are really bound."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.container_records import container_record
from teul.aio import run_blocking
from teul.errors import System
from teul.model.container import Container, ContainerEndpoint
from teul.model.host_config import PortBinding
from teul.network.firewall.ports import Forwarding, Relayed
from teul.network.ports.reservations import can_use_ipv6
from teul.services.networks.ports import Ports
from teul.services.networks.service import Networks
from teul.store.metadata.database import Database
from unit.services.networks.test_service import FakeHost, NoRelays, open_networks

A, B = "a" * 64, "b" * 64


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
async def networks(tmp_path: Path, host: FakeHost) -> AsyncIterator[Networks]:
    database = await run_blocking(Database, str(tmp_path / "teul.db"))
    async with open_networks(database, host) as opened:
        await opened._host.settle()
        yield opened
    await run_blocking(database.close)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asking(container_id: str, *ports: int, address: str = "127.0.0.1") -> Container:
    container = container_record(container_id, running=True, name=container_id[:4])
    container.host_config.port_bindings = {
        f"{80 + number}/tcp": [PortBinding(host_ip=address, host_port=str(port))] for number, port in enumerate(ports)
    }
    return container


def endpoint(networks: Networks, number: int = 2, name: str = "bridge") -> ContainerEndpoint:
    members: dict[str, Any] = {"ipv4": f"172.17.0.{number}", "gateway": "172.17.0.1", "host_interface": f"veth{number}"}
    return ContainerEndpoint(network_name=name, network_id=networks.get("bridge").id, endpoint_id=f"{name}-id", **members)


async def assign(networks: Networks, container: Container, *endpoints: ContainerEndpoint, **priorities: int) -> None:
    wanted = {each.network_name: each for each in endpoints}
    container.endpoints = await networks.ports.assign(container, wanted, priorities)


def published(host: FakeHost) -> set[str]:
    forwardings = [each for each in host.published or () if isinstance(each, Forwarding)]
    return {f"{each.address}:{each.port} {each.target}:{each.target_port}" for each in forwardings}


def is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


async def test_ports_are_taken_led_to_the_container_noted_and_given_back(networks: Networks, host: FakeHost) -> None:
    port = free_port()
    container = asking(A, port)
    await assign(networks, container, endpoint(networks))
    [noted] = container.endpoints["bridge"].ports
    assert (noted.container_port, noted.protocol, noted.host_address, noted.host_port) == (80, "tcp", "127.0.0.1", port)
    assert published(host) == {f"127.0.0.1:{port} 172.17.0.2:80"}
    assert not is_free(port)
    for _ in range(2):
        await networks.ports.release(A)
        assert published(host) == set()
        assert is_free(port)


async def test_nothing_is_done_for_who_asks_for_nothing(networks: Networks, host: FakeHost) -> None:
    container = container_record(A)
    container.config.exposed_ports = {"80/tcp": None}  # type: ignore[dict-item]
    await assign(networks, container, endpoint(networks))
    assert container.endpoints["bridge"].ports == ()


async def test_a_port_of_another_container_is_refused_and_nothing_is_half_taken(networks: Networks, host: FakeHost) -> None:
    first, second = free_port(), free_port()
    await assign(networks, asking(A, first), endpoint(networks))
    container = asking(B, second, first)
    with pytest.raises(System) as refused:
        await assign(networks, container, endpoint(networks, 3))
    assert refused.value.message == (
        "driver failed programming external connectivity on endpoint bbbb (bridge-id): "
        f"Bind for 127.0.0.1:{first} failed: port is already allocated"
    )
    assert is_free(second)
    assert len(published(host)) == 1
    await networks.ports.release(A)
    await assign(networks, container, endpoint(networks, 3))


async def test_a_port_of_another_process_is_refused(networks: Networks) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(System, match=rf"\): failed to bind host port 127\.0\.0\.1:{port}/tcp: address already in use"):
            await assign(networks, asking(A, port), endpoint(networks))


async def test_ports_follow_the_way_out_and_keep_their_numbers(networks: Networks, host: FakeHost) -> None:
    port = free_port()
    container = asking(A, port)
    await assign(networks, container, endpoint(networks))
    await assign(networks, container, endpoint(networks), endpoint(networks, 9, "other"), other=1)
    assert [len(each.ports) for each in container.endpoints.values()] == [0, 1]
    assert published(host) == {f"127.0.0.1:{port} 172.17.0.9:80"}
    assert not is_free(port)
    await assign(networks, container)
    assert published(host) == set()
    assert is_free(port)


async def test_a_firewall_that_refuses_leaves_the_port_free(networks: Networks, host: FakeHost) -> None:
    port = free_port()
    host.firewall_error = OSError(5, "broken")
    with pytest.raises(System):
        await assign(networks, asking(A, port), endpoint(networks))
    assert is_free(port)


@pytest.mark.parametrize("damage", ["gone", "another"])
async def test_a_firewall_that_somebody_else_has_changed_is_made_anew(networks: Networks, host: FakeHost, damage: str) -> None:
    first, second = free_port(), free_port()
    await assign(networks, asking(A, first), endpoint(networks))
    expected = {f"127.0.0.1:{first} 172.17.0.2:80", f"127.0.0.1:{second} 172.17.0.3:80"}
    if damage == "gone":
        host.published = None
    else:
        await assign(networks, asking(B, second), endpoint(networks, 7))
        stale = host.published
        await networks.ports.release(B)
        host.published = stale
    await assign(networks, asking(B, second), endpoint(networks, 3))
    assert published(host) == expected


async def test_release_goes_on_where_the_firewall_does_not(networks: Networks, host: FakeHost) -> None:
    port = free_port()
    await assign(networks, asking(A, port), endpoint(networks))
    host.firewall_error = OSError(5, "broken")
    await networks.ports.release(A)
    assert is_free(port)


async def test_the_next_engine_has_the_ports_of_who_runs_and_no_others(networks: Networks, host: FakeHost) -> None:
    port, other = free_port(), free_port()
    container, dead = asking(A, port), asking(B, other)
    await assign(networks, container, endpoint(networks))
    await assign(networks, dead, endpoint(networks, 3))
    networks.ports.close()
    successor = Ports(networks._host, NoRelays(), networks._tasks, find_network=networks.get)
    await successor.sweep([container])
    await successor._put_right()
    assert published(host) == {f"127.0.0.1:{port} 172.17.0.2:80"}
    assert not is_free(port)
    assert is_free(other)
    again = await successor.assign(container, container.endpoints, {})
    assert again == container.endpoints, "it has what it asks for"
    await successor.release(A)
    assert is_free(port)


async def test_free_ports_of_a_range_stay_what_they_were(networks: Networks) -> None:
    container = asking(A, 0, 0)
    await assign(networks, container, endpoint(networks))
    before = container.endpoints
    await assign(networks, container, *container.endpoints.values())
    assert container.endpoints == before


@pytest.mark.skipif(not can_use_ipv6(), reason="needs IPv6")
async def test_where_nothing_is_said_both_versions_of_ip_are_meant(networks: Networks, host: FakeHost) -> None:
    container = asking(A, 0, address="")
    await assign(networks, container, endpoint(networks))
    ports = container.endpoints["bridge"].ports
    assert [port.host_address for port in ports] == ["0.0.0.0", "::"]
    assert len({port.host_port for port in ports}) == 1
    assert len(published(host)) == 1, "the kernel does not lead IPv6 to IPv4"
    assert Relayed(protocol="tcp", port=ports[0].host_port) in (host.published or ())


async def test_what_is_relayed_is_no_element_that_leads_anywhere(networks: Networks, host: FakeHost) -> None:
    port = free_port()
    relays = NoRelays()
    ports = Ports(networks._host, relays, networks._tasks, find_network=networks.get, mode="relay")
    first, second = asking(A, port), asking(B, port, address="127.0.0.2")
    for number, container in enumerate((first, second)):
        container.endpoints = await ports.assign(container, {"bridge": endpoint(networks, 2 + number)}, {})
    assert host.published == {Relayed(protocol="tcp", port=port)}, "one element for both"
    assert {str(relay.target): made.getsockname() for wanted in relays.wanted.values() for relay, made in wanted.items()} == {
        "172.17.0.2": ("127.0.0.1", port),
        "172.17.0.3": ("127.0.0.2", port),
    }
    await ports.release(A)
    assert relays.wanted[A] == {}
    assert host.published == {Relayed(protocol="tcp", port=port)}
    await ports.release(B)
    assert host.published == set()


async def test_a_protocol_that_is_not_relayed_is_refused_where_all_are(networks: Networks) -> None:
    ports = Ports(networks._host, NoRelays(), networks._tasks, find_network=networks.get, mode="relay")
    container = asking(A)
    container.host_config.port_bindings = {"80/sctp": [PortBinding()]}
    with pytest.raises(System, match=r"\): sctp ports cannot be published where published ports are relayed"):
        await ports.assign(container, {"bridge": endpoint(networks)}, {})


async def test_the_next_engine_goes_on_with_the_sockets_that_the_agent_has(networks: Networks) -> None:
    port = free_port()
    container = asking(A, port)
    await assign(networks, container, endpoint(networks))
    networks.ports.close()
    relays = NoRelays()
    with socket.create_server(("127.0.0.1", port)) as left:
        relays.left[("127.0.0.1", port)] = left.dup()
        relaying = Ports(networks._host, relays, networks._tasks, find_network=networks.get, mode="relay")
        await relaying.sweep([container])
        [made] = relays.wanted[A].values()
        assert made.getsockname() == left.getsockname()
        relaying.close()
        relays.left[("127.0.0.1", port)] = left.dup()
        translating = Ports(networks._host, relays, networks._tasks, find_network=networks.get)
        await translating.sweep([container])
        assert relays.wanted[A] == {}
        assert left.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0, "it takes nothing any more"
        await translating.release(A)
