"""Links, addresses and routes on the running kernel."""

from __future__ import annotations

import errno
import functools
import os
import socket
import time
from typing import Any, cast

import pytest

from kernel.netns import Member, address_seen_by, echo_server, eventually, isolated, member
from support.needs import needs
from teul.linux.netlink import links, messages
from teul.linux.netlink.socket import Netlink

pytestmark = needs("root")

GATEWAY = "10.77.0.1"


def make_bridge(name: str = "br0") -> int:
    with Netlink() as host:
        host.execute(messages.new_bridge(name=name, mac="02:42:0a:4d:00:01", mtu=1400), subject=name)
        bridge = host.get_link(name=name)
        assert bridge is not None
        host.execute(messages.new_address(link_index=bridge.ifindex, address=GATEWAY, prefix_length=16), subject=name)
        return bridge.ifindex


def make_plan(number: int = 2, **changes: Any) -> links.Plan:
    plan: dict[str, Any] = {
        "host_name": f"veth{number}",
        "bridge": "br0",
        "mac": f"02:42:0a:4d:00:{number:02x}",
        "mtu": 1400,
        "container_name": "eth0",
        "addresses": [f"10.77.0.{number}/16"],
        "gateway": GATEWAY,
        "gateway6": None,
        **changes,
    }
    return cast("links.Plan", plan)


def connect(container: Member, plan: links.Plan) -> None:
    """As a container's start does it, with a socket in the namespace of the host."""
    with Netlink() as host:
        container.run(lambda: links.prepare_inside([plan]))
        links.create_veth(plan, container.pid)
        container.run(lambda: links.configure_inside([plan], host))


def read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


@isolated
def test_a_container_gets_exactly_the_link_of_its_plan() -> None:
    index = make_bridge()
    plan = make_plan()
    with member() as container:
        connect(container, plan)

        with Netlink() as host:
            [port] = host.list_links(master=index)
        assert (port.name, port.kind, port.mtu, port.is_up, port.port_forwarding) == ("veth2", "veth", 1400, True, True)

        def look() -> tuple[Any, ...]:
            with Netlink() as inside:
                link = inside.get_link(name="eth0")
                loopback = inside.get_link(name="lo")
                assert link is not None
                assert loopback is not None
                addresses = [
                    (socket.inet_ntop(address.family, address.address), address.length)
                    for address in inside.list_addresses()
                    if address.link_index == link.ifindex
                ]
                default = [route.gateway for route in inside.list_routes() if route.length == 0]
                return link.mac, link.mtu, link.is_up, loopback.is_up, addresses, default

        assert container.run(look) == ("02:42:0a:4d:00:02", 1400, True, True, [("10.77.0.2", 16)], [socket.inet_aton(GATEWAY)])
        assert container.run(lambda: read("/proc/sys/net/ipv6/conf/eth0/disable_ipv6")) == "1"


@isolated
def test_the_hosts_end_has_no_ipv6_address_of_its_own() -> None:
    make_bridge()
    with member() as container:
        connect(container, make_plan())
        index = socket.if_nametoindex("veth2")
        with Netlink() as host:
            assert [address for address in host.list_addresses() if address.link_index == index] == []


@isolated
def test_a_program_may_connect_in_the_first_instant() -> None:
    """Without waiting for the bridge's port every twentieth of these loses its first ARP request, and a second with it."""
    make_bridge()
    with echo_server(GATEWAY):
        for number in range(2, 42):
            plan = make_plan(number)
            with member() as container, Netlink() as host:
                container.run(functools.partial(links.prepare_inside, [plan]))
                links.create_veth(plan, container.pid)
                assert container.run(functools.partial(seconds_to_connect, plan, host)) < 0.5


def seconds_to_connect(plan: links.Plan, host: Netlink) -> float:
    links.configure_inside([plan], host)
    started = time.monotonic()
    address_seen_by(GATEWAY)
    return time.monotonic() - started


