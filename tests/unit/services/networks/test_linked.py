"""What links open on a default bridge that keeps its containers apart, over a host that does as it is told."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from teul.errors import System
from teul.model.container import Container, ContainerEndpoint
from teul.model.document import Empty
from teul.network.default_bridge import DefaultBridge
from teul.network.firewall.linked import LinkedPort
from teul.services.networks.service import Networks
from teul.store.metadata.database import Database
from unit.services.networks.test_egress import container
from unit.services.networks.test_service import NAMES, FakeHost, open_networks

APART = DefaultBridge(has_icc=False)


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "teul.db"))
    yield database
    database.close()


@pytest.fixture
async def networks(database: Database, host: FakeHost) -> AsyncIterator[Networks]:
    async with open_networks(database, host, default_bridge=APART) as opened:
        yield opened


def on_bridge(name: str, address: str, *exposed: str) -> Container:
    made = container(name)
    made.config.exposed_ports = {port: Empty() for port in exposed}
    made.endpoints = {"bridge": ContainerEndpoint(network_name="bridge", network_id="n", endpoint_id="e", ipv4=address)}
    return made


WEB, STORE = on_bridge("a", "172.17.0.3"), on_bridge("b", "172.17.0.2", "80/tcp", "53/udp")


def found(host: FakeHost) -> set[LinkedPort]:
    return set(host.linked.elements or ())


def opened(port: int, protocol: str = "tcp", *, source: str = "172.17.0.3") -> LinkedPort:
    return LinkedPort(NAMES.bridge, IPv4Address(source), IPv4Address("172.17.0.2"), protocol, port)


async def test_exposed_ports_are_open_to_who_links_as_long_as_both_are_there(networks: Networks, host: FakeHost) -> None:
    await networks.linked.follow(lambda: [(WEB, STORE)])
    assert found(host) == {opened(80), opened(53, "udp")}
    await networks.linked.follow(lambda: [(WEB, on_bridge("b", "172.17.0.2", "80/tcp", "81")), (on_bridge("c", "172.17.0.4"), STORE)])
    assert found(host) == {opened(80), opened(81), opened(80, source="172.17.0.4"), opened(53, "udp", source="172.17.0.4")}
    await networks.linked.follow(list)
    assert found(host) == set()


async def test_what_is_no_port_is_passed_over(networks: Networks, host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    await networks.linked.follow(lambda: [(WEB, on_bridge("b", "172.17.0.2", "80-81/tcp", "82/tcp"))])
    assert found(host) == {opened(82)}
    assert "which no link opens: not a port: '80-81/tcp'" in caplog.text


async def test_where_containers_reach_one_another_nothing_is_opened(database: Database, host: FakeHost) -> None:
    async with open_networks(database, host) as networks:
        host.linked.error = OSError(errno.EIO, "nft: nobody asked")
        await networks.linked.follow(lambda: [(WEB, STORE)])


async def test_what_fails_opens_nothing_and_is_tried_again(networks: Networks, host: FakeHost) -> None:
    host.linked.error = OSError(errno.EPERM, "nft: Operation not permitted")
    with pytest.raises(System, match="Operation not permitted"):
        await networks.linked.follow(lambda: [(WEB, STORE)])
    host.linked.error = None
    await networks.linked.follow(lambda: [(WEB, STORE)])
    assert found(host) == {opened(80), opened(53, "udp")}


async def test_a_firewall_that_was_flushed_is_made_anew_with_what_is_open(networks: Networks, host: FakeHost) -> None:
    await networks.linked.follow(lambda: [(WEB, STORE)])
    host.linked.elements = None
    await networks.linked.follow(lambda: [(WEB, STORE), (on_bridge("c", "172.17.0.4"), on_bridge("b", "172.17.0.2", "80/tcp"))])
    assert found(host) == {opened(80), opened(53, "udp"), opened(80, source="172.17.0.4")}
    policed = container("d", "none")
    policed.endpoints = {"bridge": (await networks.endpoints.allocate(networks.get("bridge"), policed.id)).endpoint}
    host.linked.elements = host.gate.elements = None
    await networks.egress.assign(policed, policed.endpoints)
    assert len(found(host)) == 3, "whoever finds that it was flushed"


async def test_what_an_engine_that_was_killed_has_left_is_put_right(networks: Networks, host: FakeHost) -> None:
    await networks.linked.follow(lambda: [(WEB, STORE)])
    host.linked.elements = frozenset({opened(80), opened(9, source="172.17.0.77")})
    await networks.linked.sweep(lambda: [(WEB, STORE)])
    await until(lambda: found(host) == {opened(80), opened(53, "udp")})
    host.linked.error = OSError(errno.EPERM, "nft: Operation not permitted")
    await networks.linked.sweep(list)
    await networks.close(remove=False)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)
