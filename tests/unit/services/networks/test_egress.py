"""Egress policies over a host that does as it is told."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from teul.errors import InvalidParameter, System
from teul.model.config import ContainerConfig
from teul.model.container import Container
from teul.model.host_config import HostConfig
from teul.model.network_config import CreateNetwork
from teul.network.firewall.egress import Refusal
from teul.services.networks import egress as egress_module
from teul.services.networks.service import Networks
from teul.store.metadata.database import Database
from unit.services.networks.test_service import FakeHost, open_networks


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
    async with open_networks(database, host) as opened:
        yield opened


def container(name: str = "a", *rules: str) -> Container:
    return Container(
        id=name * 64,
        name=name,
        created_at_ns=0,
        image_id="sha256:" + "0" * 64,
        image_reference="i",
        path="sh",
        args=[],
        config=ContainerConfig(),
        host_config=HostConfig(egress=list(rules) or None),
    )


async def started(networks: Networks, box: Container, network: str = "bridge") -> Container:
    allocation = await networks.endpoints.allocate(networks.get(network), box.id)
    box.endpoints = {**box.endpoints, network: allocation.endpoint}
    await networks.egress.assign(box, box.endpoints)
    return box


def present(host: FakeHost, name: str) -> set[str]:
    return {element.key for element in host.gate.elements or () if element.set_name == name}


async def test_a_container_without_a_policy_costs_nothing(networks: Networks, host: FakeHost) -> None:
    host.gate.error = OSError(errno.EIO, "nft: nobody asked")
    await started(networks, container())


async def test_a_policy_is_in_force_when_its_container_starts_and_goes_with_it(
    networks: Networks, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress_module, "_LINK_GRACE_SECONDS", 0)
    box = await started(networks, container("a", "10.0.0.0/8"))
    [endpoint] = box.endpoints.values()
    assert present(host, "allowed4") == {"172.17.0.2 . 10.0.0.0/8"}
    assert present(host, "guarded") == {f'"{endpoint.host_interface}"'}
    host.gate.refused = [Refusal(ipaddress.ip_address("172.17.0.2"), ipaddress.ip_address("192.0.2.1"), 6, 80, 2)]
    await networks.egress.release(box.id)
    await networks.egress.release(box.id)
    await settled(host)


async def settled(host: FakeHost) -> None:
    async with asyncio.timeout(5):
        while host.gate.elements or host.gate.refused:
            await asyncio.sleep(0)


async def test_who_gets_a_departed_containers_address_is_not_held_to_its_policy(networks: Networks, host: FakeHost) -> None:
    box = await started(networks, container("a", "none"))
    await networks.egress.release(box.id)
    assert present(host, "policed4"), "its link may still be there"
    stranger = container("b")
    stranger.endpoints = box.endpoints
    await networks.egress.assign(stranger, stranger.endpoints)
    assert not present(host, "policed4")


async def test_a_container_that_comes_back_is_held_on(networks: Networks, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress_module, "_LINK_GRACE_SECONDS", 0)
    box = await started(networks, container("a", "none"))
    await networks.egress.release(box.id)
    await networks.egress.assign(box, box.endpoints)
    for _turn in range(20):
        await asyncio.sleep(0)
    assert present(host, "policed4")


async def test_networks_of_a_container_are_all_policed(networks: Networks, host: FakeHost) -> None:
    await networks.create(CreateNetwork(name="mine", egress=["lan"]))
    await networks.create(CreateNetwork(name="other"))
    assert {element.set_name for element in host.gate.elements or ()} == {"policed_networks", "network_allowed4", "network_allowed6"}
    box = await started(networks, container("a", "192.0.2.1"), "mine")
    await started(networks, box, "other")
    addresses = [endpoint.ipv4 for endpoint in box.endpoints.values()]
    assert present(host, "allowed4") == {f"{address} . 192.0.2.1/32" for address in addresses}
    assert len(present(host, "policed4")) == len(present(host, "sources4")) == 4
    gone = box.endpoints.pop("mine")
    await networks.egress.assign(box, box.endpoints)
    assert len(present(host, "policed4")) == 1
    assert not any(gone.ipv4 in key for key in present(host, "allowed4"))


async def test_a_policy_that_the_host_does_not_take_is_none(networks: Networks, host: FakeHost) -> None:
    box = await started(networks, container("a", "10.0.0.0/8"))
    before = set(host.gate.elements or ())
    host.gate.error = OSError(errno.EOPNOTSUPP, "nft: Operation not supported")
    with pytest.raises(System, match="Operation not supported"):
        await started(networks, container("b", "none"))
    with pytest.raises(System):
        await networks.egress.assign(container("a"), box.endpoints)
    with pytest.raises(System):
        await networks.create(CreateNetwork(name="mine", egress=["lan"]))
    assert not networks.has("mine")
    assert set(host.gate.elements or ()) == before


async def test_a_firewall_that_was_flushed_is_made_anew_with_all_policies(networks: Networks, host: FakeHost) -> None:
    await started(networks, container("a", "none"))
    await networks.create(CreateNetwork(name="mine", egress=["none"]))
    before = set(host.gate.elements or ())
    host.remove()
    await started(networks, container("b", "lan"))
    assert before < set(host.gate.elements or ())


async def test_the_next_engine_has_in_force_what_the_records_say(database: Database, host: FakeHost) -> None:
    first = open_networks(database, host)
    await first.open()
    await first.create(CreateNetwork(name="mine", egress=["lan"]))
    box = await started(first, container("a", "10.0.0.0/8"))
    gone = await started(first, container("b", "none"))
    wanted = {each for each in host.gate.elements or () if gone.endpoints["bridge"].ipv4 not in each.key and _link(gone) not in each.key}
    host.gate.resolved = {("172.17.0.2", ipaddress.ip_address("192.0.2.1")): 60, ("172.17.0.3", ipaddress.ip_address("192.0.2.1")): 60}
    async with open_networks(database, host) as second:
        await second.sweep([box])
        async with asyncio.timeout(5):
            while set(host.gate.elements or ()) != wanted or len(host.gate.resolved) != 1:
                await asyncio.sleep(0)
        await second.egress.assign(box, box.endpoints)
        assert set(host.gate.elements or ()) == wanted
    await first.close(remove=False)


def _link(box: Container) -> str:
    return box.endpoints["bridge"].host_interface


async def test_a_networks_policy_is_changed_or_stays(networks: Networks, host: FakeHost) -> None:
    await networks.create(CreateNetwork(name="mine"))
    assert (await networks.change_egress("mine", ["LAN"])).egress == ["lan"]
    assert networks.get("mine").egress == ["lan"]
    assert len(present(host, "network_allowed4")) == 3
    host.gate.error = OSError(errno.EIO, "nft: Input/output error")
    with pytest.raises(System):
        await networks.change_egress("mine", None)
    assert networks.get("mine").egress == ["lan"]
    host.gate.error = None
    await networks.remove("mine")
    assert host.gate.elements == frozenset()


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            CreateNetwork(name="n", driver="macvlan", egress=["lan"]),
            "conflicting options: an egress policy and network n, whose driver macvlan lets nobody filter",
        ),
        (CreateNetwork(name="n", config_only=True, egress=["lan"]), "configuration network can not contain an egress policy"),
        (
            CreateNetwork(name="n", egress=["nonsense"]),
            'invalid egress rule "nonsense": neither an address, a network or a domain name, nor "lan", "none" or "any"',
        ),
    ],
)
async def test_a_policy_that_cannot_be_is_refused(networks: Networks, request_: CreateNetwork, said: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        await networks.create(request_)
    assert refused.value.message == said


async def test_the_host_and_nowhere_have_no_policy(networks: Networks) -> None:
    for name, said in (("host", "whose driver host lets nobody filter"), ("none", "leads nowhere")):
        with pytest.raises(InvalidParameter, match=said):
            await networks.change_egress(name, ["lan"])


async def test_what_was_refused_is_told_of_one_and_the_most_frequent_first(networks: Networks, host: FakeHost) -> None:
    def refusal(source: str, port: int, packets: int) -> Refusal:
        return Refusal(ipaddress.ip_address(source), ipaddress.ip_address("192.0.2.1"), 6, port, packets)

    await started(networks, container("a", "none"))
    host.gate.refused = [refusal("172.17.0.2", 80, 1), refusal("172.17.0.3", 80, 9), refusal("172.17.0.2", 443, 3)]
    assert [(each.port, each.packets) for each in await networks.egress.refusals({"172.17.0.2"})] == [(443, 3), (80, 1)]
    assert await networks.egress.refusals(set()) == []


async def allowed(networks: Networks, box: Container, name: str, *addresses: str, seconds: int = 60) -> bool:
    return await networks.egress.allow(box, name, [(address, seconds) for address in addresses])


def resolved(host: FakeHost) -> set[tuple[str, str, float]]:
    return {(source, str(address), seconds) for (source, address), seconds in host.gate.resolved.items()}


async def test_an_allowed_names_addresses_are_let_through_by_each_policy(networks: Networks, host: FakeHost) -> None:
    network = await networks.create(CreateNetwork(name="mine", egress=["good.example", "both.example"]))
    box = await started(networks, container("a", "*.example"), "mine")
    bridge, address = f"tl-{network.id[:12]}", box.endpoints["mine"].ipv4
    assert networks.egress.name_rules(box) == [["*.example"], ["good.example", "both.example"]]
    assert await allowed(networks, box, "good.example", "192.0.2.1", "2001:db8::1")
    assert resolved(host) == {(address, "192.0.2.1", 60), (bridge, "192.0.2.1", 60), (bridge, "2001:db8::1", 60)}
    assert not await allowed(networks, box, "bad.example", "192.0.2.2")
    assert not await allowed(networks, box, "elsewhere.test", "192.0.2.2")
    assert await allowed(networks, box, "both.example", "192.0.2.3", seconds=0)
    assert await allowed(networks, box, "both.example", "192.0.2.4", seconds=10**9)
    assert {(each, seconds) for source, each, seconds in resolved(host) if source == address} == {
        ("192.0.2.1", 60),
        ("192.0.2.3", 30),
        ("192.0.2.4", 86400),
    }
    await networks.egress.keep([box], {box.id: {"good.example": ["192.0.2.1"], "gone.test": ["192.0.2.3"]}})
    assert {each for _source, each, _seconds in resolved(host)} == {"192.0.2.1"}


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::", "::ffff:10.0.0.1", "x"]
)
async def test_an_address_that_is_no_names_is_not_let_through(networks: Networks, host: FakeHost, address: str) -> None:
    """security: the agent may be somebody else's by now."""
    box = await started(networks, container("a", "good.example"))
    assert await allowed(networks, box, "good.example", address), "what it does with it is its own"
    assert not host.gate.resolved


async def test_who_has_no_policy_with_names_gets_no_address(networks: Networks, host: FakeHost) -> None:
    for box in (await started(networks, container("a")), await started(networks, container("b", "lan"))):
        assert not await allowed(networks, box, "good.example", "192.0.2.1")
    assert not host.gate.resolved
    assert networks.egress.name_rules(container("a")) is None
    assert networks.egress.name_rules(container("b", "lan")) == [[]]


async def test_addresses_of_names_are_bounded(networks: Networks, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress_module, "_MAX_ADDRESSES", 2)
    box = await started(networks, container("a", "good.example"))
    assert await allowed(networks, box, "good.example", "192.0.2.1", "192.0.2.2")
    assert not await allowed(networks, box, "good.example", "192.0.2.3")
    assert await allowed(networks, box, "good.example", "192.0.2.2"), "it has that already"
