"""macvlan and ipvlan, as packets see them: containers on the wire of an interface of the host, and a foreign host at its other end.

The test's own namespace is the host; `lan` is the foreign host, on a veth pair with the parent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Literal

import pytest

from kernel.netns import Member, address_seen_by, echo_server, is_reachable, isolated, member
from support.needs import needs
from teul.linux import netns
from teul.linux.netlink import links, messages
from teul.linux.netlink.links import Plan
from teul.linux.netlink.messages import Link
from teul.linux.netlink.socket import Netlink
from teul.model.container import ContainerEndpoint
from teul.network import bridge, live
from teul.network.endpoints import make_plan
from teul.network.wire import ParentUnusable, Wire, ensure_parent, remove_parent

pytestmark = needs("root")

GROUP = bridge.group_of("test")
ROUTER, ROUTER6 = "192.0.2.254", "2001:db8::fe"
BEYOND = "203.0.113.7"


@contextlib.contextmanager
def lan(parent: str = "uplink") -> Iterator[Member]:
    """The foreign host, which is a router to somewhere beyond it."""
    with member() as other:
        with Netlink() as host:
            pair = messages.new_veth(name=parent, mtu=1500, peer_name="wire", peer_mac="02:00:00:00:00:02", peer_netns_pid=other.pid)
            host.execute(pair, messages.set_link(name=parent, is_up=True), subject=parent)
        other.run(partial(settle, "wire", f"{ROUTER}/24", f"{ROUTER6}/64", f"{BEYOND}/32"))
        with echo_server(ROUTER, inside=other), echo_server(BEYOND, inside=other):
            yield other


def settle(name: str, *addresses: str) -> None:
    with Netlink() as inside:
        index = socket.if_nametoindex(name)
        for text in addresses:
            address, _, length = text.partition("/")
            inside.execute(messages.new_address(link_index=index, address=address, prefix_length=int(length)), subject=name)
        inside.execute(messages.set_link(index=index, is_up=True), subject=name)


def plan_of(wire: Wire, number: int = 2, *, interface: str = "eth0", subnet: str = "192.0.2", router: str | None = ROUTER) -> Plan:
    plan = make_plan(
        host_name=f"vethtest{number}",
        bridge="",
        mac="" if wire.kind == "ipvlan" else wire.parent_mac if wire.mode == "passthru" else f"02:42:c0:00:02:{number:02x}",
        mtu=wire.mtu,
        container_name=interface,
        addresses=[f"{subnet}.{number}/24", f"2001:db8::{number}/64"],
        gateway=None if wire.is_routed else router,
        gateway6=None,
    )
    plan.update({"kind": wire.kind, "parent": wire.parent, "mode": wire.mode, "flag": wire.flag})
    if wire.is_routed:
        plan["device_routes"] = [4, 6]
    return plan


@contextlib.contextmanager
def container(plan: Plan) -> Iterator[Member]:
    """As a container's start does it."""
    with member() as process, Netlink() as host:
        process.run(partial(links.prepare_inside, [plan]))
        links.create_link(plan, process.pid, host)
        process.run(partial(links.configure_inside, [plan], host))
        yield process


def macvlan(mode: str = "bridge", parent: str = "uplink", **members: int) -> Wire:
    return ensure_parent(Wire(kind="macvlan", parent=parent, mode=mode, **members), group=GROUP)  # type: ignore[arg-type]


def ipvlan(mode: str = "l2", flag: str = "bridge", parent: str = "uplink") -> Wire:
    return ensure_parent(Wire(kind="ipvlan", parent=parent, mode=mode, flag=flag), group=GROUP)


def link_names() -> set[str]:
    with Netlink() as host:
        return {link.name for link in host.list_links()}


def link_inside(box: Member, name: str = "eth0") -> Link | None:
    def look() -> Link | None:
        with Netlink() as inside:
            return inside.get_link(name=name)

    return box.run(look)


