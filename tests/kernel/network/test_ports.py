"""Published ports, as packets see them: from other machines, from the host, from containers; and what must not get through.

Four kinds of namespaces: the test's own is the host, `wire` is another machine, and containers, on one network or on two.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from kernel.netns import Member, isolated, member
from kernel.network.test_host import host_network, shell
from support.bridges import make_bridge
from support.needs import needs
from teul.linux import nftables, process
from teul.linux.netlink import links
from teul.linux.netlink.socket import Netlink
from teul.network import endpoints
from teul.network.bridge import Bridge
from teul.network.firewall.ports import Forwarding
from teul.network.host import HostNetwork

pytestmark = needs("root", "nft")

OUTSIDE4, HOST4, OUTSIDE6, HOST6 = "203.0.113.2", "203.0.113.1", "2001:db8::2", "2001:db8::1"
HOME4, HOME6 = "172.17.0.2", "fd00:17::2"
PORT = 8080


@contextlib.contextmanager
def machine() -> Iterator[Member]:
    """Another machine, on a wire to this one."""
    with member() as other:
        forget_duplicate_detection()
        other.run(forget_duplicate_detection)
        shell("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "wire", "netns", str(other.pid))
        for address in (f"{HOST4}/24", f"{HOST6}/64"):
            shell("ip", "address", "add", address, "dev", "uplink", *(["nodad"] if ":" in address else []))
        shell("ip", "link", "set", "uplink", "up")

        def configure() -> None:
            for address in (f"{OUTSIDE4}/24", f"{OUTSIDE6}/64"):
                shell("ip", "address", "add", address, "dev", "wire", *(["nodad"] if ":" in address else []))
            shell("ip", "link", "set", "lo", "up")
            shell("ip", "link", "set", "wire", "up")

        other.run(configure)
        yield other


def forget_duplicate_detection() -> None:
    """For a second, a link that comes up has no address that it could ask its neighbours by."""
    with open("/proc/sys/net/ipv6/conf/default/accept_dad", "w", encoding="ascii") as file:
        file.write("0")


@contextlib.contextmanager
def container(bridge: Bridge, number: int = 2) -> Iterator[Member]:
    addresses = [segment.subnet.network_address + number for segment in bridge.segments]
    lengths = [segment.subnet.prefixlen for segment in bridge.segments]
    gateways = {segment.subnet.version: str(segment.gateway) for segment in bridge.segments}
    plan = endpoints.make_plan(
        container_name="eth0",
        host_name=f"{bridge.name[:8]}-{number}",
        bridge=bridge.name,
        mac=endpoints.mac_for(addresses[0]),
        mtu=1500,
        addresses=[f"{address}/{length}" for address, length in zip(addresses, lengths, strict=True)],
        gateway=gateways.get(4),
        gateway6=gateways.get(6),
    )
    plan["hairpin"] = True
    with member() as box, Netlink() as host:
        box.run(lambda: links.prepare_inside([plan]))
        links.create_veth(plan, box.pid)
        box.run(lambda: links.configure_inside([plan], host))
        yield box


@contextlib.contextmanager
def server(box: Member, port: int = 80, *, protocol: str = "tcp") -> Iterator[None]:
    """Tells each client, of either version of IP, by which address the server sees it."""
    ready_read_fd, ready_write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        process.prctl(process.PR_SET_PDEATHSIG, 9)
        fd = os.open(f"/proc/{box.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        process.setns(fd, process.CLONE_NEWNET)
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        made = socket.socket(socket.AF_INET6, kind)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::", port))
        if protocol == "tcp":
            made.listen()
        os.write(ready_write_fd, b"!")
        while True:
            if protocol == "tcp":
                connection, client = made.accept()
                with contextlib.suppress(OSError):
                    connection.sendall(client[0].removeprefix("::ffff:").encode())
                connection.close()
            else:
                _data, client = made.recvfrom(64)
                made.sendto(client[0].removeprefix("::ffff:").encode(), client)
    os.close(ready_write_fd)
    assert os.read(ready_read_fd, 1) == b"!"
    os.close(ready_read_fd)
    try:
        yield
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def seen(address: str, port: int = PORT, *, protocol: str = "tcp") -> str:
    """What the server there calls us, "" if nobody answers."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as client:
        client.settimeout(0.7)
        try:
            client.connect((address, port))
            if protocol != "tcp":
                client.send(b"?")
            return client.recv(64).decode()
        except OSError:
            return ""


def forwarding(address: str, target: str, *, protocol: str = "tcp", port: int = PORT) -> Forwarding:
    return Forwarding(
        address=ipaddress.ip_address(address), protocol=protocol, port=port, target=ipaddress.ip_address(target), target_port=80
    )


