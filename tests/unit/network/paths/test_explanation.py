"""What is told of a container beside its ports: the way out, its networks, kinds of networks where no bridge is."""

from __future__ import annotations

import dataclasses
import ipaddress

import msgspec
import pytest

from teul.network.paths.explanation import explain, parse_question
from teul.network.paths.facts import NetworkFact, RouteFact
from teul.network.paths.ruleset import Rule, Ruleset
from unit.network.paths.cases import DROP, ENDPOINT, HOST4, facts, link, listening, match, path, publishing, settings, verdict, with_chain


def out(**changes: object) -> tuple[str, str]:
    """The way out by IPv4."""
    found = explain(facts(**changes)).paths[0]
    assert (found.direction, found.ip_version) == ("out", 4)
    return found.verdict.result, found.verdict.reason


def test_the_way_out_is_told_from_the_container_to_the_hosts_interface() -> None:
    steps = explain(facts()).paths[0].steps
    assert [step.where for step in steps] == [
        "container web",
        "link vethccccccc0",
        "table inet teul, chain arriving",
        "the host's routes",
        "table inet teul, chain forward",
        "table inet teul, chain postrouting",
        "interface eth0",
    ]
    assert steps[0].what == "default route via 172.17.0.1 by eth0, of network bridge"
    assert steps[3].what == "elsewhere is reached via 203.0.113.254 by eth0"
    assert steps[5].action == "translated"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("reaches", "")),
        ({"settings": {**settings(), "net/ipv4/ip_forward": "0"}}, ("dropped", "net.ipv4.ip_forward is 0")),
        ({"routes_from": {"172.17.0.2": RouteFact(failure="No route to host")}}, ("dropped", "the host has no way out itself: No route to host")),
        ({"routes": {4: RouteFact(failure="Network is unreachable"), 6: RouteFact("eth0")}}, ("dropped", "the container's default route is gone: it has been removed inside")),
        ({"is_running": False, "status": "created", "inside": None}, ("refused", "the container is not running")),
        ({"ruleset": with_chain("f", policy="drop")}, ("dropped", "table inet foreign, chain f drops it: policy drop")),
        ({"ruleset": Ruleset()}, ("reaches", "")),
    ],
)  # fmt: skip
def test_the_way_out_and_what_is_in_it(changes: dict[str, object], expected: tuple[str, str]) -> None:
    assert out(**changes) == expected


def test_a_drop_of_some_destinations_is_a_doubt_about_elsewhere() -> None:
    rule = Rule("tcp dport 25 drop", (match({"payload": {"protocol": "tcp", "field": "dport"}}, 25), DROP))
    assert out(ruleset=with_chain("f", rule)) == ("unsure", "table inet foreign, chain f may drop it")


def test_nothing_leaves_an_internal_network() -> None:
    inner = NetworkFact(name="inner", driver="bridge", internal=True)
    endpoint = msgspec.structs.replace(ENDPOINT, network_name="inner", ports=(), gateway="", gateway6="", ipv6="")
    known = facts(networks={"inner": inner}, endpoints=[endpoint], way_out={})
    found = explain(known).paths[0].verdict
    assert (found.result, found.reason) == ("dropped", "network inner is internal: nothing leaves it")
    assert found.remedy == "teul network connect bridge web"


def test_on_a_wire_nothing_of_the_host_looks_at_packets() -> None:
    wire = NetworkFact(name="lan", driver="macvlan", parent="eth0")
    endpoint = msgspec.structs.replace(ENDPOINT, network_name="lan", host_interface="", ports=())
    known = facts(networks={"lan": wire}, endpoints=[endpoint], way_out={4: "lan", 6: "lan"})
    assert [step.where for step in explain(known).paths[0].steps] == ["container web", "the wire of eth0"]
    assert verdict(known, "a container on lan", "172.17.0.2:80") == ("reaches", "")
    assert "on lan it is a host on the wire of eth0 like others; this host does not reach it by that wire" in explain(known).notes


