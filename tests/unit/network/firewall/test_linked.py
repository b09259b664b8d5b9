"""What links open, as text for nftables; what it does is seen in tests/kernel/network."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from support.bridges import make_bridge
from teul.network.firewall import linked
from teul.network.firewall import table as firewall
from teul.network.firewall.linked import LinkedPort


def port(number: int = 80, *, bridge: str = "teul0", protocol: str = "tcp") -> LinkedPort:
    return LinkedPort(bridge, IPv4Address("172.17.0.3"), IPv4Address("172.17.0.2"), protocol, number)


def test_a_port_is_an_element() -> None:
    assert linked.render_change("teul", [port(53, protocol="udp")], [port(81), port()]).splitlines() == [
        'delete element inet teul linked4 { "teul0" . 172.17.0.3 . 172.17.0.2 . udp . 53 }',
        'add element inet teul linked4 { "teul0" . 172.17.0.3 . 172.17.0.2 . tcp . 80, "teul0" . 172.17.0.3 . 172.17.0.2 . tcp . 81 }',
    ]
    assert linked.render_exactly("teul", []) == "flush set inet teul linked4\n"


def test_what_is_open_stays_when_the_table_is_made_again_and_goes_with_it() -> None:
    assert "flush set inet teul linked4" not in firewall.render_table("teul", [make_bridge("teul0", "172.17.0.0/16")])
    assert "delete set inet teul linked4" in firewall.render_removal("teul", keeps_user=True)


def test_nothing_but_names_and_protocols_gets_into_a_script() -> None:
    with pytest.raises(ValueError, match="not a name"):
        linked.render_change("teul", [], [port(bridge='x" . ')])
    with pytest.raises(ValueError, match="not a protocol"):
        linked.render_exactly("teul", [port(protocol="icmp")])
    with pytest.raises(ValueError, match="not a name"):
        linked.render_exactly("a b", [])