@contextlib.contextmanager
def two_networks(program: Callable[[], None] = lambda: None) -> Iterator[tuple[HostNetwork, Bridge, Bridge]]:
    """A host with two networks of both versions of IP; `program` is run before there is a firewall."""
    host = host_network()
    home = host.ensure_bridge(make_bridge("teul-home", "172.17.0.0/16", "fd00:17::/64"))
    other = host.ensure_bridge(make_bridge("teul-other", "172.18.0.0/16", "fd00:18::/64"))
    program()
    host.ensure_firewall([home, other])
    yield host, home, other
    host.remove()
    host.close()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@isolated
def test_a_port_on_all_addresses_is_reached_from_everywhere(protocol: str) -> None:
    with (
        machine() as outside,
        two_networks() as (host, home, other),
        container(home) as box,
        container(home, 3) as neighbour,
        container(other) as stranger,
        server(box, protocol=protocol),
    ):

        def ask(address: str) -> str:
            return seen(address, protocol=protocol)

        assert ask(HOST4) == ask(HOST6) == "", "nothing is published yet"
        host.change_published([], [forwarding("0.0.0.0", HOME4, protocol=protocol), forwarding("::", HOME6, protocol=protocol)])
        assert outside.run(lambda: ask(HOST4)) == OUTSIDE4, "the address of who comes from elsewhere is kept"
        assert outside.run(lambda: ask(HOST6)) == OUTSIDE6
        for address in ("127.0.0.1", "127.1.2.3"):
            assert ask(address) == "172.17.0.1", f"from the host by {address}"
        for address in (HOST4, "172.17.0.1", HOST6, "fd00:17::1"):
            assert ask(address) == address, f"from the host by {address}"
        assert (ask("172.18.0.1"), ask("fd00:18::1")) == ("172.17.0.1", "fd00:17::1"), "by its address on another network"
        for who, name in ((box, "itself"), (neighbour, "its neighbour"), (stranger, "another network")):
            assert who.run(lambda: ask(HOST4)) == who.run(lambda: ask("172.17.0.1")) == "172.17.0.1", name
            assert who.run(lambda: ask(HOST6)) == who.run(lambda: ask("fd00:17::1")) == "fd00:17::1", name
        assert stranger.run(lambda: seen(HOME4, 80, protocol=protocol)) == "", "the port of the container itself is not published"
        host.change_published([forwarding("0.0.0.0", HOME4, protocol=protocol)], [])
        assert outside.run(lambda: ask(HOST4)) == ""
        assert outside.run(lambda: ask(HOST6)) == OUTSIDE6


@isolated
def test_a_port_on_one_address_is_reached_by_that_alone() -> None:
    with machine() as outside, two_networks() as (host, home, other), container(home) as box, container(other) as stranger, server(box):
        host.change_published([], [forwarding(HOST4, HOME4), forwarding(HOST6, HOME6)])
        assert outside.run(lambda: seen(HOST4)) == OUTSIDE4
        assert outside.run(lambda: seen(HOST6)) == OUTSIDE6
        assert seen(HOST4) == HOST4
        assert stranger.run(lambda: seen(HOST4)) == box.run(lambda: seen(HOST4)) == "172.17.0.1"
        assert seen("127.0.0.1") == seen("172.17.0.1") == seen("fd00:17::1") == ""


@isolated
def test_a_port_on_loopback_is_the_hosts_own() -> None:
    """Not even who is on the same wire, and sends there what has 127.0.0.1 for its destination, gets at it."""
    with (
        machine() as outside,
        two_networks() as (host, home, _other),
        container(home) as box,
        container(home, 3) as neighbour,
        server(box),
    ):
        host.change_published([], [forwarding("127.0.0.1", HOME4)])
        assert seen("127.0.0.1") == "172.17.0.1"
        assert outside.run(lambda: seen(HOST4)) == neighbour.run(lambda: seen("172.17.0.1")) == box.run(lambda: seen(HOST4)) == ""
        for attacker, link in ((outside, "wire"), (neighbour, "eth0")):
            attacker.run(lambda link=link: send_to_loopback_by(link, HOST4 if link == "wire" else "172.17.0.1"))  # type: ignore[misc]
            assert attacker.run(lambda: seen("127.0.0.1")) == ""
        assert seen("127.0.0.1") == "172.17.0.1"


def send_to_loopback_by(link: str, gateway: str) -> None:
    shell("ip", "address", "flush", "dev", "lo")
    shell("ip", "route", "flush", "table", "local", "127.0.0.0/8")
    with open(f"/proc/sys/net/ipv4/conf/{link}/route_localnet", "w", encoding="ascii") as file:
        file.write("1")
    shell("ip", "route", "add", "127.0.0.1/32", "via", gateway, "dev", link)


