"""Rules judged without a packet: what is certain, what is not, and which statements count."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teul.network.paths.evaluation import Outcome, evaluate
from teul.network.paths.packet import Other, Packet
from teul.network.paths.ruleset import Chain, Key, Rule, Ruleset
from unit.network.paths.cases import DPORT, DROP, SADDR, match

PACKET = Packet(
    version=4,
    protocol="tcp",
    source=Other(frozenset({ipaddress.ip_network("172.17.0.0/16")})),
    destination=ipaddress.ip_address("172.17.0.2"),
    port=80,
    input="eth0",
    output="teul0",
    was_sent_to=(ipaddress.ip_address("203.0.113.1"), 8080),
)
ACCEPT: dict[str, Any] = {"accept": None}


def rule(*expressions: dict[str, Any], text: str = "") -> Rule:
    return Rule(text or " ".join(next(iter(each)) for each in expressions), expressions)


def judged(
    *rules: Rule, policy: str = "accept", packet: Packet = PACKET, sets: dict[str, Any] | None = None, **chains: tuple[Rule, ...]
) -> Outcome:
    """What a chain with these rules, and others beside it by name, does."""
    base = Chain(family="inet", table="t", name="base", kind="filter", hook="forward", policy=policy, rules=rules)
    known: dict[Key, Chain] = {
        ("inet", "t", name): dataclasses.replace(base, name=name, hook="", rules=found) for name, found in chains.items()
    }
    elements = {("inet", "t", name): found for name, found in (sets or {}).items()}
    ruleset = Ruleset({**known, ("inet", "t", "base"): base}, elements, own_chain="TEUL")
    return evaluate(ruleset, base, packet)


def meta(key: str) -> dict[str, Any]:
    return {"meta": {"key": key}}


UNKNOWN = match(meta("mark"), 1)
NEVER, ALWAYS = match(DPORT, 81), match(DPORT, 80)


def test_without_rules_the_policy_decides() -> None:
    assert not judged().is_dropped
    assert judged(policy="drop").is_dropped
    assert judged(policy="drop").by == "policy drop"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (match(DPORT, 80), True),
        (match(DPORT, 81), False),
        (match(DPORT, 81, "!="), True),
        (match(DPORT, 1024, "<"), True),
        (match(DPORT, 80, ">"), False),
        (match(DPORT, {"set": [443, {"range": [79, 90]}]}), True),
        (match(DPORT, {"set": [443, 8080]}), False),
        (match(DPORT, {"set": [{"elem": {"val": 80, "comment": "web"}}]}), True),
        (match(DPORT, "http"), None),
        (match({"payload": {"protocol": "udp", "field": "dport"}}, 80), False),
        (match({"payload": {"protocol": "udp", "field": "dport"}}, 81, "!="), False),
        (match({"payload": {"protocol": "th", "field": "dport"}}, 80), True),
        (match({"payload": {"protocol": "tcp", "field": "sport"}}, 80), None),
        (match({"payload": {"protocol": "ip", "field": "daddr"}}, "172.17.0.2"), True),
        (match({"payload": {"protocol": "ip", "field": "daddr"}}, {"prefix": {"addr": "172.17.0.0", "len": 16}}), True),
        (match({"payload": {"protocol": "ip", "field": "daddr"}}, {"range": ["172.17.0.3", "172.17.0.9"]}), False),
        (match({"payload": {"protocol": "ip", "field": "protocol"}}, "tcp"), True),
        (match({"payload": {"protocol": "ip6", "field": "daddr"}}, "fd00::1", "!="), False),
        (match(SADDR, "198.51.100.1"), None),
        (match(SADDR, "172.17.0.9"), False),
        (match(SADDR, {"prefix": {"addr": "172.17.3.0", "len": 24}}), False),
        (match(SADDR, {"prefix": {"addr": "172.16.0.0", "len": 12}}), None),
        (match(meta("iifname"), "eth0"), True),
        (match(meta("iifname"), "eth*"), True),
        (match(meta("iifname"), "lo", "!="), True),
        (match(meta("iifname"), {"set": ["lo", "eth0"]}), True),
        (match(meta("oifname"), "docker0"), False),
        (match(meta("l4proto"), {"set": ["tcp", "udp"]}), True),
        (match(meta("nfproto"), "ipv6"), False),
        (match(meta("mark"), 1), None),
        (match({"ct": {"key": "state"}}, ["established", "related"], "in"), False),
        (match({"ct": {"key": "state"}}, "new", "in"), True),
        (match({"ct": {"key": "status"}}, "dnat", "in"), True),
        (match({"ct": {"key": "proto-dst", "dir": "original"}}, 8080), True),
        (match({"ct": {"key": "ip daddr", "dir": "original"}}, "203.0.113.1"), True),
        (match({"ct": {"key": "ip6 daddr", "dir": "original"}}, "fd00::1"), False),
        (match({"ct": {"key": "direction"}}, "original"), True),
        (match({"ct": {"key": "mark"}}, 1), None),
        (match({"fib": {"result": "type", "flags": ["daddr"]}}, "local"), False),
        (match({"fib": {"result": "oif", "flags": ["saddr"]}}, "eth0"), None),
        (match({"concat": [meta("iifname"), meta("oifname")]}, "@pairs"), True),
        (match({"concat": [meta("iifname"), meta("mark")]}, {"set": [{"concat": ["eth1", 1]}]}), False),
        (match({"concat": [meta("iifname"), meta("mark")]}, {"set": [{"concat": ["eth0", 1]}]}), None),
        (match(meta("iifname"), "@empty"), False),
        (match(meta("iifname"), "@not-listed"), None),
        (match({"socket": {"key": "transparent"}}, 1), None),
        ({"limit": {"rate": 1, "per": "second"}}, None),
        ({"xt": {"type": "match", "name": "recent"}}, None),
        ({"counter": {"packets": 0, "bytes": 0}}, True),
        ({"log": {"prefix": "x"}}, True),
    ],
)  # fmt: skip
def test_what_a_match_is_worth(expression: dict[str, Any], expected: bool | None) -> None:
    sets = {"pairs": [{"concat": ["eth0", "teul0"]}], "empty": []}
    outcome = judged(rule(expression, DROP, text="it"), sets=sets)
    assert outcome.is_dropped is (expected is True)
    assert outcome.doubts == (("it",) if expected is None else ())


def test_a_doubtful_accept_makes_the_drop_behind_it_a_doubt() -> None:
    outcome = judged(rule(UNKNOWN, ACCEPT), rule(DROP, text="drop"))
    assert not outcome.is_dropped
    assert outcome.doubts == ("drop",)
    assert judged(rule(UNKNOWN, ACCEPT), policy="drop").doubts == ("policy drop",)


def test_a_certain_accept_comes_before_what_drops_later() -> None:
    outcome = judged(rule(ALWAYS, ACCEPT, text="a"), rule(DROP))
    assert (outcome.is_dropped, outcome.by, outcome.doubts) == (False, "a", ())


def test_a_doubtful_drop_does_not_hide_a_certain_one() -> None:
    outcome = judged(rule(UNKNOWN, DROP, text="perhaps"), rule(DROP, text="surely"))
    assert outcome.is_dropped
    assert outcome.by == "surely"


JUMP: dict[str, Any] = {"jump": {"target": "other"}}
GOTO: dict[str, Any] = {"goto": {"target": "other"}}
RETURN: dict[str, Any] = {"return": None}


@pytest.mark.parametrize(
    ("rules", "other", "dropped", "doubts"),
    [
        ([rule(JUMP)], [rule(DROP, text="d")], True, ()),
        ([rule(JUMP), rule(DROP)], [rule(ACCEPT)], False, ()),
        ([rule(JUMP), rule(DROP)], [rule(RETURN), rule(ACCEPT)], True, ()),
        ([rule(GOTO), rule(ACCEPT)], [], True, ()),
        ([rule(NEVER, JUMP), rule(ACCEPT)], [rule(DROP)], False, ()),
        ([rule(UNKNOWN, JUMP), rule(ACCEPT)], [rule(DROP, text="d")], False, ("other: d",)),
        ([rule(UNKNOWN, JUMP), rule(DROP, text="e")], [rule(ACCEPT)], False, ("e",)),
        ([rule(UNKNOWN, JUMP), rule(DROP, text="e")], [rule(RETURN)], True, ()),
        ([rule(JUMP), rule(ACCEPT)], [rule(UNKNOWN, RETURN), rule(DROP, text="d")], False, ("other: d",)),
        ([rule({"jump": {"target": "nowhere"}}, text="j"), rule(ACCEPT)], [], False, ("j",)),
    ],
)  # fmt: skip
def test_jumps(rules: list[Rule], other: list[Rule], dropped: bool, doubts: tuple[str, ...]) -> None:
    outcome = judged(*rules, policy="drop", other=tuple(other))
    assert (outcome.is_dropped, outcome.doubts) == (dropped, doubts)


def test_chains_that_go_round_in_circles_come_to_an_end() -> None:
    outcome = judged(rule(JUMP), other=(rule(JUMP, text="again"),))
    assert not outcome.is_dropped
    assert outcome.doubts == ("other: again",)


def test_verdicts_in_a_map() -> None:
    body = {"key": DPORT, "data": {"set": [[443, ACCEPT], [80, DROP]]}}
    assert judged(rule({"vmap": body})).is_dropped
    assert not judged(rule({"vmap": {**body, "data": {"set": [[443, DROP]]}}})).is_dropped
    assert judged(rule({"vmap": {**body, "data": "@not-listed"}}, text="v")).doubts == ("v",)
    assert judged(rule({"vmap": {"key": meta("mark"), "data": {"set": [[1, DROP]]}}}, text="v")).doubts == ("v",)


def test_a_reject_is_told_from_a_drop() -> None:
    for statement in ({"reject": None}, {"xt": {"type": "target", "name": "REJECT"}}):
        assert judged(rule(statement)).is_rejected
    assert not judged(rule(DROP)).is_rejected


@pytest.mark.parametrize(
    "statement", [{"queue": {"num": 1}}, {"xt": {"type": "target", "name": "DNAT"}}, {"tproxy": {"port": 1}}, {"xt": None}]
)
def test_what_hands_packets_to_others_is_a_doubt(statement: dict[str, Any]) -> None:
    outcome = judged(rule(statement, text="it"))
    assert not outcome.is_dropped
    assert outcome.doubts == (() if statement == {"xt": None} else ("it",))


def test_the_engines_chain_among_those_of_iptables_is_known() -> None:
    """Its matches are not shown, and its accept would be a doubt that made one of the policy behind it."""
    own = (rule(match(meta("oifname"), "teul0"), {"xt": {"type": "match", "name": "conntrack"}}, ACCEPT),)
    jump = rule({"jump": {"target": "TEUL"}})
    outcome = judged(jump, policy="drop", TEUL=own)
    assert (outcome.is_dropped, outcome.doubts) == (False, ())
    assert judged(jump, policy="drop", TEUL=own, packet=dataclasses.replace(PACKET, was_sent_to=None)).is_dropped


def nat(body: dict[str, Any], *before: dict[str, Any], sets: dict[str, Any] | None = None, packet: Packet = PACKET) -> Outcome:
    return judged(rule(*before, {"dnat": body}, text="dnat"), sets=sets, packet=packet)


BY_PORT = {"map": {"key": {"concat": [meta("l4proto"), DPORT]}, "data": "@ports"}}
PORTS = [[{"concat": ["tcp", 81]}, {"concat": ["10.0.0.9", 9]}], [{"concat": ["tcp", 80]}, {"concat": ["10.0.0.1", 8000]}]]


def test_translation_by_a_map_of_ports() -> None:
    outcome = nat({"family": "ip", "addr": BY_PORT}, sets={"ports": PORTS})
    assert outcome.translation == (ipaddress.ip_address("10.0.0.1"), 8000)
    assert outcome.element == "ports { tcp . 80 : 10.0.0.1 . 8000 }"
    assert nat({"family": "ip6", "addr": BY_PORT}, sets={"ports": PORTS}).translation is None
    assert nat({"family": "ip", "addr": BY_PORT}, sets={"ports": PORTS[:1]}).translation is None
    assert nat({"family": "ip", "addr": BY_PORT}, sets={"ports": [*PORTS]}, packet=dataclasses.replace(PACKET, port=82)).translation is None


def test_translation_to_one_place() -> None:
    assert nat({"addr": "10.0.0.1", "port": 99}).translation == (ipaddress.ip_address("10.0.0.1"), 99)
    assert nat({"addr": "10.0.0.1"}).translation == (ipaddress.ip_address("10.0.0.1"), 80)
    assert nat({"addr": "fd00::1"}).translation is None


def test_a_translation_that_may_be_is_a_doubt() -> None:
    assert nat({"addr": "10.0.0.1"}, UNKNOWN).doubts == ("dnat",)
    assert nat({"family": "ip", "addr": BY_PORT}).doubts == ("dnat",), "the map is not listed"
    assert nat({"addr": {"range": ["10.0.0.1", "10.0.0.9"]}}).doubts == ("dnat",)
    assert judged(rule({"redirect": {"port": 1}}, text="r")).doubts == ("r",)
    unknown = dataclasses.replace(PACKET, port=None)
    assert nat({"family": "ip", "addr": BY_PORT}, sets={"ports": PORTS}, packet=unknown).doubts == ("dnat",)


def test_masquerading_is_told_where_it_is_certain() -> None:
    assert judged(rule({"masquerade": None})).is_masqueraded
    assert judged(rule({"snat": {"addr": "203.0.113.1"}})).is_masqueraded
    assert not judged(rule(UNKNOWN, {"masquerade": None})).is_masqueraded
    assert judged(rule(UNKNOWN, {"masquerade": None})).doubts == (), "it changes nothing of where the packet goes"


WORDS = [
    "drop",
    "accept",
    "match",
    "op",
    "left",
    "right",
    "==",
    "!=",
    "<",
    "set",
    "prefix",
    "addr",
    "len",
    "range",
    "concat",
    "elem",
    "val",
    "payload",
]
WORDS += [
    "protocol",
    "field",
    "ip",
    "saddr",
    "daddr",
    "dport",
    "meta",
    "key",
    "iifname",
    "ct",
    "state",
    "dir",
    "fib",
    "flags",
    "vmap",
    "data",
    "map",
]
WORDS += ["dnat", "port", "family", "jump", "target", "xt", "type", "name", "10.0.0.0", "fd00::", "@s", "eth*", "tcp", "base", "&"]
LEAVES = st.sampled_from(WORDS) | st.integers(-1, 70000) | st.none()
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3), max_leaves=12
)
STATEMENTS = st.dictionaries(st.sampled_from(WORDS), DOCUMENTS, min_size=1, max_size=1)
MATCHES = st.fixed_dictionaries(
    {"match": st.fixed_dictionaries({"op": st.sampled_from(["==", "in", "!=", "<"]), "left": DOCUMENTS, "right": DOCUMENTS})}
)


@given(st.lists(MATCHES | STATEMENTS, max_size=4), st.lists(DOCUMENTS, max_size=3))
def test_rules_of_any_kind_are_judged_or_doubted(expressions: list[dict[str, Any]], elements: list[Any]) -> None:
    """A newer nft may print what is not known here: that is a doubt, and never an end of the explanation."""
    outcome = judged(rule(*expressions, text="it"), rule(DROP, text="drop"), sets={"s": elements})
    assert outcome.is_dropped or outcome.doubts or outcome.by, "what passes is let pass by somebody"
