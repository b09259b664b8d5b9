"""Subnets that collide with nothing, addresses that nobody else holds or held a moment ago."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.network.ipam import DEFAULT_POOLS, REST_NS, AddressPool, AddressTaken, NoFreeAddress, NoFreeSubnet, Subnet, choose_subnet

net = ipaddress.ip_network
ip = ipaddress.ip_address
SMALL = net("10.9.0.0/29")  # hosts .1 to .6


def pool(subnet: Subnet = SMALL, **options: object) -> AddressPool:
    return AddressPool(subnet, reserved=[subnet.network_address + 1], **options)  # type: ignore[arg-type]


def take(addresses: AddressPool, owner: str, now_ns: int = 0) -> str:
    return str(addresses.allocate(owner, now_ns=now_ns))


def test_the_first_pool_is_dockers() -> None:
    assert str(choose_subnet(DEFAULT_POOLS, [])) == "172.17.0.0/16"


@pytest.mark.parametrize(
    ("claimed", "expected"),
    [
        (["172.17.0.0/16"], "172.18.0.0/16"),
        (["172.17.42.1/32"], "172.18.0.0/16"),
        (["172.16.0.0/12"], "192.168.0.0/20"),
        (["172.16.0.0/12", "192.168.1.0/24"], "192.168.16.0/20"),
        (["0.0.0.0/0"], "172.17.0.0/16"),
        (["0.0.0.0/1", "128.0.0.0/1"], "172.17.0.0/16"),
        (["10.0.0.0/8", "fd00::/8"], "172.17.0.0/16"),
    ],
)
def test_a_subnet_overlaps_nothing_that_the_host_uses(claimed: list[str], expected: str) -> None:
    """A default route, or the halves that a VPN makes of it, claims no addresses."""
    assert str(choose_subnet(DEFAULT_POOLS, [net(text) for text in claimed])) == expected


def test_no_subnet_is_left_when_every_pool_is_claimed() -> None:
    with pytest.raises(NoFreeSubnet):
        choose_subnet(DEFAULT_POOLS, [net("172.16.0.0/12"), net("192.168.0.0/16")])


def test_addresses_are_handed_out_lowest_first() -> None:
    addresses = pool()
    assert [take(addresses, owner) for owner in "abc"] == ["10.9.0.2", "10.9.0.3", "10.9.0.4"]


def test_a_released_address_rests_before_a_stranger_gets_it() -> None:
    addresses = pool()
    assert take(addresses, "a") == "10.9.0.2"
    addresses.release(ip("10.9.0.2"), now_ns=0)
    assert take(addresses, "b", REST_NS - 1) == "10.9.0.3"
    assert take(addresses, "c", REST_NS) == "10.9.0.2"


def test_a_container_that_comes_back_gets_its_old_address_at_once() -> None:
    addresses = pool()
    for owner in "abc":
        take(addresses, owner)
    addresses.release(ip("10.9.0.3"), now_ns=0)
    addresses.release(ip("10.9.0.2"), now_ns=0)
    assert take(addresses, "b", 1) == "10.9.0.3"


def test_a_resting_address_is_better_than_none_and_the_longest_rested_goes_first() -> None:
    addresses = pool()
    for owner in "abcde":
        take(addresses, owner)
    addresses.release(ip("10.9.0.4"), now_ns=0)
    addresses.release(ip("10.9.0.2"), now_ns=1)
    assert take(addresses, "f", 2) == "10.9.0.4"
    assert take(addresses, "g", 2) == "10.9.0.2"
    with pytest.raises(NoFreeAddress):
        take(addresses, "h", 2)


def test_gateway_network_and_broadcast_address_are_never_handed_out() -> None:
    addresses = pool()
    taken = {take(addresses, str(owner)) for owner in range(5)}
    assert taken == {f"10.9.0.{host}" for host in range(2, 7)}
    with pytest.raises(NoFreeAddress):
        take(addresses, "one more")


def test_an_address_that_was_asked_for_is_skipped_later() -> None:
    addresses = pool()
    assert str(addresses.allocate("a", now_ns=0, wanted=ip("10.9.0.3"))) == "10.9.0.3"
    assert [take(addresses, owner) for owner in "bc"] == ["10.9.0.2", "10.9.0.4"]


@pytest.mark.parametrize("wanted", ["10.9.0.2", "10.9.0.1", "10.9.0.0", "10.9.0.7", "10.9.1.2", "fd00::2"])
def test_an_address_that_is_held_reserved_or_elsewhere_is_refused(wanted: str) -> None:
    addresses = pool()
    take(addresses, "a")
    with pytest.raises(AddressTaken):
        addresses.allocate("b", now_ns=0, wanted=ip(wanted))


def test_claiming_again_what_one_holds_is_harmless() -> None:
    addresses = pool()
    addresses.claim(ip("10.9.0.2"), "a")
    addresses.claim(ip("10.9.0.2"), "a")
    assert len(addresses) == 1


def test_releasing_what_is_not_held_changes_nothing() -> None:
    addresses = pool()
    addresses.release(ip("10.9.0.2"), now_ns=0)
    assert take(addresses, "a") == "10.9.0.2"


def test_only_the_range_is_handed_out_of_a_wider_subnet() -> None:
    addresses = AddressPool(net("10.9.0.0/16"), reserved=[ip("10.9.0.1")], ip_range=net("10.9.7.0/30"))
    assert [take(addresses, str(owner)) for owner in range(4)] == ["10.9.7.0", "10.9.7.1", "10.9.7.2", "10.9.7.3"]
    with pytest.raises(NoFreeAddress):
        take(addresses, "one more")


def test_ipv6_is_the_same_but_for_the_broadcast_address() -> None:
    addresses = pool(net("fd00::/125"))
    assert [take(addresses, str(owner)) for owner in range(6)] == [f"fd00::{host}" for host in range(2, 8)]


def test_a_large_ipv6_subnet_costs_nothing() -> None:
    assert take(pool(net("fd00::/64")), "a") == "fd00::2"


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans(), st.integers(0, 3)), max_size=60))
def test_nobody_ever_gets_what_another_holds(steps: list[tuple[str, bool, int]]) -> None:
    addresses = pool()
    held: dict[str, ipaddress.IPv4Address | ipaddress.IPv6Address] = {}
    now_ns = 0
    for owner, releases, seconds in steps:
        now_ns += seconds * 1_000_000_000
        if releases and owner in held:
            addresses.release(held.pop(owner), now_ns=now_ns)
        elif owner not in held:
            try:
                address = addresses.allocate(owner, now_ns=now_ns)
            except NoFreeAddress:
                assert len(held) == 5
                continue
            assert address not in held.values()
            held[owner] = address
    assert len(addresses) == len(held)
