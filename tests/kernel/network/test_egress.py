"""Egress policies, as packets see them: what leaves a container, what is refused and how, and what must not get around it.

The test's own namespace is the host, `machine` another one on a wire to it, and there are containers on one network or on two.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import ipaddress
import os
import signal
import socket
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from kernel.netns import Member, isolated
from kernel.network.test_host import host_network, shell
from kernel.network.test_ports import (
    HOME4,
    HOME6,
    HOST4,
    HOST6,
    OUTSIDE4,
    OUTSIDE6,
    container,
    forwarding,
    machine,
    seen,
    server,
    two_networks,
)
from support.bridges import make_bridge
from support.needs import needs
from support.polling import eventually
from teul.linux import nftables, process
from teul.model.container import ContainerEndpoint
from teul.network.bridge import Bridge
from teul.network.firewall.egress import Element, container_elements, network_elements
from teul.network.host import HostNetwork

pytestmark = needs("root", "nft")

FAR4, FAR6 = "198.51.100.9", "2001:db8:ffff::9"


def endpoint(bridge: Bridge, number: int = 2) -> ContainerEndpoint:
    """Of a container that `test_ports.container` makes."""
    addresses = {segment.subnet.version: str(segment.subnet.network_address + number) for segment in bridge.segments}
    return ContainerEndpoint(
        network_name="n",
        network_id="n",
        endpoint_id="e",
        ipv4=addresses.get(4, ""),
        ipv6=addresses.get(6, ""),
        host_interface=f"{bridge.name[:8]}-{number}",
        interface="eth0",
    )


def held(bridge: Bridge, *allowed: str, number: int = 2) -> frozenset[Element]:
    return container_elements({bridge.name: [endpoint(bridge, number)]}, [ipaddress.ip_network(text) for text in allowed])


def reached(address: str, port: int = 80) -> str:
    """How a connection to this address ends: "" if it is made, else the error's name; one that takes a second attempt is a timeout."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        client.settimeout(3)
        try:
            client.connect((address, port))
        except TimeoutError:
            return "timeout"
        except OSError as error:
            return errno.errorcode[error.errno or 0]
    return ""


REFUSED = "ECONNREFUSED"


@contextlib.contextmanager
def far_machine() -> Iterator[Member]:
    """The other machine, which has addresses that lie behind it, too; with a server."""
    with machine() as outside:

        def configure() -> None:
            shell("ip", "address", "add", f"{FAR4}/32", "dev", "wire")
            shell("ip", "address", "add", f"{FAR6}/128", "dev", "wire", "nodad")

        outside.run(configure)
        shell("ip", "route", "add", "default", "via", OUTSIDE4)
        shell("ip", "-6", "route", "add", "default", "via", OUTSIDE6)
        with server(outside):
            yield outside


def each(box: Member, addresses: Iterable[str], port: int = 80) -> list[str]:
    """How connections from a container to each of these end."""
    return box.run(lambda: [reached(address, port) for address in addresses])


@isolated
def test_what_is_allowed_is_reached_and_the_rest_is_refused_at_once_and_counted() -> None:
    everything = (OUTSIDE4, OUTSIDE6, FAR4, FAR6)
    with far_machine(), two_networks() as (host, home, _other), container(home) as box, container(home, 3) as free:
        assert each(box, everything) == [""] * 4, "no policy"
        policy = held(home, f"{OUTSIDE4}/32", "2001:db8::/64")
        host.egress.set(policy)
        assert each(box, everything) == ["", "", REFUSED, REFUSED]
        assert each(free, everything) == [""] * 4, "a neighbour's policy is not its own"
        assert each(box, [FAR4, FAR6] * 10, 443) == [REFUSED] * 20, "however often"
        counted = {(str(each.source), str(each.destination), each.protocol, each.port): each.packets for each in host.egress.refusals()}
        assert counted == {
            (source, far, 6, port): packets for source, far in ((HOME4, FAR4), (HOME6, FAR6)) for port, packets in ((80, 1), (443, 10))
        }
        host.egress.change(policy, [])
        assert each(box, everything) == [""] * 4
        host.egress.forget([HOME4])
        assert {str(each.source) for each in host.egress.refusals()} == {HOME6}
        host.egress.forget([HOME4], others=True)
        assert host.egress.refusals() == []


