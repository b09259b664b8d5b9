"""Bridge, address translation and isolation, as packets see them.

Three namespaces: the test's own is the host, `outside` is another machine that knows no way back to the containers, and containers.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kernel.netns import Member, address_seen_by, echo_server, in_child, is_reachable, isolated, member
from support.bridges import make_bridge
from support.needs import needs
from teul.linux import nftables
from teul.linux.netlink import links, messages
from teul.linux.netlink.socket import Netlink
from teul.network import endpoints, sysctls
from teul.network.bridge import Bridge, NotABridge, SubnetTaken
from teul.network.firewall.linked import LinkedPort
from teul.network.host import HostNetwork
from teul.network.names import HostNames

pytestmark = needs("root")

NAMES = HostNames(bridge="teul-test", table="teul_test", chain="TEUL-test")
BRIDGE = make_bridge(NAMES.bridge, "172.17.0.0/16")
SETTINGS = tempfile.TemporaryDirectory(prefix="judge-settings-")  # goes with the process that imports this
OUTSIDE, UPLINK = "203.0.113.2", "203.0.113.1"


@contextlib.contextmanager
def outside() -> Iterator[Member]:
    """Another machine on a wire to this one, with a server on it."""
    with member() as other:
        with Netlink() as host:
            pair = messages.new_veth(name="uplink", mtu=1300, peer_name="wire", peer_mac="02:00:00:00:00:02", peer_netns_pid=other.pid)
            host.execute(pair, messages.set_link(name="uplink", is_up=True), subject="uplink")
            index = socket.if_nametoindex("uplink")
            host.execute(
                messages.new_address(link_index=index, address=UPLINK, prefix_length=24),
                messages.new_default_route(link_index=index, gateway=OUTSIDE),
                subject="uplink",
            )

        def configure() -> None:
            with Netlink() as inside:
                wire = socket.if_nametoindex("wire")
                inside.execute(
                    messages.new_address(link_index=wire, address=OUTSIDE, prefix_length=24),
                    messages.set_link(index=wire, is_up=True),
                    subject="wire",
                )

        other.run(configure)
        with echo_server(OUTSIDE, inside=other):
            yield other


@contextlib.contextmanager
def container(bridge: Bridge, number: int = 2) -> Iterator[Member]:
    subnet = bridge.segments[0].subnet
    address = subnet.network_address + number
    plan = endpoints.make_plan(
        container_name="eth0",
        host_name=f"veth{number}",
        bridge=bridge.name,
        mac=endpoints.mac_for(address),
        mtu=bridge.mtu,
        addresses=[f"{address}/{subnet.prefixlen}"],
        gateway=str(subnet.network_address + 1),
        gateway6=None,
        isolated=not bridge.has_icc,
    )
    with member() as process, Netlink() as host:
        process.run(lambda: links.prepare_inside([plan]))
        links.create_veth(plan, process.pid)
        process.run(lambda: links.configure_inside([plan], host))
        yield process


def host_network(names: HostNames = NAMES) -> HostNetwork:
    return HostNetwork(names, settings_file=f"{SETTINGS.name}/{names.bridge}.{os.getpid()}")


def ensure(host: HostNetwork, bridge: Bridge = BRIDGE) -> Bridge:
    made = host.ensure_bridge(bridge)
    host.ensure_firewall([made])
    return made


def shell(*arguments: str) -> str:
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout


@isolated
def test_a_container_reaches_gateway_and_outside_under_the_hosts_address() -> None:
    with outside():
        bridge = ensure(host_network())
        assert bridge.mtu == 1300, "no larger than the way out"
        with container(bridge) as box, echo_server("0.0.0.0", 8001):
            assert box.run(lambda: address_seen_by("172.17.0.1", 8001)) == "172.17.0.2"
            assert box.run(lambda: address_seen_by(OUTSIDE)) == UPLINK


@isolated
def test_the_outside_does_not_reach_into_containers_but_they_reach_each_other() -> None:
    with outside() as other:
        bridge = ensure(host_network())
        other.run(lambda: shell("ip", "route", "add", "172.17.0.0/16", "via", UPLINK))
        with container(bridge, 2) as first, container(bridge, 3) as second, echo_server("172.17.0.2", inside=first):
            assert second.run(lambda: address_seen_by("172.17.0.2")) == "172.17.0.3"
            assert not other.run(lambda: is_reachable("172.17.0.2"))
            nftables.run(f"delete table inet {NAMES.table}\n")
            assert other.run(lambda: is_reachable("172.17.0.2")), "it was our table that kept it out"


@isolated
def test_containers_that_are_kept_apart_reach_what_a_link_opens_and_answer() -> None:
    host = host_network()
    bridge = ensure(host, make_bridge(NAMES.bridge, "172.17.0.0/16", has_icc=False))
    store, web = ipaddress.IPv4Address("172.17.0.2"), ipaddress.IPv4Address("172.17.0.3")
    opened = LinkedPort(NAMES.bridge, web, store, "tcp", 8000)
    with (
        container(bridge, 2) as first,
        container(bridge, 3) as second,
        container(bridge, 4) as third,
        echo_server(str(store), inside=first),
        echo_server(str(store), 8001, inside=first),
        echo_server(str(web), inside=second),
    ):
        assert not second.run(lambda: is_reachable(str(store)))
        host.links.change([], [opened])
        assert second.run(lambda: address_seen_by(str(store))) == str(web)
        assert not second.run(lambda: is_reachable(str(store), 8001))
        assert not first.run(lambda: is_reachable(str(web)))
        assert not third.run(lambda: is_reachable(str(store)))
        host.links.change([opened], [])
        assert not second.run(lambda: is_reachable(str(store)))


@isolated
def test_a_bridge_answers_for_its_containers_only_where_it_keeps_them_apart() -> None:
    """And one that is somebody else's never does: it may lead to other machines."""
    setting = f"net/ipv4/conf/{NAMES.bridge}/proxy_arp_pvlan"
    host = host_network()
    for has_icc, is_internal, expected in ((False, False, "1"), (False, True, "0"), (False, False, "1"), (True, False, "0")):
        ensure(host, make_bridge(NAMES.bridge, "172.17.0.0/16", has_icc=has_icc, is_internal=is_internal))
        assert sysctls.read(setting) == expected
    shell("ip", "link", "add", "br-own", "type", "bridge")
    host.ensure_bridge(make_bridge("br-own", "172.18.0.0/16", has_icc=False))
    assert sysctls.read("net/ipv4/conf/br-own/proxy_arp_pvlan") == "0"


