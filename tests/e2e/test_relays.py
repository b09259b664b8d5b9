"""Published ports that no address translation leads to their containers: the network agent passes on what comes for them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from e2e.test_ports import await_answer, free_port, listener
from support import images, processes
from support.docker_host import DockerHost
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from teul.linux import netns

pytestmark = [needs("root", "busybox", "overlayfs", "nft")]

_SERVE = ["busybox", "sh", "-c", "mkdir /w; echo here >/w/index.html; exec httpd -f -p 80 -h /w"]
_ECHO = ["busybox", "nc", "-ll", "-p", "80", "-e", "cat"]
_LARGE_BYTES = 100_000_000


def agent_of(engine: Engine) -> int:
    """As a child of the engine, or of the test where the engine that started it is gone."""
    titles = {pid: processes.command_line(pid) for pid in processes.descendants_of(engine.pid)}
    [pid] = [pid for pid, title in titles.items() if title == "teul: network agent"]
    return pid


def echoed(address: str, port: int, data: bytes, *, patience_seconds: float = 30) -> bytes:
    """What comes back of `data`, after all of which the client says that there is no more."""
    with socket.create_connection((address, port), timeout=patience_seconds) as client:
        sender = threading.Thread(target=_say, args=(client, data))
        sender.start()
        with client.makefile("rb") as file:
            answer = file.read()
        sender.join()
        return answer


def _say(client: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # who hears the answer finds out as well
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)


@pytest.fixture
def host6() -> Iterator[str]:
    """An IPv6 address of the host that is not ::1."""
    address = f"2001:db8:{os.getpid() % 65536:x}::1"
    subprocess.run(["ip", "address", "add", f"{address}/128", "dev", "lo"], check=True)
    try:
        yield address
    finally:
        subprocess.run(["ip", "address", "delete", f"{address}/128", "dev", "lo"], check=True)


def bound_inside(engine: DockerHost, name: str, kind: socket.SocketKind) -> socket.socket:
    """A socket of this test's at the container's port 80: no program of busybox's answers many at once."""

    def bind() -> socket.socket:
        made = socket.socket(socket.AF_INET, kind)
        made.bind(("", 80))
        return made

    pidfd = os.pidfd_open(engine.init_pid(name))
    try:
        return netns.run_inside(pidfd, bind)
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def echoing(server: socket.socket) -> Iterator[None]:
    """Hears all that a client says before it answers, and tells it all of that then."""
    server.listen(512)

    def serve() -> None:
        while True:
            try:
                connection, _client = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,)).start()

    def answer(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            connection.sendall(file.read())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with server:
            yield
            server.shutdown(socket.SHUT_RD)
    finally:
        thread.join()


def test_the_hosts_ipv6_addresses_lead_to_a_container_that_has_none(engine: DockerHost, host6: str) -> None:
    port = free_port()
    engine.must("run", "-d", "--name", "web", "-p", f"{port}:80", *_SERVE)
    for address in ("::1", host6, "127.0.0.1"):
        await_answer(address, port)
    engine.must("stop", "-t", "0", "web")
    with listener(port), socket.create_server(("::", port), family=socket.AF_INET6):
        pass
    engine.must("start", "web")
    await_answer("::1", port)


def test_each_way_ends_by_itself_and_nothing_is_lost(engine: DockerHost) -> None:
    port = free_port()
    engine.must("run", "-d", "--name", "web", "-p", f"{port}:80", "busybox", "sleep", "1000")
    with echoing(bound_inside(engine, "web", socket.SOCK_STREAM)):
        assert _is_large_echoed(port)
        assert _are_many_echoed(port)


def _is_large_echoed(port: int) -> bool:
    data = os.urandom(_LARGE_BYTES)
    return hashlib.sha256(echoed("::1", port, data)).digest() == hashlib.sha256(data).digest()


def _are_many_echoed(port: int) -> bool:
    answers: list[bytes] = []
    lock = threading.Barrier(200)

    def ask(number: int) -> None:
        with socket.create_connection(("::1", port), timeout=30) as client:
            lock.wait(60)  # all of them are connected by now
            _say(client, b"%d" % number)
            with client.makefile("rb") as file:
                answers.append(file.read())

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(answers) == sorted(b"%d" % number for number in range(200))


def _is_echoed(port: int) -> bool:
    try:
        return echoed("::1", port, b"!") == b"!"
    except OSError:
        return False


def test_datagrams_are_passed_on_and_answered(engine: DockerHost, host6: str) -> None:
    port = free_port()
    engine.must("run", "-d", "--name", "web", "-p", f"{port}:80/udp", "busybox", "sleep", "1000")
    with bound_inside(engine, "web", socket.SOCK_DGRAM) as server, contextlib.ExitStack() as stack:
        server.settimeout(30)
        clients = []
        for address in ("::1", host6, host6):
            client = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            client.settimeout(30)
            client.connect((address, port))  # so what comes from another address is not heard
            client.send(address.encode())
            clients.append((client, address.encode()))
        seen = [server.recvfrom(64) for _ in clients]
        assert len({place for _datagram, place in seen}) == len(clients), "the container tells them apart"
        for datagram, place in reversed(seen):
            server.sendto(datagram, place)
        assert all(client.recv(64) == said for client, said in clients)


def test_relays_go_on_without_an_engine_and_the_next_one_has_them(fresh_engine: Engine) -> None:
    port = free_port()
    fresh_engine.must("run", "-d", "--name", "web", "-p", f"{port}:80", *_ECHO)
    eventually(lambda: _is_echoed(port), "it answers")
    with socket.create_connection(("::1", port), timeout=30) as client:
        for way in (fresh_engine.kill9, fresh_engine.stop):
            client.sendall(b"before")
            way()
            assert _read(client, 6) == b"before"
            client.sendall(b"meanwhile")
            assert _read(client, 9) == b"meanwhile"
            assert _is_echoed(port), "and new ones are made"
            fresh_engine.start()
            client.sendall(b"after")
            assert _read(client, 5) == b"after"
            with pytest.raises(OSError, match="in use"), socket.create_server(("::", port), family=socket.AF_INET6):
                pass
    fresh_engine.must("rm", "-f", "web")
    with listener(port), socket.create_server(("::", port), family=socket.AF_INET6):
        pass


def test_an_engine_that_is_killed_breaks_off_nothing(fresh_engine: Engine) -> None:
    port = free_port()
    fresh_engine.must("run", "-d", "--name", "web", "-p", f"{port}:80", *_ECHO)
    eventually(lambda: _is_echoed(port), "it answers")
    data = os.urandom(1 << 20)
    with socket.create_connection(("::1", port), timeout=30) as client:
        for number in range(60):
            sender = threading.Thread(target=client.sendall, args=(data,))
            sender.start()
            if number % 20 == 10:
                fresh_engine.kill9()
                fresh_engine.start()
            assert hashlib.sha256(_read(client, len(data))).digest() == hashlib.sha256(data).digest()
            sender.join()
    fresh_engine.must("rm", "-f", "web")


def test_a_killed_agent_is_replaced_and_the_port_kept(fresh_engine: Engine) -> None:
    port = free_port()
    fresh_engine.must("run", "-d", "--name", "web", "-p", f"{port}:80", *_ECHO)
    eventually(lambda: _is_echoed(port), "it answers")
    os.kill(agent_of(fresh_engine), signal.SIGKILL)
    assert echoed("::1", port, b"waits for the next") == b"waits for the next"


def test_ports_come_and_go_while_the_container_runs(fresh_engine: Engine) -> None:
    port = free_port()
    fresh_engine.must("run", "-d", "--name", "web", *_ECHO)
    assert fresh_engine.teul("port", "add", "web", f"{port}:80").exit_code == 0
    eventually(lambda: _is_echoed(port), "it answers")
    with socket.create_connection(("::1", port), timeout=30) as client:
        client.sendall(b"!")
        assert _read(client, 1) == b"!"
        assert fresh_engine.teul("port", "rm", "web", f"{port}:80").exit_code == 0
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with listener(port), socket.create_server(("::", port), family=socket.AF_INET6):
        pass


def test_a_container_whose_engine_is_gone_takes_its_relays_along(fresh_engine: Engine) -> None:
    port = free_port()
    fresh_engine.must("run", "-d", "--name", "web", "-p", f"{port}:80", *_ECHO)
    eventually(lambda: _is_echoed(port), "it answers")
    agent, init = agent_of(fresh_engine), fresh_engine.init_pid("web")
    fresh_engine.kill9()
    os.kill(init, signal.SIGKILL)
    eventually(lambda: not processes.is_alive(agent), "nobody is left to be served")
    fresh_engine.start()


def test_all_ports_are_relayed_where_that_is_wanted(host6: str) -> None:
    with Engine(extra=("--published-ports", "relay")) as engine:
        engine.load(images.busybox().docker_archive())
        port = free_port()
        engine.must("run", "-d", "--name", "web", "-p", f"{port}:80", *_ECHO)
        for address in ("127.0.0.1", "::1", host6):
            eventually(lambda address=address: _answers(address, port), f"{address} answers")  # type: ignore[misc]
        refused = engine.docker("run", "-d", "-p", f"{port}:80/sctp", *_ECHO)
        assert "): sctp ports cannot be published where published ports are relayed" in refused.stderr
        engine.remove_containers()
        engine.must("network", "create", "-o", "teul.published-ports=translate", "translated")
        engine.must("run", "-d", "--network", "translated", "-p", f"{port}:80", *_ECHO)
        eventually(lambda: _answers("127.0.0.1", port), "it answers")
        engine.remove_containers()
        engine.must("network", "rm", "translated")
        bad = engine.docker("network", "create", "-o", "teul.published-ports=nonsense", "bad")
        assert "failed to parse teul.published-ports value: nonsense (neither translate nor relay)" in bad.stderr


def test_the_next_engine_may_have_ports_get_to_their_containers_another_way(fresh_engine: Engine) -> None:
    port = free_port()
    fresh_engine.must("run", "-d", "--name", "web", "-p", f"{port}:80", *_ECHO)
    eventually(lambda: _is_echoed(port), "it answers")
    for mode in ("relay", "translate", "relay"):
        fresh_engine.stop()
        fresh_engine.change_options("--published-ports", mode)
        fresh_engine.start()
        for address in ("127.0.0.1", "::1"):
            eventually(lambda address=address: _answers(address, port), f"{address} answers")  # type: ignore[misc]
        eventually(lambda mode=mode: _is_listened_at(port) == (mode == "relay"), f"with {mode} the kernel does it or not")  # type: ignore[misc]
    fresh_engine.must("rm", "-f", "web")
    with listener(port), socket.create_server(("::", port), family=socket.AF_INET6):
        pass


def _is_listened_at(port: int) -> bool:
    """By IPv4."""
    return bool(subprocess.run(["ss", "-Hltn4", f"sport = :{port}"], check=True, capture_output=True).stdout)


def _answers(address: str, port: int, *, patience_seconds: float = 30) -> bool:
    try:
        return echoed(address, port, b"!", patience_seconds=patience_seconds) == b"!"
    except OSError:
        return False


def _read(client: socket.socket, size: int) -> bytes:
    with client.makefile("rb", buffering=0) as file:
        data = b""
        while len(data) < size:
            piece = file.read(size - len(data))
            assert piece, "the connection has ended"
            data += piece
        return data


@contextlib.contextmanager
def another_host() -> Iterator[tuple[int, str]]:
    """A machine on a wire to this one: the pid of a process on it, and the address by which it knows this host."""
    link, subnet = f"tlr{os.getpid() % 100000}", f"203.0.113.{os.getpid() % 60 * 4}"
    here, there = (f"{subnet.rpartition('.')[0]}.{int(subnet.rpartition('.')[2]) + number}" for number in (1, 2))
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as other:
        own = processes.namespace_of(os.getpid(), "net")
        eventually(lambda: processes.namespace_of(other.pid, "net") not in {own, None}, "it is a machine of its own")
        try:
            _run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(other.pid))
            _run("ip", "address", "add", f"{here}/30", "dev", link)
            _run("ip", "link", "set", link, "up")
            for command in (f"ip address add {there}/30 dev eth0", "ip link set eth0 up"):
                _run("nsenter", "-t", str(other.pid), "-n", *command.split())
            yield other.pid, here
        finally:
            subprocess.run(["ip", "link", "delete", link], check=False)
            other.kill()


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)