@isolated
def test_neither_pings_nor_datagrams_leave() -> None:
    def pings(address: str) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as pinger:
            pinger.settimeout(2)
            pinger.connect((address, 0))
            head = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
            total = sum(struct.unpack("!4H", head))
            pinger.send(struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, 7, 1))
            try:
                return pinger.recv(256)[20] == 0
            except OSError:
                return False

    with far_machine() as outside, two_networks() as (host, home, _other), container(home) as box, server(outside, 53, protocol="udp"):
        assert box.run(lambda: (pings(OUTSIDE4), seen(OUTSIDE4, 53, protocol="udp"))) == (True, HOST4)
        host.egress.set(held(home))
        assert box.run(lambda: (pings(OUTSIDE4), seen(OUTSIDE4, 53, protocol="udp"))) == (False, "")
        assert {(each.protocol, each.port) for each in host.egress.refusals()} == {(1, 0), (17, 53)}


@isolated
def test_neighbours_are_reached_and_the_host_and_its_published_ports_are_not_unless_they_are_allowed() -> None:
    with (
        far_machine(),
        two_networks() as (host, home, other),
        container(home) as box,
        container(home, 3) as neighbour,
        container(other) as stranger,
        server(neighbour),
        server(stranger),
    ):
        host.change_published([], [forwarding("0.0.0.0", "172.17.0.3", port=8081), forwarding("0.0.0.0", "172.18.0.2", port=8082)])
        with socket.create_server(("", 9000)):
            for port in (8081, 8082, 9000):
                assert each(box, ("172.17.0.1", HOST4), port) == ["", ""], "no policy"
            host.egress.set(held(home))
            assert each(box, ("172.17.0.3", "fd00:17::3")) == ["", ""], "its neighbour"
            for port in (8081, 8082, 9000):
                assert each(box, ("172.17.0.1", HOST4), port) == [REFUSED, REFUSED], f"{port} of the host"
            assert each(box, [HOST4] * 20, 8082) == [REFUSED] * 20, "as often as it asks"
            counted = {(str(each.destination), each.port) for each in host.egress.refusals()}
            assert counted == {(address, port) for address in ("172.17.0.1", HOST4) for port in (8081, 8082, 9000)}
            host.egress.set(held(home, f"{HOST4}/32"))
            for port in (8081, 8082, 9000):
                assert [bool(end) for end in each(box, ("172.17.0.1", HOST4), port)] == [True, False]


@isolated
def test_who_comes_in_is_answered() -> None:
    with far_machine() as outside, two_networks() as (host, home, _other), container(home) as box, container(home, 3) as free, server(box):
        host.change_published([], [forwarding("0.0.0.0", HOME4), forwarding("::", HOME6)])
        host.egress.set(held(home) | network_elements(home.name, []))
        assert outside.run(lambda: (seen(HOST4), seen(HOST6))) == (OUTSIDE4, OUTSIDE6), "by a published port"
        assert seen(HOME4, 80) == "172.17.0.1", "the host"
        assert seen(HOME6, 80) == "fd00:17::1"
        assert free.run(lambda: seen(HOME4, 80)) == "172.17.0.3"


@isolated
def test_a_change_cuts_what_is_not_allowed_any_more_and_nothing_else() -> None:
    with far_machine() as outside, two_networks() as (host, home, _other), container(home) as box, echo(outside):

        def talk() -> list[str]:
            """One connection to each of two addresses; the policy changes when both have been heard of."""
            told: list[str] = []
            with socket.create_connection((OUTSIDE4, 7), 3) as near, socket.create_connection((FAR4, 7), 3) as far:
                for connection in (near, far):
                    connection.sendall(b"1")
                    assert connection.recv(1) == b"1"
                os.write(ready_write_fd, b"!")
                assert os.read(go_read_fd, 1) == b"!"
                for connection in (near, far):
                    try:
                        connection.sendall(b"2")
                        told.append(connection.recv(1).decode())
                    except OSError as error:
                        told.append(errno.errorcode[error.errno or 0])
            return told

        host.egress.set(held(home, f"{OUTSIDE4}/32", f"{FAR4}/32"))
        ready_read_fd, ready_write_fd = os.pipe()
        go_read_fd, go_write_fd = os.pipe()
        with ThreadPoolExecutor(1) as pool:
            talking = pool.submit(box.run, talk)
            assert os.read(ready_read_fd, 1) == b"!"
            host.egress.change(held(home, f"{FAR4}/32") - held(home), [])
            os.write(go_write_fd, b"!")
            assert talking.result() == ["2", "ECONNRESET"]


