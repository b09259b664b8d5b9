"""Networks without a bridge (macvlan, ipvlan), over a host that does as it is told."""

from __future__ import annotations

from typing import Any

import pytest

from teul.errors import Forbidden, InvalidParameter, NotImplementedHere, System, TeulError
from teul.model.network import Network
from teul.model.network_config import CreateNetwork, EndpointSettings, IpamConfig, IpamRequest
from teul.network.allocation import gateways, with_gateways
from teul.network.options import MTU
from teul.services.networks.service import Networks
from teul.store.metadata.database import Database
from unit.services.networks.test_service import PARENT_MAC, FakeHost, database, host, networks, open_networks

__all__ = ["database", "host", "networks"]

A, B = "a" * 64, "b" * 64


def request(name: str, driver: str, *subnets: str, gateway: str = "", internal: bool = False, **options: str) -> CreateNetwork:
    config = [IpamConfig(subnet=subnet, gateway=gateway) for subnet in subnets]
    return CreateNetwork(
        name=name,
        driver=driver,
        options={key.replace("__", "."): value for key, value in options.items()},
        ipam=IpamRequest(config=config),
        internal=internal,
        enable_ipv6=any(":" in subnet for subnet in subnets),
    )


async def make(networks: Networks, name: str, driver: str, *subnets: str, **members: Any) -> Network:
    return await networks.create(request(name, driver, *subnets, **members))


async def test_a_container_gets_a_link_that_is_born_of_the_parent(networks: Networks, host: FakeHost) -> None:
    network = await make(networks, "lan", "macvlan", "192.0.2.0/24", gateway="192.0.2.254", parent="uplink", macvlan_mode="private")
    assert network.options == {"parent": "uplink", "macvlan_mode": "private"}
    allocation = await networks.endpoints.allocate(network, A)
    [plan] = with_gateways([allocation], {})
    assert plan == {
        "host_name": plan["host_name"],
        "bridge": "",
        "mac": "02:42:c0:00:02:01",
        "mtu": 0,
        "container_name": "eth0",
        "addresses": ["192.0.2.1/24"],
        "gateway": "192.0.2.254",
        "gateway6": None,
        "isolated": False,
        "hairpin": False,
        "kind": "macvlan",
        "parent": "uplink",
        "mode": "private",
        "flag": "",
    }
    assert allocation.endpoint.host_interface == ""
    assert not any(call.startswith(("add", "bridge lan")) for call in host.calls), "it is not in the firewall"
    await networks.endpoints.release(A)
    await networks.remove("lan")
    assert host.interfaces == {"uplink"}


async def test_no_gateway_is_made_up_and_none_leads_out_of_an_internal_network(networks: Networks) -> None:
    """docker: the gateway is a router of somebody else's."""
    plain = await make(networks, "plain", "macvlan", "192.0.2.0/24", parent="uplink")
    closed = await make(networks, "closed", "macvlan", "198.51.100.0/24", gateway="198.51.100.1", internal=True, parent="uplink")
    for network, address in ((plain, "192.0.2.1"), (closed, "198.51.100.2")):
        allocation = await networks.endpoints.allocate(network, A)
        assert (allocation.endpoint.ipv4, allocation.endpoint.gateway) == (address, "")
        assert with_gateways([allocation], {})[0]["gateway"] is None
    assert [entry.gateway for entry in plain.ipam.ranges or ()] == [""]


async def test_an_l3_network_leads_out_by_the_link_itself(networks: Networks) -> None:
    network = await make(networks, "l3", "ipvlan", "192.0.2.0/24", "2001:db8::/64", gateway="", parent="uplink", ipvlan_mode="l3")
    allocation = await networks.endpoints.allocate(network, A)
    [plan] = with_gateways([allocation], {})
    assert (plan["gateway"], plan["gateway6"], plan["device_routes"], plan["mac"]) == ("", "", [4, 6], "")
    assert set(gateways([allocation.endpoint], {})) == {4, 6}
    closed = await make(networks, "closed", "ipvlan", "198.51.100.0/24", internal=True, parent="uplink.7", ipvlan_mode="l3s")
    [plan] = with_gateways([await networks.endpoints.allocate(closed, A)], {})
    assert "device_routes" not in plan


async def test_several_subnets_each_with_its_own_gateway(networks: Networks) -> None:
    config = [
        IpamConfig(subnet="192.0.2.0/30", gateway="192.0.2.1"),
        IpamConfig(subnet="198.51.100.0/24", gateway="198.51.100.9"),
    ]
    wanted = CreateNetwork(name="lan", driver="macvlan", options={"parent": "uplink"}, ipam=IpamRequest(config=config))
    network = await networks.create(wanted)
    first, second = [(await networks.endpoints.allocate(network, name)).endpoint for name in (A, B)]
    assert (first.ipv4, first.ipv4_prefix, first.gateway) == ("192.0.2.2", 30, "192.0.2.1")
    assert (second.ipv4, second.ipv4_prefix, second.gateway) == ("198.51.100.1", 24, "198.51.100.9")
    with pytest.raises(Forbidden, match=r"^invalid pool request: Pool overlaps with other one on this address space$"):
        await make(networks, "twice", "macvlan", "203.0.113.0/24", "203.0.113.128/25", parent="uplink")
    assert not networks.has("twice")
    with pytest.raises(Forbidden, match=r"^bridge driver doesn't support multiple subnets$"):
        await make(networks, "many", "bridge", "203.0.113.0/25", "203.0.113.128/25")


