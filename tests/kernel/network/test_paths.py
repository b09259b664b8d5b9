"""The facts of paths, from a kernel: and what is said of packets is what becomes of packets.

As in `test_ports`: the test's namespace is the host, `machine` is another one, containers are on a network of the engine's.
"""

from __future__ import annotations

import errno
import ipaddress
import os

import pytest

from kernel.netns import Member, in_child, isolated
from kernel.network.test_host import NAMES, shell
from kernel.network.test_ports import HOME4, HOME6, HOST4, HOST6, OUTSIDE4, PORT, container, forwarding, machine, seen, server, two_networks
from support.needs import needs
from teul.linux import nftables
from teul.linux.netlink.socket import Netlink
from teul.model.container import ContainerEndpoint, PublishedPort
from teul.model.explanation import Path
from teul.network.bridge import Bridge
from teul.network.host import HostNetwork
from teul.network.paths.explanation import explain, parse_question
from teul.network.paths.facts import Facts, InsideFacts, NetworkFact, Subject
from teul.network.paths.gather import look_at_host, look_inside
from teul.network.paths.ruleset import Ruleset, parse_ruleset
from unit.network.paths.cases import CHAIN, TABLE, golden_ruleset, listed

pytestmark = needs("root", "nft")


def test_the_rules_that_unit_tests_judge_are_those_that_nft_lists() -> None:
    document, listing = in_child(listed)
    assert parse_ruleset(document, listing, own_table=TABLE, own_chain=CHAIN) == golden_ruleset(), "write them again: see cases.py"


@isolated
def test_the_kernel_says_where_packets_go() -> None:
    with machine() as outside, Netlink() as host:
        link = host.get_link(name="uplink")
        assert link is not None
        assert host.find_route(OUTSIDE4) == (link.ifindex, "", HOST4, False)
        assert host.find_route(HOST4).is_local
        with pytest.raises(OSError, match="Network is unreachable"):
            host.find_route("192.0.2.1")
        shell("ip", "route", "add", "default", "via", OUTSIDE4)
        assert host.find_route("192.0.2.1") == (link.ifindex, OUTSIDE4, HOST4, False)
        assert host.find_route("2001:db8::2").link_index == link.ifindex
        shell("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.uplink.rp_filter=1", "net.ipv4.ip_forward=1")
        shell("ip", "route", "add", "198.51.100.0/24", "dev", "lo")
        with pytest.raises(OSError) as refused:  # noqa: PT011 - newer kernels call it invalid
            host.find_route("192.0.2.1", source="198.51.100.7", input_index=link.ifindex)
        assert refused.value.errno in (errno.EXDEV, errno.EINVAL)
        assert outside.pid


def endpoint(home: Bridge, *ports: PublishedPort) -> ContainerEndpoint:
    return ContainerEndpoint(
        network_name="home",
        network_id="n" * 64,
        endpoint_id="e" * 64,
        ipv4=HOME4,
        ipv4_prefix=16,
        gateway="172.17.0.1",
        ipv6=HOME6,
        ipv6_prefix=64,
        gateway6="fd00:17::1",
        host_interface=f"{home.name[:8]}-2",
        interface="eth0",
        ports=ports,
    )