@isolated
def test_a_change_cuts_a_connection_to_a_published_port() -> None:
    """By way of the kernel's translation: the reset comes from the address that the program asked for."""
    with two_networks() as (host, home, other), container(home) as box, container(other) as stranger, echo(stranger):
        host.change_published([], [dataclasses.replace(forwarding("0.0.0.0", "172.18.0.2", port=8082), target_port=7)])

        def talk() -> str:
            with socket.create_connection(("172.17.0.1", 8082), 3) as connection:
                connection.sendall(b"1")
                assert connection.recv(1) == b"1"
                os.write(ready_write_fd, b"!")
                assert os.read(go_read_fd, 1) == b"!"
                try:
                    connection.sendall(b"2")
                    return connection.recv(1).decode()
                except OSError as error:
                    return errno.errorcode[error.errno or 0]

        host.egress.set(held(home, "172.17.0.1/32"))
        ready_read_fd, ready_write_fd = os.pipe()
        go_read_fd, go_write_fd = os.pipe()
        with ThreadPoolExecutor(1) as pool:
            talking = pool.submit(box.run, talk)
            assert os.read(ready_read_fd, 1) == b"!"
            host.egress.change(held(home, "172.17.0.1/32") - held(home), [])
            os.write(go_write_fd, b"!")
            assert talking.result() == "ECONNRESET"


