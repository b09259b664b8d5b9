"""Published ports as the docker command line and docker-py see them, and as connections from this host do."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator

import docker
import pytest
from docker.errors import APIError

from support import images
from support.docker_host import DockerHost
from support.engine import Engine
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "busybox", "overlayfs", "nft")]

_SERVE = ["busybox", "sh", "-c", "mkdir /w; hostname >/w/index.html; httpd -f -p 80 -h /w"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def ask(address: str, port: int) -> str:
    """What the container's server says at this address, "" if nobody is there."""
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.makefile().read()
    except OSError:
        return ""


def await_answer(address: str, port: int) -> None:
    eventually(lambda: "200 OK" in ask(address, port), f"{address}:{port} answers")


@contextlib.contextmanager
def listener(port: int) -> Iterator[None]:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("0.0.0.0", port))
        server.listen()
        yield


def test_a_published_port_is_reached_shown_and_given_back(engine: DockerHost) -> None:
    port = free_port()
    engine.must("run", "-d", "--name", "web", "-p", f"{port}:80", *_SERVE)
    await_answer("127.0.0.1", port)
    places = [{"HostIp": "0.0.0.0", "HostPort": str(port)}, {"HostIp": "::", "HostPort": str(port)}]
    assert engine.inspect("web")["NetworkSettings"]["Ports"] == {"80/tcp": places}
    assert engine.inspect("web")["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": str(port)}]}
    assert engine.must("port", "web").splitlines() == [f"80/tcp -> 0.0.0.0:{port}", f"80/tcp -> [::]:{port}"]
    assert engine.must("port", "web", "80/tcp").splitlines() == [f"0.0.0.0:{port}", f"[::]:{port}"]
    shown = engine.must("ps", "--format", "{{.Ports}}")
    assert f"0.0.0.0:{port}->80/tcp" in shown
    for published, exposed in ((f"publish={port}", "expose=80"), (f"publish={port}/tcp", "expose=80/tcp")):
        for accepted in (published, exposed):
            assert engine.must("ps", "--filter", accepted, "--format", "{{.Names}}") == "web"
    assert engine.must("ps", "--filter", f"publish={port + 1}", "--format", "{{.Names}}") == ""
    engine.must("stop", "-t", "0", "web")
    assert engine.inspect("web")["NetworkSettings"]["Ports"] == {}
    with listener(port):
        assert engine.docker("start", "web").exit_code == 1
    engine.must("start", "web")
    await_answer("127.0.0.1", port)


def test_a_port_of_this_hosts_loopback_only(engine: DockerHost) -> None:
    port = free_port()
    engine.must("run", "-d", "--name", "web", "-p", f"127.0.0.1:{port}:80", *_SERVE)
    await_answer("127.0.0.1", port)
    gateway = engine.inspect("web")["NetworkSettings"]["Gateway"]
    assert ask(gateway, port) == ""
    assert engine.inspect("web")["NetworkSettings"]["Ports"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}


def test_the_container_and_its_neighbours_reach_it_by_the_hosts_address(engine: DockerHost) -> None:
    port = free_port()
    engine.must("run", "-d", "--name", "web", "-p", f"{port}:80", *_SERVE)
    await_answer("127.0.0.1", port)
    gateway = engine.inspect("web")["NetworkSettings"]["Gateway"]
    fetch = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {gateway} {port}"
    assert "200 OK" in engine.must("exec", "web", "sh", "-c", fetch)
    assert "200 OK" in engine.must("run", "--rm", "busybox", "sh", "-c", fetch)
    engine.must("network", "create", "other")
    try:
        assert "200 OK" in engine.must("run", "--rm", "--network", "other", "busybox", "sh", "-c", fetch)
    finally:
        engine.must("network", "rm", "other")


def test_a_port_that_another_container_has_is_refused_and_nothing_is_left(engine: DockerHost) -> None:
    port, other = free_port(), free_port()
    engine.must("run", "-d", "--name", "first", "-p", f"{port}:80", *_SERVE)
    refused = engine.docker("run", "-d", "--name", "second", "-p", f"{other}:81", "-p", f"{port}:80", *_SERVE)
    assert refused.exit_code == 125
    assert re.search(
        r"driver failed programming external connectivity on endpoint second \([0-9a-f]{64}\): "
        rf"Bind for 0\.0\.0\.0:{port} failed: port is already allocated",
        refused.stderr,
    )
    with listener(other):
        pass  # what the failed start had taken already is free
    engine.must("stop", "-t", "0", "first")
    engine.must("start", "second")
    await_answer("127.0.0.1", port)