@isolated
def test_a_container_on_two_networks_has_an_interface_on_each() -> None:
    """In the order of the plans; the default route is that of the one with a gateway."""
    make_bridge()
    with Netlink() as host:
        host.execute(messages.new_bridge(name="br1", mac="02:42:0a:4e:00:01", mtu=1400), subject="br1")
        bridge = host.get_link(name="br1")
        assert bridge is not None
        host.execute(messages.new_address(link_index=bridge.ifindex, address="10.78.0.1", prefix_length=16), subject="br1")
    plans = [make_plan(2), make_plan(3, bridge="br1", container_name="eth1", addresses=["10.78.0.3/16"], gateway=None)]

    def look() -> tuple[list[str], list[bytes]]:
        with Netlink() as inside:
            names = [link.name for link in sorted(inside.list_links(), key=lambda link: link.ifindex)]
            return names, [route.gateway for route in inside.list_routes() if route.length == 0]

    with member() as container, Netlink() as host, echo_server("10.77.0.1"), echo_server("10.78.0.1"):
        container.run(lambda: links.prepare_inside(plans))
        for plan in plans:
            links.create_veth(plan, container.pid, host)
        container.run(lambda: links.configure_inside(plans, host))
        assert container.run(look) == (["lo", "eth0", "eth1"], [socket.inet_aton(GATEWAY)])
        assert container.run(lambda: address_seen_by("10.77.0.1")) == "10.77.0.2"
        assert container.run(lambda: address_seen_by("10.78.0.1")) == "10.78.0.3"


@isolated
def test_containers_on_one_bridge_reach_each_other() -> None:
    make_bridge()
    with member() as first, member() as second:
        connect(first, make_plan(2))
        connect(second, make_plan(3))
        with echo_server("10.77.0.2", inside=first):
            assert second.run(lambda: address_seen_by("10.77.0.2")) == "10.77.0.3"


@isolated
def test_a_link_with_an_ipv6_address_has_ipv6_and_uses_it_at_once() -> None:
    index = make_bridge()
    with Netlink() as host:
        host.execute(messages.new_address(link_index=index, address="fd77::1", prefix_length=64), subject="br0")
    plan = make_plan(addresses=["10.77.0.2/16", "fd77::2/64"], gateway6="fd77::1")
    with member() as container, echo_server(GATEWAY):
        connect(container, plan)

        def bind() -> int:
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as server:
                server.bind(("fd77::2", 0))  # a tentative address could not be bound
            with Netlink() as inside:
                return len([route for route in inside.list_routes() if route.length == 0 and route.gateway])

        assert container.run(bind) == 2


@isolated
def test_ipv6_is_switched_off_even_if_nobody_prepared_the_namespace() -> None:
    make_bridge()
    with member() as container:
        links.create_veth(make_plan(), container.pid)
        container.run(lambda: links.configure_inside([make_plan()]))
        assert container.run(lambda: read("/proc/sys/net/ipv6/conf/eth0/disable_ipv6")) == "1"


@isolated
def test_settings_of_the_link_are_made_inside_when_it_is_up() -> None:
    make_bridge()
    with member() as container:
        connect(container, make_plan(sysctls=[("net/ipv4/conf/eth0/log_martians", "1"), ("net/ipv4/conf/eth0/mc_forwarding", "0")]))
        assert container.run(lambda: read("/proc/sys/net/ipv4/conf/eth0/log_martians")) == "1"
    assert read("/proc/sys/net/ipv4/conf/default/log_martians") == "0"


@isolated
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("nosuch", "1", "/proc/sys/net/ipv4/conf/eth0/nosuch is not a sysctl file"),
        ("", "1", "/proc/sys/net/ipv4/conf/eth0/ is not a sysctl file"),
        ("log_martians", "nonsense", "unable to write to '/proc/sys/net/ipv4/conf/eth0/log_martians': Invalid argument"),
        ("mc_forwarding", "1", "unable to write to '/proc/sys/net/ipv4/conf/eth0/mc_forwarding': Permission denied"),
    ],
)
def test_a_setting_that_the_link_cannot_have_says_why(name: str, value: str, message: str) -> None:
    make_bridge()
    plan = make_plan(sysctls=[(f"net/ipv4/conf/eth0/{name}", value)])

    def said() -> str:
        try:
            links.configure_inside([plan])
        except OSError as error:
            return str(error)
        return ""

    with member() as container:
        links.create_veth(plan, container.pid)
        assert container.run(said) == message