def mac_by(other: Member, address: str) -> str:
    """Of a neighbour that the foreign host knows."""

    def look() -> str:
        with open("/proc/net/arp", encoding="ascii") as table:
            return next(line.split()[3] for line in table if line.split()[0] == address)

    return other.run(look)


@needs("macvlan")
@isolated
def test_macvlan_containers_reach_each_other_and_the_wire_by_their_own_mac_addresses() -> None:
    with lan() as other:
        before, wire = link_names(), macvlan()
        with container(plan_of(wire, 2)) as first, container(plan_of(wire, 3)) as second, echo_server("192.0.2.2", inside=first):
            assert link_names() == before, "the host sees nothing of them"
            assert first.run(partial(address_seen_by, ROUTER)) == "192.0.2.2"
            assert mac_by(other, "192.0.2.2") == "02:42:c0:00:02:02"
            assert second.run(partial(address_seen_by, "192.0.2.2")) == "192.0.2.3"
            assert other.run(partial(address_seen_by, "192.0.2.2")) == ROUTER
            assert second.run(partial(address_seen_by, BEYOND)) == "192.0.2.3", "by way of the router"
            link = link_inside(first)
            assert link is not None
            assert (link.kind, link.mac, link.mtu, link.is_up) == ("macvlan", "02:42:c0:00:02:02", 1500, True)


@needs("macvlan")
@isolated
def test_ipv6_on_a_wire() -> None:
    with lan() as other, echo_server(ROUTER6, inside=other), container(plan_of(macvlan(), 2)) as box:
        # The router's address may still be tentative: it is a host like any other.
        assert box.run(partial(address_seen_by, ROUTER6)) == "2001:db8::2"


@needs("macvlan")
@isolated
def test_a_private_networks_containers_reach_the_wire_and_not_each_other() -> None:
    with lan():
        wire = macvlan("private")
        with container(plan_of(wire, 2)) as first, container(plan_of(wire, 3)) as second, echo_server("192.0.2.2", inside=first):
            assert second.run(partial(address_seen_by, ROUTER)) == "192.0.2.3"
            assert not second.run(partial(is_reachable, "192.0.2.2"))


@needs("macvlan")
@isolated
def test_vepa_leaves_it_to_the_switch_whether_containers_reach_each_other() -> None:
    with lan():
        wire = macvlan("vepa")
        with container(plan_of(wire, 2)) as first, container(plan_of(wire, 3)) as second, echo_server("192.0.2.2", inside=first):
            assert second.run(partial(address_seen_by, ROUTER)) == "192.0.2.3"
            assert not second.run(partial(is_reachable, "192.0.2.2")), "this one sends nothing back"


@needs("macvlan")
@isolated
def test_passthru_takes_the_parent_for_one_container_alone() -> None:
    with lan() as other:
        wire = macvlan("passthru")
        with container(plan_of(wire, 2)) as box:
            assert box.run(partial(address_seen_by, ROUTER)) == "192.0.2.2"
            assert mac_by(other, "192.0.2.2") == wire.parent_mac
            with pytest.raises(OSError, match=r"^\[Errno \d+\] failed to create the macvlan port: "), container(plan_of(wire, 3)):
                pass
        with container({**plan_of(wire, 2), "mac": "02:42:00:00:00:99"}) as box:
            link = link_inside(box)
            assert link is not None
            assert link.mac == "02:42:00:00:00:99", "one that was asked for becomes the parent's"
    # That goes with the container (macvlan_port_destroy).


@needs("macvlan")
@isolated
def test_the_host_itself_may_have_an_eth0() -> None:
    """Which is the name of its link to most hosts' wire."""
    with lan("eth0"):
        with container(plan_of(macvlan(parent="eth0"))) as box:
            assert box.run(partial(address_seen_by, ROUTER)) == "192.0.2.2"
            assert box.run(lambda: sorted(name for _index, name in socket.if_nameindex())) == ["eth0", "lo"]
        assert "eth0" in link_names()