def test_a_port_that_another_process_has_is_refused(engine: DockerHost) -> None:
    port = free_port()
    with listener(port):
        refused = engine.docker("run", "-d", "--name", "web", "-p", f"{port}:80", *_SERVE)
        assert refused.exit_code == 125
        assert f": failed to bind host port 0.0.0.0:{port}/tcp: address already in use" in refused.stderr
        assert engine.inspect("web")["State"]["Status"] == "created"
    engine.must("start", "web")
    await_answer("127.0.0.1", port)
    with pytest.raises(OSError, match="in use"), listener(port):
        pass


def test_free_ports_stay_while_the_container_runs(docker_py: docker.DockerClient) -> None:
    container = docker_py.containers.run("busybox", ["sleep", "1000"], detach=True, ports={"80/tcp": None, "53/udp": None, "9/tcp": 0})
    container.reload()
    ports = {port: places or [] for port, places in container.ports.items()}
    assert {port: [place["HostIp"] for place in places] for port, places in ports.items()} == {
        port: ["0.0.0.0", "::"] for port in ("80/tcp", "53/udp", "9/tcp")
    }
    assert all(len({place["HostPort"] for place in places}) == 1 for places in ports.values())
    container.restart(timeout=0)
    container.reload()
    assert {port: len(places or ()) for port, places in container.ports.items()} == {"80/tcp": 2, "53/udp": 2, "9/tcp": 2}


def test_all_exposed_ports_are_published_or_shown_without_a_place(engine: DockerHost) -> None:
    engine.must("run", "-d", "--name", "all", "-P", "--expose", "80", "--expose", "8000-8001/udp", "busybox", "sleep", "1000")
    assert sorted(engine.inspect("all")["NetworkSettings"]["Ports"]) == ["80/tcp", "8000/udp", "8001/udp"]
    assert all(len(places) == 2 for places in engine.inspect("all")["NetworkSettings"]["Ports"].values())
    engine.must("run", "-d", "--name", "none", "--expose", "80", "busybox", "sleep", "1000")
    assert engine.inspect("none")["NetworkSettings"]["Ports"] == {"80/tcp": None}
    assert engine.must("ps", "--filter", "name=none", "--format", "{{.Ports}}") == "80/tcp"
    assert engine.must("port", "none") == ""


def test_the_first_free_port_of_a_range_is_taken(engine: DockerHost) -> None:
    base = next(port for port in range(20000, 30000, 3) if _all_free(port))
    for number in range(2):
        engine.must("run", "-d", "--name", f"r{number}", "-p", f"{base}-{base + 1}:80", "busybox", "sleep", "1000")
        assert engine.must("port", f"r{number}", "80").splitlines()[0] == f"0.0.0.0:{base + number}"
    refused = engine.docker("run", "-d", "--name", "r2", "-p", f"{base}-{base + 1}:80", "busybox", "sleep", "1000")
    assert "): all ports are allocated" in refused.stderr


def _all_free(port: int) -> bool:
    for number in range(2):
        try:
            with listener(port + number):
                pass
        except OSError:
            return False
    return True


