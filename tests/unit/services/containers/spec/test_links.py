"""What links on the default bridge tell a container: Docker's variables, and lines of /etc/hosts."""

from __future__ import annotations

from support.container_records import container_record
from teul.model.container import Container, ContainerEndpoint
from teul.model.document import Empty
from teul.model.network import BRIDGE
from teul.services.containers.spec.links import Link, link_environment, link_hosts, with_links, without_link


def child(*ports: str, env: list[str] | None = None, ipv4: str = "172.17.0.5", ipv6: str = "", name: str = "store") -> Container:
    record = container_record(name=name)
    record.config.hostname = "inner"
    record.config.exposed_ports = {port: Empty() for port in ports} or None
    record.config.env = env
    if ipv4:
        record.endpoints = {BRIDGE: ContainerEndpoint(network_name=BRIDGE, network_id="n", endpoint_id="e", ipv4=ipv4, ipv6=ipv6)}
    return record


def test_a_port_is_told_of_in_dockers_variables() -> None:
    assert link_environment("web", [Link("data-base", child("5432/tcp", env=["A=b=c", "PATH=/x", "HOME=/y", "unset"]))]) == [
        "DATA_BASE_PORT=tcp://172.17.0.5:5432",
        "DATA_BASE_PORT_5432_TCP=tcp://172.17.0.5:5432",
        "DATA_BASE_PORT_5432_TCP_ADDR=172.17.0.5",
        "DATA_BASE_PORT_5432_TCP_PORT=5432",
        "DATA_BASE_PORT_5432_TCP_PROTO=tcp",
        "DATA_BASE_NAME=/web/data-base",
        "DATA_BASE_ENV_A=b=c",
    ]


def test_the_first_tcp_port_stands_for_all() -> None:
    variables = link_environment("web", [Link("db", child("53/udp", "8080/tcp", "80"))])
    assert variables[0] == "DB_PORT=tcp://172.17.0.5:80"
    assert [variable.partition("=")[0] for variable in variables if variable.endswith(("=tcp", "=udp"))] == [
        "DB_PORT_80_TCP_PROTO",
        "DB_PORT_8080_TCP_PROTO",
        "DB_PORT_53_UDP_PROTO",
    ]


def test_ports_that_follow_one_another_are_a_range_as_well() -> None:
    variables = dict(
        v.split("=", 1) for v in link_environment("web", [Link("db", child("81/tcp", "80/tcp", "82/tcp", "90/tcp", "91/udp"))])
    )
    assert variables["DB_PORT_80_TCP_START"] == "tcp://172.17.0.5:80"
    assert variables["DB_PORT_80_TCP_PORT_START"] == "80"
    assert variables["DB_PORT_80_TCP_END"] == "tcp://172.17.0.5:82"
    assert variables["DB_PORT_80_TCP_PORT_END"] == "82"
    assert not any(name.endswith("_START") for name in variables if not name.startswith("DB_PORT_80_TCP"))


def test_a_range_may_be_the_last() -> None:
    variables = link_environment("web", [Link("db", child("80/tcp", "81/tcp"))])
    assert "DB_PORT_80_TCP_PORT_END=81" in variables


def test_a_container_without_ports_is_told_of_by_name() -> None:
    assert link_environment("web", [Link("a/b", child())]) == ["B_NAME=/web/a/b"]


def test_names_in_the_hosts_file() -> None:
    """docker: alias and host name, and the name if it is not the alias."""
    links = [Link("db", child()), Link("store", child()), Link("both", child(ipv6="fd00::5")), Link("gone", child(ipv4=""))]
    assert link_hosts(links) == [
        ("172.17.0.5", "db inner store"),
        ("172.17.0.5", "store inner"),
        ("172.17.0.5", "both inner store"),
        ("fd00::5", "both inner store"),
    ]


HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost\n172.17.0.5\tdb inner store\nfd00::5\tdb inner store\n10.0.0.1\tdbx y\n172.17.0.6\tweb\n"


def test_a_link_has_the_addresses_and_names_of_now_in_its_own_place() -> None:
    changed = with_links(HOSTS, [Link("db", child(ipv4="172.17.0.9", ipv6="fd00::9"))])
    assert changed == HOSTS.replace("172.17.0.5", "172.17.0.9").replace("fd00::5", "fd00::9")
    renamed = with_links(HOSTS, [Link("db", child(name="shop"))])
    assert renamed == "127.0.0.1\tlocalhost\n::1\tlocalhost\n172.17.0.5\tdb inner shop\n10.0.0.1\tdbx y\n172.17.0.6\tweb\n"


def test_the_containers_own_name_may_be_that_of_a_link() -> None:
    own = "172.17.0.6\tdb\n172.17.0.6\tdb.example db\n"
    assert with_links(own, [Link("db", child())]) == own + "172.17.0.5\tdb inner store\n"
    assert without_link(own + "172.17.0.5\tdb inner store\n", "db") == own


def test_a_link_that_is_gone_is_gone_from_the_hosts_file() -> None:
    assert without_link(HOSTS, "db") == "127.0.0.1\tlocalhost\n::1\tlocalhost\n10.0.0.1\tdbx y\n172.17.0.6\tweb\n"


def test_a_line_that_is_missing_is_added_once() -> None:
    link = Link("db", child())
    once = with_links("127.0.0.1\tlocalhost", [link])
    assert once == "127.0.0.1\tlocalhost\n172.17.0.5\tdb inner store\n"
    assert with_links(once, [link]) == once
