"""Networks over a host that does as it is told, and a real database."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.bridges import make_bridge
from teul.errors import Conflict, Forbidden, InvalidParameter, NotFound, System, TeulError, Unavailable
from teul.linux.nftables import LibraryMissing
from teul.model.config import ContainerConfig
from teul.model.container import Container, ContainerEndpoint
from teul.model.filter import Filters
from teul.model.host_config import HostConfig
from teul.model.lifecycle import ContainerState, Status
from teul.model.network_config import ConfigReference, CreateNetwork, EndpointIPAMConfig, EndpointSettings, IpamConfig, IpamRequest
from teul.network.allocation import Allocation, with_gateways
from teul.network.bridge import Bridge, BridgeMissing, NotABridge, Segment, SubnetTaken
from teul.network.default_bridge import AS_USUAL, Addressing, DefaultBridge
from teul.network.endpoint_options import INTERFACE, SYSCTLS
from teul.network.firewall.ports import Forwarding, Published
from teul.network.host import HostNetwork
from teul.network.ipam import DEFAULT_POOLS, Address, Subnet, local_pool, overlaps
from teul.network.names import names_for_root
from teul.network.wire import ParentMissing, Wire
from teul.services.events import Events
from teul.services.networks import endpoints as endpoints_module
from teul.services.networks import host_setup
from teul.services.networks.registry import NoSuchNetwork
from teul.services.networks.relays import Relays, Wanted
from teul.services.networks.service import Networks
from teul.services.usage import Usage
from teul.store.metadata import networks as store
from teul.store.metadata.database import Database, DiskFull
from unit.services.networks.fake_gate import FakeGate, FakeLinkGate

NAMES = names_for_root("/test")
PARENT_MAC = "02:00:00:00:00:09"
A, B, C = ("a" * 64, "b" * 64, "c" * 64)


class FakeHost(HostNetwork):
    """Remembers what it was asked, and has what it was told to have; fails with `error` while one is set."""

    def __init__(self) -> None:
        super().__init__(NAMES, settings_file="/nonexistent/sysctls.json")
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.firewall_error: Exception | None = None
        self.claims: list[Subnet] = []
        self.bridges: dict[str, Bridge] = {}
        self.given: dict[str, tuple[Segment, ...]] = {}  # the administrator's
        self.interfaces = {"uplink"}
        self.parents: set[str] = set()  # that were made
        self.ports: list[str] = []
        self.removed_ports: list[set[str]] = []
        self.published: set[Published] | None = None
        self.gate = self.egress = FakeGate()
        self.linked = self.links = FakeLinkGate()

    def claimed_subnets(self, *, except_bridge: str = "") -> list[Subnet]:
        if self.error:
            raise self.error
        own = [segment.subnet for bridge in self.bridges.values() if bridge.name != except_bridge for segment in bridge.segments]
        return [*self.claims, *own]

    def ensure_bridge(self, bridge: Bridge, *, is_exclusive: bool = False) -> Bridge:
        self.calls.append(f"bridge {bridge.name} {' '.join(str(segment.subnet) for segment in bridge.segments)} {is_exclusive}")
        if self.error:
            raise self.error
        if bridge.is_given:
            if bridge.name not in self.given:
                raise BridgeMissing(bridge.name)
            if not bridge.segments:
                return dataclasses.replace(bridge, segments=self.given[bridge.name])
        if is_exclusive and any(overlaps(segment.subnet, self.claimed_subnets(except_bridge=bridge.name)) for segment in bridge.segments):
            raise SubnetTaken
        self.bridges[bridge.name] = dataclasses.replace(bridge, mtu=bridge.mtu or 1400)
        return self.bridges[bridge.name]

    def remove_other_links(self, names: Sequence[str]) -> list[str]:
        others = [name for name in (*self.bridges, *self.parents) if name not in names]
        for name in others:
            self.bridges.pop(name, None)
            self.parents.discard(name)
        return others

    def ensure_parent(self, wire: Wire) -> Wire:
        self.calls.append(f"parent {wire.parent}")
        if self.error:
            raise self.error
        if wire.parent not in self.interfaces:
            below, _dot, _vlan = wire.parent.partition(".")
            if not wire.is_dummy and below not in self.interfaces:
                raise ParentMissing(f"-o parent interface was not found on the host: {below}")
            self.parents.add(wire.parent)
        return dataclasses.replace(wire, parent_mac=PARENT_MAC)

    def remove_link(self, side: Bridge | Wire) -> None:
        if isinstance(side, Bridge):
            self.calls.append(f"remove {side.name}")
            self.bridges.pop(side.name, None)
        else:
            self.calls.append(f"no parent {side.parent}")
            self.parents.discard(side.parent)

    def ensure_firewall(self, networks: Sequence[Bridge]) -> None:
        self.calls.append(f"firewall {' '.join(network.name for network in networks)}")
        if self.firewall_error:
            raise self.firewall_error
        self.published = self.published or set()
        self.gate.elements = self.gate.elements or frozenset()
        self.linked.elements = self.linked.elements or frozenset()

    def add_to_firewall(self, bridge: Bridge, networks: Sequence[Bridge]) -> None:
        self.calls.append(f"add {bridge.name}")
        if self.firewall_error:
            raise self.firewall_error

    def remove_from_firewall(self, bridge: Bridge, networks: Sequence[Bridge]) -> None:
        self.calls.append(f"withdraw {bridge.name}")
        if self.firewall_error:
            raise self.firewall_error

    def ensure_forwarding(self, networks: Sequence[Bridge]) -> None:
        self.calls.append("forwarding")

    def change_published(self, removed: Sequence[Published], added: Sequence[Published]) -> None:
        if self.firewall_error:
            raise self.firewall_error
        present = set(self.published) if self.published is not None else None
        if present is None or not present.issuperset(removed):
            raise FileNotFoundError(errno.ENOENT, "nft: No such file or directory")
        places = {_place(each) for each in present - set(removed)}
        if any(_place(each) in places for each in added if isinstance(each, Forwarding)):
            raise FileExistsError(errno.EEXIST, "nft: File exists")
        self.published = present - set(removed) | set(added)

    def set_published(self, wanted: Sequence[Published]) -> None:
        if self.published is None:
            raise FileNotFoundError(errno.ENOENT, "nft: No such file or directory")
        self.published = set(wanted)

    def list_ports(self, networks: Sequence[Bridge]) -> list[str]:
        return self.ports

    def remove_ports(self, networks: Sequence[Bridge], names: Collection[str]) -> list[str]:
        self.removed_ports.append(set(names))
        removed = [name for name in self.ports if name in names]
        self.ports = [name for name in self.ports if name not in names]
        return removed

    def close(self) -> None:
        pass

    def remove(self) -> None:
        self.calls.append("remove")
        self.bridges.clear()
        self.parents.clear()
        self.ports = []
        self.published = None
        self.gate.elements = self.linked.elements = None
        self.gate.remove_guard()


class NoRelays(Relays):
    """Remembers what was to be relayed, of ports whose sockets admit nobody."""

    def __init__(self) -> None:
        self.wanted: dict[str, Wanted] = {}
        self.left: dict[tuple[str, int], socket.socket] = {}  # by an earlier engine

    async def find(self) -> None:
        pass

    async def take(self, address: Address, protocol: str, port: int) -> socket.socket | None:
        return self.left.pop((str(address), port), None)

    async def drop_others(self) -> None:
        pass

    async def change(self, container_id: str, wanted: Wanted, *, may_be_there: bool = False) -> None:
        self.wanted[container_id] = wanted


def _place(published: Published) -> tuple[object, ...]:
    return published.protocol, published.port, published.address if isinstance(published, Forwarding) else None


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "teul.db"))
    yield database
    database.close()


def open_networks(
    database: Database, host: FakeHost, events: Events | None = None, *, default_bridge: DefaultBridge = AS_USUAL
) -> Networks:
    return Networks(database, host, Usage(), events or Events(), NoRelays(), default_bridge=default_bridge)


@pytest.fixture
async def networks(database: Database, host: FakeHost) -> AsyncIterator[Networks]:
    async with open_networks(database, host) as opened:
        yield opened


async def allocate(networks: Networks, container_id: str, **settings: Any) -> Allocation:
    requested = EndpointSettings(**settings) if settings else None
    return await networks.endpoints.allocate(networks.get("bridge"), container_id, requested=requested)


async def test_every_engine_has_three_networks(networks: Networks) -> None:
    found = {network.name: network for network in networks.list()}
    assert {name: network.driver for name, network in found.items()} == {"bridge": "bridge", "host": "host", "none": "null"}
    assert found["none"].ipam.ranges is None
    [addresses] = found["bridge"].ipam.ranges or []
    assert (addresses.subnet, addresses.gateway) == ("172.17.0.0/16", "172.17.0.1")
    assert found["bridge"].options["com.docker.network.bridge.name"] == NAMES.bridge
    assert found["bridge"].options["com.docker.network.driver.mtu"] == "1400"


async def test_networks_keep_their_ids_from_one_engine_to_the_next(database: Database, host: FakeHost) -> None:
    async with open_networks(database, host) as first:
        before = first.list()
    async with open_networks(database, host) as second:
        assert second.list() == before


async def test_an_allocation_is_a_complete_plan(networks: Networks) -> None:
    allocation = await allocate(networks, A)
    endpoint = allocation.endpoint
    assert (endpoint.ipv4, endpoint.ipv4_prefix, endpoint.gateway) == ("172.17.0.2", 16, "172.17.0.1")
    assert allocation.plan == {
        "host_name": endpoint.host_interface,
        "bridge": NAMES.bridge,
        "mac": "02:42:ac:11:00:02",
        "mtu": 1400,
        "container_name": "eth0",
        "addresses": ["172.17.0.2/16"],
        "gateway": None,
        "gateway6": None,
        "isolated": False,
        "hairpin": False,
    }
    assert with_gateways([allocation], {})[0]["gateway"] == "172.17.0.1"
    assert endpoint.network_id == networks.get("bridge").id


async def test_containers_that_start_together_get_different_addresses(networks: Networks) -> None:
    allocations = await asyncio.gather(*(allocate(networks, f"{number:064x}") for number in range(50)))
    assert len({allocation.endpoint.ipv4 for allocation in allocations}) == 50


async def test_addresses_survive_the_engine(database: Database, host: FakeHost) -> None:
    """Killed, that is: nothing was closed or released."""
    first = open_networks(database, host)
    await first.open()
    await allocate(first, A)
    second = open_networks(database, host)
    await second.open()
    assert (await allocate(second, B)).endpoint.ipv4 == "172.17.0.3"
    assert (await allocate(second, A)).endpoint.ipv4 == "172.17.0.2"
    assert host.calls[-2:] == [f"bridge {NAMES.bridge} 172.17.0.0/16 False", f"firewall {NAMES.bridge}"]
    for networks in (first, second):
        await networks.close()


async def test_release_forgets_and_is_idempotent(networks: Networks, database: Database) -> None:
    await allocate(networks, A)
    await networks.endpoints.release(A)
    await networks.endpoints.release(A)
    assert await database.transact(store.load_held) == []


async def test_a_container_that_restarts_keeps_its_address_but_has_a_new_link(networks: Networks) -> None:
    first = await allocate(networks, A)
    await networks.endpoints.release(A)
    assert (await allocate(networks, B)).endpoint.ipv4 == "172.17.0.3", "the address rests"
    second = await allocate(networks, A)
    assert (second.endpoint.ipv4, second.endpoint.mac) == (first.endpoint.ipv4, first.endpoint.mac)
    assert second.endpoint.host_interface != first.endpoint.host_interface


async def test_an_allocation_that_could_not_be_written_down_is_none(networks: Networks, database: Database) -> None:
    await database.transact(lambda connection: connection.execute("ALTER TABLE endpoints RENAME COLUMN ipv4 TO gone").close())
    with pytest.raises(Exception, match="ipv4"):
        await allocate(networks, A)
    await database.transact(lambda connection: connection.execute("ALTER TABLE endpoints RENAME COLUMN gone TO ipv4").close())
    assert (await allocate(networks, A)).endpoint.ipv4 == "172.17.0.2"


async def test_a_cancelled_allocation_leaves_no_row(networks: Networks, database: Database) -> None:
    task = asyncio.ensure_future(allocate(networks, A))
    await until(networks.endpoints.is_in_use)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await database.transact(store.load_held) == []
    assert not networks.endpoints.is_in_use()


async def test_a_mac_address_may_be_asked_for(networks: Networks) -> None:
    assert (await allocate(networks, A, mac_address="92:D0:C6:0A:29:33")).plan["mac"] == "92:d0:c6:0a:29:33"
    with pytest.raises(InvalidParameter, match="invalid MAC address: nonsense"):
        await allocate(networks, B, mac_address="nonsense")
    assert len(networks.endpoints._held) == 1


async def test_an_address_may_be_asked_for_once(networks: Networks) -> None:
    wanted = EndpointIPAMConfig(ipv4_address="172.17.9.9")
    assert (await allocate(networks, A, ipam_config=wanted)).endpoint.ipv4 == "172.17.9.9"
    with pytest.raises(Forbidden, match="Address already in use"):
        await allocate(networks, B, ipam_config=wanted)
    with pytest.raises(InvalidParameter):
        await allocate(networks, C, ipam_config=EndpointIPAMConfig(ipv4_address="nonsense"))


async def test_the_host_is_made_ready_before_anybody_needs_it(networks: Networks, host: FakeHost) -> None:
    await allocate(networks, A)
    calls = list(host.calls)
    assert calls == [f"bridge {NAMES.bridge} 172.17.0.0/16 True", f"firewall {NAMES.bridge}"]
    await allocate(networks, B)
    assert host.calls == calls, "nothing more is done at the next start"


async def test_another_firewall_is_looked_at_again_after_a_while(
    networks: Networks, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    await allocate(networks, A)
    monkeypatch.setattr(host_setup, "_FORWARDING_AGE_SECONDS", -1.0)
    await allocate(networks, B)
    await until(lambda: "forwarding" in host.calls)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            PermissionError(errno.EPERM, "RTM_NEWLINK `x`: Operation not permitted"),
            System,
            "failed to set up the bridge network: RTM_NEWLINK",
        ),
    ],
)
async def test_a_host_that_refuses_is_complained_of_by_those_who_need_it(
    database: Database, host: FakeHost, error: Exception, kind: type[TeulError], message: str
) -> None:
    """The engine opens all the same: host and none need nothing. Once the reason is gone, containers start."""
    host.error = error
    async with open_networks(database, host) as networks:
        with pytest.raises(kind, match=message):
            await allocate(networks, A)
        host.error = None
        assert (await allocate(networks, A)).endpoint.ipv4 == "172.17.0.2"


async def test_a_host_that_uses_every_pool_is_complained_of_by_those_who_need_one(database: Database, host: FakeHost) -> None:
    host.claims = [pool.base for pool in DEFAULT_POOLS]
    async with open_networks(database, host) as networks:
        with pytest.raises(InvalidParameter, match="all predefined address pools have been fully subnetted"):
            await allocate(networks, A)
        host.claims = []
        assert (await allocate(networks, A)).endpoint.ipv4 == "172.17.0.2"


async def test_the_default_bridge_has_the_address_that_it_was_given(database: Database, host: FakeHost) -> None:
    """Whatever the host uses; but containers keep their addresses, and so does their bridge."""
    async with open_networks(database, host) as networks:
        await allocate(networks, A)
    host.claims = [ipaddress.ip_network("10.9.0.0/16")]
    given = DefaultBridge(ipv4=Addressing(address=ipaddress.IPv4Interface("10.9.0.5/24")))
    async with Networks(database, host, Usage(), Events(), NoRelays(), default_bridge=given) as networks:
        assert (await allocate(networks, A)).endpoint.ipv4 == "172.17.0.2"
        await networks.endpoints.release(A)
    async with Networks(database, host, Usage(), Events(), NoRelays(), default_bridge=given) as networks:
        endpoint = (await allocate(networks, A)).endpoint
        assert (endpoint.ipv4, endpoint.ipv4_prefix, endpoint.gateway) == ("10.9.0.1", 24, "10.9.0.5")
        await networks.create(CreateNetwork(name="other", ipam=IpamRequest(config=[IpamConfig(subnet="10.8.0.0/24")])))
        await networks.endpoints.release(A)
    clash = DefaultBridge(ipv4=Addressing(address=ipaddress.IPv4Interface("10.8.0.1/16")))
    async with Networks(database, host, Usage(), Events(), NoRelays(), default_bridge=clash) as networks:
        with pytest.raises(InvalidParameter, match="a network of this engine has these addresses"):
            await allocate(networks, A)


async def test_a_bridge_of_the_administrators_is_used_with_its_addresses(database: Database, host: FakeHost) -> None:
    host.given["br7"] = make_bridge("br7", "10.9.0.0/24", "fd00:9::/64").segments
    asked = DefaultBridge(name="br7", ipv4=Addressing(ip_range=ipaddress.ip_network("10.9.0.128/25")))
    async with open_networks(database, host, default_bridge=asked) as networks:
        shown = networks.get("bridge")
        assert shown.options["com.docker.network.bridge.name"] == "br7"
        [ranges] = shown.ipam.ranges or []
        assert (ranges.subnet, ranges.gateway, ranges.ip_range) == ("10.9.0.0/24", "10.9.0.1", "10.9.0.128/25")
        assert (await allocate(networks, A)).endpoint.ipv4 == "10.9.0.128"
        await networks.close(remove=False)
    async with open_networks(database, host) as networks:
        assert networks.get("bridge").options["com.docker.network.bridge.name"] == "br7", "a container is on it"
        await networks.endpoints.release(A)
    async with open_networks(database, host) as networks:
        assert networks.get("bridge").options["com.docker.network.bridge.name"] == NAMES.bridge


async def test_a_bridge_of_the_administrators_without_addresses_gets_one(database: Database, host: FakeHost) -> None:
    host.given["br7"] = ()
    async with open_networks(database, host, default_bridge=DefaultBridge(name="br7")) as networks:
        [ranges] = networks.get("bridge").ipam.ranges or []
        assert (ranges.subnet, ranges.gateway) == ("172.17.0.0/16", "172.17.0.1")


async def test_an_engine_does_not_start_without_its_bridge(database: Database, host: FakeHost) -> None:
    networks = open_networks(database, host, default_bridge=DefaultBridge(name="br7"))
    with pytest.raises(System) as caught:
        await networks.open()
    assert caught.value.message == (
        'Error initializing network controller: Error creating default "bridge" network: '
        "bridge device with non default name br7 must be created manually"
    )
    await networks.close()


async def test_an_engine_without_a_default_bridge(database: Database, host: FakeHost) -> None:
    async with open_networks(database, host) as networks:
        known = networks.get("bridge").id
        await allocate(networks, A)
        await networks.close(remove=False)
    async with open_networks(database, host, default_bridge=DefaultBridge(is_disabled=True)) as networks:
        assert networks.has("bridge"), "a container is on it"
        await networks.endpoints.release(A)
    async with open_networks(database, host, default_bridge=DefaultBridge(is_disabled=True)) as networks:
        assert [network.name for network in networks.list()] == ["host", "none"]
        with pytest.raises(Forbidden, match="operation is not permitted on predefined bridge network"):
            await networks.create(CreateNetwork(name="bridge"))
        with pytest.raises(NoSuchNetwork):
            networks.get("bridge")
        assert not host.bridges
        await networks.create(CreateNetwork(name="mine"))
    async with open_networks(database, host) as networks:
        assert networks.get("bridge").id == known


async def test_the_default_bridge_has_both_versions_of_ip_if_that_is_asked_for(database: Database, host: FakeHost) -> None:
    asked = DefaultBridge(ipv6=Addressing(), mtu=1300, has_icc=False, is_masqueraded=False)
    async with open_networks(database, host) as networks:
        assert not networks.get("bridge").enable_ipv6
    async with Networks(
        database, host, Usage(), Events(), NoRelays(), pools=(*DEFAULT_POOLS, local_pool("x")), default_bridge=asked
    ) as networks:
        allocation = await allocate(networks, A)
        network = networks.get("bridge")
        first, second = network.ipam.ranges or []
        assert (first.subnet, network.enable_ipv6) == ("172.17.0.0/16", True)
        assert ipaddress.ip_address(allocation.endpoint.ipv6) in ipaddress.ip_network(second.subnet)
        assert (allocation.endpoint.gateway6, allocation.plan["isolated"]) == (second.gateway, True)
        bridge = host.bridges[NAMES.bridge]
        assert (bridge.mtu, bridge.has_icc, bridge.is_masqueraded) == (1300, False, False)
        assert {key.rpartition(".")[2]: value for key, value in network.options.items()} == {
            "default_bridge": "true",
            "enable_icc": "false",
            "enable_ip_masquerade": "false",
            "host_binding_ipv4": "0.0.0.0",
            "name": NAMES.bridge,
            "mtu": "1300",
        }
    async with open_networks(database, host) as networks:
        assert networks.get("bridge").enable_ipv6, "as long as a container has an address there"
        await networks.endpoints.release(A)
    async with open_networks(database, host) as networks:
        network = networks.get("bridge")
        assert not network.enable_ipv6
        assert [each.subnet for each in network.ipam.ranges or ()] == ["172.17.0.0/16"]


async def test_containers_get_addresses_out_of_a_part_of_the_default_bridge_and_go_out_by_another_gateway(
    database: Database, host: FakeHost
) -> None:
    asked = DefaultBridge(
        ipv4=Addressing(ip_range=ipaddress.ip_network("172.17.8.0/24"), gateway=ipaddress.ip_address("172.17.9.9")),
        ipv6=Addressing(ip_range=ipaddress.ip_network("fd00:5::/80")),
    )
    async with open_networks(database, host):
        pass
    async with Networks(database, host, Usage(), Events(), NoRelays(), default_bridge=asked) as networks:
        endpoint = (await allocate(networks, A)).endpoint
        assert (endpoint.ipv4, endpoint.ipv4_prefix, endpoint.gateway) == ("172.17.8.0", 16, "172.17.9.9")
        assert (endpoint.ipv6, endpoint.ipv6_prefix, endpoint.gateway6) == ("fd00:5::2", 80, "fd00:5::1")
        assert [str(segment.host_address) for segment in host.bridges[NAMES.bridge].segments] == ["172.17.0.1", "fd00:5::1"]
        (first, _second) = networks.get("bridge").ipam.ranges or []
        assert (first.ip_range, first.auxiliary) == ("172.17.8.0/24", {"DefaultGatewayIPv4": "172.17.9.9"})


async def test_a_networks_containers_may_go_out_by_another_gateway(networks: Networks) -> None:
    """docker: an auxiliary address of that name, on any bridge."""
    config = IpamConfig(subnet="10.9.0.0/24", auxiliary_addresses={"DefaultGatewayIPv4": "10.9.0.7"})
    network = await networks.create(CreateNetwork(name="other", ipam=IpamRequest(config=[config])))
    assert (await networks.endpoints.allocate(network, A)).endpoint.gateway == "10.9.0.7"
    with pytest.raises(InvalidParameter, match=r"^no gateway can be set on an internal bridge network$"):
        await networks.create(CreateNetwork(name="inner", internal=True, ipam=IpamRequest(config=[config])))


async def test_a_subnet_that_somebody_took_meanwhile_is_given_up_unless_it_is_in_use(database: Database, host: FakeHost) -> None:
    async with open_networks(database, host) as networks:
        await allocate(networks, A)
    host.claims = [ipaddress.ip_network("172.17.99.0/24")]
    async with open_networks(database, host) as networks:
        assert (await allocate(networks, B)).endpoint.ipv4 == "172.17.0.3"
        for container_id in (A, B):
            await networks.endpoints.release(container_id)
    async with open_networks(database, host) as networks:
        assert (await allocate(networks, A)).endpoint.ipv4 == "172.18.0.2"


async def test_a_missing_library_is_one_sentence_with_the_package(database: Database, host: FakeHost) -> None:
    host.firewall_error = LibraryMissing(errno.ENOENT, "libnftables.so.1 is not installed (Debian package libnftables1)")
    async with open_networks(database, host) as networks:
        with pytest.raises(Unavailable, match="libnftables1") as caught:
            await allocate(networks, A)
        assert caught.value.hint == "apt-get install libnftables1"


async def test_sweeping_releases_the_dead_and_removes_links_of_nobody(
    database: Database, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints_module, "_LINK_GRACE_SECONDS", 0.0)
    async with open_networks(database, host) as networks:
        live, dead = await allocate(networks, A), await allocate(networks, B)
        networks.endpoints._links.clear()  # as after a new start
        host.ports = [live.endpoint.host_interface, dead.endpoint.host_interface]
        await networks.endpoints.sweep([container(A, endpoint=live.endpoint)])
        assert [held.container_id for held in await database.transact(store.load_held)] == [A]
        await until(lambda: bool(host.removed_ports))
        assert host.removed_ports == [{dead.endpoint.host_interface}]


@pytest.mark.parametrize("comes_back", [False, True])
async def test_an_engine_takes_over_though_a_full_disk_keeps_the_dead_their_addresses(
    database: Database, host: FakeHost, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    """They are freed when there is room again, unless their container has been started once more."""
    async with open_networks(database, host) as networks:
        first = await allocate(networks, A)
        with monkeypatch.context() as context:

            async def full(*_arguments: Any, **_options: Any) -> None:
                raise DiskFull("teul.db")

            context.setattr(database, "transact", full)
            await networks.endpoints.sweep(())
            assert networks.endpoints.is_in_use(), "it is not given to others meanwhile"
            with pytest.raises(DiskFull):
                await networks.endpoints.release(A)
        if comes_back:
            assert (await allocate(networks, A)).endpoint.ipv4 == first.endpoint.ipv4
            assert [held.container_id for held in await database.transact(store.load_held)] == [A]
        await allocate(networks, B)
        assert [held.container_id for held in await database.transact(store.load_held)] == [A, B][not comes_back :]


async def test_a_link_that_outlives_its_container_is_deleted(networks: Networks, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints_module, "_LINK_GRACE_SECONDS", 0.05)
    links = {(await allocate(networks, container)).endpoint.host_interface for container in (A, B)}
    await networks.endpoints.release(A)
    await networks.endpoints.release(B)
    await until(lambda: bool(host.removed_ports))
    assert host.removed_ports == [links], "one look serves both"


async def test_a_link_that_is_not_gone_yet_lends_its_name_to_no_other(networks: Networks, host: FakeHost) -> None:
    first = await allocate(networks, A)
    await networks.endpoints.release(A)
    networks.endpoints._generation += 35
    assert (await allocate(networks, A)).endpoint.host_interface != first.endpoint.host_interface


async def test_closing_leaves_the_host_as_it_was_unless_somebody_is_using_it(database: Database, host: FakeHost) -> None:
    networks = open_networks(database, host)
    await networks.open()
    await allocate(networks, A)
    await networks.close()
    assert "remove" not in host.calls
    await networks.open()
    await networks.endpoints.release(A)
    await networks.close(remove=False)
    assert "remove" not in host.calls
    await networks.open()
    await networks.close()
    assert host.calls[-1] == "remove"


def container(container_id: str, *, endpoint: ContainerEndpoint, status: Status = Status.RUNNING) -> Container:
    return Container(
        id=container_id,
        name=f"name-{container_id[0]}",
        created_at_ns=0,
        image_id="sha256:0",
        image_reference="i",
        path="sh",
        args=[],
        config=ContainerConfig(),
        host_config=HostConfig(),
        state=ContainerState(status=status),
        endpoints={endpoint.network_name: endpoint},
    )


async def test_running_containers_are_shown_on_their_network(database: Database, host: FakeHost) -> None:
    usage: Usage[str] = Usage()
    async with Networks(database, host, usage, Events(), NoRelays()) as networks:
        allocation = await allocate(networks, A)
        nominal = networks.endpoints.nominal(networks.get("host"), B)
        for made in (
            container(A, endpoint=allocation.endpoint),
            container(B, endpoint=nominal),
            container(C, endpoint=nominal, status=Status.EXITED),
        ):
            usage.declare(made, [endpoint.network_id for endpoint in made.endpoints.values()])
        [bridged] = networks.attachments(networks.get("bridge"))
        assert (bridged.container_name, bridged.ipv4, bridged.mac) == ("name-a", "172.17.0.2/16", "02:42:ac:11:00:02")
        assert bridged.endpoint_id == allocation.endpoint.endpoint_id
        [hosted] = networks.attachments(networks.get("host"))
        assert (hosted.container_id, hosted.ipv4, hosted.mac) == (B, "", "")
        assert networks.attachments(networks.get("none")) == []


async def test_a_network_is_found_by_id_name_and_beginning_of_its_id(networks: Networks) -> None:
    bridge = networks.get("bridge")
    assert networks.get(bridge.id) == networks.get(bridge.id[:12]) == bridge
    for unknown in ("", "nonsense", "bridg"):
        with pytest.raises(NoSuchNetwork) as caught:
            networks.get(unknown)
        assert caught.value.message == f"network {unknown} not found"
    with pytest.raises(NoSuchNetwork):
        networks.get("bridge", scope="swarm")


async def test_what_cannot_be_done_says_so_in_dockers_words(networks: Networks) -> None:
    with pytest.raises(Forbidden, match=r"^operation is not permitted on predefined host network $"):
        await networks.create(CreateNetwork(name="host"))
    with pytest.raises(Forbidden, match=r"^bridge is a pre-defined network and cannot be removed$"):
        await networks.remove("bridge")
    with pytest.raises(NoSuchNetwork):
        await networks.remove("nonsense")
    with pytest.raises(InvalidParameter):
        await networks.endpoints.allocate(networks.get("host"), A)


async def test_a_network_is_made_used_and_removed(database: Database, host: FakeHost) -> None:
    events = Events()
    usage: Usage[str] = Usage()
    async with Networks(database, host, usage, events, NoRelays()) as networks:
        with events.subscribe() as listener:
            made = await networks.create(CreateNetwork(name="mine", labels={"a": "b"}))
            assert networks.get("mine") == made
            assert host.bridges[f"tl-{made.id[:12]}"].segments[0].subnet == ipaddress.ip_network("172.18.0.0/16")
            given = await networks.endpoints.allocate(made, A, taken=["eth0"])
            assert (given.endpoint.ipv4, given.endpoint.gateway, given.endpoint.interface) == ("172.18.0.2", "172.18.0.1", "eth1")
            usage.declare(container(A, endpoint=given.endpoint), [made.id])
            named = re.escape(
                f'error while removing network: network mine has active endpoints (name:"name-a" id:"{given.endpoint.endpoint_id[:12]}")'
            )
            with pytest.raises(Forbidden, match=f"^{named}$"):
                await networks.remove("mine")
            usage.declare(container(A, endpoint=given.endpoint), [])
            await networks.endpoints.release(A)
            await networks.remove(made.id[:12])
            assert [(await anext(listener)).action for _ in range(2)] == ["create", "destroy"]
        assert [*host.bridges] == [NAMES.bridge]
        assert {network.name for network in networks.list()} == {"bridge", "host", "none"}


async def test_a_network_that_was_removed_gives_nothing_and_is_not_made_again(networks: Networks, host: FakeHost) -> None:
    made = await networks.create(CreateNetwork(name="mine"))
    await networks.remove("mine")
    with pytest.raises(NoSuchNetwork):
        await networks.endpoints.allocate(made, A)
    assert not networks.endpoints.is_in_use(made.id)
    assert [*host.bridges] == [NAMES.bridge]


async def test_a_network_whose_removal_cannot_be_written_down_stays(
    networks: Networks, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await networks.create(CreateNetwork(name="mine"))
    with monkeypatch.context() as context:

        async def full(*_arguments: Any, **_options: Any) -> None:
            raise DiskFull("teul.db")

        context.setattr(database, "transact", full)
        with pytest.raises(DiskFull):
            await networks.remove("mine")
    assert networks.get("mine") == made
    assert (await networks.endpoints.allocate(made, A)).endpoint.ipv4 == "172.18.0.2"


async def test_both_versions_of_ip(networks: Networks) -> None:
    subnets = [
        IpamConfig(subnet="10.9.0.0/24", ip_range="10.9.0.128/25", auxiliary_addresses={"x": "10.9.0.129"}),
        IpamConfig(subnet="fd99::/64"),
    ]
    made = await networks.create(CreateNetwork(name="two", enable_ipv6=True, ipam=IpamRequest(config=subnets)))
    assert [entry.gateway for entry in made.ipam.ranges or ()] == ["10.9.0.128", "fd99::1"]
    given = await networks.endpoints.allocate(made, A)
    assert (given.endpoint.ipv4, given.endpoint.ipv6, given.endpoint.gateway6) == ("10.9.0.130", "fd99::2", "fd99::1")
    assert given.plan["addresses"] == ["10.9.0.130/24", "fd99::2/64"]
    wanted = EndpointIPAMConfig(ipv4_address="10.8.0.1")
    with pytest.raises(InvalidParameter, match=r"no configured subnet contains IP address 10\.8\.0\.1"):
        await networks.endpoints.allocate(made, B, requested=EndpointSettings(ipam_config=wanted))
    assert (await networks.endpoints.allocate(made, C)).endpoint.ipv6 == "fd99::3"


async def test_subnets_of_networks_do_not_overlap(networks: Networks) -> None:
    async def create(name: str, subnet: str) -> None:
        await networks.create(CreateNetwork(name=name, ipam=IpamRequest(config=[IpamConfig(subnet=subnet)])))

    await create("one", "10.9.0.0/24")
    with pytest.raises(Conflict, match="network with name one already exists"):
        await create("one", "10.10.0.0/24")
    with pytest.raises(Forbidden, match="invalid pool request: Pool overlaps with other one on this address space"):
        await create("two", "10.9.0.0/16")
    await create("two", "10.8.0.0/16")


async def test_a_network_that_the_host_refuses_is_none(networks: Networks, host: FakeHost, database: Database) -> None:
    await allocate(networks, A)
    host.error = NotABridge("lo")
    with pytest.raises(System, match=r"^existing interface lo is not a bridge$"):
        await networks.create(CreateNetwork(name="mine", ipam=IpamRequest(config=[IpamConfig(subnet="10.9.0.0/24")])))
    host.error = None
    assert {network.name for network in await database.transact(store.load_networks)} == {"bridge", "host", "none"}
    host.firewall_error = PermissionError(errno.EPERM, "nft: Operation not permitted")
    with pytest.raises(System, match="Operation not permitted"):
        await networks.create(CreateNetwork(name="mine"))
    host.firewall_error = None
    assert [*host.bridges] == [NAMES.bridge]
    assert {network.name for network in networks.list()} == {"bridge", "host", "none"}
    await networks.create(CreateNetwork(name="mine"))


async def test_a_subnet_that_another_engine_took_at_the_same_moment_is_chosen_again(networks: Networks, host: FakeHost) -> None:
    await allocate(networks, A)
    ensure, rivals = host.ensure_bridge, [ipaddress.ip_network("172.18.0.0/16"), ipaddress.ip_network("172.19.0.0/16")]

    def ensure_late(bridge: Bridge, *, is_exclusive: bool = False) -> Bridge:
        if rivals:
            host.claims.append(rivals.pop(0))
        return ensure(bridge, is_exclusive=is_exclusive)

    host.ensure_bridge = ensure_late  # type: ignore[method-assign]
    made = await networks.create(CreateNetwork(name="mine"))
    assert [entry.subnet for entry in made.ipam.ranges or ()] == ["172.20.0.0/16"]


async def test_a_configuration_is_a_network_for_others_to_take_over(networks: Networks, host: FakeHost) -> None:
    config = CreateNetwork(name="config", config_only=True, labels={"a": "b"}, ipam=IpamRequest(config=[IpamConfig(subnet="10.9.0.0/24")]))
    await networks.create(config)
    assert len(host.bridges) == 1
    made = await networks.create(CreateNetwork(name="mine", config_from=ConfigReference(network="config")))
    assert (made.labels, [entry.subnet for entry in made.ipam.ranges or ()]) == ({"a": "b"}, ["10.9.0.0/24"])
    with pytest.raises(Forbidden, match='error while removing network: configuration network "config" is in use'):
        await networks.remove("config")
    with pytest.raises(NotFound, match='configuration network "gone" does not exist'):
        await networks.create(CreateNetwork(name="other", config_from=ConfigReference(network="gone")))


async def test_prune_removes_what_nobody_uses(networks: Networks) -> None:
    for name, labels in (("old", {"keep": "no"}), ("kept", {"keep": "yes"})):
        await networks.create(CreateNetwork(name=name, labels=labels))
    assert await networks.prune(Filters({"until": ["1h"]})) == []
    assert await networks.prune(Filters({"label": ["keep=no"]})) == ["old"]
    assert await networks.prune(Filters({"label!": ["keep"]})) == []
    assert await networks.prune(Filters()) == ["kept"]
    assert await networks.prune(Filters()) == []


async def test_what_an_engine_that_was_killed_left_of_a_network_is_swept(database: Database, host: FakeHost) -> None:
    host.bridges["tl-stray"] = make_bridge("tl-stray", "10.9.0.0/24")
    async with open_networks(database, host) as networks:
        kept = await networks.create(CreateNetwork(name="kept"))
        await networks.sweep([])
        assert {*host.bridges} == {NAMES.bridge, f"tl-{kept.id[:12]}"}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"ipam_config": EndpointIPAMConfig(ipv6_address="fd00::7")}, InvalidParameter, "no configured subnet contains IP address fd00::7"),
        ({"ipam_config": EndpointIPAMConfig(link_local_ips=["10.0.0.1"])}, InvalidParameter, "invalid link local IP address: 10.0.0.1"),
        ({"links": ["a:b:c"]}, System, "bad format for links: a:b:c"),
        ({"links": [""]}, System, "empty string specified for links"),
    ],
)
async def test_what_an_endpoint_cannot_have(networks: Networks, settings: dict[str, Any], kind: type[TeulError], message: str) -> None:
    """And nothing of it is held afterwards."""
    with pytest.raises(kind, match=message):
        await allocate(networks, A, **settings)
    assert not networks.endpoints.is_in_use()


async def test_link_local_addresses_have_the_prefixes_of_their_kind(networks: Networks) -> None:
    allocation = await allocate(networks, A, ipam_config=EndpointIPAMConfig(link_local_ips=["169.254.9.9", "fe80::9"]))
    assert allocation.plan["addresses"] == ["172.17.0.2/16", "169.254.9.9/16", "fe80::9/64"]


async def test_a_link_has_the_name_and_the_settings_that_were_asked_for(networks: Networks) -> None:
    """docker: a name that was asked for goes before the network's prefix, and the settings' placeholder stands for it."""
    options = {INTERFACE: "lan", SYSCTLS: "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.mtu=1300", "own": "thing"}
    allocation = await networks.endpoints.allocate(networks.get("bridge"), A, requested=EndpointSettings(driver_opts=options))
    assert (allocation.endpoint.interface, allocation.plan["container_name"]) == ("lan", "lan")
    assert allocation.plan["sysctls"] == [("net/ipv4/conf/lan/log_martians", "1"), ("net/ipv6/conf/lan/mtu", "1300")]
    plain = await networks.endpoints.allocate(networks.get("bridge"), B)
    assert (plain.endpoint.interface, "sysctls" in plain.plan) == ("eth0", False)


async def test_two_networks_do_not_share_a_bridge(networks: Networks) -> None:
    options = {"com.docker.network.bridge.name": "shared0"}
    first = await networks.create(CreateNetwork(name="one", options=options))
    with pytest.raises(Forbidden) as caught:
        await networks.create(CreateNetwork(name="two", options=options))
    assert re.fullmatch(
        rf"cannot create network \w{{64}} \(shared0\): conflicts with network {first.id} \(shared0\): networks have same bridge name",
        caught.value.message,
    )
    assert [network.name for network in networks.list()] == ["bridge", "host", "none", "one"]


async def test_a_configuration_is_neither_pruned_nor_joined(networks: Networks) -> None:
    network = await networks.create(CreateNetwork(name="conf", config_only=True))
    assert await networks.prune(Filters({})) == []
    with pytest.raises(Forbidden, match="cannot create endpoint on configuration-only network"):
        networks.endpoints.nominal(network, A)


async def test_default_is_no_name_for_a_network(networks: Networks) -> None:
    with pytest.raises(Forbidden, match="operation is not permitted on predefined default network"):
        await networks.create(CreateNetwork(name="default"))
