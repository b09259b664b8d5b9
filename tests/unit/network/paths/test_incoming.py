"""Packets for published ports, and what each thing that can be wrong makes of them."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress

import msgspec
import pytest

from teul.network.firewall.forward_policy import LegacyChain
from teul.network.firewall.table import rule_counts
from teul.network.paths.explanation import explain, parse_question
from teul.network.paths.facts import NetworkFact, RouteFact
from teul.network.paths.ruleset import Rule, Ruleset
from teul.network.ports.relays import TRANSLATE, ways_of
from unit.network.paths.cases import (
    DPORT,
    DROP,
    ENDPOINT,
    GATEWAY4,
    HOME,
    HOME4,
    HOST4,
    SADDR,
    TABLE,
    facts,
    golden_ruleset,
    link,
    listening,
    match,
    path,
    port,
    publishing,
    settings,
    verdict,
    with_chain,
    with_user_rules,
)

OUTSIDE = "another host"
STRANGER = ipaddress.ip_address("198.51.100.7")


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (OUTSIDE, f"{HOST4}:8080"),
        (OUTSIDE, "[2001:db8:1::1]:8080"),
        (OUTSIDE, f"{HOST4}:9001"),
        (OUTSIDE, f"{HOST4}:5353/udp"),
        ("this host", f"{HOST4}:8080"),
        ("this host", "127.0.0.1:8080"),
        ("this host", "127.0.0.1:9000"),
        ("a container on bridge", "172.17.0.1:8080"),
        ("the container itself", "172.17.0.1:8080"),
        ("the container itself", "[fd00:17::1]:8080"),
        ("a container on other", "172.17.0.1:8080"),
        ("a container on bridge", "172.17.0.2:80"),
    ],
)
def test_what_is_in_order_is_said_to_reach(source: str, destination: str) -> None:
    assert verdict(facts(), source, destination) == ("reaches", "")


def test_a_path_names_the_rule_and_the_element_and_where_it_goes_on() -> None:
    steps = path(facts(), OUTSIDE, f"{HOST4}:8080").steps
    translated = next(step for step in steps if step.action == "translated")
    assert translated.where == "table inet teul, chain prerouting"
    assert translated.what == "translated: goes to 172.17.0.2:80"
    assert translated.evidence == [
        "fib daddr type local dnat ip to meta l4proto . th dport map @ports4",
        "ports4 { tcp . 8080 : 172.17.0.2 . 80 }",
    ]
    forward = next(step for step in steps if step.where == "table inet teul, chain forward")
    assert forward.evidence == ["to_bridges: ct status dnat accept"]
    assert steps[-1].where == "container web"
    assert steps[-1].evidence == ["listens: 0.0.0.0:80, [::]:80"]


def test_the_source_is_translated_where_the_answer_would_not_come_back_otherwise() -> None:
    def translated(source: str, destination: str) -> list[str]:
        return [step.where for step in path(facts(), source, destination).steps if step.action == "translated"]

    masquerading = "table inet teul, chain postrouting"
    assert masquerading in translated("the container itself", "172.17.0.1:8080")
    assert masquerading in translated("this host", "127.0.0.1:8080")
    assert masquerading not in translated(OUTSIDE, f"{HOST4}:8080")


def test_a_container_that_does_not_run() -> None:
    """What would be: its ports lead there, and nobody is there."""
    empty = golden_ruleset()
    empty = Ruleset(empty.chains, {key: () if "ports" in key[2] or "bound" in key[2] else found for key, found in empty.sets.items()})
    known = facts(is_running=False, status="exited", inside=None, ruleset=empty)
    found = path(known, OUTSIDE, f"{HOST4}:8080")
    assert (found.verdict.result, found.verdict.reason) == ("refused", "the container is not running")
    assert found.verdict.remedy == "teul start web"
    assert "translated" in [step.action for step in found.steps], "it is told what would be"
    assert (
        "it does not run (exited): this is what would be; addresses and ports that were not asked for are examples" in explain(known).notes
    )


def test_nobody_listens_inside() -> None:
    assert verdict(facts(listeners=listening("0.0.0.0:8000")), OUTSIDE, f"{HOST4}:8080") == (
        "refused",
        "nothing listens on port 80/tcp inside",
    )


@pytest.mark.parametrize("loopback", ["127.0.0.1:80", "[::1]:80"])
def test_the_program_listens_on_its_own_loopback_only(loopback: str) -> None:
    found = path(facts(listeners=listening(loopback)), OUTSIDE, f"{HOST4}:8080").verdict
    assert found.reason == "the program inside listens on loopback only, not on 172.17.0.2"
    assert found.result == "refused"
    assert found.remedy == "teul logs web; have the program listen on 0.0.0.0:80"


def test_the_program_listens_on_another_address_only() -> None:
    assert verdict(facts(listeners=listening("172.18.0.9:80")), OUTSIDE, f"{HOST4}:8080") == (
        "refused",
        "the program inside listens on 172.18.0.9:80 only, not on 172.17.0.2",
    )


def test_what_listens_on_ipv6_takes_ipv4_as_well_and_not_the_other_way_round() -> None:
    assert verdict(facts(listeners=listening("[::]:80")), OUTSIDE, f"{HOST4}:8080") == ("reaches", "")
    assert (
        "unless its program has asked for IPv6 only"
        in path(facts(listeners=listening("[::]:80")), OUTSIDE, f"{HOST4}:8080").steps[-1].evidence[-1]
    )
    assert verdict(facts(listeners=listening("0.0.0.0:80")), OUTSIDE, "[2001:db8:1::1]:8080")[0] == "refused"


def test_what_asked_for_ipv6_only_takes_no_ipv4() -> None:
    for takes, expected in ((False, ("refused", "the program inside listens on [::]:80 only, not on 172.17.0.2")), (True, ("reaches", ""))):
        known = [dataclasses.replace(each, takes_ipv4=takes) for each in listening("[::]:80")]
        assert verdict(facts(listeners=known), OUTSIDE, f"{HOST4}:8080") == expected
        assert verdict(facts(listeners=known), OUTSIDE, "[2001:db8:1::1]:8080") == ("reaches", "")
        assert not any("unless" in line for line in path(facts(listeners=known), OUTSIDE, f"{HOST4}:8080").steps[-1].evidence)


def test_who_takes_sctp_is_not_known() -> None:
    ruleset = golden_ruleset()
    key = ("inet", TABLE, "ports4")
    element = [{"concat": ["sctp", 7000]}, {"concat": [HOME4, 7000]}]
    changed = Ruleset(ruleset.chains, {**ruleset.sets, key: [element]})
    known = facts(ruleset=changed, endpoints=[publishing(port("0.0.0.0", 7000, inner=7000, protocol="sctp"))])
    found = explain(known, parse_question("7000/sctp")).paths[0]
    assert (found.verdict.result, found.verdict.reason) == ("unsure", "sctp is not looked at")


def test_a_port_that_is_not_published() -> None:
    found = path(facts(), OUTSIDE, f"{HOST4}:81").verdict
    assert found.result == "refused"
    assert found.reason == (
        "not published: reachable only from containers on the same networks and from this host by 172.17.0.2, fd00:17::2"
    )
    assert found.remedy == "teul port add web 81:81"
    assert verdict(facts(listeners=listening("0.0.0.0:81")), "a container on bridge", "172.17.0.2:81") == ("reaches", "")
    assert verdict(facts(listeners=listening("0.0.0.0:81")), "this host", "172.17.0.2:81") == ("reaches", "")


def test_a_port_of_the_container_that_is_published_under_another_number_is_found_by_either() -> None:
    paths = explain(facts(), parse_question("80")).paths
    assert {each.port for each in paths if each.source == OUTSIDE} == {8080, 9000, 9001}


def test_a_port_that_a_process_of_the_host_has() -> None:
    known = dataclasses.replace(facts().host, listeners=listening("0.0.0.0:81"))
    assert verdict(dataclasses.replace(facts(), host=known), OUTSIDE, f"{HOST4}:81") == (
        "refused",
        "that port is published by no container: a process of the host's has it",
    )


@pytest.mark.parametrize("source", [OUTSIDE, "a container on bridge"])
def test_a_port_that_is_published_on_loopback_only(source: str) -> None:
    destination = f"{HOST4}:9000" if source == OUTSIDE else "172.17.0.1:9000"
    found = path(facts(), source, destination).verdict
    assert (found.result, found.reason) == ("refused", "published on loopback only (127.0.0.1)")
    assert found.remedy == "publish it on all addresses: teul port add web 9000:80"


def test_a_port_that_is_published_on_one_address_only() -> None:
    assert verdict(facts(), "this host", "127.0.0.1:9001") == ("refused", f"published on {HOST4} only")


def test_loopback_of_ipv6_is_led_nowhere() -> None:
    assert verdict(facts(), "this host", "[::1]:8080") == (
        "refused",
        "what comes from ::1 never leaves the host: the kernel translates it to nowhere",
    )
    assert verdict(facts(), "this host", "[::1]:5353/udp")[0] == "dropped", "the engine's own socket takes it, and says nothing"


def test_ipv6_of_the_host_to_a_container_without() -> None:
    without = msgspec.structs.replace(ENDPOINT, ipv6="", ipv6_prefix=0, gateway6="")
    ruleset = golden_ruleset()
    changed = Ruleset(ruleset.chains, {**ruleset.sets, ("inet", TABLE, "ports6"): ()})
    known = facts(endpoints=[without], way_out={4: "bridge"}, ruleset=changed)
    assert verdict(known, OUTSIDE, "[2001:db8:1::1]:8080") == (
        "refused",
        "the container has no IPv6 address, and IPv6 is not translated to IPv4",
    )


@pytest.mark.parametrize(("source", "place"), [("this host", "[::1]:8080"), (OUTSIDE, "[2001:db8:1::1]:8080")])
def test_what_the_kernel_does_not_lead_is_relayed(source: str, place: str) -> None:
    without = msgspec.structs.replace(ENDPOINT, ipv6="", ipv6_prefix=0, gateway6="")
    ruleset = golden_ruleset()
    changed = Ruleset(ruleset.chains, {**ruleset.sets, ("inet", TABLE, "ports6"): ()})
    relayed = ways_of(without, TRANSLATE).relayed
    found = path(facts(endpoints=[without], way_out={4: "bridge"}, ruleset=changed, relayed=relayed), source, place)
    assert found.verdict.result == "reaches"
    assert [step.what for step in found.steps if step.where == "the network agent"] == [
        f"takes it, and sends what comes on to {HOME4}:80, from {GATEWAY4}"
    ]
    assert verdict(facts(endpoints=[without], ruleset=changed, relayed=relayed, is_running=False), source, place)[0] == "refused"
    nobody = facts(endpoints=[without], way_out={4: "bridge"}, ruleset=changed, relayed=relayed, listeners=[])
    assert verdict(nobody, source, place) == ("refused", "nothing listens on port 80/tcp inside")


def test_the_containers_networks_have_no_way_out() -> None:
    inner = NetworkFact(name="bridge", driver="bridge", internal=True, bridge=dataclasses.replace(HOME, is_internal=True))
    known = facts(networks={"bridge": inner}, endpoints=[publishing(gateway="", gateway6="")], way_out={})
    found = path(known, OUTSIDE, f"{HOST4}:81").verdict
    assert (found.result, found.reason) == ("refused", "the container's networks have no way out, so none of its ports is published")
    assert found.remedy == "teul network connect bridge web"


def test_from_an_internal_network_nothing_gets_to_another_one() -> None:
    assert verdict(facts(), "a container on inner", "172.17.0.1:8080") == (
        "dropped",
        "table inet teul, chain forward drops it: the network that it comes from is internal: nothing leaves it",
    )


@pytest.mark.parametrize(
    ("setting", "destination"), [("net/ipv4/ip_forward", f"{HOST4}:8080"), ("net/ipv6/conf/all/forwarding", "[2001:db8:1::1]:8080")]
)
def test_the_host_does_not_forward(setting: str, destination: str) -> None:
    name = setting.replace("/", ".")
    known = facts(settings={**settings(), setting: "0"})
    found = path(known, OUTSIDE, destination).verdict
    assert (found.result, found.reason, found.remedy) == ("dropped", f"{name} is 0", f"sysctl -w {name}=1")
    assert verdict(known, "this host", f"{HOST4}:8080")[0] == "reaches", "what the host sends itself is not forwarded"


def test_the_hosts_loopback_is_kept_from_leaving() -> None:
    known = facts(settings={**settings(), "net/ipv4/conf/teul0/route_localnet": "0"})
    assert verdict(known, "this host", "127.0.0.1:8080") == ("dropped", "net.ipv4.conf.teul0.route_localnet is 0")
    assert verdict(known, OUTSIDE, f"{HOST4}:8080") == ("reaches", "")


def test_the_engines_table_is_gone() -> None:
    known = facts(ruleset=Ruleset())
    found = path(known, OUTSIDE, f"{HOST4}:8080").verdict
    assert (found.result, found.reason) == ("refused", "the engine's table inet teul is gone, as after `nft flush ruleset`")
    assert "there is no table inet teul: somebody has flushed it" in explain(known).notes[0]


def test_there_is_no_library_to_ask() -> None:
    known = facts(ruleset=Ruleset(), has_library=False)
    assert verdict(known, OUTSIDE, f"{HOST4}:8080")[1] == "the engine has no libnftables, so no port is led anywhere"
    assert "libnftables is missing: no chain was looked at" in explain(known).notes


def test_one_element_is_missing() -> None:
    ruleset = golden_ruleset()
    changed = Ruleset(ruleset.chains, {**ruleset.sets, ("inet", TABLE, "ports4"): ()})
    found = path(facts(ruleset=changed), OUTSIDE, f"{HOST4}:8080").verdict
    assert (found.result, found.reason) == ("refused", "the engine's table has no element for this port (tcp 8080), though it should")
    assert found.remedy.startswith("teul restart web")


def test_a_chain_that_somebody_has_changed_is_told_of() -> None:
    ruleset = golden_ruleset()
    key = ("inet", TABLE, "forward")
    shorter = dataclasses.replace(ruleset.chains[key], rules=ruleset.chains[key].rules[:-1])
    notes = explain(facts(ruleset=Ruleset({**ruleset.chains, key: shorter}, ruleset.sets))).notes
    count = rule_counts()["forward"]
    assert f"chain forward of table inet teul has {count - 1} rules, not the engine's {count}: somebody has changed it" in notes


def test_the_port_leads_to_somebody_else() -> None:
    ruleset = golden_ruleset()
    element = [{"concat": ["tcp", 8080]}, {"concat": ["172.17.0.9", 80]}]
    changed = Ruleset(ruleset.chains, {**ruleset.sets, ("inet", TABLE, "ports4"): [element]})
    assert verdict(facts(ruleset=changed), OUTSIDE, f"{HOST4}:8080") == ("refused", "the port leads to 172.17.0.9:80: to somebody else")


def test_something_else_on_the_host_has_the_addresses() -> None:
    routes = {**facts().host.routes_to, HOME4: RouteFact("tun0")}
    assert verdict(facts(routes_to=routes), OUTSIDE, f"{HOST4}:8080") == (
        "dropped",
        "the host's route to 172.17.0.2 does not lead to teul0: leads to tun0",
    )


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        (None, "is not there"),
        (link(6, "vethccccccc0", "veth", master=3, is_up=False), "is down"),
        (link(6, "vethccccccc0", "veth", master=4), "is not on the bridge, or that is down"),
    ],
)
def test_the_containers_link_is_not_as_it_was_made(changed: object, state: str) -> None:
    links = {name: each for name, each in facts().host.links.items() if name != "vethccccccc0"}
    known = dataclasses.replace(facts().host, links=links if changed is None else {**links, "vethccccccc0": changed})  # type: ignore[dict-item]  # a link
    found = verdict(dataclasses.replace(facts(), host=known), OUTSIDE, f"{HOST4}:8080")
    assert found == ("dropped", f"the container's link vethccccccc0 {state}")


def test_the_containers_end_of_the_link_is_down() -> None:
    known = dataclasses.replace(facts().inside, links={"eth0": link(2, "eth0", is_up=False)})  # type: ignore[type-var]  # it runs
    assert verdict(facts(inside=known), OUTSIDE, f"{HOST4}:8080") == ("dropped", "eth0 is down inside")


def test_the_container_has_lost_its_default_route() -> None:
    known = facts(routes={4: RouteFact(failure="Network is unreachable"), 6: RouteFact("eth0")})
    assert verdict(known, OUTSIDE, f"{HOST4}:8080") == ("dropped", "the container has no default route, so its answer does not get out")
    assert verdict(known, "this host", "127.0.0.1:8080") == ("reaches", ""), "who is seen as the gateway is on the link"


def test_a_paused_container() -> None:
    found = path(facts(status="paused"), OUTSIDE, f"{HOST4}:8080").verdict
    assert (found.result, found.reason, found.remedy) == ("unsure", "the container is paused", "teul unpause web")


def test_containers_that_are_kept_apart() -> None:
    apart = NetworkFact(name="bridge", driver="bridge", bridge=dataclasses.replace(HOME, has_icc=False))
    found = verdict(facts(networks={"bridge": apart}), "a container on bridge", "172.17.0.2:80")
    assert found == ("dropped", "containers of network bridge do not reach each other")


def test_what_a_link_opens_between_containers_that_are_kept_apart() -> None:
    """The golden table, in which what stays on the bridge is asked about, and one port is open to one neighbour."""
    apart = NetworkFact(name="bridge", driver="bridge", bridge=dataclasses.replace(HOME, has_icc=False))
    rules = golden_ruleset()
    key, neighbours = ("inet", TABLE, "linked4"), ("inet", TABLE, "neighbours")
    element = {"concat": ["teul0", "172.17.0.3", "172.17.0.2", "tcp", 80]}
    sets = {
        **rules.sets,
        key: (element,),
        neighbours: ([{"concat": ["teul0", "teul0"]}, {"jump": {"target": "linked"}}],),
    }
    known = functools.partial(
        facts,
        networks={"bridge": apart},
        ruleset=Ruleset(rules.chains, sets, rules.own_chain),
        settings={**settings(), "net/ipv4/conf/teul0/proxy_arp_pvlan": "1"},
    )
    linked, other = ipaddress.ip_address("172.17.0.3"), ipaddress.ip_address("172.17.0.4")
    assert verdict(known(asker=linked), "172.17.0.3", "172.17.0.2:80") == ("reaches", "")
    dropped = "table inet teul, chain forward drops it: what is not published is for the container's own network only"
    assert verdict(known(asker=other), "172.17.0.4", "172.17.0.2:80") == ("dropped", dropped)
    assert verdict(known(), "a container on bridge", "172.17.0.2:80")[0] == "unsure", "it is one neighbour's"
    assert verdict(known(asker=linked), "a container on bridge", "[fd00:17::2]:80")[0] == "dropped"


# What others' rules do.


def test_a_drop_of_the_administrators() -> None:
    rule = Rule("tcp dport 80 drop", (match(DPORT, 80), DROP))
    found = path(facts(ruleset=with_user_rules(rule)), OUTSIDE, f"{HOST4}:8080").verdict
    assert (found.result, found.reason) == ("dropped", "table inet teul, chain forward drops it: user: tcp dport 80 drop")
    assert found.remedy == "nft -a list chain inet teul user: the rule is the administrator's"


def test_a_drop_that_depends_on_who_sends_is_a_doubt_until_that_is_told() -> None:
    rule = Rule("ip saddr 198.51.100.0/24 drop", (match(SADDR, {"prefix": {"addr": "198.51.100.0", "len": 24}}), DROP))
    known = facts(ruleset=with_user_rules(rule))
    found = path(known, OUTSIDE, f"{HOST4}:8080")
    assert (found.verdict.result, found.verdict.reason) == ("unsure", "table inet teul, chain forward may drop it")
    assert found.verdict.remedy == "tell the address of who does not get there: --from ADDRESS"
    assert found.steps[found.verdict.step - 1].evidence == ["user: ip saddr 198.51.100.0/24 drop"]
    for asker, expected in (("198.51.100.7", "dropped"), ("198.51.101.7", "reaches")):
        routes = {**known.host.routes_to, asker: RouteFact("eth0", "203.0.113.254")}
        host = dataclasses.replace(known.host, routes_to=routes)
        asked = dataclasses.replace(known, host=host, asker=ipaddress.ip_address(asker))
        assert verdict(asked, asker, f"{HOST4}:8080")[0] == expected


@pytest.mark.parametrize("hook", ["prerouting", "forward", "postrouting"])
def test_a_drop_by_the_policy_of_another_table(hook: str) -> None:
    found = path(facts(ruleset=with_chain("strict", hook=hook, policy="drop", priority=5)), OUTSIDE, f"{HOST4}:8080").verdict
    assert (found.result, found.reason) == ("dropped", "table inet foreign, chain strict drops it: policy drop")
    assert found.remedy == "allow it in table inet foreign, chain strict: nft -a list chain inet foreign strict"


def test_what_is_for_the_host_itself_passes_its_own_chains() -> None:
    """Not those of forwarding: published ports are forwarded, and a firewall that closes `input` does not see them."""
    known = facts(ruleset=with_chain("closed", hook="input", policy="drop"))
    assert verdict(known, OUTSIDE, f"{HOST4}:8080") == ("reaches", "")
    assert verdict(known, OUTSIDE, f"{HOST4}:81") == ("dropped", "table inet foreign, chain closed drops it: policy drop")


def test_a_reject_is_a_refusal() -> None:
    rule = Rule("tcp dport 80 reject", (match(DPORT, 80), {"reject": {"type": "tcp reset"}}))
    assert verdict(facts(ruleset=with_chain("f", rule)), OUTSIDE, f"{HOST4}:8080") == (
        "refused",
        "table inet foreign, chain f rejects it: tcp dport 80 reject",
    )


def test_a_drop_of_another_table_that_cannot_be_judged() -> None:
    rule = Rule("meta mark 0x1 drop", (match({"meta": {"key": "mark"}}, 1), DROP))
    found = path(facts(ruleset=with_chain("f", rule)), "this host", "127.0.0.1:8080").verdict
    assert found.result == "reaches", "what the host sends itself is not forwarded"
    found = path(facts(ruleset=with_chain("f", rule)), OUTSIDE, f"{HOST4}:8080").verdict
    assert (found.result, found.reason) == ("unsure", "table inet foreign, chain f may drop it")


def test_chains_of_others_that_let_it_pass_are_named_and_no_more() -> None:
    steps = path(facts(ruleset=with_chain("f")), OUTSIDE, f"{HOST4}:8080").steps
    assert [step.evidence for step in steps if step.where == "nftables, hook forward"] == [["table inet foreign, chain f"]]


LEGACY = "iptables-legacy, chain FORWARD"


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        (LegacyChain("iptables", 4, False, False, ()), ("reaches", "")),
        (LegacyChain("iptables", 4, True, False, ()), ("dropped", f"{LEGACY}: policy DROP")),
        (LegacyChain("iptables", 4, True, True, ("-A FORWARD -j TEUL",)), ("reaches", "")),
        (LegacyChain("iptables", 4, True, False, ("-A FORWARD -j ufw",)), ("unsure", f"{LEGACY} may drop it: its rules were not evaluated")),
        (LegacyChain("iptables", 4, False, False, ("-A FORWARD -s 192.0.2.1/32 -j DROP",)), ("unsure", f"{LEGACY} may drop it: its rules were not evaluated")),
        (LegacyChain("iptables", 4, False, False, ("-A FORWARD -i docker0 -j DROP", "-A FORWARD ! -o teul+ -j DROP")), ("reaches", "")),
        (LegacyChain("ip6tables", 6, True, False, ()), ("reaches", "")),
    ],
)  # fmt: skip
def test_iptables_legacy_is_looked_at_and_not_evaluated(chain: LegacyChain, expected: tuple[str, str]) -> None:
    assert verdict(facts(legacy=[chain]), OUTSIDE, f"{HOST4}:8080") == expected


def test_several_ways_in_and_a_strict_filter() -> None:
    """Who is beyond a router gets in by the interface that the host's routes lead out by, and by no other that is strict."""
    addresses = {**facts().host.addresses, "eth1": [ipaddress.ip_address("198.18.0.1")]}
    strict = {**settings(), "net/ipv4/conf/eth1/rp_filter": "1"}
    known = facts(addresses=addresses, settings=strict)
    assert verdict(known, "another host, by eth0", f"{HOST4}:8080") == ("reaches", "")
    assert verdict(known, "another host, by eth1", "198.18.0.1:8080") == (
        "unsure",
        "what comes in by eth1 from elsewhere is dropped by the host's rp_filter",
    )
    assert verdict(facts(addresses=addresses), "another host, by eth1", "198.18.0.1:8080") == ("reaches", "")
    loose = {**strict, "net/ipv4/conf/all/rp_filter": "2"}
    assert verdict(facts(addresses=addresses, settings=loose), "another host, by eth1", "198.18.0.1:8080") == ("reaches", "")
    for interface, address, warns in (("eth1", "198.18.0.1", False), ("eth0", HOST4, True)):
        host = dataclasses.replace(known.host, routes_to={**known.host.routes_to, str(STRANGER): RouteFact(interface)})
        asked = dataclasses.replace(known, host=host, asker=STRANGER)
        assert verdict(asked, str(STRANGER), f"{address}:8080") == ("reaches", ""), "the host's routes lead to that one by it"
        assert bool(path(asked, str(STRANGER), f"{address}:8080").steps[0].evidence) is warns


