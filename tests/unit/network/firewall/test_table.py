"""The rules as text: reviewed here, tried on a kernel in tests/kernel/test_host_network.py."""

from __future__ import annotations

import ipaddress

import pytest

from teul.network.bridge import Bridge
from teul.network.firewall import forward_policy
from teul.network.firewall import table as firewall


def bridge(name: str, subnet: str) -> Bridge:
    return Bridge(name, ipaddress.ip_network(subnet), 1500)


GOLDEN = """\
add table inet teul
delete table inet teul
table inet teul {
	set bridges {
		type ifname
		elements = { "teul0" }
	}
	set within {
		type ifname . ifname
		elements = { "teul0" . "teul0" }
	}
	set subnets4 {
		type ipv4_addr
		flags interval
		elements = { 172.17.0.0/16 }
	}
	set home4 {
		type ipv4_addr . ifname
		flags interval
		elements = { 172.17.0.0/16 . "teul0" }
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		oifname != @bridges accept
		ct state established,related accept
		iifname . oifname @within accept
		ct status dnat accept
		drop
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr @subnets4 ip saddr . oifname != @home4 masquerade
	}
}
"""


def test_the_table_of_one_network() -> None:
    assert firewall.render_table("teul", [bridge("teul0", "172.17.0.0/16")]) == GOLDEN


def rules(script: str) -> list[str]:
    return [line for line in script.splitlines() if "elements" not in line]


def test_a_network_is_an_element_and_not_a_rule() -> None:
    one = [bridge("teul0", "172.17.0.0/16")]
    many = [bridge(f"teul{number}", f"172.{17 + number}.0.0/16") for number in range(9)]
    assert rules(firewall.render_table("teul", one)) == rules(firewall.render_table("teul", many))


def test_ipv6_gets_sets_of_its_own() -> None:
    script = firewall.render_table("teul", [bridge("a", "172.17.0.0/16"), bridge("b", "fd00::/64")])
    assert 'elements = { fd00::/64 . "b" }' in script
    assert "ip6 saddr @subnets6 ip6 saddr . oifname != @home6 masquerade" in script


@pytest.mark.parametrize("name", ["", 'a" accept', "a b", "a;b", "a{", "-a", "sixteencharacter", "é"])
def test_nothing_but_a_name_gets_into_a_script(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        firewall.render_table("teul", [bridge(name, "172.17.0.0/16")])


@pytest.mark.parametrize("name", ["", "a b", "a;b", "a {", "Teul", "1a", "a" * 32])
def test_a_table_is_called_by_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        firewall.render_removal(name)
    with pytest.raises(ValueError, match="not a name"):
        firewall.render_table(name, [])


def test_the_chain_beside_a_dropping_firewall() -> None:
    """Ours may leave and get answers; what goes to other bridges is left to their owners' rules."""
    assert forward_policy.render_rules("TEUL", ["teul0"], ["virbr0", "no name"]).splitlines() == [
        "*filter",
        ":TEUL - [0:0]",
        "-A TEUL -o docker+ -j RETURN",
        "-A TEUL -o br-+ -j RETURN",
        "-A TEUL -o virbr0 -j RETURN",
        "-A TEUL -i teul0 -j ACCEPT",
        "-A TEUL -o teul0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "COMMIT",
    ]


@pytest.mark.parametrize(("chain", "bridges"), [("A B", ["teul0"]), ("TEUL", ["teul0 -j DROP"]), ("TEUL", ["a\nCOMMIT"])])
def test_nothing_but_a_name_gets_into_iptables(chain: str, bridges: list[str]) -> None:
    with pytest.raises(ValueError, match="not a name"):
        forward_policy.render_rules(chain, bridges, [])