@isolated
def test_two_networks_do_not_reach_each_other() -> None:
    first_host = host_network()
    second_host = host_network(HostNames(bridge="teul-other", table="teul_other", chain="TEUL-other"))
    first, second = ensure(first_host), ensure(second_host, make_bridge("teul-other", "172.18.0.0/16"))
    with container(first, 2) as box, container(second, 3) as other, echo_server("172.17.0.2", inside=box):
        assert not other.run(lambda: is_reachable("172.17.0.2"))


@isolated
def test_everything_may_be_done_again_and_is_gone_afterwards() -> None:
    before = sorted(os_links())
    host = host_network()
    first = ensure(host)
    rules = shell("nft", "list", "ruleset")
    assert ensure(host) == first
    assert host.ensure_bridge(BRIDGE, is_exclusive=True) == first
    assert shell("nft", "list", "ruleset") == rules
    with open("/proc/sys/net/ipv4/ip_forward", encoding="ascii") as file:
        assert file.read().strip() == "1"
    with container(first):
        assert host.list_ports([BRIDGE]) == ["veth2"]
    for _ in range(2):
        host.remove()
        assert shell("nft", "list", "ruleset") == ""
        assert NAMES.bridge not in os_links()
    assert [name for name in os_links() if name not in before and not name.startswith("veth")] == []
    assert host.list_ports([BRIDGE]) == []


@isolated
def test_a_killed_engines_host_is_taken_over_with_its_containers() -> None:
    with outside():
        first = ensure(host_network())
        with container(first) as box:
            successor = host_network()
            taken = successor.ensure_bridge(BRIDGE)
            successor.ensure_firewall([taken])
            assert taken == first
            assert box.run(lambda: address_seen_by(OUTSIDE)) == UPLINK


@isolated
def test_a_bridge_of_the_engines_loses_the_addresses_that_it_had() -> None:
    host = host_network()
    ensure(host)
    host.ensure_bridge(make_bridge(NAMES.bridge, "172.18.0.0/16"))
    assert addresses_of(NAMES.bridge) == ["172.18.0.1"]


@isolated
def test_a_bridge_of_somebody_elses_is_used_and_left_behind() -> None:
    shell("ip", "link", "add", "mine", "type", "bridge")
    shell("ip", "address", "add", "192.0.2.1/24", "dev", "mine")
    host = host_network()
    host.ensure_bridge(make_bridge("mine", "172.18.0.0/16"))
    assert {"192.0.2.1", "172.18.0.1"} <= set(addresses_of("mine"))
    host.remove_link(make_bridge("mine", "172.18.0.0/16"))
    host.remove()
    assert "mine" in os_links()


@isolated
def test_engines_that_choose_the_same_at_once_do_not_both_get_it() -> None:
    hosts = [host_network(HostNames(bridge=f"teul-{number}", table=f"teul_{number}", chain=f"TEUL-{number}")) for number in range(8)]

    def choose(host: HostNetwork) -> bool:
        def ensure_alone() -> bool:
            try:
                host.ensure_bridge(make_bridge(host.names.bridge, "172.17.0.0/16"), is_exclusive=True)
            except SubnetTaken:
                return False
            return True

        return in_child(ensure_alone)

    with ThreadPoolExecutor(8) as executor:
        assert sorted(executor.map(choose, hosts)) == [False] * 7 + [True]


@isolated
def test_a_device_of_another_kind_with_our_name_is_left_alone() -> None:
    shell("ip", "link", "add", NAMES.bridge, "type", "veth", "peer", "name", "peer")
    host = host_network()
    with pytest.raises(NotABridge, match=f"^existing interface {NAMES.bridge} is not a bridge$"):
        host.ensure_bridge(BRIDGE)
    host.remove()
    assert NAMES.bridge in os_links()