def test_a_rule_about_one_interface_is_about_that_alone() -> None:
    addresses = {**facts().host.addresses, "eth1": [ipaddress.ip_address("198.18.0.1")]}
    rule = Rule("iifname eth1 drop", (match({"meta": {"key": "iifname"}}, "eth1"), DROP))
    known = facts(addresses=addresses, ruleset=with_chain("f", rule))
    assert verdict(known, "another host, by eth0", f"{HOST4}:8080") == ("reaches", "")
    assert verdict(known, "another host, by eth1", "198.18.0.1:8080")[0] == "dropped"


def test_bridges_of_others_are_no_way_in() -> None:
    addresses = {**facts().host.addresses, "docker0": [ipaddress.ip_address("172.20.0.1")]}
    host = dataclasses.replace(facts().host, addresses=addresses, links={**facts().host.links, "docker0": link(9, "docker0", "bridge")})
    assert verdict(dataclasses.replace(facts(), host=host), OUTSIDE, f"{HOST4}:8080") == ("reaches", "")


def test_an_interface_that_does_not_forward() -> None:
    known = facts(settings={**settings(), "net/ipv4/conf/eth0/forwarding": "0"})
    assert verdict(known, OUTSIDE, f"{HOST4}:8080") == ("dropped", "net.ipv4.conf.eth0.forwarding is 0")
    assert verdict(known, OUTSIDE, "[2001:db8:1::1]:8080") == ("reaches", "")


def test_who_asks_about_this_hosts_own_packets_gets_those() -> None:
    paths = explain(facts(asker=ipaddress.ip_address(HOST4)), parse_question("8080")).paths
    assert "this host" in {each.source for each in paths}
    assert HOST4 not in {each.source for each in paths}


def test_the_interface_that_others_come_by_is_down() -> None:
    links = {**facts().host.links, "eth0": link(2, "eth0", is_up=False)}
    host = dataclasses.replace(facts().host, links=links)
    assert verdict(dataclasses.replace(facts(), host=host), OUTSIDE, f"{HOST4}:8080") == ("dropped", "eth0 is down")
