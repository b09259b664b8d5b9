"""What nft prints, as data."""

from __future__ import annotations

import json

import pytest

from teul.network.paths.ruleset import parse_ruleset
from unit.network.paths.cases import TABLE, golden_ruleset


def test_the_engines_own_table_is_read_whole() -> None:
    ruleset = golden_ruleset()
    assert ruleset.has_table("inet", TABLE)
    assert not ruleset.has_table("ip", TABLE)
    forward = ruleset.chains["inet", TABLE, "forward"]
    assert (forward.kind, forward.hook, forward.priority, forward.policy) == ("filter", "forward", 0, "accept")
    assert [rule.text for rule in forward.rules] == ["iifname @bridges goto from_bridges", "oifname @bridges goto from_elsewhere"]
    assert ruleset.sets["inet", TABLE, "internal"] == ("tl-inner",)
    assert ruleset.sets["inet", TABLE, "bound6"] == ()
    assert forward.title == "table inet teul, chain forward"


def test_chains_are_passed_in_the_order_of_their_priorities_and_of_their_family_only() -> None:
    ruleset = golden_ruleset()
    assert [chain.name for chain in ruleset.hooked("prerouting", 4)] == ["arriving", "prerouting"]
    chain = {"family": "ip6", "table": "t", "name": "c", "type": "filter", "hook": "prerouting", "prio": -400, "policy": "drop"}
    other = parse_ruleset(json.dumps({"nftables": [{"chain": chain}]}), "")
    assert [(each.name, each.policy) for each in other.hooked("prerouting", 6)] == [("c", "drop")]
    assert [*other.hooked("prerouting", 4)] == []


def rule(handle: int) -> dict[str, object]:
    return {"rule": {"family": "ip", "table": "t", "chain": "c", "handle": handle, "expr": [{"drop": None}]}}


def test_a_rule_of_several_lines_has_its_words_in_one() -> None:
    listing = (
        "table ip t { # handle 1\n\tset s { # handle 2\n\t\ttype ipv4_addr\n\t}\n\n\tchain c { # handle 3\n"
        '\t\tcomment "mine"\n\t\ttype filter hook forward priority filter; policy accept;\n'
        "\t\tip saddr { 192.0.2.1,\n\t\t\t     192.0.2.2 } drop # handle 4\n"
        '\t\tdrop comment "# handle 9" # handle 5\n\t}\n}\n'
    )
    document = {"nftables": [{"chain": {"family": "ip", "table": "t", "name": "c"}}, rule(4), rule(5), rule(6)]}
    chain = parse_ruleset(json.dumps(document), listing).chains["ip", "t", "c"]
    assert [each.text for each in chain.rules] == [
        "ip saddr { 192.0.2.1, 192.0.2.2 } drop",
        'drop comment "# handle 9"',
        "the rule with handle 6",
    ]


def test_what_is_in_large_sets_of_others_counts_as_not_known() -> None:
    def parse(table: str) -> bool:
        large = {"set": {"family": "inet", "table": table, "name": "s", "elem": list(range(5001))}}
        return bool(parse_ruleset(json.dumps({"nftables": [large]}), "", own_table=TABLE).sets)

    assert (parse(TABLE), parse("blocklist")) == (True, False)


@pytest.mark.parametrize("document", ["", "[]", "{}", "nonsense", '{"nftables": 3'])
def test_what_is_no_ruleset(document: str) -> None:
    with pytest.raises(ValueError, match="not a ruleset of nftables"):
        parse_ruleset(document, "")