@isolated
def test_a_link_that_goes_meanwhile_keeps_no_bridge_from_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's end of another engine's, say: each link of the host is told to go on listening to routers."""
    shell("ip", "link", "add", "gone", "type", "veth", "peer", "name", "other")
    told: list[str] = []

    def write(name: str, value: str) -> None:
        told.append(name)
        if name == "net/ipv6/conf/gone/accept_ra":
            shell("ip", "link", "del", "gone")
        original(name, value)

    original = sysctls._write
    monkeypatch.setattr(sysctls, "_write", write)
    host_network().ensure_bridge(make_bridge(NAMES.bridge, "fd00:7::/64"))
    assert "net/ipv6/conf/gone/accept_ra" in told
    assert NAMES.bridge in os_links()


@isolated
def test_a_link_that_outlives_its_container_is_deleted_and_no_other() -> None:
    host = host_network()
    bridge = ensure(host)
    with container(bridge, 2), container(bridge, 3):
        assert host.remove_ports([BRIDGE], {"veth2", "lo", "nonsense"}) == ["veth2"]
        assert host.list_ports([BRIDGE]) == ["veth3"]


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
@isolated
def test_containers_get_out_where_another_firewall_drops_by_policy(program: str) -> None:
    """As on a host where dockerd runs; what an administrator wrote, and other bridges' privacy, stay as they are."""
    with outside() as other, member() as dockers:
        shell(program, "-P", "FORWARD", "DROP")
        shell(program, "-A", "FORWARD", "-d", "203.0.113.3", "-j", "DROP")
        host = host_network()
        bridge = host.ensure_bridge(BRIDGE)
        other.run(lambda: shell("ip", "route", "add", "172.17.0.0/16", "via", UPLINK))
        other.run(lambda: shell("ip", "address", "add", "203.0.113.3/24", "dev", "wire"))
        attach_to_docker_like_bridge(dockers)
        untouched = shell(program, "-S")
        with container(bridge) as box, echo_server("203.0.113.3", 8001, inside=other), echo_server("10.88.0.2", inside=dockers):
            nftables.run(f"add table inet {NAMES.table}\n")
            assert not box.run(lambda: is_reachable(OUTSIDE)), "the policy holds before we come"
            host.ensure_firewall([bridge])
            assert box.run(lambda: address_seen_by(OUTSIDE)) == UPLINK
            assert not box.run(lambda: is_reachable("203.0.113.3", 8001)), "an explicit rule comes first"
            assert not box.run(lambda: is_reachable("10.88.0.2")), "other bridges are closed by the policy"
            with echo_server("172.17.0.2", inside=box):
                assert not other.run(lambda: is_reachable("172.17.0.2"))
            rules = shell(program, "-S")
            host.ensure_forwarding([bridge])
            assert shell(program, "-S") == rules
        host.remove()
        assert shell(program, "-S") == untouched


def attach_to_docker_like_bridge(dockers: Member) -> None:
    shell("ip", "link", "add", "docker9", "type", "bridge")
    shell("ip", "address", "add", "10.88.0.1/24", "dev", "docker9")
    shell("ip", "link", "set", "docker9", "up")
    plan = endpoints.make_plan(
        container_name="eth0",
        host_name="vethdocker",
        bridge="docker9",
        mac="02:42:0a:58:00:02",
        mtu=1300,
        addresses=["10.88.0.2/24"],
        gateway="10.88.0.1",
        gateway6=None,
    )
    links.create_veth(plan, dockers.pid)
    dockers.run(lambda: links.configure_inside([plan]))


@isolated
def test_no_iptables_table_comes_into_being_where_none_is_needed() -> None:
    ensure(host_network())
    assert "table ip " not in shell("nft", "list", "ruleset")
    with open("/proc/net/ip_tables_names", encoding="ascii") as file:
        assert file.read() == ""


@isolated
def test_nft_complains_in_one_line_with_a_fitting_errno() -> None:
    for script, number in (("list table ip nonsense\n", errno.ENOENT), ("nonsense\n", errno.EINVAL)):
        with pytest.raises(OSError, match="nft: ") as caught:
            nftables.run(script)
        assert caught.value.errno == number
        assert "\n" not in str(caught.value)


@isolated
def test_a_script_is_applied_whole_or_not_at_all() -> None:
    with pytest.raises(OSError, match="nft: "):
        nftables.run("add table ip first\nadd chain ip nonsense chain\n")
    assert shell("nft", "list", "ruleset") == ""


def addresses_of(bridge: str) -> list[str]:
    with Netlink() as host:
        index = socket.if_nametoindex(bridge)
        return [str(ipaddress.ip_address(address.address)) for address in host.list_addresses() if address.link_index == index]


def os_links() -> list[str]:
    """/sys shows the namespace that it was mounted in, so ask the kernel."""
    with Netlink() as host:
        return [link.name for link in host.list_links()]


def test_this_file_left_the_hosts_own_links_alone() -> None:
    assert not {"uplink", NAMES.bridge} & set(os.listdir("/sys/class/net"))
