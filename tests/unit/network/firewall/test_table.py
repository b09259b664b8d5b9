"""The rules as text: reviewed here, tried on a kernel in tests/kernel/test_host_network.py."""

from __future__ import annotations

import pytest

from support.bridges import make_bridge
from teul.network.firewall import forward_policy
from teul.network.firewall import table as firewall


def test_the_table_of_two_networks() -> None:
    """One whole script, as it is sent; what it does is seen in tests/kernel/network."""
    script = firewall.render_table("teul", [make_bridge("teul0", "172.17.0.0/16"), make_bridge("b", "fd00::/64", is_internal=True)])
    assert script.splitlines()[-6:] == [
        'add element inet teul bridges { "teul0", "b" }',
        'add element inet teul internal { "b" }',
        'add element inet teul neighbours { "teul0" . "teul0" : accept, "b" . "b" : accept }',
        "add element inet teul subnets4 { 172.17.0.0/16 }",
        'add element inet teul home4 { 172.17.0.0/16 . "teul0" }',
        'add element inet teul home6 { fd00::/64 . "b" }',
    ]


def test_a_network_comes_and_goes_as_elements() -> None:
    one = make_bridge("one", "172.18.0.0/16", has_icc=False, is_masqueraded=False)
    assert firewall.render_added("teul", one).splitlines() == [
        'add element inet teul bridges { "one" }',
        'add element inet teul neighbours { "one" . "one" : jump linked }',
        'add element inet teul home4 { 172.18.0.0/16 . "one" }',
    ]
    assert firewall.render_removed("teul", one) == firewall.render_added("teul", one).replace("add", "delete")


def test_the_administrators_chain_is_never_flushed_and_may_be_kept() -> None:
    script = firewall.render_table("teul", [])
    assert "chain user { }" in script
    assert "flush chain inet teul user" not in script
    assert "chain inet teul user" not in firewall.render_removal("teul", keeps_user=True)
    assert firewall.render_removal("teul").endswith("delete table inet teul\n")


def test_whether_the_administrator_wrote_anything() -> None:
    empty = "table inet teul {\n\tchain user {\n\t}\n}\n"
    assert not firewall.has_rules(empty)
    assert firewall.has_rules(empty.replace("user {", "user {\n\t\tip saddr 192.0.2.1 drop"))


def test_published_ports_and_links_stay_when_the_table_is_made_again_and_networks_do_not() -> None:
    script = firewall.render_table("teul", [])
    flushed = {line.split()[-1] for line in script.splitlines() if line.startswith(("flush set", "flush map"))}
    assert flushed == {"bridges", "internal", "neighbours", "subnets4", "subnets6", "home4", "home6"}


def rules(script: str) -> list[str]:
    return [line for line in script.splitlines() if "add element" not in line]


def test_a_network_is_an_element_and_not_a_rule() -> None:
    one = [make_bridge("teul0", "172.17.0.0/16")]
    many = [make_bridge(f"teul{number}", f"172.{17 + number}.0.0/16") for number in range(9)]
    assert rules(firewall.render_table("teul", one)) == rules(firewall.render_table("teul", many))


@pytest.mark.parametrize("name", ["", 'a" accept', "a b", "a;b", "a{", "-a", "sixteencharacter", "é"])
def test_nothing_but_a_name_gets_into_a_script(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        firewall.render_table("teul", [make_bridge(name, "172.17.0.0/16")])


@pytest.mark.parametrize("name", ["", "a b", "a;b", "a {", "Teul", "1a", "a" * 32])
def test_a_table_is_called_by_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        firewall.render_removal(name)
    with pytest.raises(ValueError, match="not a name"):
        firewall.render_table(name, [])


def test_the_chain_beside_a_dropping_firewall() -> None:
    """Ours may leave and get answers, and what was sent to published ports; what goes to other bridges is left to their owners' rules."""
    assert forward_policy.render_rules("TEUL", ["teul0"], ["virbr0", "no name"]).splitlines() == [
        "*filter",
        ":TEUL - [0:0]",
        "-A TEUL -o docker+ -j RETURN",
        "-A TEUL -o br-+ -j RETURN",
        "-A TEUL -o virbr0 -j RETURN",
        "-A TEUL -i teul0 -j ACCEPT",
        "-A TEUL -o teul0 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT",
        "COMMIT",
    ]


@pytest.mark.parametrize(("chain", "bridges"), [("A B", ["teul0"]), ("TEUL", ["teul0 -j DROP"]), ("TEUL", ["a\nCOMMIT"])])
def test_nothing_but_a_name_gets_into_iptables(chain: str, bridges: list[str]) -> None:
    with pytest.raises(ValueError, match="not a name"):
        forward_policy.render_rules(chain, bridges, [])