@contextlib.contextmanager
def echo(box: Member) -> Iterator[None]:
    """Says what it hears, on port 7."""

    def serve() -> None:
        with socket.create_server(("", 7)) as listening:
            os.write(write_fd, b"!")
            while True:
                connection = listening.accept()[0]
                if os.fork() == 0:
                    process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
                    while data := connection.recv(64):
                        connection.sendall(data)
                    os._exit(0)
                connection.close()

    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
        fd = os.open(f"/proc/{box.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        process.setns(fd, process.CLONE_NEWNET)
        serve()
    assert os.read(read_fd, 1) == b"!"
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@isolated
def test_a_networks_policy_holds_for_all_on_it_beside_their_own() -> None:
    everything = (OUTSIDE4, FAR4, OUTSIDE6, FAR6)
    with (
        far_machine(),
        two_networks() as (host, home, other),
        container(home) as box,
        container(home, 3) as free,
        container(other) as stranger,
        server(free),
    ):
        host.egress.set(network_elements(home.name, [ipaddress.ip_network(f"{OUTSIDE4}/32"), ipaddress.ip_network(f"{OUTSIDE6}/128")]))
        assert each(free, everything) == ["", REFUSED, "", REFUSED]
        assert each(stranger, everything) == [""] * 4
        assert each(box, ("172.17.0.3", "fd00:17::3")) == ["", ""]
        assert each(box, ("172.17.0.1", "fd00:17::1")) == [REFUSED, REFUSED], "the host"
        host.egress.change([], network_elements(home.name, [ipaddress.ip_network(f"{FAR4}/32")]) - network_elements(home.name, []))
        assert each(free, everything) == ["", "", "", REFUSED]
        host.egress.set(network_elements(home.name, [ipaddress.ip_network(f"{OUTSIDE4}/32")]) | held(home, f"{FAR4}/32"))
        assert each(box, (OUTSIDE4, FAR4)) == [REFUSED, REFUSED], "both have to allow it"
        host.egress.set(network_elements(home.name, [ipaddress.ip_network(f"{OUTSIDE4}/32")]) | held(home, f"{OUTSIDE4}/32"))
        assert each(box, (OUTSIDE4, FAR4)) == ["", REFUSED]


@isolated
def test_a_policed_container_sends_from_no_address_but_its_own() -> None:
    def forge(source: str) -> None:
        shell("ip", "address", "add", f"{source}/{128 if ':' in source else 32}", "dev", "eth0", *(["nodad"] if ":" in source else []))

    def heard(source: str, target: str) -> bool:
        """Whether somebody at `target` answers to what comes from `source`."""
        with socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(1)
            client.bind((source, 0))
            try:
                client.connect((target, 80))
            except OSError:
                return False
            return True

    with (
        far_machine(),
        two_networks() as (host, home, _other),
        container(home) as box,
        container(home, 3) as free,
        server(free),
    ):
        for source in ("172.17.0.9", "fd00:17::9"):
            box.run(partial(forge, source))

        def answered() -> list[bool]:
            targets = {"172.17.0.9": (OUTSIDE4, "172.17.0.3"), "fd00:17::9": (OUTSIDE6, "fd00:17::3")}
            return box.run(lambda: [heard(source, target) for source in targets for target in targets[source]])

        assert answered() == [True] * 4, "the host forwards it"
        host.egress.set(held(home, "0.0.0.0/0", "::/0"))
        assert answered() == [False] * 4
        own = [
            (source, target)
            for source, targets in ((HOME4, (OUTSIDE4, "172.17.0.3")), (HOME6, (OUTSIDE6, "fd00:17::3")))
            for target in targets
        ]
        assert box.run(lambda: [heard(*pair) for pair in own]) == [True] * 4
        host.egress.set([])
        assert answered() == [True] * 4, "nobody is guarded"


@isolated
def test_a_link_local_address_reaches_neighbours_and_not_the_host() -> None:
    def link_local(device: str) -> str:
        return shell("ip", "-6", "-o", "address", "show", "dev", device, "scope", "link").split()[3].partition("/")[0]

    def reaches(address: str) -> bool:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
            client.settimeout(1)
            try:
                client.connect((address, 80, 0, socket.if_nametoindex("eth0")))
            except OSError:
                return False
            return True

    with (
        far_machine(),
        two_networks() as (host, home, _other),
        container(home) as box,
        container(home, 3) as free,
        server(free),
        socket.create_server(("::", 80), family=socket.AF_INET6),
    ):
        neighbour, bridge = free.run(lambda: link_local("eth0")), link_local(home.name)
        eventually(lambda: box.run(lambda: reaches(neighbour) and reaches(bridge)), "its own address is known to be nobody else's")
        for elements in (held(home, "::/0"), network_elements(home.name, [])):
            host.egress.set(elements)
            assert box.run(lambda: [reaches(address) for address in (neighbour, bridge)]) == [True, False]


@isolated
def test_an_address_of_a_name_is_reached_for_its_time_and_a_connection_to_it_goes_on() -> None:
    def talk() -> list[str]:
        with socket.create_connection((FAR4, 7), timeout=3) as connection:
            connection.sendall(b"1")
            assert connection.recv(1) == b"1"
            os.write(ready_write_fd, b"!")
            assert os.read(go_read_fd, 1) == b"!"
            connection.sendall(b"2")
            return [connection.recv(1).decode(), reached(FAR4, 7)]

    with far_machine() as outside, two_networks() as (host, home, _other), container(home) as box, echo(outside):
        host.egress.set(held(home) | network_elements(home.name, []))
        host.egress.resolve({(HOME4, ipaddress.ip_address(FAR4)): 3600})
        assert each(box, (FAR4,), 7) == [REFUSED], "its network does not allow it"
        host.egress.resolve({(home.name, ipaddress.ip_address(FAR4)): 3600})
        assert each(box, (FAR4, OUTSIDE4), 7) == ["", REFUSED]
        ready_read_fd, ready_write_fd = os.pipe()
        go_read_fd, go_write_fd = os.pipe()
        with ThreadPoolExecutor(1) as pool:
            talking = pool.submit(box.run, talk)
            assert os.read(ready_read_fd, 1) == b"!"
            host.egress.resolve({(HOME4, ipaddress.ip_address(FAR4)): 1})
            expiry(host)
            os.write(go_write_fd, b"!")
            assert talking.result() == ["2", REFUSED]
        host.egress.resolve({(HOME4, ipaddress.ip_address(FAR4)): 3600})
        assert each(box, (FAR4,), 7) == [""]
        host.egress.forget([HOME4])
        assert each(box, (FAR4,), 7) == [REFUSED]


def expiry(host: HostNetwork) -> None:
    """The container's element is gone; the kernel lists it until it is."""
    eventually(
        lambda: not nftables.list_elements("inet", host.names.table, ["named4"])["named4"],
        "the address of the name is not allowed any more",
    )


@isolated
def test_what_was_not_there_is_told_and_nothing_is_left() -> None:
    host = host_network()
    bridge = host.ensure_bridge(make_bridge("teul-home", "172.17.0.0/16"))
    with pytest.raises(FileNotFoundError):
        host.egress.set([])
    with pytest.raises(FileNotFoundError):
        host.egress.refusals()
    host.egress.forget([HOME4])
    host.ensure_firewall([bridge])
    with pytest.raises(FileNotFoundError):
        host.egress.change([], held(bridge, "10.0.0.0/8"))
    host.egress.change([], network_elements(bridge.name, []))
    host.egress.set(held(bridge, "10.0.0.0/8"))
    with pytest.raises(FileExistsError):
        host.egress.change([], held(bridge, "10.1.0.0/16"))
    host.egress.change(held(bridge, "10.0.0.0/8"), held(bridge, "10.1.0.0/16"))
    host.ensure_firewall([bridge])
    host.egress.change(held(bridge, "10.1.0.0/16"), [])
    host.egress.set(held(bridge, "0.0.0.0/0", "::/0"))
    nftables.run(f"add rule inet {host.names.table} user counter\n")
    host.remove()
    left = nftables.run("list ruleset")
    assert "chain user" in left
    assert left.count("chain ") == left.count("table ") == 1
    assert "set " not in left
    host.close()