def _is_reached_from(pid: int, address: str, port: int) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        return netns.run_inside(pidfd, lambda: _answers(address, port, patience_seconds=1))
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def dropping_input(port: int) -> Iterator[None]:
    """An administrator's rule about what this host receives."""
    table = f"teul_judge_{port}"
    rules = f'type filter hook input priority 0; tcp dport {port} iifname "tlr*" drop;'
    script = f"table inet {table} {{\nchain input {{\n{rules}\n}}\n}}\n"
    subprocess.run(["nft", "-f", "-"], input=script.encode(), check=True)
    try:
        yield
    finally:
        _run("nft", "delete", "table", "inet", table)


def test_the_hosts_input_policy_decides_about_relayed_ports_and_not_about_translated_ones(engine: DockerHost) -> None:
    relayed, translated = free_port(), free_port()
    engine.must("network", "create", "-o", "teul.published-ports=relay", "relayed")
    try:
        engine.must("run", "-d", "--network", "relayed", "-p", f"{relayed}:80", *_ECHO)
        engine.must("run", "-d", "-p", f"{translated}:80", *_ECHO)
        with another_host() as (pid, here):
            for port in (relayed, translated):
                eventually(lambda port=port: _is_reached_from(pid, here, port), f"{port} answers")  # type: ignore[misc]
            with dropping_input(relayed), dropping_input(translated):
                assert not _is_reached_from(pid, here, relayed)
                assert _is_reached_from(pid, here, translated)
                assert _answers("127.0.0.1", relayed), "the rule is about others"
            assert _is_reached_from(pid, here, relayed)
    finally:
        engine.remove_containers()
        engine.must("network", "rm", "relayed")


