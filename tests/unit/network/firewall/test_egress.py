"""Egress policies as elements; what they do to packets is seen in tests/kernel/network/test_egress.py."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest

from support.bridges import make_bridge
from teul.linux.nftables import SetElement
from teul.model.container import ContainerEndpoint
from teul.network.firewall import egress, egress_rules
from teul.network.firewall import table as firewall
from teul.network.firewall.egress import Element, Refusal, container_elements, network_elements


def endpoint(number: int, link: str = "veth0123456a", *, ipv6: str = "") -> ContainerEndpoint:
    return ContainerEndpoint(
        network_name="one", network_id="1", endpoint_id="e", ipv4=f"172.17.0.{number}", ipv6=ipv6, host_interface=link, interface="eth0"
    )


def subnets(*texts: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(text) for text in texts]


def test_a_container_is_held_by_every_bridge_link_and_address_that_it_has() -> None:
    found = container_elements({"b0": [endpoint(2, "veth1", ipv6="fd00::2")], "b1": [endpoint(3, "veth2")]}, subnets("10.0.0.0/8", "::/0"))
    assert egress.render_change("teul", [], found).splitlines() == [
        'add element bridge teul guarded { "veth1", "veth2" }',
        'add element bridge teul sources4 { "veth1" . 172.17.0.2, "veth1" . 172.17.0.3, "veth2" . 172.17.0.2, "veth2" . 172.17.0.3 }',
        'add element bridge teul sources6 { "veth1" . fd00::2, "veth2" . fd00::2 }',
        "add element inet teul allowed4 { 172.17.0.2 . 10.0.0.0/8, 172.17.0.3 . 10.0.0.0/8 }",
        "add element inet teul allowed6 { fd00::2 . ::/0 }",
        'add element inet teul policed4 { "b0" . 172.17.0.2, "b0" . 172.17.0.3, "b1" . 172.17.0.2, "b1" . 172.17.0.3 }',
        'add element inet teul policed6 { "b0" . fd00::2, "b1" . fd00::2 }',
    ]


def test_a_network_is_held_by_its_bridge() -> None:
    found = network_elements("b0", subnets("10.0.0.0/8", "fc00::/7"))
    assert egress.render_change("teul", found, []).splitlines() == [
        'delete element inet teul network_allowed4 { "b0" . 10.0.0.0/8 }',
        'delete element inet teul network_allowed6 { "b0" . fc00::/7 }',
        'delete element inet teul policed_networks { "b0" }',
    ]


def test_what_allows_nothing_holds_all_the_same() -> None:
    assert network_elements("b0", []) == {Element("inet", "policed_networks", '"b0"')}
    assert {element.set_name for element in container_elements({"b0": [endpoint(2)]}, [])} == {"policed4", "guarded", "sources4"}


def test_the_whole_is_one_script_that_empties_what_it_fills() -> None:
    wanted = container_elements({"b0": [endpoint(2)]}, []) | network_elements("b1", [])
    script = egress.render_exactly("teul", wanted)
    for element in wanted:
        assert f"flush set {element.family} teul {element.set_name}\n" in script
        assert script.index(f"flush set {element.family} teul {element.set_name}\n") < script.index(f"add element {element.family} teul")
    assert "named" not in script, "addresses of names stay as they are"
    assert "table bridge" not in egress.render_exactly("teul", network_elements("b1", []))
    assert egress.render_unguarded("teul") == "add table bridge teul\ndelete table bridge teul\n"


def test_policies_stay_when_the_table_is_made_anew_and_no_rule_is_one_containers() -> None:
    script = firewall.render_table("teul", [make_bridge("b0", "172.17.0.0/16")])
    for name in egress_rules.KEPT:
        assert f"flush set inet teul {name}\n" not in script
        assert f"set {name} {{ type" in script
    assert f"delete set inet teul {name}\n" in firewall.render_removal("teul", keeps_user=True)


def test_an_address_of_a_name_is_allowed_for_a_time() -> None:
    script = egress.render_resolved(
        "teul",
        {
            ("172.17.0.2", ipaddress.ip_address("192.0.2.1")): 30,
            ("172.17.0.2", ipaddress.ip_address("192.0.2.2")): 1e9,
            ("tl-b", ipaddress.ip_address("2001:db8::1")): 0.5,
        },
    )
    assert script.splitlines() == [
        "add element inet teul named4 { 172.17.0.2 . 192.0.2.1, 172.17.0.2 . 192.0.2.2 }",
        "delete element inet teul named4 { 172.17.0.2 . 192.0.2.1, 172.17.0.2 . 192.0.2.2 }",
        "add element inet teul named4 { 172.17.0.2 . 192.0.2.1 timeout 30s, 172.17.0.2 . 192.0.2.2 timeout 86400s }",
        'add element inet teul network_named6 { "tl-b" . 2001:db8::1 }',
        'delete element inet teul network_named6 { "tl-b" . 2001:db8::1 }',
        'add element inet teul network_named6 { "tl-b" . 2001:db8::1 timeout 1s }',
    ]


def test_what_is_left_of_one_is_forgotten_and_of_another_not() -> None:
    left = {
        "named4": [SetElement(("172.17.0.2", "192.0.2.1")), SetElement(("172.17.0.3", "192.0.2.1"))],
        "network_used6": [SetElement(("b0", "2001:db8::1"))],
        "refused4": [SetElement(("172.17.0.2", "192.0.2.9", 6, 443), 3)],
        "used4": [SetElement(("172.17.0.3", "192.0.2.1"))],
    }
    assert egress.render_forgotten("teul", left, lambda values: values[0] in {"172.17.0.2", "b0"}).splitlines() == [
        "add element inet teul named4 { 172.17.0.2 . 192.0.2.1 }",
        "delete element inet teul named4 { 172.17.0.2 . 192.0.2.1 }",
        'add element inet teul network_used6 { "b0" . 2001:db8::1 }',
        'delete element inet teul network_used6 { "b0" . 2001:db8::1 }',
        "add element inet teul refused4 { 172.17.0.2 . 192.0.2.9 . 6 . 443 }",
        "delete element inet teul refused4 { 172.17.0.2 . 192.0.2.9 . 6 . 443 }",
    ]
    assert egress.render_forgotten("teul", left, lambda values: values[0] == "172.17.0.9") == ""


def test_what_was_refused_is_read() -> None:
    left = {
        "refused4": [SetElement(("172.17.0.2", "192.0.2.9", 6, 443), 3)],
        "refused6": [SetElement(("fd00::2", "2001:db8::9", 58, 0), 1)],
    }
    assert egress.refusals(left) == [
        Refusal(ipaddress.ip_address("172.17.0.2"), ipaddress.ip_address("192.0.2.9"), 6, 443, 3),
        Refusal(ipaddress.ip_address("fd00::2"), ipaddress.ip_address("2001:db8::9"), 58, 0, 1),
    ]


@pytest.mark.parametrize("name", ["", 'a" }', "a b", "sixteencharacter"])
def test_nothing_but_a_name_gets_into_a_script(name: str) -> None:
    made: list[Callable[[], object]] = [
        lambda: network_elements(name, []),
        lambda: container_elements({name: [endpoint(2)]}, []),
        lambda: container_elements({"b": [endpoint(2, name or "-")]}, []),
        lambda: egress.render_resolved("teul", {(name, ipaddress.ip_address("192.0.2.1")): 1}),
    ]
    for make in made:
        with pytest.raises(ValueError, match="not a name"):
            make()


@pytest.mark.parametrize("name", ["", "a b", "a;b", "Teul", "a" * 32])
def test_a_table_is_called_by_a_name(name: str) -> None:
    made: list[Callable[[], object]] = [
        lambda: egress.render_change(name, [], []),
        lambda: egress.render_exactly(name, []),
        lambda: egress.render_unguarded(name),
        lambda: egress.render_resolved(name, {}),
        lambda: egress.render_forgotten(name, {}, lambda _values: True),
    ]
    for make in made:
        with pytest.raises(ValueError, match="not a name"):
            make()
