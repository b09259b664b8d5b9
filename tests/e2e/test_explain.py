"""`teul network explain` beside real packets: what is said to reach reaches, and what is said not to does not.

Another machine is a network namespace on a wire of the host's. What the tests change of the host's firewall is about that wire alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.test_ports import free_port
from kernel.netns import Member, member
from support.engine import Engine
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "busybox", "overlayfs", "nft")]

LINK, WIRE = f"tx{os.getpid()}", f"ty{os.getpid()}"
OUTSIDE4, HOST4, OUTSIDE6, HOST6 = "198.18.77.2", "198.18.77.1", "2001:db8:77::2", "2001:db8:77::1"
SERVE = ["busybox", "sh", "-c", "mkdir /w; echo here >/w/index.html; httpd -f -p 80 -h /w"]
LOOPBACK = ["busybox", "sh", "-c", "mkdir /w; echo here >/w/index.html; httpd -f -p 127.0.0.1:80 -h /w"]


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


@pytest.fixture
def outside() -> Iterator[Member]:
    """Another machine. Its addresses need no second to be found free."""
    with member() as other:
        run("ip", "link", "add", LINK, "type", "veth", "peer", "name", WIRE, "netns", str(other.pid))
        try:
            for address in (f"{HOST4}/24", f"{HOST6}/64"):
                run("ip", "address", "add", address, "dev", LINK, *(["nodad"] if ":" in address else []))
            run("ip", "link", "set", LINK, "up")

            def configure() -> None:
                for address in (f"{OUTSIDE4}/24", f"{OUTSIDE6}/64"):
                    run("ip", "address", "add", address, "dev", WIRE, *(["nodad"] if ":" in address else []))
                run("ip", "link", "set", WIRE, "up")

            other.run(configure)
            yield other
        finally:
            run("ip", "link", "delete", LINK)


def is_served(address: str, port: int) -> bool:
    """Whether the container's server answers."""
    try:
        with socket.create_connection((address, port), timeout=1) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return "200 OK" in connection.makefile().read()
    except OSError:
        return False


def explained(engine: Engine, *arguments: str) -> dict[str, Any]:
    outcome = engine.teul("network", "explain", "--format", "json", *arguments)
    assert outcome.exit_code == 0, outcome.stderr
    document: dict[str, Any] = json.loads(outcome.stdout)
    return document


def verdict(engine: Engine, container: str, source: str, address: str, port: int) -> tuple[str, str]:
    """What is said of a packet; with the address of the other machine, of that machine's."""
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    asker = ["--from", source] if source in (OUTSIDE4, OUTSIDE6) else []
    document = explained(engine, *asker, container, f"{place}/tcp")
    found = [each for each in document["Paths"] if (each["Source"], each["Destination"]) == (source, place)]
    assert len(found) == 1, document
    return found[0]["Verdict"]["Result"], found[0]["Verdict"]["Reason"]


def check_outside(
    engine: Engine, outside: Member, port: int, *, container: str = "web", result: str, reason: str = "", version: int = 4
) -> None:
    """What is said of a packet of the other machine's, and that it is what becomes of it."""
    source, address = (OUTSIDE4, HOST4) if version == 4 else (OUTSIDE6, HOST6)
    said = verdict(engine, container, source, address, port)
    assert said[0] == result, said
    assert reason in said[1]
    if result == "reaches":
        # Of IPv6, a link that has come up just now has no address of its own for a second, by which it could look for neighbours.
        eventually(lambda: outside.run(lambda: is_served(address, port)), f"{said} is true")
    else:
        assert not outside.run(lambda: is_served(address, port)), said


def serve(engine: Engine, *options: str, program: list[str] | None = None) -> None:
    engine.must("run", "-d", "--name", "web", *options, *(program or SERVE))
    listens = ["0.0.0.0:80", "[::]:80", "127.0.0.1:80"]

    def is_up() -> bool:
        return any(word in engine.must("exec", "web", "netstat", "-tln").split() for word in (":::80", *listens))

    eventually(is_up, "the server listens")


