"""A host with containers as facts, to be changed by each test: what there is if nothing is wrong.

The rules are the engine's own as nft lists them, kept in golden/. Run as a program, as root (`python tests/unit/network/paths/cases.py`),
it writes them again; review the difference. `tests/kernel/network/test_paths.py` compares them with what nft says now.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.bridges import make_bridge
from teul.linux.netlink.messages import Link
from teul.model.container import ContainerEndpoint, PublishedPort
from teul.model.explanation import Path as PacketPath
from teul.network.firewall.ports import forwardings, render_published
from teul.network.firewall.table import render_table
from teul.network.paths.explanation import explain, parse_question
from teul.network.paths.facts import Facts, HostFacts, InsideFacts, Listener, NetworkFact, RouteFact, Subject
from teul.network.paths.ruleset import Chain, Key, Rule, Ruleset, parse_ruleset

GOLDEN = Path(__file__).parent / "golden"
TABLE, CHAIN = "teul", "TEUL"
HOST4, HOST6, GATEWAY4, GATEWAY6 = "203.0.113.1", "2001:db8:1::1", "172.17.0.1", "fd00:17::1"
HOME4, HOME6 = "172.17.0.2", "fd00:17::2"
HOME = make_bridge("teul0", "172.17.0.0/16", "fd00:17::/64")
INNER = make_bridge("tl-inner", "172.18.0.0/16", is_internal=True)
OTHER = make_bridge("tl-other", "172.19.0.0/16")


def port(host_address: str, host_port: int = 8080, *, inner: int = 80, protocol: str = "tcp") -> PublishedPort:
    return PublishedPort(container_port=inner, protocol=protocol, host_address=host_address, host_port=host_port)


PORTS = (
    port("0.0.0.0"),
    port("::"),
    port("127.0.0.1", 9000),
    port(HOST4, 9001),
    port("0.0.0.0", 5353, inner=53, protocol="udp"),
    port("::", 5353, inner=53, protocol="udp"),
)
ENDPOINT = ContainerEndpoint(
    network_name="bridge",
    network_id="n" * 64,
    endpoint_id="e" * 64,
    ipv4=HOME4,
    ipv4_prefix=16,
    gateway=GATEWAY4,
    ipv6=HOME6,
    ipv6_prefix=64,
    gateway6=GATEWAY6,
    mac="02:42:ac:11:00:02",
    host_interface="vethccccccc0",
    interface="eth0",
    ports=PORTS,
)


def script() -> str:
    """What the engine has nftables do for these networks and ports."""
    return render_table(TABLE, [HOME, INNER, OTHER]) + render_published(TABLE, forwardings(ENDPOINT))


def golden_ruleset() -> Ruleset:
    document, listing = ((GOLDEN / name).read_text(encoding="utf-8") for name in ("ruleset.json", "ruleset.nft"))
    return parse_ruleset(document, listing, own_table=TABLE, own_chain=CHAIN)


def link(index: int, name: str, kind: str = "", *, master: int = 0, is_up: bool = True) -> Link:
    return Link(index, name, kind, "02:00:00:00:00:01", 1500, master, is_up, is_up, None)


def settings() -> dict[str, str]:
    names = ("all", "lo", "eth0", "teul0", "tl-inner", "tl-other")
    return {
        "net/ipv4/ip_forward": "1",
        "net/ipv6/conf/all/forwarding": "1",
        "net/bridge/bridge-nf-call-iptables": "0",
        "net/bridge/bridge-nf-call-ip6tables": "0",
        **{f"net/ipv4/conf/{name}/rp_filter": "0" for name in names},
        **{f"net/ipv4/conf/{name}/route_localnet": "1" for name in names},
    }


def facts(**changes: Any) -> Facts:
    """A host that is in order, with a container that is on the default network and listens on all that it publishes.

    A change is of the subject, the host or the inside, whichever has a member of that name.
    """
    subject = Subject(
        id="c" * 64,
        name="web",
        status="running",
        is_running=True,
        networks={"bridge": NetworkFact(name="bridge", driver="bridge", bridge=HOME)},
        endpoints=[ENDPOINT],
        way_out={4: "bridge", 6: "bridge"},
    )
    links = (
        link(1, "lo"),
        link(2, "eth0"),
        link(3, "teul0", "bridge"),
        link(4, "tl-inner", "bridge"),
        link(5, "tl-other", "bridge"),
        link(6, "vethccccccc0", "veth", master=3),
    )
    host = HostFacts(
        table=TABLE,
        bridges={
            bridge.name: NetworkFact(name=name, driver="bridge", internal=bridge.is_internal, bridge=bridge)
            for name, bridge in (("bridge", HOME), ("inner", INNER), ("other", OTHER))
        },
        ruleset=golden_ruleset(),
        settings=settings(),
        links={each.name: each for each in links},
        addresses={
            "lo": [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")],
            "eth0": [ipaddress.ip_address(HOST4), ipaddress.ip_address(HOST6), ipaddress.ip_address("fe80::1")],
            "teul0": [ipaddress.ip_address(GATEWAY4), ipaddress.ip_address(GATEWAY6)],
            "tl-other": [ipaddress.ip_address("172.19.0.1")],
        },
        routes_to={
            "192.0.2.1": RouteFact("eth0", "203.0.113.254", HOST4),
            "2001:db8::1": RouteFact("eth0", "2001:db8:1::ff", HOST6),
            HOME4: RouteFact("teul0", "", GATEWAY4),
            HOME6: RouteFact("teul0", "", GATEWAY6),
        },
        routes_from={HOME4: RouteFact("eth0", "203.0.113.254"), HOME6: RouteFact("eth0", "2001:db8:1::ff")},
    )
    inside = InsideFacts(
        links={"eth0": link(2, "eth0", "veth")},
        routes={4: RouteFact("eth0", GATEWAY4), 6: RouteFact("eth0", GATEWAY6)},
        listeners=listening("0.0.0.0:80", "[::]:80", "0.0.0.0:53/udp", "[::]:53/udp"),
    )

    def changed(part: Any) -> Any:
        names = {each.name for each in dataclasses.fields(part)}
        return dataclasses.replace(part, **{name: value for name, value in changes.items() if name in names})

    whole = Facts(subject=changed(subject), host=changed(host), inside=changed(inside))
    return dataclasses.replace(whole, **{name: changes[name] for name in ("asker", "inside") if name in changes})


def listening(*places: str) -> list[Listener]:
    """`0.0.0.0:80`, `[::1]:53/udp`."""
    found: list[Listener] = []
    for place in places:
        question = parse_question(place)
        assert question.address is not None
        found.append(Listener(question.protocol, question.address, question.port))
    return found


def publishing(*ports: PublishedPort, **changes: Any) -> ContainerEndpoint:
    """The endpoint with other ports, which no element leads to it."""
    import msgspec

    return msgspec.structs.replace(ENDPOINT, ports=ports, **changes)


def with_chain(name: str = "filter", *rules: Rule, hook: str = "forward", table: str = "foreign", **members: Any) -> Ruleset:
    """The golden rules and one more base chain."""
    ruleset = golden_ruleset()
    chain = Chain(**{"family": "inet", "table": table, "name": name, "kind": "filter", "hook": hook, "rules": rules, **members})
    return Ruleset({**ruleset.chains, (chain.family, table, name): chain}, ruleset.sets, ruleset.own_chain)


def with_user_rules(*rules: Rule) -> Ruleset:
    """The golden rules, and these of the administrator's."""
    ruleset = golden_ruleset()
    key: Key = ("inet", TABLE, "user")
    return Ruleset({**ruleset.chains, key: dataclasses.replace(ruleset.chains[key], rules=rules)}, ruleset.sets, ruleset.own_chain)


