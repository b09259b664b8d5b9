"""Driver options of an endpoint: what Docker takes, what it says to the rest, and nothing that leads out of the link's settings."""

from __future__ import annotations

import pytest

from teul.errors import InvalidParameter, System
from teul.network.endpoint_options import INTERFACE, SYSCTLS, EndpointOptions, find_problems, parse_endpoint_options

UNRECOGNISED = (
    "unrecognised network interface sysctl '{}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
)


@pytest.mark.parametrize(
    "good",
    ["net.ipv4.conf.IFNAME.log_martians=1", "net.ipv6.conf.ifname.mtu=1300", "net.mpls.conf.IFNAME.input=1", "net.ipv4.neigh.IFNAME.a.b=1"],
)
def test_settings_of_a_link_are_taken(good: str) -> None:
    assert find_problems({SYSCTLS: good, "other": "label"}) == []


@pytest.mark.parametrize("bad", ["", "x", "net.ipv4.conf.eth0.mtu=1", "net.core.conf.IFNAME.mtu=1", "net.ipv4.conf.IFNAME", "kernel.x=1"])
def test_another_setting_is_unrecognised(bad: str) -> None:
    assert find_problems({SYSCTLS: bad}) == [UNRECOGNISED.format(bad)]


def test_each_of_several_settings_is_looked_at() -> None:
    listed = "net.ipv4.conf.IFNAME.log_martians=1,a,net.ipv4.conf.IFNAME.arp_filter=1,b"
    assert find_problems({SYSCTLS: listed}) == [UNRECOGNISED.format("a"), UNRECOGNISED.format("b")]


def test_what_the_options_mean() -> None:
    options = {INTERFACE: "lan", SYSCTLS: "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.x=a=b", "own": "thing"}
    wanted = (("net", "ipv4", "conf", "IFNAME", "log_martians"), "1"), (("net", "ipv4", "conf", "IFNAME", "x"), "a=b")
    assert parse_endpoint_options(options) == EndpointOptions(interface="lan", sysctls=wanted)
    assert parse_endpoint_options({}) == EndpointOptions()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("net.ipv4.conf.IFNAME.mtu", "expected sysctl 'net.ipv4.conf.IFNAME.mtu' to have format name=value"),
        ("net.ipv4.conf.IFNAME.a.b=1", "expected sysctl 'net.ipv4.conf.IFNAME.a.b=1' to have format net.X.Y.IFNAME.Z"),
        ("fs.ipv4.conf.IFNAME.a=1", "/proc/sys/fs/ipv4/conf/IFNAME/a is not a sysctl file"),
        ("net.ipv4.conf/all.IFNAME.a=1", "/proc/sys/net/ipv4/conf/all/IFNAME/a is not a sysctl file"),
        ("net.ipv4..IFNAME.a=1", "/proc/sys/net/ipv4//IFNAME/a is not a sysctl file"),
    ],
)
def test_a_setting_that_there_cannot_be_fails_the_start(setting: str, message: str) -> None:
    with pytest.raises(System) as caught:
        parse_endpoint_options({SYSCTLS: setting})
    assert caught.value.message == message


@pytest.mark.parametrize("name", [".", "..", "a/b", "a b", "a:b", "eth%d", "a\0b", "sixteencharacter", "äöüäöüäö"])
def test_what_is_no_name_of_a_link_is_refused(name: str) -> None:
    """The kernel would refuse it, or make another name of it."""
    with pytest.raises(InvalidParameter) as caught:
        parse_endpoint_options({INTERFACE: name})
    assert caught.value.message == f"invalid interface name: {name}"