async def test_without_a_parent_a_dummy_is_made_and_nothing_leads_out(database: Database, host: FakeHost) -> None:
    async with open_networks(database, host) as opened:
        network = await make(opened, "nowhere", "ipvlan", "192.0.2.0/24", gateway="192.0.2.254")
        assert host.parents == {f"di-{network.id[:12]}"}
        assert network.options == {}, "docker: only what the client gave is shown"
        assert network.is_closed
        assert (await opened.endpoints.allocate(network, A)).endpoint.gateway == ""
        await opened.endpoints.release(A)
        await opened.remove("nowhere")
        assert host.parents == set()


async def test_a_vlan_that_was_made_stays_for_as_long_as_a_network_needs_it(database: Database, host: FakeHost) -> None:
    async with open_networks(database, host) as opened:
        await make(opened, "one", "macvlan", "192.0.2.0/24", parent="uplink.50")
        await make(opened, "two", "macvlan", "198.51.100.0/24", parent="uplink.50")
        await opened.remove("one")
        assert host.parents == {"uplink.50"}
    host.parents = {"uplink.50", "uplink.99"}  # as if the engine had been killed
    async with open_networks(database, host) as following:
        await following.sweep([])
        assert host.parents == {"uplink.50"}, "swept is what no network needs"
        await following.remove("two")
        assert host.parents == set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"macvlan_mode": "odd"}, "requested macvlan mode 'odd' is not valid, 'bridge' mode is the macvlan driver default"),
        ({"parent": "lo"}, "loopback interface is not a valid macvlan parent link"),
        ({"parent": "absent.5"}, "-o parent interface was not found on the host: absent"),
        ({"driver": "ipvlan", "ipvlan_mode": "l4"}, "requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default"),
        ({"driver": "ipvlan", "ipvlan_flag": "odd"}, "requested ipvlan flag 'odd' is not valid, 'bridge' is the ipvlan driver default"),
        ({"driver": "ipvlan", "parent": "lo"}, "loopback interface is not a valid ipvlan parent link"),
    ],
)
async def test_what_cannot_be_is_said_in_dockers_words(networks: Networks, options: dict[str, str], message: str) -> None:
    driver = options.pop("driver", "macvlan")
    with pytest.raises(System) as caught:
        await make(networks, "odd", driver, **options)
    assert caught.value.message == message
    assert not networks.has("odd")


async def test_other_options_of_bridges_are_refused(networks: Networks) -> None:
    with pytest.raises(NotImplementedHere):
        await make(networks, "odd", "macvlan", parent="uplink", com__docker__network__bridge__name="br7")
    with pytest.raises(InvalidParameter):
        await make(networks, "odd", "macvlan", parent="uplink", **{MTU: "5"})


async def test_a_parent_is_shared_where_docker_shares_it(networks: Networks) -> None:
    first = await make(networks, "first", "macvlan", "192.0.2.0/24", parent="uplink")
    await make(networks, "second", "macvlan", "198.51.100.0/24", parent="uplink")
    await make(networks, "other", "ipvlan", "203.0.113.0/24", parent="uplink")
    await make(networks, "alone", "macvlan", "10.1.0.0/24", parent="uplink.2", macvlan_mode="passthru")
    refusals = {
        "macvlan passthru uplink": f"cannot use mode passthru, macvlan network {first.id} is already using parent interface uplink",
        "macvlan bridge uplink.2": (
            f"macvlan network {networks.get('alone').id} is already using parent interface uplink.2 in mode passthru"
        ),
        "ipvlan l2 uplink": f"network di-{networks.get('other').id[:12]} is already using parent interface uplink",
    }
    for wanted, message in refusals.items():
        driver, mode, parent = wanted.split()
        with pytest.raises(TeulError) as caught:
            await make(networks, "late", driver, "10.2.0.0/24", parent=parent, **{f"{driver}_mode": mode})
        assert caught.value.message == message
        assert not networks.has("late")


async def test_mac_addresses_are_the_parents_where_they_must_be(networks: Networks) -> None:
    alone = await make(networks, "alone", "macvlan", "192.0.2.0/24", parent="uplink", macvlan_mode="passthru")
    assert (await networks.endpoints.allocate(alone, A)).endpoint.mac == PARENT_MAC
    shared = await make(networks, "shared", "ipvlan", "198.51.100.0/24", parent="uplink.2")
    with pytest.raises(System, match=r"^ipvlan interfaces do not support custom mac address assignment$"):
        await networks.endpoints.allocate(shared, A, requested=EndpointSettings(mac_address="02:00:00:00:00:01"))


async def test_a_network_may_have_no_addresses_at_all(networks: Networks) -> None:
    """docker: containers on a wire may get theirs from somebody there."""
    wanted = CreateNetwork(name="bare", driver="macvlan", options={"parent": "uplink"}, enable_ipv4=False, enable_ipv6=False)
    network = await networks.create(wanted)
    allocation = await networks.endpoints.allocate(network, A)
    assert (allocation.endpoint.ipv4, allocation.plan["addresses"]) == ("", [])
    assert allocation.plan["mac"].startswith("02:42:")