@contextlib.contextmanager
def foreign_table(hook: str, rule: str) -> Iterator[None]:
    """Another firewall, whose one rule is about the tests' own wire."""
    name = f"tx{os.getpid()}"
    run("nft", f"table inet {name} {{ chain c {{ type filter hook {hook} priority 5; {rule}; }}; }}")
    try:
        yield
    finally:
        run("nft", "delete", "table", "inet", name)


def test_published_or_not_and_who_reaches_it(fresh_engine: Engine, outside: Member) -> None:
    port, other = free_port(), free_port()
    serve(fresh_engine, "-p", f"{port}:80")
    check_outside(fresh_engine, outside, port, result="reaches")
    check_outside(
        fresh_engine, outside, other, result="refused", reason="not published: reachable only from containers on the same networks"
    )
    check_outside(fresh_engine, outside, port, result="reaches", version=6)
    for address in ("127.0.0.1", HOST4, "::1"):
        assert verdict(fresh_engine, "web", "this host", address, port)[0] == "reaches"
        assert is_served(address, port)
    gateway = fresh_engine.inspect("web")["NetworkSettings"]["Gateway"]
    own = fresh_engine.inspect("web")["NetworkSettings"]["IPAddress"]
    fetch = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {gateway} {port}"
    for source in ("a container on bridge", "the container itself"):
        assert verdict(fresh_engine, "web", source, gateway, port)[0] == "reaches"
    assert "200 OK" in fresh_engine.must("run", "--rm", "busybox", "sh", "-c", fetch)
    assert "200 OK" in fresh_engine.must("exec", "web", "sh", "-c", fetch)
    assert is_served(own, 80)
    document = explained(fresh_engine, "web", str(other))
    assert document["Paths"][0]["Verdict"]["Remedy"] == f"teul port add web {other}:{other}"


def test_a_port_on_loopback_only(fresh_engine: Engine, outside: Member) -> None:
    port = free_port()
    serve(fresh_engine, "-p", f"127.0.0.1:{port}:80")
    check_outside(fresh_engine, outside, port, result="refused", reason="published on loopback only (127.0.0.1)")
    assert verdict(fresh_engine, "web", "this host", "127.0.0.1", port) == ("reaches", "")
    assert is_served("127.0.0.1", port)


def test_nobody_listens_or_not_there(fresh_engine: Engine, outside: Member) -> None:
    port = free_port()
    fresh_engine.must("run", "-d", "--name", "idle", "-p", f"{port}:80", "busybox", "sleep", "1000")
    check_outside(fresh_engine, outside, port, container="idle", result="refused", reason="nothing listens on port 80/tcp inside")
    fresh_engine.must("rm", "-f", "idle")
    serve(fresh_engine, "-p", f"{port}:80", program=LOOPBACK)
    check_outside(fresh_engine, outside, port, result="refused", reason="the program inside listens on loopback only")
    assert fresh_engine.must("exec", "web", "sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc 127.0.0.1 80").startswith(
        "HTTP/1.1 200 OK"
    )


def test_a_container_that_does_not_run_and_one_that_is_paused(fresh_engine: Engine, outside: Member) -> None:
    port = free_port()
    serve(fresh_engine, "-p", f"{port}:80")
    fresh_engine.must("pause", "web")
    check_outside(fresh_engine, outside, port, result="unsure", reason="the container is paused")
    fresh_engine.must("unpause", "web")
    fresh_engine.must("stop", "-t", "0", "web")
    check_outside(fresh_engine, outside, port, result="refused", reason="the container is not running")
    assert explained(fresh_engine, "web")["Running"] is False
    fresh_engine.must("start", "web")
    eventually(lambda: outside.run(lambda: is_served(HOST4, port)), "it answers again")
    check_outside(fresh_engine, outside, port, result="reaches")


