"""Which ports are taken, by containers of the engine and by other processes; sockets are really bound, on this machine's loopback."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import itertools
import socket
from collections.abc import Iterator

import pytest

from teul.network.ipam import Address
from teul.network.ports import reservations as module
from teul.network.ports.plan import ANY, PortGroup
from teul.network.ports.reservations import BindError, NoFreePort, PortAllocated, Reservation, Reservations, parse_reserved

ONE, TWO, SIX = (ipaddress.ip_address(text) for text in ("127.0.0.1", "127.0.0.2", "::1"))


def group(first: int, last: int = 0, *addresses: Address, protocol: str = "tcp") -> PortGroup:
    return PortGroup(container_port=80, protocol=protocol, first=first, last=last or first, addresses=addresses or (ONE,))


@contextlib.contextmanager
def foreign(port: int, address: str = "127.0.0.1", kind: int = socket.SOCK_STREAM) -> Iterator[None]:
    """Another process's socket, as it were."""
    with socket.socket(socket.AF_INET, kind) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((address, port))
        if kind == socket.SOCK_STREAM:
            other.listen()
        yield


@pytest.fixture
def ports() -> int:
    """The first of five ports that nobody has."""
    for base in itertools.count(21000, 5):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(base, base + 5):
                stack.enter_context(foreign(port, "127.0.0.1"))
                stack.enter_context(foreign(port, "127.0.0.2"))
            return base
    raise AssertionError


class Kept(Reservations):
    """Keeps what was taken, until the test ends: a socket that nobody has is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Reservation] = []

    def reserve(self, group: PortGroup) -> list[Reservation]:
        taken = super().reserve(group)
        self.taken += taken
        return taken


@pytest.fixture
def held() -> Iterator[Reservations]:
    kept = Kept()
    yield kept
    kept.release(kept.taken)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_is_nobody_elses_until_it_is_given_back(held: Reservations, ports: int, protocol: str) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    [taken] = held.reserve(group(ports, protocol=protocol))
    assert (taken.address, taken.protocol, taken.port) == (ONE, protocol, ports)
    with pytest.raises(OSError, match="in use"), foreign(ports, kind=kind):
        pass
    with pytest.raises(PortAllocated):
        held.reserve(group(ports, protocol=protocol))
    for _ in range(2):
        held.release([taken])
    if protocol == "tcp":
        with foreign(ports, kind=kind):
            pass
    held.release(held.reserve(group(ports, protocol=protocol)))


def test_a_reserved_port_takes_no_connection(held: Reservations, ports: int) -> None:
    taken = held.reserve(group(ports))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports), timeout=5)
    held.release(taken)


def test_what_is_left_of_earlier_connections_is_no_hindrance(held: Reservations, ports: int) -> None:
    with foreign(ports), socket.socket() as server:
        del server
    with socket.create_server(("127.0.0.1", ports)) as listener, socket.create_connection(("127.0.0.1", ports)) as client:
        connection, _ = listener.accept()
        connection.close()  # first: the port is in TIME_WAIT
        client.recv(1)
    held.release(held.reserve(group(ports)))


def test_all_addresses_and_one_of_them_exclude_each_other_and_versions_and_protocols_do_not(held: Reservations, ports: int) -> None:
    held.reserve(group(ports, 0, ONE))
    held.reserve(group(ports, 0, TWO))
    held.reserve(group(ports, 0, ONE, protocol="udp"))
    for address in (ANY[4], ONE):
        with pytest.raises(PortAllocated) as refused:
            held.reserve(group(ports, 0, address))
        assert (refused.value.address, refused.value.port) == (address, ports)


def test_a_range_is_walked_through_and_what_others_have_is_passed_over(held: Reservations, ports: int) -> None:
    with foreign(ports + 1):
        taken = [held.reserve(group(ports, ports + 3))[0] for _ in range(3)]
    assert [each.port for each in taken] == [ports, ports + 2, ports + 3]
    held.release([taken[0]])
    assert held.reserve(group(ports, ports + 3))[0].port == ports
    with foreign(ports + 1), pytest.raises(BindError) as refused:
        held.reserve(group(ports, ports + 3))
    assert refused.value.action == f"failed to bind host port 127.0.0.1:{ports + 1}/tcp"
    held.reserve(group(ports + 1))
    with pytest.raises(NoFreePort):
        held.reserve(group(ports, ports + 3))


def test_all_addresses_get_the_same_port_or_none(held: Reservations, ports: int) -> None:
    with foreign(ports, "127.0.0.2"):
        taken = held.reserve(group(ports, ports + 1, ONE, TWO))
        assert {each.port for each in taken} == {ports + 1}
        with pytest.raises(BindError) as refused:
            held.reserve(group(ports, 0, ONE, TWO))
        assert refused.value.errno == errno.EADDRINUSE
        held.release(held.reserve(group(ports, 0, ONE)))


def test_a_free_port_is_one_that_the_host_gives_out_and_keeps_for_nobody(
    held: Reservations, ports: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "local_port_range", lambda: (ports, ports + 2))
    monkeypatch.setattr(module, "excluded_ports", lambda: frozenset({ports + 1}))
    assert [held.reserve(group(0))[0].port for _ in range(2)] == [ports, ports + 2]
    with pytest.raises(NoFreePort):
        held.reserve(group(0))


def test_the_hosts_lists_of_ports() -> None:
    first, last = module.local_port_range()
    assert 0 < first < last <= 65535
    assert isinstance(module.excluded_ports(), frozenset)
    assert parse_reserved("\n") == frozenset()
    assert parse_reserved("8080,9100-9102\n") == {8080, 9100, 9101, 9102}


def test_a_running_containers_port_is_its_own_whatever_the_host_says(held: Reservations, ports: int) -> None:
    with foreign(ports):
        restored, failure = held.restore(ONE, "tcp", ports)
    assert failure is not None
    assert failure.errno == errno.EADDRINUSE
    with pytest.raises(PortAllocated):
        held.reserve(group(ports))
    held.release([restored])
    restored, failure = held.restore(ONE, "tcp", ports)
    assert failure is None
    with pytest.raises(OSError, match="in use"), foreign(ports):
        pass
    held.release([restored])


def test_an_address_that_the_host_does_not_have(held: Reservations) -> None:
    with pytest.raises(BindError) as refused:
        held.reserve(group(21999, 21999, ipaddress.ip_address("203.0.113.77")))
    assert refused.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.skipif(not module.can_use_ipv6(), reason="needs IPv6")
def test_ipv6_is_another_matter_than_ipv4(held: Reservations, ports: int) -> None:
    taken = held.reserve(group(ports, 0, ANY[4])) + held.reserve(group(ports, 0, ANY[6]))
    with pytest.raises(PortAllocated):
        held.reserve(group(ports, 0, SIX))
    held.release(taken)
