"""What containers may reach, as their programs see it: of a real engine, with another machine beyond the host."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from dnslib import CNAME, QTYPE, RR, A, DNSRecord

from kernel.netns import Member, echo_server, member
from support import images
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from teul.linux import nftables, process
from teul.network.names import names_for_root

pytestmark = needs("root", "docker_cli", "busybox", "overlayfs", "nft")

NEAR, FAR, HOST = "198.18.77.2", "198.18.99.2", "198.18.77.1"
IDLE = ("busybox", "sleep", "1000")


@pytest.fixture
def outside() -> Iterator[Member]:
    """Another machine, of two addresses, with a server on port 80."""
    name = f"teg{os.getpid() % 100000}"
    with member() as other:
        try:
            _ip("link", "add", name, "type", "veth", "peer", "name", "wire", "netns", str(other.pid))
            _ip("address", "add", f"{HOST}/24", "dev", name)
            _ip("link", "set", name, "up")

            def configure() -> None:
                _ip("address", "add", f"{NEAR}/24", "dev", "wire")
                _ip("address", "add", f"{FAR}/32", "dev", "wire")
                _ip("link", "set", "wire", "up")

            other.run(configure)
            _ip("route", "add", f"{FAR}/32", "via", NEAR)
            with echo_server("0.0.0.0", 80, inside=other):
                yield other
        finally:
            subprocess.run(["ip", "link", "delete", name], check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as running:
        running.load(images.busybox().docker_archive())
        yield running


@pytest.fixture
def fresh_engine() -> Iterator[Engine]:
    with Engine() as running:
        running.load(images.busybox().docker_archive())
        yield running


@pytest.fixture(autouse=True)
def without_containers(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "engine" in request.fixturenames:
        request.getfixturevalue("engine").remove_containers()


def reached(engine: Engine, container: str, *addresses: str) -> list[bool]:
    return [
        engine.docker("exec", container, "sh", "-c", f"nc -w 3 {address} 80 </dev/null | grep -q .").exit_code == 0 for address in addresses
    ]


def must(engine: Engine, *arguments: str) -> str:
    done = engine.teul(*arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_a_policy_holds_from_the_first_packet_on_is_shown_and_is_changed(engine: Engine, outside: Member) -> None:
    first = f"nc -w 3 {FAR} 80 </dev/null | grep -q . && echo out || echo in; sleep 1000"
    must(engine, "run", "-d", "--name", "box", "--egress", f"{NEAR},203.0.113.0/24", "busybox", "sh", "-c", first)
    eventually(lambda: engine.must("logs", "box").strip() == "in", "the first connection was refused")
    assert reached(engine, "box", NEAR, FAR, HOST) == [True, False, False]
    assert engine.inspect("box")["HostConfig"]["Egress"] == [NEAR, "203.0.113.0/24"]
    shown = must(engine, "network", "egress", "box").splitlines()
    assert shown[0] == f"Allowed: {NEAR}, 203.0.113.0/24"
    assert [line.split()[:2] for line in shown if FAR in line or HOST in line] == [[f"{FAR}:80", "tcp"], [f"{HOST}:80", "tcp"]]
    assert must(engine, "network", "egress", "box", f"{FAR}/32").strip() == "box"
    assert reached(engine, "box", NEAR, FAR) == [False, True]
    must(engine, "network", "egress", "box", "any")
    assert reached(engine, "box", NEAR, FAR) == [True, True]
    assert "Egress" not in engine.inspect("box")["HostConfig"]
    assert must(engine, "network", "egress", "box") == "Allowed: any\n"
    must(engine, "network", "egress", "box", "none")
    engine.must("restart", "-t", "0", "box")
    assert reached(engine, "box", NEAR, FAR) == [False, False]


def test_a_networks_policy_is_its_containers_and_neighbours_are_no_egress(engine: Engine, outside: Member) -> None:
    must(engine, "network", "create", "--egress", NEAR, "mine")
    try:
        for name, rule in (("one", "any"), ("two", FAR)):
            must(engine, "run", "-d", "--name", name, "--network", "mine", "--egress", rule, *IDLE)
        assert engine.docker("exec", "two", "ping", "-c", "1", "-W", "2", "one").exit_code == 0
        assert [reached(engine, name, NEAR, FAR) for name in ("one", "two")] == [[True, False], [False, False]]
        assert engine.inspect("mine")["Egress"] == [NEAR]
        assert "Allowed on network mine: 198.18.77.2" in must(engine, "network", "egress", "two")
        must(engine, "network", "egress", "--network", "mine", "any")
        assert [reached(engine, name, NEAR, FAR) for name in ("one", "two")] == [[True, True], [False, True]]
        assert must(engine, "network", "egress", "--network", "mine") == "Allowed: any\n"
        assert "Egress" not in engine.inspect("mine")
    finally:
        engine.remove_containers()
        must(engine, "network", "rm", "mine")


def test_a_policy_goes_along_when_networks_come_and_go(engine: Engine, outside: Member) -> None:
    must(engine, "network", "create", "second")
    try:
        must(engine, "run", "-d", "--name", "box", "--egress", NEAR, *IDLE)
        engine.must("network", "connect", "second", "box")
        engine.must("network", "disconnect", "bridge", "box")
        assert reached(engine, "box", NEAR, FAR) == [True, False]
        engine.must("network", "connect", "bridge", "box")
        engine.must("network", "disconnect", "second", "box")
        assert reached(engine, "box", NEAR, FAR) == [True, False]
    finally:
        engine.remove_containers()
        must(engine, "network", "rm", "second")


def test_who_forges_its_address_gets_nowhere(engine: Engine, outside: Member) -> None:
    """CAP_NET_ADMIN would let it change its own address, and CAP_NET_RAW, which all have, write packets of any."""
    run = ("run", "-d", "--cap-add", "NET_ADMIN")
    must(engine, *run, "--name", "free", *IDLE)
    must(engine, *run, "--name", "held", "--egress", "none", *IDLE)
    for name in ("free", "held"):
        address = engine.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        forged = address.rpartition(".")[0] + ".200"
        engine.must("exec", name, "ip", "address", "del", f"{address}/16", "dev", "eth0")
        engine.must("exec", name, "ip", "address", "add", f"{forged}/16", "dev", "eth0")
        engine.must("exec", name, "ip", "route", "add", "default", "via", address.rpartition(".")[0] + ".1")
        assert reached(engine, name, NEAR) == [name == "free"]
        engine.must("rm", "-f", name)


@pytest.mark.parametrize("killed", [False, True])
def test_policies_survive_the_engine_and_leave_nothing(fresh_engine: Engine, outside: Member, *, killed: bool) -> None:
    engine = fresh_engine
    must(engine, "network", "create", "--egress", NEAR, "mine")
    must(engine, "run", "-d", "--name", "box", "--egress", NEAR, *IDLE)
    must(engine, "run", "-d", "--name", "other", "--network", "mine", *IDLE)
    engine.kill9() if killed else engine.stop()
    engine.start()
    for name in ("box", "other"):
        assert reached(engine, name, NEAR, FAR) == [True, False]
    assert must(engine, "network", "egress", "box").startswith(f"Allowed: {NEAR}\n")
    engine.must("rm", "-f", "box", "other")
    must(engine, "network", "rm", "mine")
    table = names_for_root(os.path.realpath(engine.root)).table
    names = ("policed4", "allowed4", "policed_networks", "network_allowed4", "refused4")
    eventually(lambda: not any(nftables.list_elements("inet", table, names).values()), "nothing is left of them")
    engine.stop()
    assert f"table bridge {table}" not in nftables.run("list tables")


@pytest.fixture
def name_server(outside: Member) -> Iterator[None]:
    """Knows that every name is another name for one machine, whose address is FAR; the times to live are short."""

    def answer(packet: bytes) -> bytes:
        query = DNSRecord.parse(packet)
        reply = query.reply()
        if query.q.qtype == QTYPE.A:
            reply.add_answer(RR(query.q.qname, QTYPE.CNAME, rdata=CNAME("machine.test"), ttl=1))
            reply.add_answer(RR("machine.test", QTYPE.A, rdata=A(FAR), ttl=1), RR("evil.test", QTYPE.A, rdata=A(NEAR), ttl=1))
        return bytes(reply.pack())

    def serve() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
            listening.bind((NEAR, 53))
            os.write(ready_write_fd, b"!")
            while True:
                packet, client = listening.recvfrom(4096)
                listening.sendto(answer(packet), client)

    ready_read_fd, ready_write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
        process.setns(os.open(f"/proc/{outside.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC), process.CLONE_NEWNET)
        serve()
    try:
        assert os.read(ready_read_fd, 1) == b"!"
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for fd in (ready_read_fd, ready_write_fd):
            os.close(fd)


@pytest.mark.parametrize("network", ["bridge", "mine"])
def test_what_is_allowed_by_name_is_reached_by_its_address_and_no_other_name_is_asked_for(
    engine: Engine, name_server: None, network: str
) -> None:
    if network != "bridge":
        must(engine, "network", "create", network)
    try:
        run = ("run", "-d", "--name", "box", "--network", network, "--dns", NEAR, "--egress", "good.example,*.below.example")
        first = "nc -w 3 good.example 80 </dev/null | grep -q . && echo out || echo in; sleep 1000"
        must(engine, *run, "busybox", "sh", "-c", first)
        eventually(lambda: engine.must("logs", "box").strip() == "out", "the first connection was made")
        assert reached(engine, "box", FAR, NEAR) == [True, False], "what the name stands for, and not what an answer says of another"
        assert reached(engine, "box", "a.b.below.example", "bad.example", "below.example") == [True, False, False]
        shown = must(engine, "network", "egress", "box")
        assert [line.split()[:2] for line in shown.splitlines() if line.startswith("good.")] == [["good.example", FAR]]
        report = egress_of(engine, "box")
        assert set(report["RefusedNames"]) >= {"bad.example", "below.example"}
        assert set(report["Names"]) == {"good.example", "a.b.below.example"}
        must(engine, "network", "egress", "box", "*.below.example")
        assert reached(engine, "box", FAR) == [True], "another name allows it"
        must(engine, "network", "egress", "box", "other.example")
        assert reached(engine, "box", FAR, "good.example") == [False, False]
        assert reached(engine, "box", "other.example") == [True]
        must(engine, "network", "egress", "box", "none")
        assert reached(engine, "box", "other.example", FAR) == [False, False]
        must(engine, "network", "egress", "box", "any")
        assert reached(engine, "box", FAR, NEAR) == [True, True]
    finally:
        engine.remove_containers()
        if network != "bridge":
            must(engine, "network", "rm", network)


def test_names_of_a_networks_policy(engine: Engine, name_server: None) -> None:
    must(engine, "network", "create", "--egress", "good.example", "mine")
    try:
        for name, rule in (("one", "any"), ("two", "other.example")):
            must(engine, "run", "-d", "--name", name, "--network", "mine", "--dns", NEAR, "--egress", rule, *IDLE)
        assert engine.docker("exec", "two", "ping", "-c", "1", "-W", "2", "one").exit_code == 0
        assert reached(engine, "one", "good.example", "other.example") == [True, False]
        assert reached(engine, "two", "good.example", "other.example", FAR) == [False, False, False]
        must(engine, "network", "egress", "--network", "mine", "good.example,other.example")
        assert reached(engine, "two", "other.example") == [True]
        must(engine, "network", "egress", "--network", "mine", "lan")
        assert reached(engine, "one", "good.example", FAR) == [False, False]
        refused = engine.teul("network", "egress", "--network", "bridge", "good.example")
        assert "no names can be allowed there" in refused.stderr
    finally:
        engine.remove_containers()
        must(engine, "network", "rm", "mine")


def test_names_and_the_end_of_the_engine(fresh_engine: Engine, name_server: None) -> None:
    """Without an engine nothing new is allowed; what is allowed already goes on, and the next engine has it so."""
    engine = fresh_engine
    must(engine, "network", "create", "mine")
    must(engine, "run", "-d", "--name", "box", "--network", "mine", "--dns", NEAR, "--egress", "good.example", *IDLE)
    assert reached(engine, "box", "good.example") == [True]
    pid = engine.init_pid("box")
    engine.kill9()

    def inside(name: str) -> bool:
        command = ["nsenter", "-t", str(pid), "-n", "-m", "sh", "-c", f"nc -w 3 {name} 80 </dev/null | grep -q ."]
        return subprocess.run(command, check=False).returncode == 0

    assert inside("good.example"), "its address is allowed yet"
    assert not inside("bad.example")
    engine.start()
    assert reached(engine, "box", FAR, "good.example", NEAR) == [True, True, False]
    assert set(egress_of(engine, "box")["Names"]) == {"good.example"}
    engine.must("rm", "-f", "box")
    must(engine, "network", "rm", "mine")


def egress_of(engine: Engine, container: str) -> Any:
    with engine.api() as api:
        return api.expect(200, "GET", f"/teul/containers/{container}/egress").json()


def test_a_policy_without_a_network_to_hold_it_is_refused(engine: Engine) -> None:
    must(engine, "run", "-d", "--name", "donor", *IDLE)
    for mode in ("host", "container:donor"):
        refused = engine.teul("run", "--rm", "--network", mode, "--egress", "lan", *IDLE)
        assert refused.exit_code == 125
        assert "conflicting options: egress policy and the network mode" in refused.stderr
    refused = engine.teul("network", "egress", "donor", "10.0.0.0/33")
    assert 'invalid egress rule "10.0.0.0/33": neither an address nor a network' in refused.stderr


def test_a_policy_and_its_change_are_told(engine: Engine) -> None:
    must(engine, "create", "--name", "box", "--egress", "LAN", *IDLE)
    with engine.api() as api:
        report: Any = api.expect(200, "POST", "/teul/containers/box/egress", {"Egress": "none"}).json()
        assert report == {"Egress": ["none"], "Networks": {}, "Names": {}, "RefusedNames": {}, "Refused": []}
        for body, said in (
            ({}, "an egress policy needs a rule"),
            ({"Egress": None}, "needs a rule"),
            ({"Egress": ["x"]}, "invalid egress rule"),
            ({"Egress": 7}, "invalid JSON"),
        ):
            assert said in api.expect(400, "POST", "/teul/containers/box/egress", body).message
        assert api.expect(404, "GET", "/teul/containers/nobody/egress").message == "No such container: nobody"
        assert api.expect(404, "GET", "/teul/networks/nobody/egress").message == "network nobody not found"
