"""/etc/hosts, hostname and resolv.conf as Docker writes them, but without a public name server that nobody chose."""

from __future__ import annotations

import pytest

from teul.errors import InvalidParameter
from teul.model.config import ContainerConfig
from teul.model.container import ContainerEndpoint
from teul.services.containers.spec.network_files import render_container_files, render_hosts, render_resolv_conf
from unit.services.containers.cases import container

_LOOPBACK = "127.0.0.1\tlocalhost\n"
_LOOPBACK6 = (
    "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)
_HOST_RESOLV_CONF = """\
# a comment
nameserver 127.0.0.53
nameserver 192.0.2.1
nameserver 2001:db8::1
nameserver nonsense
domain old.example
search a.example b.example
options edns0
options trust-ad
sortlist 192.0.2.0
"""


def _resolv_conf(
    text: str = _HOST_RESOLV_CONF, *, own_network: bool = True, ipv6: bool = False, has_resolver: bool = False, **settings: list[str]
) -> list[str]:
    given: dict[str, list[str]] = {"servers": [], "search": [], "options": []} | settings
    rendered = render_resolv_conf(text, own_network=own_network, ipv6=ipv6, has_resolver=has_resolver, **given)
    assert rendered.endswith("\n")
    return [line for line in rendered.splitlines() if line and not line.startswith("#")]


def test_hosts() -> None:
    text = render_hosts(
        ContainerConfig(hostname="web", domainname="example.org"),
        addresses=["172.17.0.2", "fd00::2"],
        extra_hosts=["db:10.0.0.1", "six:[fd00::9]", "up:host-gateway"],
        host_gateway="172.17.0.1",
        ipv6=True,
    )
    own = "172.17.0.2\tweb.example.org web\nfd00::2\tweb.example.org web\n"
    assert text == _LOOPBACK + _LOOPBACK6 + "10.0.0.1\tdb\nfd00::9\tsix\n172.17.0.1\tup\n" + own


def test_hosts_without_ipv6() -> None:
    config = ContainerConfig(hostname="web")
    text = render_hosts(config, addresses=["172.17.0.2", "fd00::2"], extra_hosts=["six:fd00::9"], host_gateway=None, ipv6=False)
    assert text == _LOOPBACK + "172.17.0.2\tweb\n"


def test_host_gateway_needs_a_gateway() -> None:
    with pytest.raises(InvalidParameter, match=r"^unable to derive the IP value for host-gateway$"):
        render_hosts(ContainerConfig(hostname="w"), addresses=[], extra_hosts=["up:host-gateway"], host_gateway=None, ipv6=True)


def test_servers_that_cannot_be_reached_are_left_out() -> None:
    others = ["search a.example b.example", "options edns0 trust-ad", "sortlist 192.0.2.0"]
    assert _resolv_conf() == ["nameserver 192.0.2.1", *others]
    assert _resolv_conf(ipv6=True) == ["nameserver 192.0.2.1", "nameserver 2001:db8::1", *others]
    servers = ["nameserver 127.0.0.53", "nameserver 192.0.2.1", "nameserver 2001:db8::1"]
    assert _resolv_conf(own_network=False) == [*servers, *others]


def test_if_none_is_left_the_hosts_are_kept() -> None:
    """Docker would ask a public resolver; who runs an engine has not agreed to that."""
    assert _resolv_conf("nameserver 127.0.0.53\n") == ["nameserver 127.0.0.53"]
    assert _resolv_conf("") == []


def test_what_only_unicode_calls_a_line_s_end_is_none() -> None:
    assert _resolv_conf("# of\u2028nameserver 192.0.2.1\x85nameserver 192.0.2.2\nnameserver 192.0.2.3\r\n") == ["nameserver 192.0.2.3"]


def test_settings_replace_the_hosts() -> None:
    assert _resolv_conf(servers=["127.0.0.1"], search=["c.example"], options=["ndots:2"]) == [
        "nameserver 127.0.0.1",
        "search c.example",
        "options ndots:2",
        "sortlist 192.0.2.0",
    ]
    assert not any(line.startswith("search") for line in _resolv_conf(search=["."]))


def test_the_files_of_a_container() -> None:
    record = container({"Hostname": "web", "HostConfig": {"Dns": ["192.0.2.7"]}})
    record.endpoints = {
        "bridge": ContainerEndpoint(network_name="bridge", network_id="n", endpoint_id="e", ipv4="172.17.0.2", gateway="172.17.0.1")
    }
    files = render_container_files(record, host_hosts="host's\n", host_resolv_conf=_HOST_RESOLV_CONF)
    assert files["hostname"] == "web\n"
    assert files["hosts"] == _LOOPBACK + _LOOPBACK6 + "172.17.0.2\tweb\n"
    assert "nameserver 192.0.2.7\n" in files["resolv.conf"]
    assert "192.0.2.1" not in files["resolv.conf"]


def test_on_the_hosts_network_the_hosts_files_are_taken() -> None:
    record = container({"HostConfig": {"NetworkMode": "host"}})
    files = render_container_files(record, host_hosts="10.1.1.1 here\n", host_resolv_conf=_HOST_RESOLV_CONF)
    assert files["hosts"] == "10.1.1.1 here\n"
    assert "nameserver 127.0.0.53\n" in files["resolv.conf"]
    record = container({"HostConfig": {"NetworkMode": "host", "ExtraHosts": ["a:10.0.0.1"]}})
    files = render_container_files(record, host_hosts="10.1.1.1 here\n", host_resolv_conf="")
    assert files["hosts"] == _LOOPBACK + _LOOPBACK6 + "10.0.0.1\ta\n"