def facts(host: HostNetwork, home: Bridge, other: Bridge, box: Member, *, asker: str = "") -> Facts:
    ports = [PublishedPort(container_port=80, protocol="tcp", host_address=address, host_port=PORT) for address in ("0.0.0.0", "::")]
    subject = Subject(
        id="c" * 64,
        name="web",
        status="running",
        is_running=True,
        networks={"home": NetworkFact(name="home", driver="bridge", bridge=home)},
        endpoints=[endpoint(home, *ports)],
        way_out={4: "home", 6: "home"},
    )
    fd = os.open(f"/proc/{box.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        inside: InsideFacts = look_inside(fd)
    finally:
        os.close(fd)
    address = ipaddress.ip_address(asker) if asker else None
    looked = look_at_host(
        host.names,
        subject,
        bridges={each.name: NetworkFact(name=name, driver="bridge", bridge=each) for name, each in (("home", home), ("other", other))},
        asker=address,
    )
    return Facts(subject=subject, host=looked, inside=inside, asker=address)


def said(known: Facts, source: str, destination: str) -> Path:
    return next(
        each for each in explain(known, parse_question(str(PORT))).paths if (each.source, each.destination) == (source, destination)
    )


def user(rule: str) -> str:
    return f"add rule inet {NAMES.table} user {rule}\n"


def table(base: str, *rules: str, family: str = "inet", policy: str = "accept", beside: str = "") -> str:
    """Another table; `base` is type, hook and priority of its chain."""
    return f"table {family} f {{ {beside} chain c {{ type {base}; policy {policy}; {'; '.join(rules)}; }}; }}\n"


FORWARD = "filter hook forward priority 10"
# What nft is told, and what is said of a packet from the other machine then: without knowing whose it is, and knowing.
SCRIPTS = {
    "nothing": ("", "reaches", "reaches"),
    "the administrator, all": (user("tcp dport 80 drop"), "dropped", "dropped"),
    "the administrator, one": (user(f"ip saddr {OUTSIDE4} drop"), "unsure", "dropped"),
    "the administrator, another": (user("ip saddr 198.51.100.7 drop"), "unsure", "reaches"),
    "the administrator, by the host's port": (user(f"meta l4proto tcp ct original proto-dst {PORT} drop"), "dropped", "dropped"),
    "a policy": (table(FORWARD, "ct state established accept", family="ip", policy="drop"), "dropped", "dropped"),
    "a policy, and whom it lets through": (
        table(FORWARD, "ct state != new accept", "ip saddr @s accept", policy="drop", beside=f"set s {{ type ipv4_addr; elements = {{ {OUTSIDE4} }}; }};"),
        "unsure",
        "reaches",
    ),
    "a reject": (table(FORWARD, "tcp dport { 79-81, 443 } jump no", beside="chain no { reject; };"), "refused", "refused"),
    "what comes in": (table("filter hook prerouting priority -150", f"iifname uplink tcp dport {PORT} drop"), "dropped", "dropped"),
    "the other version": (table(FORWARD, "tcp dport 9 drop", family="ip6", policy="drop"), "reaches", "reaches"),
    "what is for the host": (table("filter hook input priority 0", "ct state established accept", policy="drop"), "reaches", "reaches"),
    "another translation": (table("nat hook prerouting priority -110", f"tcp dport {PORT} dnat to 172.18.0.9:80", family="ip"), "refused", "refused"),
    "nothing at all": ("flush ruleset\n", "refused", "refused"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
@isolated
def test_what_is_said_of_a_packet_is_what_becomes_of_it(name: str) -> None:
    script, unknown, expected = SCRIPTS[name]
    with machine() as outside, two_networks() as (host, home, other), container(home) as box, server(box):
        shell("ip", "route", "add", "default", "via", OUTSIDE4)
        host.change_published([], [forwarding("0.0.0.0", HOME4), forwarding("::", HOME6)])
        if script:
            nftables.run(script)
        found = said(facts(host, home, other, box, asker=OUTSIDE4), OUTSIDE4, f"{HOST4}:{PORT}")
        assert found.verdict.result == expected, found
        assert (outside.run(lambda: seen(HOST4)) == OUTSIDE4) is (expected == "reaches"), found
        assert said(facts(host, home, other, box), "another host", f"{HOST4}:{PORT}").verdict.result == unknown


@isolated
def test_of_every_sender_it_is_said_what_becomes_of_its_packets() -> None:
    with (
        machine() as outside,
        two_networks() as (host, home, other),
        container(home) as box,
        container(home, 3) as neighbour,
        container(other) as stranger,
        server(box),
    ):
        shell("ip", "route", "add", "default", "via", OUTSIDE4)
        shell("ip", "-6", "route", "add", "default", "via", "2001:db8::2")
        host.change_published([], [forwarding("0.0.0.0", HOME4), forwarding("::", HOME6)])
        known = facts(host, home, other, box)
        for source, address, sees in (
            ("another host", HOST4, outside.run(lambda: seen(HOST4))),
            ("another host", HOST6, outside.run(lambda: seen(HOST6))),
            ("this host", HOST4, seen(HOST4)),
            ("this host", HOST6, seen(HOST6)),
            ("this host", "127.0.0.1", seen("127.0.0.1")),
            ("this host", "::1", seen("::1")),
            ("a container on home", "172.17.0.1", neighbour.run(lambda: seen("172.17.0.1"))),
            ("a container on home", "fd00:17::1", neighbour.run(lambda: seen("fd00:17::1"))),
            ("the container itself", "172.17.0.1", box.run(lambda: seen("172.17.0.1"))),
            ("a container on other", "172.17.0.1", stranger.run(lambda: seen("172.17.0.1"))),
        ):
            place = f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"
            assert (said(known, source, place).verdict.result == "reaches") is bool(sees), (source, place)
        assert [step.where for step in explain(known).paths[0].steps][-1] == "interface uplink"


@pytest.mark.parametrize(
    ("setting", "direction"), [("net.ipv4.ip_forward=0", "another host"), ("net.ipv4.conf.teul-home.route_localnet=0", "this host")]
)
@isolated
def test_settings_that_drop(setting: str, direction: str) -> None:
    with machine() as outside, two_networks() as (host, home, other), container(home) as box, server(box):
        shell("ip", "route", "add", "default", "via", OUTSIDE4)
        host.change_published([], [forwarding("0.0.0.0", HOME4)])
        shell("sysctl", "-qw", setting)
        address = HOST4 if direction == "another host" else "127.0.0.1"
        found = said(facts(host, home, other, box), direction, f"{address}:{PORT}").verdict
        assert (found.result, found.remedy) == ("dropped", f"sysctl -w {setting.partition('=')[0]}=1")
        asked = outside.run(lambda: seen(address)) if direction == "another host" else seen(address)
        assert asked == ""


@pytest.mark.parametrize("flavour", ["nft", "legacy"])
@isolated
def test_beside_iptables_whose_policy_is_drop(flavour: str) -> None:
    """The engine's own chain lets its packets through, and what it asks for is known although nft does not list it."""

    def drop() -> None:
        shell(f"iptables-{flavour}", "-P", "FORWARD", "DROP")
        shell(f"ip6tables-{flavour}", "-P", "FORWARD", "DROP")

    with machine() as outside, two_networks(drop) as (host, home, other), container(home) as box, server(box):
        shell("ip", "route", "add", "default", "via", OUTSIDE4)
        host.change_published([], [forwarding("0.0.0.0", HOME4)])
        assert said(facts(host, home, other, box), "another host", f"{HOST4}:{PORT}").verdict.result == "reaches"
        assert outside.run(lambda: seen(HOST4)) == OUTSIDE4
        shell(f"iptables-{flavour}", "-F", "FORWARD")
        assert said(facts(host, home, other, box), "another host", f"{HOST4}:{PORT}").verdict.result == "dropped"
        assert outside.run(lambda: seen(HOST4)) == ""


@isolated
def test_a_host_without_rules_has_none() -> None:
    assert look_at_host(NAMES, Subject(id="c", name="c", status="created", is_running=False), bridges={}).ruleset == Ruleset(
        own_chain=NAMES.chain
    )