def test_rules_of_the_administrators_and_of_others(fresh_engine: Engine, outside: Member) -> None:
    port = free_port()
    serve(fresh_engine, "-p", f"{port}:80")
    with foreign_table("forward", f"iifname {LINK} tcp dport 80 drop"):
        check_outside(fresh_engine, outside, port, result="dropped", reason=f'chain c drops it: iifname "{LINK}" tcp dport 80 drop')
    with foreign_table("forward", f"iifname {LINK} ip saddr != {OUTSIDE4} drop"):
        check_outside(fresh_engine, outside, port, result="reaches")
    with foreign_table("prerouting", f"iifname {LINK} tcp dport {port} drop"):
        check_outside(fresh_engine, outside, port, result="reaches")  # translated by then: it is for port 80
    with foreign_table("prerouting", f"iifname {LINK} tcp dport 80 drop"):
        check_outside(fresh_engine, outside, port, result="dropped")
    with foreign_table("input", f"iifname {LINK} drop"):
        check_outside(fresh_engine, outside, port, result="reaches")
        check_outside(fresh_engine, outside, free_port(), result="dropped", reason="chain c drops it")
    table = engine_table(fresh_engine, port)
    run("nft", f"add rule inet {table} user ip saddr {OUTSIDE4} meta l4proto tcp ct original proto-dst {port} drop")
    check_outside(fresh_engine, outside, port, result="dropped", reason="drops it: user: ip saddr")
    run("nft", f"flush chain inet {table} user")
    check_outside(fresh_engine, outside, port, result="reaches")
    run("nft", f"delete element inet {table} ports4 {{ tcp . {port} }}")
    check_outside(fresh_engine, outside, port, result="refused", reason="has no element for this port")
    run("nft", f"delete table inet {table}")
    check_outside(fresh_engine, outside, port, result="refused", reason=f"the engine's table inet {table} is gone")
    fresh_engine.must("restart", "-t", "0", "web")
    eventually(lambda: outside.run(lambda: is_served(HOST4, port)), "the table is made anew")
    check_outside(fresh_engine, outside, port, result="reaches")


def engine_table(engine: Engine, port: int) -> str:
    """As the explanation names it."""
    steps = explained(engine, "web", str(port))["Paths"][0]["Steps"]
    where = next(step["Where"] for step in steps if step["Action"] == "translated")
    return str(where.split()[2].rstrip(","))


def test_ipv6_and_internal_networks(fresh_engine: Engine, outside: Member) -> None:
    port = free_port()
    fresh_engine.must("network", "create", "--ipv6", "both")
    fresh_engine.must("network", "create", "--internal", "inner")
    serve(fresh_engine, "--network", "both", "-p", f"{port}:80")
    for version in (4, 6):
        check_outside(fresh_engine, outside, port, result="reaches", version=version)
    fresh_engine.must("rm", "-f", "web")
    serve(fresh_engine, "--network", "inner", "-p", f"{port}:80")
    check_outside(fresh_engine, outside, port, result="refused", reason="have no way out, so none of its ports is published")
    own = fresh_engine.inspect("web")["NetworkSettings"]["Networks"]["inner"]["IPAddress"]
    out = explained(fresh_engine, "web")["Paths"]
    assert [each["Verdict"]["Reason"] for each in out if each["Direction"] == "out"] == ["network inner is internal: nothing leaves it"]
    reached = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {own} 80"
    assert [
        each["Verdict"]["Result"] for each in explained(fresh_engine, "web", "80")["Paths"] if each["Source"] == "a container on inner"
    ][-1] == "reaches"
    assert "200 OK" in fresh_engine.must("run", "--rm", "--network", "inner", "busybox", "sh", "-c", reached)
    assert fresh_engine.docker("run", "--rm", "busybox", "sh", "-c", reached).stdout == ""