def test_a_network_says_where_ports_are_published(engine: DockerHost) -> None:
    port = free_port()
    engine.must("network", "create", "-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "bound")
    try:
        engine.must("run", "-d", "--name", "web", "--network", "bound", "-p", f"{port}:80", *_SERVE)
        assert engine.must("port", "web") == f"80/tcp -> 127.0.0.1:{port}"
        await_answer("127.0.0.1", port)
    finally:
        engine.remove_containers()
        engine.must("network", "rm", "bound")


def test_networks_without_a_way_out_publish_nothing(engine: DockerHost) -> None:
    engine.must("network", "create", "--internal", "inner")
    try:
        engine.must("run", "-d", "--name", "web", "--network", "inner", "-p", "80", *_SERVE)
        assert engine.inspect("web")["NetworkSettings"]["Ports"] == {}
        port = free_port()
        engine.must("run", "-d", "--name", "moving", "--network", "inner", "-p", f"{port}:80", *_SERVE)
        engine.must("network", "connect", "bridge", "moving")
        await_answer("127.0.0.1", port)
        engine.must("network", "disconnect", "bridge", "moving")
        assert ask("127.0.0.1", port) == ""
        assert engine.inspect("moving")["NetworkSettings"]["Ports"] == {}
    finally:
        engine.remove_containers()
        engine.must("network", "rm", "inner")


def test_ports_follow_the_containers_way_out(engine: DockerHost) -> None:
    engine.must("network", "create", "one")
    engine.must("network", "create", "two")
    try:
        engine.must("run", "-d", "--name", "web", "--network", "two", "-p", "80", *_SERVE)
        before = engine.must("port", "web")
        port = int(before.splitlines()[0].rpartition(":")[2])
        await_answer("127.0.0.1", port)
        for verb, network in (("connect", "one"), ("disconnect", "one"), ("connect", "one"), ("disconnect", "two")):
            engine.must("network", verb, network, "web")
            assert engine.must("port", "web") == before, f"the port stays the same after {verb}"
            await_answer("127.0.0.1", port)
    finally:
        engine.remove_containers()
        engine.must("network", "rm", "one", "two")


@pytest.mark.parametrize("killed", [False, True])
def test_ports_survive_the_engine(fresh_engine: Engine, *, killed: bool) -> None:
    fresh_engine.must("run", "-d", "--name", "web", "-p", "80", *_SERVE)
    before = fresh_engine.must("port", "web")
    port = int(before.splitlines()[0].rpartition(":")[2])
    await_answer("127.0.0.1", port)
    fresh_engine.kill9() if killed else fresh_engine.stop()
    assert "200 OK" in ask("127.0.0.1", port), "nobody is needed for it"
    fresh_engine.start()
    assert fresh_engine.must("port", "web") == before
    with pytest.raises(OSError, match="in use"), listener(port):
        pass
    await_answer("127.0.0.1", port)
    fresh_engine.must("rm", "-f", "web")
    with listener(port):
        pass


def test_an_engine_with_another_default_address() -> None:
    with Engine(extra=("--ip", "127.0.0.1")) as engine:
        engine.load(images.busybox().docker_archive())
        engine.must("run", "-d", "--name", "web", "-p", "80", "busybox", "sleep", "1000")
        assert engine.must("port", "web").startswith("80/tcp -> 127.0.0.1:")
        assert "::" not in json.dumps(engine.inspect("web")["NetworkSettings"]["Ports"])
        engine.remove_containers()


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        ({"80/tcp": [{"HostPort": "70000"}]}, 'invalid port specification: "70000"'),
        ({"80/tcp": [{"HostPort": "9-8"}]}, 'invalid port specification: "9-8"'),
        ({"0/tcp": [{}]}, 'invalid port specification: "0/tcp"'),
        ({"80/tcp": [{"HostIp": "nonsense"}]}, 'invalid host IP address: "nonsense"'),
    ],
)
def test_what_is_no_port_is_refused_at_once(docker_py: docker.DockerClient, bindings: dict[str, object], message: str) -> None:
    config = docker_py.api.create_host_config()
    config["PortBindings"] = bindings
    with pytest.raises(APIError) as refused:
        docker_py.api.create_container("busybox", "true", host_config=config)
    assert (refused.value.status_code, refused.value.explanation) == (400, message)


def test_ports_are_published_and_taken_back_while_the_container_runs(fresh_engine: Engine) -> None:
    port, other = free_port(), free_port()
    fresh_engine.must("run", "-d", "--name", "web", *_SERVE)
    assert fresh_engine.teul("port", "add", "web", f"{port}:80", f"127.0.0.1:{other}:80").exit_code == 0
    for each in (port, other):
        await_answer("127.0.0.1", each)
    shown = f"80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}\n80/tcp -> 127.0.0.1:{other}\n"
    assert sorted(fresh_engine.teul("port", "web").stdout.splitlines()) == sorted(shown.splitlines())
    assert len(fresh_engine.inspect("web")["HostConfig"]["PortBindings"]["80/tcp"]) == 2
    fresh_engine.stop()
    fresh_engine.start()
    assert fresh_engine.teul("port", "rm", "web", f"{port}:80").exit_code == 0
    assert fresh_engine.teul("port", "web", "80").stdout == f"127.0.0.1:{other}\n"
    with listener(port):
        refused = fresh_engine.teul("port", "add", "web", f"{port}:80")
    assert "address already in use" in refused.stderr
    assert fresh_engine.teul("port", "web").stdout == f"80/tcp -> 127.0.0.1:{other}\n"
    await_answer("127.0.0.1", other)
    gateway = fresh_engine.inspect("web")["NetworkSettings"]["Gateway"]
    assert fresh_engine.teul("port", "add", "web", f"{port}:80").exit_code == 0
    assert "200 OK" in fresh_engine.must("exec", "web", "sh", "-c", f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {gateway} {port}")
    fresh_engine.must("stop", "-t", "0", "web")
    assert fresh_engine.teul("port", "rm", "web", "80").exit_code == 0
    assert "is not published" in fresh_engine.teul("port", "rm", "web", "80").stderr
    assert fresh_engine.teul("port", "add", "web", f"{port}:80").exit_code == 0
    fresh_engine.must("start", "web")
    await_answer("127.0.0.1", port)
    assert "no public port '81/tcp' published for web" in fresh_engine.teul("port", "web", "81").stderr