def test_a_container_on_the_hosts_network() -> None:
    known = facts(mode="host", networks={}, endpoints=[], way_out={})
    assert explain(known).paths == []
    assert explain(known).notes[0] == "it has the host's network: what it listens on is a port of the host's"
    host = dataclasses.replace(known.host, listeners=listening("0.0.0.0:81", "127.0.0.1:82"))
    known = dataclasses.replace(known, host=host)
    assert verdict(known, "another host", f"{HOST4}:81") == ("reaches", "")
    assert verdict(known, "another host", f"{HOST4}:82") == ("refused", "nothing listens on 82/tcp of the host's network")
    assert verdict(known, "another host", f"{HOST4}:8080") == ("refused", "another container publishes port 8080/tcp")
    closed = dataclasses.replace(host, ruleset=with_chain("f", hook="input", policy="drop"))
    assert verdict(dataclasses.replace(known, host=closed), "another host", f"{HOST4}:81")[0] == "dropped"


@pytest.mark.parametrize(
    ("mode", "note"),
    [
        ("none", "it has no network, its own loopback alone"),
        ("container:db", "it has the network of db: what follows is about that container's"),
    ],
)
def test_other_kinds_of_networks_are_noted(mode: str, note: str) -> None:
    assert note in explain(facts(mode=mode)).notes


def test_what_listens_and_is_not_published_is_noted() -> None:
    known = facts(listeners=listening("0.0.0.0:80", "0.0.0.0:5432", "[::]:5432", "127.0.0.1:9", "0.0.0.0:53/udp", "0.0.0.0:53"))
    assert explain(known).notes == ["listens inside and is not published: 53/tcp, 5432/tcp"]


def test_the_networks_are_told() -> None:
    side = explain(facts()).networks[0]
    assert (side.name, side.bridge, side.host_interface, side.interface) == ("bridge", "teul0", "vethccccccc0", "eth0")
    assert (side.addresses, side.gateways, side.way_out) == (["172.17.0.2/16", "fd00:17::2/64"], ["172.17.0.1", "fd00:17::1"], [4, 6])


def test_of_one_address_of_the_host_only_that_is_told() -> None:
    paths = explain(facts(), parse_question("127.0.0.1:8080")).paths
    assert {(each.source, each.destination) for each in paths if each.port == 8080} == {
        ("another host", "127.0.0.1:8080"),
        ("this host", "127.0.0.1:8080"),
    }
    assert path(facts(), "another host", f"{HOST4}:8080").verdict.result == "reaches"


def test_what_others_send_to_their_own_loopback_never_comes_here() -> None:
    found = next(each for each in explain(facts(), parse_question("127.0.0.1:8080")).paths if each.source == "another host").verdict
    assert (found.result, found.reason) == ("refused", "published on loopback only")


@pytest.mark.parametrize("words", ["", "0", "70000", "http", "80/xyz", "1.2.3:80", "[::1:80", "::1:80", "80/tcp/udp"])
def test_what_is_no_port(words: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several who find out
        parse_question(words)


@pytest.mark.parametrize(
    ("words", "address", "port", "protocol"),
    [
        ("8080", None, 8080, "tcp"),
        ("443/UDP", None, 443, "udp"),
        ("127.0.0.1:8080", "127.0.0.1", 8080, "tcp"),
        ("[::1]:53/udp", "::1", 53, "udp"),
    ],
)
def test_how_ports_are_written(words: str, address: str | None, port: int, protocol: str) -> None:
    question = parse_question(words)
    assert (question.address, question.port, question.protocol) == (ipaddress.ip_address(address) if address else None, port, protocol)


def test_a_container_that_is_asked_about_by_somebody_is_told_that_ones_packets() -> None:
    known = facts(asker=ipaddress.ip_address("192.0.2.1"))
    assert "192.0.2.1" in {each.source for each in explain(known).paths}
    assert "another host" not in {each.source for each in explain(known).paths}


def test_a_link_that_is_gone_is_the_end_of_the_way_out() -> None:
    links = {"eth0": link(2, "eth0")}
    host = dataclasses.replace(facts().host, links=links)
    found = explain(dataclasses.replace(facts(), host=host)).paths[0].verdict
    assert (found.result, found.reason) == ("dropped", "the container's link vethccccccc0 is not there")


def test_without_ports_there_are_no_paths_in() -> None:
    assert {each.direction for each in explain(facts(endpoints=[publishing()])).paths} == {"out"}