@isolated
def test_who_publishes_nothing_and_the_hosts_loopback_are_out_of_reach() -> None:
    with machine() as outside, two_networks() as (host, home, other):
        outside.run(lambda: shell("ip", "route", "add", "172.17.0.0/16", "via", HOST4))
        outside.run(lambda: shell("ip", "-6", "route", "add", "fd00:17::/64", "via", HOST6))
        with container(home) as box, container(other, 3) as stranger, server(box), server(stranger):
            host.change_published([], [forwarding("0.0.0.0", "172.18.0.3")])
            assert outside.run(lambda: seen(HOME4, 80)) == outside.run(lambda: seen(HOME6, 80)) == ""
            with socket.create_server(("127.0.0.1", 9000)):
                box.run(lambda: send_to_loopback_by("eth0", "172.17.0.1"))
                assert box.run(lambda: is_open("127.0.0.1", 9000)) is False
                assert is_open("127.0.0.1", 9000)


def is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=0.5).close()
    except OSError:
        return False
    return True


@isolated
def test_an_internal_network_is_not_reached_by_a_port_of_its_own() -> None:
    with machine() as outside:
        host = host_network()
        inner = host.ensure_bridge(make_bridge("teul-inner", "172.17.0.0/16", is_internal=True))
        host.ensure_firewall([inner])
        with member() as box, Netlink() as netlink:
            plan = endpoints.make_plan(
                container_name="eth0", host_name="inner-2", bridge=inner.name, mac="02:42:ac:11:00:02", mtu=1500,
                addresses=[f"{HOME4}/16"], gateway=None, gateway6=None,
            )  # fmt: skip
            links.create_veth(plan, box.pid)
            box.run(lambda: links.configure_inside([plan], netlink))
            with server(box):
                host.change_published([], [forwarding("0.0.0.0", HOME4)])
                assert outside.run(lambda: seen(HOST4)) == ""
        host.remove()


@isolated
def test_ports_stay_when_the_table_is_made_anew_and_are_replaced_in_one_go() -> None:
    with machine() as outside, two_networks() as (host, home, other), container(home) as box, server(box):
        host.change_published([], [forwarding("0.0.0.0", HOME4), forwarding("0.0.0.0", HOME4, port=9)])
        host.ensure_firewall([home, other])
        assert outside.run(lambda: seen(HOST4)) == OUTSIDE4
        host.set_published([forwarding("0.0.0.0", HOME4, port=10)])
        assert [outside.run(lambda port=port: seen(HOST4, port)) for port in (PORT, 9, 10)] == ["", "", OUTSIDE4]  # type: ignore[misc]


@isolated
def test_who_keeps_sending_reaches_the_container_that_has_the_port_now() -> None:
    """UDP: before anybody has it, and after it has gone from one container to another."""
    with (
        machine() as outside,
        two_networks() as (host, home, _other),
        container(home) as first,
        container(home, 3) as second,
        server(first, protocol="udp"),
    ):
        here, there = (forwarding("0.0.0.0", target, protocol="udp") for target in (HOME4, "172.17.0.3"))

        def keep_sending() -> str:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.bind(("", 5353))
                client.settimeout(0.7)
                client.sendto(b"?", (HOST4, PORT))
                try:
                    return client.recv(64).decode()
                except OSError:
                    return ""

        assert outside.run(keep_sending) == ""
        host.change_published([], [here])
        assert outside.run(keep_sending) == OUTSIDE4
        host.change_published([here], [there])
        assert outside.run(keep_sending) == "", "there is no server yet"
        with server(second, protocol="udp"):
            assert outside.run(keep_sending) == OUTSIDE4


@isolated
def test_the_administrators_chain_has_the_first_word() -> None:
    with machine() as outside, two_networks() as (host, home, _other), container(home) as box, server(box):
        host.change_published([], [forwarding("0.0.0.0", HOME4), forwarding("::", HOME6)])
        nftables.run(f"add rule inet {host.names.table} user ip saddr {OUTSIDE4} meta l4proto tcp ct original proto-dst {PORT} drop\n")
        assert outside.run(lambda: seen(HOST4)) == ""
        assert outside.run(lambda: seen(HOST6)) == OUTSIDE6
        assert seen(HOST4) == HOST4


@pytest.mark.parametrize("flavour", ["nft", "legacy"])
@isolated
def test_a_firewall_that_drops_by_policy_lets_published_ports_through(flavour: str) -> None:
    def drop() -> None:
        for program in (f"iptables-{flavour}", f"ip6tables-{flavour}"):
            shell(program, "-P", "FORWARD", "DROP")
            shell(program, "-A", "FORWARD", "-p", "tcp", "-m", "conntrack", "--ctorigdstport", "9", "-j", "DROP")

    with (
        machine() as outside,
        two_networks(drop) as (host, home, other),
        container(home) as box,
        container(other) as stranger,
        server(box),
    ):
        for port in (PORT, 9):
            host.change_published([], [forwarding("0.0.0.0", HOME4, port=port), forwarding("::", HOME6, port=port)])
        assert outside.run(lambda: seen(HOST4)) == OUTSIDE4
        assert outside.run(lambda: seen(HOST6)) == OUTSIDE6
        assert stranger.run(lambda: seen(HOST4)) == "172.17.0.1"
        assert outside.run(lambda: seen(HOST4, 9)) == outside.run(lambda: seen(HOST6, 9)) == "", "an explicit rule comes first"