@isolated
def test_the_link_goes_when_the_namespace_does() -> None:
    index = make_bridge()
    with member() as container:
        connect(container, make_plan())

    def is_gone() -> bool:
        with Netlink() as host:
            return host.list_links(master=index) == []

    eventually(is_gone)


@isolated
def test_a_failure_names_the_request_the_link_and_the_reason_and_leaves_nothing() -> None:
    make_bridge()
    with member() as container:
        for changes, number, text in (
            ({"bridge": "nobridge"}, errno.ENODEV, "RTM_GETLINK `nobridge`"),
            ({"mac": "01:00:5e:00:00:01"}, errno.EADDRNOTAVAIL, "RTM_NEWLINK `veth2`"),
            ({"mtu": 1 << 20}, errno.EINVAL, "RTM_NEWLINK `veth2`: Invalid argument"),
        ):
            with pytest.raises(OSError, match=text) as caught:
                links.create_veth(make_plan(**changes), container.pid)
            assert caught.value.errno == number
        with pytest.raises(OSError, match="RTM_NEWLINK `veth2`"):
            links.create_veth(make_plan(), 1 << 22)  # no such process
        with Netlink() as host:
            assert host.get_link(name="veth2") is None
            [loopback] = container.run(lambda: Netlink().list_links())
            assert loopback.name == "lo"


@isolated
def test_a_name_that_is_taken_is_an_error_and_the_others_link_stays() -> None:
    make_bridge()
    with member() as first, member() as second:
        links.create_veth(make_plan(2), first.pid)
        with pytest.raises(FileExistsError):
            links.create_veth(make_plan(2), second.pid)
        with Netlink() as host:
            assert host.get_link(name="veth2") is not None


@isolated
def test_the_first_failure_of_a_batch_is_the_one_reported() -> None:
    index = make_bridge()
    with Netlink() as host:
        with pytest.raises(OSError, match="gateway") as caught:
            host.execute(
                messages.new_default_route(link_index=index, gateway="192.0.2.77"),
                messages.delete_link(name="nonsense"),
                subject="br0",
            )
        assert caught.value.errno == errno.ENETUNREACH
        # Nothing of that exchange is left to confuse the next.
        host.execute(messages.new_default_route(link_index=index, gateway="10.77.0.9"), subject="br0")
        assert [route.gateway for route in host.list_routes() if route.length == 0] == [socket.inet_aton("10.77.0.9")]


@isolated
def test_long_lists_are_read_whole() -> None:
    index = make_bridge()
    with Netlink() as host:
        for number in range(600):
            request = messages.new_address(link_index=index, address=f"10.77.{number // 250 + 1}.{number % 250 + 1}", prefix_length=32)
            host.execute(request, subject="br0")
        assert len([address for address in host.list_addresses() if address.link_index == index]) == 601


@isolated
def test_a_socket_stays_in_the_namespace_it_was_opened_in() -> None:
    make_bridge()
    with Netlink() as host, member() as other:

        def look() -> list[str]:
            return sorted(link.name for link in host.list_links())

        assert other.run(look) == ["br0", "lo"]


@isolated
def test_loopback_alone_comes_up() -> None:
    with member() as container:
        container.run(links.set_loopback_up)
        with echo_server("127.0.0.1", inside=container):
            assert container.run(lambda: address_seen_by("127.0.0.1")) == "127.0.0.1"


def test_this_file_left_the_hosts_own_links_alone() -> None:
    assert not {"br0", "veth2"} & set(os.listdir("/sys/class/net"))