def test_a_relay_is_no_way_from_an_internal_network_but_one_from_others(engine: DockerHost) -> None:
    """By its gateway's address, which is the host's."""
    port = free_port()
    engine.must("network", "create", "-o", "teul.published-ports=relay", "relayed")
    engine.must("network", "create", "--ipv6", "--subnet", "fd00:ae::/64", "other")
    engine.must("network", "create", "--internal", "--ipv6", "--subnet", "fd00:af::/64", "inner")
    try:
        engine.must("run", "-d", "--network", "relayed", "--name", "web", "-p", f"{port}:80", *_ECHO)
        engine.must("run", "-d", "--network", "other", "--name", "outer", "busybox", "sleep", "1000")
        engine.must("run", "-d", "--network", "inner", "--name", "shut", "busybox", "sleep", "1000")
        host = engine.inspect("web")["NetworkSettings"]["Networks"]["relayed"]["Gateway"]
        outer, inner = (engine.must("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", name) for name in ("other", "inner"))
        reached = {
            (name, address): _is_reached_from(engine.init_pid(name), address, port)
            for name, address in (("outer", host), ("outer", outer), ("outer", "fd00:ae::1"), ("shut", inner), ("shut", "fd00:af::1"))
        }
        assert reached == {key: key[0] == "outer" for key in reached}
    finally:
        engine.remove_containers()
        engine.must("network", "rm", "relayed", "other", "inner")
