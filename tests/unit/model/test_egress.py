"""The rules of egress policies, as users write them."""

from __future__ import annotations

import ipaddress
import re

import pytest

from teul.model.egress import MAX_RULES, EgressPolicy, parse_egress


def policy(*rules: str) -> EgressPolicy:
    found = parse_egress(rules)
    assert found is not None
    return found


def networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def test_addresses_networks_and_names_are_told_apart_and_kept_in_their_normal_form() -> None:
    found = policy("192.0.2.7/32, 10.0.0.0/8", "FD00:0::/8,Example.org.,*.Example.net")
    assert found.rules == ("192.0.2.7", "10.0.0.0/8", "fd00::/8", "example.org", "*.example.net")
    assert found.networks == networks("10.0.0.0/8", "192.0.2.7/32", "fd00::/8")
    assert found.names == ("example.org", "*.example.net")
    assert policy(*found.rules) == found


def test_what_is_said_twice_or_within_something_else_is_allowed_once() -> None:
    found = policy("10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "10.2.3.4")
    assert found.rules == ("10.1.0.0/16", "10.0.0.0/8", "10.2.3.4")
    assert found.networks == networks("10.0.0.0/8")


def test_the_lan_is_the_private_networks_without_where_a_clouds_metadata_are() -> None:
    found = policy("LAN", "192.168.7.0/24")
    assert found.rules == ("lan", "192.168.7.0/24")
    assert found.networks == networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")


def test_nothing_is_a_policy_and_anything_is_none() -> None:
    assert policy("none") == EgressPolicy(rules=("none",))
    assert parse_egress(["any"]) is None
    assert parse_egress(None) is None


def test_a_star_is_for_the_names_below_and_not_for_that_one() -> None:
    found = policy("example.org", "*.example.net")
    assert found.allows_name("EXAMPLE.org")
    assert found.allows_name("a.b.example.net")
    for name in ("www.example.org", "example.net", "badexample.net", "example.org.evil", "", "net"):
        assert not found.allows_name(name), name


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([""], 'an egress policy needs a rule; "none" allows nothing, and "any" is no policy'),
        ([], 'an egress policy needs a rule; "none" allows nothing, and "any" is no policy'),
        (["lan,none"], 'egress rule "none" stands alone'),
        (["any", "lan"], 'egress rule "any" stands alone'),
        (["10.1.2.3/8"], 'invalid egress rule "10.1.2.3/8": it has bits beyond its prefix; 10.0.0.0/8 is the network'),
        (["10.1.2"], 'invalid egress rule "10.1.2": neither an address nor a network'),
        (["10.0.0.0/33"], 'invalid egress rule "10.0.0.0/33": neither an address nor a network'),
        (["fe80::1%eth0"], 'invalid egress rule "fe80::1%eth0": neither an address nor a network'),
        (["::ffff:10.0.0.1"], 'invalid egress rule "::ffff:10.0.0.1": IPv4 addresses are written as such'),
        (["https://example.org"], 'invalid egress rule "https://example.org": neither an address nor a network'),
        (["*"], 'invalid egress rule "*": "any" is no policy, and "0.0.0.0/0,::/0" allows all addresses'),
        *(
            ([text], f'invalid egress rule "{text}": neither an address, a network or a domain name, nor "lan", "none" or "any"')
            for text in ("internet", "a..b", "-a.org", "a b.org", "é.org", "*.*.org", "a.*.org", "x" * 64 + ".org", "a.7", "a;b.org")
        ),
        (["lan,,lan"], 'invalid egress rule "": neither an address, a network or a domain name, nor "lan", "none" or "any"'),
        (["a.org"] * (MAX_RULES + 1), "an egress policy has at most 256 rules, not 257"),
    ],
)
def test_what_is_no_rule_is_said(rules: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(said)}$"):
        parse_egress(rules)