@needs("macvlan")
@isolated
def test_a_link_has_the_mtu_of_its_network_or_of_the_parent() -> None:
    with lan():
        with container(plan_of(macvlan(mtu=1300))) as box:
            link = link_inside(box)
            assert link is not None
            assert link.mtu == 1300
        with pytest.raises(ParentUnusable, match=r"^invalid MTU number: 9000 "):
            macvlan(mtu=9000)


@isolated
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        pytest.param("macvlan", "bridge", marks=needs("macvlan")),
        pytest.param("macvlan", "passthru", marks=needs("macvlan")),
        pytest.param("ipvlan", "l2", marks=needs("ipvlan")),
    ],
)
def test_a_container_that_is_started_again_at_once_has_its_addresses(kind: Literal["macvlan", "ipvlan"], mode: str) -> None:
    """The kernel takes the last run's link down in the background, at its own time."""
    with lan():
        wire = macvlan(mode) if kind == "macvlan" else ipvlan(mode)
        for _time in range(10):
            with container(plan_of(wire)) as box:
                assert box.run(partial(address_seen_by, ROUTER)) == "192.0.2.2"


@needs("macvlan")
@isolated
def test_a_container_that_runs_gets_and_loses_a_link() -> None:
    with lan(), contextlib.ExitStack() as stack:
        box = stack.enter_context(member())
        pidfd = os.pidfd_open(box.pid)
        stack.callback(os.close, pidfd)
        plan = plan_of(macvlan(), 2, interface="eth1")
        endpoint = ContainerEndpoint(network_name="lan", network_id="1", endpoint_id="2", interface="eth1")
        for _time in range(2):
            live.connect(plan, pidfd)
            live.lead_out(pidfd, {4: ("eth1", ROUTER)})
            assert box.run(partial(address_seen_by, BEYOND)) == "192.0.2.2"
            live.disconnect(endpoint, pidfd)
            assert link_inside(box, "eth1") is None
        live.disconnect(endpoint, pidfd)
        plan["gateway"] = "203.0.113.77"
        with pytest.raises(OSError, match="gateway"):
            live.connect(plan, pidfd)
        assert link_inside(box, "eth1") is None, "all of it or nothing"


@needs("macvlan")
@isolated
def test_a_parent_that_is_gone_is_named() -> None:
    wire = Wire(kind="macvlan", parent="absent", mode="bridge")
    with pytest.raises(OSError, match=r"the requested parent interface absent was not found on the Docker host$"), container(plan_of(wire)):
        pass


@isolated
@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ("absent", "invalid subinterface vlan name absent, example formatting is eth0.10"),
        ("a.b.c", "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received a.b.c"),
        ("lo.x", "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)"),
        ("absent.10", "-o parent interface was not found on the host: absent"),
        ("lo.4095", "vlan id must be between 1-4094, received: 4095"),
        ("ö" * 20, f"invalid subinterface vlan name {'ö' * 20}, example formatting is eth0.10"),
    ],
)
def test_a_parent_that_cannot_be_made(parent: str, message: str) -> None:
    with pytest.raises(ParentUnusable) as caught:
        macvlan(parent=parent)
    assert str(caught.value) == message


@needs("ipvlan")
@isolated
@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_ipvlan_containers_are_on_the_wire_under_the_parents_mac_address(mode: str) -> None:
    with lan() as other:
        wire = ipvlan(mode)
        if wire.is_routed:
            # Who routes to such a network has the parent for its gateway, and the host looks up the way there.
            settle("uplink", "192.0.2.100/24")
            with Netlink() as host:
                host.execute(messages.new_default_route(link_index=socket.if_nametoindex("uplink"), gateway=ROUTER), subject="uplink")
            plans = [plan_of(wire, number, subnet="198.51.100") for number in (2, 3)]
            other.run(partial(route_by, "198.51.100.0/24", "192.0.2.100"))
        else:
            plans = [plan_of(wire, number) for number in (2, 3)]
        addresses = [plan["addresses"][0].partition("/")[0] for plan in plans]
        with container(plans[0]) as first, container(plans[1]) as second, echo_server(addresses[0], inside=first):
            assert second.run(partial(address_seen_by, addresses[0])) == addresses[1]
            assert first.run(partial(address_seen_by, ROUTER)) == addresses[0]
            assert first.run(partial(address_seen_by, BEYOND)) == addresses[0]
            link = link_inside(first)
            assert link is not None
            assert (link.kind, link.mac) == ("ipvlan", wire.parent_mac)
            if mode == "l2":
                assert mac_by(other, addresses[0]) == wire.parent_mac