def test_networks_of_others(fresh_engine: Engine, outside: Member) -> None:
    port = free_port()
    fresh_engine.must(
        "run",
        "-d",
        "--name",
        "host",
        "--network",
        "host",
        "busybox",
        "sh",
        "-c",
        f"mkdir /w; echo >/w/index.html; httpd -f -p {port} -h /w",
    )
    eventually(lambda: is_served("127.0.0.1", port), "the server listens")
    document = explained(fresh_engine, "host", str(port))
    found = {each["Destination"]: each["Verdict"]["Result"] for each in document["Paths"]}
    assert found[f"{HOST4}:{port}"] == "reaches"
    assert outside.run(lambda: is_served(HOST4, port))
    serve(fresh_engine)
    fresh_engine.must("run", "-d", "--name", "guest", "--network", "container:web", "busybox", "sleep", "1000")
    assert "it has the network of web: what follows is about that container's" in explained(fresh_engine, "guest")["Notes"]
    assert explained(fresh_engine, "guest")["Networks"] == explained(fresh_engine, "web")["Networks"]
    fresh_engine.must("run", "-d", "--name", "none", "--network", "none", "busybox", "sleep", "1000")
    assert explained(fresh_engine, "none")["Paths"] == []


def test_a_strict_filter_of_the_hosts(fresh_engine: Engine, outside: Member) -> None:
    """Who is on the wire gets in by it; who comes by it from elsewhere, where the host's routes do not lead, does not."""
    port = free_port()
    serve(fresh_engine, "-p", f"{port}:80")
    stranger = "203.0.113.77"

    def become() -> None:
        run("ip", "address", "add", f"{stranger}/32", "dev", WIRE)

    outside.run(become)
    ask = ["python3", "-c", f"import socket; socket.create_connection(({HOST4!r}, {port}), 1, ({stranger!r}, 0))"]

    def stranger_gets_in() -> bool:
        return outside.run(lambda: subprocess.run(ask, check=False, capture_output=True).returncode == 0)

    run("sysctl", "-qw", f"net.ipv4.conf.{LINK}.rp_filter=1")
    document = explained(fresh_engine, "web", str(port))
    found = next(each for each in document["Paths"] if each["Source"] == f"another host, by {LINK}" and each["IpVersion"] == 4)
    assert found["Verdict"]["Result"] == "unsure"
    assert "rp_filter" in found["Verdict"]["Reason"]
    check_outside(fresh_engine, outside, port, result="reaches")
    assert not stranger_gets_in()


def test_the_way_out_as_text_and_as_a_picture(fresh_engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    serve(fresh_engine, "-p", f"{port}:80")
    text = fresh_engine.teul("network", "explain", "web").stdout
    assert "web → elsewhere, IPv4: " in text
    assert f"this host → 127.0.0.1:{port}/tcp: reaches" in text
    picture = tmp_path / "web.svg"
    assert fresh_engine.teul("network", "explain", "web", "--output", str(picture)).exit_code == 0
    assert ET.fromstring(picture.read_text(encoding="utf-8")).tag == "{http://www.w3.org/2000/svg}svg"
    assert 'invalid port: "http"' in fresh_engine.teul("network", "explain", "web", "http").stderr
    assert 'invalid IP address: "me"' in fresh_engine.teul("network", "explain", "--from", "me", "web").stderr
    assert "No such container: nobody" in fresh_engine.teul("network", "explain", "nobody").stderr


def test_what_would_be_of_ports_that_the_host_is_to_choose(fresh_engine: Engine) -> None:
    """They have numbers that are examples, each its own, and the container's address is the one that was asked for."""
    fresh_engine.must("network", "create", "--subnet", "10.77.0.0/24", "mine")
    fresh_engine.must(
        "create", "--name", "web", "--network", "mine", "--ip", "10.77.0.9", "-p", "80", "-p", "20000-20009:81", "-p", "8080:82", "busybox"
    )
    document = explained(fresh_engine, "web")
    led = {
        each["Port"]: step["What"]
        for each in document["Paths"]
        for step in each["Steps"]
        if each["Source"] == "this host" and each["Destination"].startswith("127.0.0.1:") and "chain output" in step["Where"]
    }
    assert sorted(what for what in led.values() if "translated" in what) == [
        f"translated: goes to 10.77.0.9:{port}" for port in (80, 81, 82)
    ]
    assert led[8080] == "translated: goes to 10.77.0.9:82"
    assert document["Networks"][0]["Addresses"] == [], "it has none yet"
    fresh_engine.must("create", "--name", "none", "--network", "none", "busybox")
    assert explained(fresh_engine, "none", "80")["Paths"] == []