def match(left: dict[str, Any], right: Any, operator: str = "==") -> dict[str, Any]:
    return {"match": {"op": operator, "left": left, "right": right}}


SADDR, DPORT = {"payload": {"protocol": "ip", "field": "saddr"}}, {"payload": {"protocol": "tcp", "field": "dport"}}
DROP: dict[str, Any] = {"drop": None}


def path(known: Facts, source: str, destination: str) -> PacketPath:
    """The one path from `source` to a place like `203.0.113.1:8080`, `[::1]:8080/tcp`."""
    question = parse_question(destination.rpartition(":")[2])
    place, _, protocol = destination.partition("/")
    found = [
        each
        for each in explain(known, question).paths
        if (each.source, each.destination) == (source, place) and each.protocol == (protocol or "tcp")
    ]
    assert len(found) == 1, f"{source} to {destination}: {[(each.source, each.destination) for each in explain(known, question).paths]}"
    return found[0]


def verdict(known: Facts, source: str, destination: str) -> tuple[str, str]:
    """What becomes of it, and why. What decides is the step that is said to."""
    found = path(known, source, destination)
    if found.verdict.step:
        deciding = found.steps[found.verdict.step - 1].action
        assert deciding == found.verdict.result, "the verdict is that of its step"
    else:
        assert all(step.action in ("passes", "translated") for step in found.steps)
    return found.verdict.result, found.verdict.reason


def write(document: str, listing: str) -> None:
    for name, text in (("ruleset.json", document), ("ruleset.nft", listing)):
        (GOLDEN / name).write_text(text, encoding="utf-8")


def listed() -> Sequence[str]:
    """What nft says of `script` in a network namespace of its own; for a process that ends afterwards."""
    from teul.linux import nftables, process

    process.unshare(process.CLONE_NEWNET)
    nftables.run(script())
    return nftables.run("list ruleset\n", json=True), nftables.run("list ruleset\n", handles=True, terse=True)


if __name__ == "__main__":
    write(*listed())