def route_by(subnet: str, gateway: str) -> None:
    subprocess.run(["ip", "route", "add", subnet, "via", gateway], check=True)


@needs("ipvlan")
@isolated
def test_a_private_ipvlan_keeps_its_containers_apart() -> None:
    with lan():
        wire = ipvlan(flag="private")
        with container(plan_of(wire, 2)) as first, container(plan_of(wire, 3)) as second, echo_server("192.0.2.2", inside=first):
            assert second.run(partial(address_seen_by, ROUTER)) == "192.0.2.3"
            assert not second.run(partial(is_reachable, "192.0.2.2"))


@needs("macvlan", "vlan")
@isolated
def test_two_networks_on_vlans_of_one_parent_are_apart() -> None:
    with lan():
        one, two = macvlan(parent="uplink.10"), macvlan(parent="uplink.20")
        with (
            container(plan_of(one, 2)) as first,
            container(plan_of(two, 3)) as stranger,
            container(plan_of(one, 4)) as friend,
            echo_server("192.0.2.2", inside=first),
        ):
            assert friend.run(partial(address_seen_by, "192.0.2.2")) == "192.0.2.4"
            assert not stranger.run(partial(is_reachable, "192.0.2.2"))
            assert not first.run(partial(is_reachable, ROUTER)), "nobody there is on this VLAN"


@needs("macvlan", "vlan", "dummy")
@isolated
def test_parents_that_were_made_are_removed_and_swept_and_others_are_not() -> None:
    with lan():
        macvlan(parent="uplink.10")
        macvlan(parent="uplink.10")
        dummy = Wire(kind="macvlan", parent="dm-0123456789ab", mode="bridge", is_dummy=True)
        made = ensure_parent(dummy, group=GROUP)
        with container(plan_of(made, 2)) as first, container(plan_of(made, 3)) as second, echo_server("192.0.2.2", inside=first):
            assert second.run(partial(address_seen_by, "192.0.2.2")) == "192.0.2.3"
        ensure_parent(Wire(kind="macvlan", parent="uplink.30", mode="bridge"), group=GROUP + 1)
        for name in ("uplink", "uplink.30", "uplink.10", "uplink.10"):
            remove_parent(name, group=GROUP)
        assert {"uplink", "uplink.30", dummy.parent} <= link_names()
        assert "uplink.10" not in link_names()
        assert bridge.remove_other_links([], group=GROUP) == [dummy.parent]


@needs("vlan")
@isolated
def test_a_vlan_of_an_interface_that_is_down_is_not_left_behind() -> None:
    with lan():
        with Netlink() as host:
            host.execute(messages.set_link(name="uplink", is_up=False), subject="uplink")
        with pytest.raises(OSError, match=r"failed to enable uplink.10 the macvlan parent link: "):
            macvlan(parent="uplink.10")
        assert "uplink.10" not in link_names()


@needs("macvlan")
@isolated
def test_a_namespace_that_is_named_by_a_descriptor() -> None:
    with lan(), member() as box, Netlink() as host:
        fd = netns.open_of(box.pid)
        try:
            plan = plan_of(macvlan())
            links.create_link(plan, 0, host, netns_fd=fd)
            box.run(partial(links.configure_inside, [plan]))
            assert box.run(partial(address_seen_by, ROUTER)) == "192.0.2.2"
        finally:
            os.close(fd)
