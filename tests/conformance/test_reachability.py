"""Who reaches what: packets from another host, the host, neighbours and strangers to containers, with both engines, compared.

Servers and clients are this process's, with sockets made inside the namespaces in question; the containers only lend theirs.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from support import images
from support.docker_host import DockerHost
from support.dockerd import Dockerd
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from teul.linux import netns

pytestmark = needs("root", "docker_cli", "dockerd", "busybox", "overlayfs", "nft")

_SECONDS = 1.0  # until an answer counts as none
_HOST4, _OUTSIDE4 = "198.18.77.1", "198.18.77.2"
_HOST6, _OUTSIDE6 = "fd00:77::1", "fd00:77::2"
# Numbers of the host that no local port range has; the third is not published.
_EVERYWHERE, _LOOPBACK, _ANOTHER = 7101, 7102, 7103
_INSIDE, _INSIDE_LOOPBACK, _UNPUBLISHED = 81, 82, 83

# Networks, and the containers that lend their namespaces. `both` and `second` have IPv6.
_NETWORKS = {
    "both": ("--ipv6", "--subnet", "10.177.1.0/24", "--subnet", "fd00:177:1::/64"),
    "second": ("--ipv6", "--subnet", "10.177.2.0/24", "--subnet", "fd00:177:2::/64"),
    "four": ("--subnet", "10.177.3.0/24"),
    "inner": ("--internal", "--subnet", "10.177.4.0/24"),
    "apart": ("--subnet", "10.177.5.0/24", "-o", "com.docker.network.bridge.enable_icc=false"),
}
_PUBLISHED = [
    word
    for protocol in ("tcp", "udp")
    for word in ("-p", f"{{}}:{_INSIDE}/{protocol}", "-p", f"127.0.0.1:{{}}:{_INSIDE_LOOPBACK}/{protocol}")
]
_CONTAINERS = {
    "web": ("both", 0),
    "neighbour": ("both", None),
    "stranger": ("second", None),
    "old": ("four", 10),
    "shut": ("inner", 20),
    "shut-neighbour": ("inner", None),
    "alone": ("apart", None),
    "alone-neighbour": ("apart", None),
}


class Probe(NamedTuple):
    """A question whose answer is whether it is answered."""

    source: str
    target: str
    protocol: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.source} -> {self.target} {self.protocol}"


class Scene:
    """An engine with the containers, and another host beside it."""

    def __init__(self, engine: DockerHost, outside_pid: int) -> None:
        self.engine = engine
        self.pids = {"host": engine.pid, "outside": outside_pid}
        self.addresses: dict[str, tuple[str, str]] = {}
        for name, (network, _) in _CONTAINERS.items():
            document = engine.inspect(name)
            endpoint = document["NetworkSettings"]["Networks"][network]
            self.pids[name] = document["State"]["Pid"]
            self.addresses[name] = (endpoint["IPAddress"], endpoint["GlobalIPv6Address"])

    def probes(self) -> list[Probe]:
        sources = ["outside", "host", *_CONTAINERS]
        found = []
        for source in sources:
            for protocol in ("tcp", "udp"):
                make = functools.partial(self._probe, source, protocol)
                for name in ("web", "old", "shut", "alone"):
                    four, six = self.addresses[name]
                    found.append(make(f"{name}'s address", four, _INSIDE))
                    if six:
                        found.append(make(f"{name}'s IPv6 address", six, _INSIDE))
                        found.append(make(f"{name}'s IPv6 address, a port that is not published", six, _UNPUBLISHED))
                    found.append(make(f"{name}'s address, a port that is not published", four, _UNPUBLISHED))
                for name, offset in (("web", 0), ("old", 10)):
                    found.append(make(f"{name}'s port of the host", _HOST4, _EVERYWHERE + offset))
                    found.append(make(f"{name}'s port of the host's IPv6 address", _HOST6, _EVERYWHERE + offset))
                    found.append(make(f"{name}'s port of the host's loopback, by its address", _HOST4, _LOOPBACK + offset))
                    if source in {"host", name}:
                        found.append(make(f"{name}'s port by 127.0.0.1", "127.0.0.1", _EVERYWHERE + offset))
                        found.append(make(f"{name}'s port by ::1", "::1", _EVERYWHERE + offset))
                        found.append(make(f"{name}'s port of the host's loopback", "127.0.0.1", _LOOPBACK + offset))
                found.append(make("what nobody has published", _HOST4, _ANOTHER))
            found.append(self._probe(source, "udp", "the other host", _OUTSIDE4, _INSIDE))
            found.append(self._probe(source, "tcp", "the other host", _OUTSIDE4, _INSIDE))
        return found

    @staticmethod
    def _probe(source: str, protocol: str, target: str, address: str, port: int) -> Probe:
        return Probe(source, target, protocol, address, port)

    def matrix(self) -> dict[str, bool]:
        """Whether each probe is answered."""
        probes = self.probes()
        with contextlib.ExitStack() as stack:
            spaces = {}
            for name, pid in self.pids.items():
                spaces[name] = netns.open_of(pid)
                stack.callback(os.close, spaces[name])
            for name in ("web", "old", "shut", "alone", "outside"):
                for port in (_INSIDE, _INSIDE_LOOPBACK, _UNPUBLISHED):
                    stack.enter_context(servers(spaces[name], port))
            pool = stack.enter_context(ThreadPoolExecutor(24))
            answers = list(pool.map(lambda probe: netns.run_inside(spaces[probe.source], functools.partial(is_answered, probe)), probes))
        return {str(probe): answer for probe, answer in zip(probes, answers, strict=True)}


def is_answered(probe: Probe) -> bool:
    family = socket.AF_INET6 if ":" in probe.address else socket.AF_INET
    kind = socket.SOCK_STREAM if probe.protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as client:
        client.settimeout(_SECONDS)
        try:
            client.connect((probe.address, probe.port))
            client.sendall(b"ping")
            return client.recv(16) == b"PING"
        except OSError:
            return False


@contextlib.contextmanager
def servers(netns_fd: int, port: int) -> Iterator[None]:
    """Answer in that namespace, by TCP and UDP, IPv4 and IPv6, with what was asked in capitals."""

    def made() -> list[socket.socket]:
        stream = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        packets = [socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6)]
        packets[1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        for each in packets:
            # The answer has to come from the address that was asked: each datagram is answered by a socket that is bound to it.
            each.bind(("", port))
        return [stream, *packets]

    sockets = netns.run_inside(netns_fd, made)
    threads = [
        threading.Thread(target=_accept if each.type == socket.SOCK_STREAM else _answer, args=(each,), daemon=True) for each in sockets
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for each in sockets:
            each.close()


def _accept(server: socket.socket) -> None:
    while True:
        try:
            connection = server.accept()[0]
        except OSError:
            return  # shut down
        with connection, contextlib.suppress(OSError):
            connection.settimeout(_SECONDS)
            connection.sendall(connection.recv(16).upper())


def _answer(server: socket.socket) -> None:
    while True:
        data, client = server.recvfrom(16)
        if not data:
            return  # shut down
        with contextlib.suppress(OSError):
            server.sendto(data.upper(), client)


@contextlib.contextmanager
def _other_host(engine: DockerHost) -> Iterator[int]:
    """A namespace beside the engine's, on a wire to it, that sends everything to it; the pid of a process in there."""
    process = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
    own = os.readlink("/proc/self/ns/net")
    try:
        eventually(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != own, "it is in its own namespace")
        _ip(engine.pid, "link", "add", "tlreach0", "type", "veth", "peer", "name", "eth0", "netns", str(process.pid))
        for pid, link, four, six in ((engine.pid, "tlreach0", _HOST4, _HOST6), (process.pid, "eth0", _OUTSIDE4, _OUTSIDE6)):
            _ip(pid, "addr", "add", f"{four}/24", "dev", link)
            _ip(pid, "-6", "addr", "add", f"{six}/64", "dev", link, "nodad")
            _ip(pid, "link", "set", link, "up")
        _ip(process.pid, "link", "set", "lo", "up")
        _ip(process.pid, "route", "add", "10.177.0.0/16", "via", _HOST4)
        _ip(process.pid, "-6", "route", "add", "fd00:177::/32", "via", _HOST6)
        yield process.pid
    finally:
        process.kill()
        process.wait()
        subprocess.run(
            ["nsenter", f"--net=/proc/{engine.pid}/ns/net", "ip", "link", "delete", "tlreach0"], check=False, capture_output=True
        )


def _ip(pid: int, *arguments: str) -> None:
    subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", *arguments], check=True)


def _matrix(make: Callable[[], DockerHost]) -> dict[str, bool]:
    with make() as engine:
        engine.load(images.busybox().docker_archive())
        with _other_host(engine) as outside_pid:
            for network, options in _NETWORKS.items():
                engine.must("network", "create", *options, network)
            for name, (network, offset) in _CONTAINERS.items():
                ports = [] if offset is None else [word.format(_EVERYWHERE + offset + ("127" in word)) for word in _PUBLISHED]
                engine.must("run", "-d", "--name", name, "--network", network, *ports, "busybox", "sleep", "1000")
            found = Scene(engine, outside_pid).matrix()
            engine.must("rm", "-f", *_CONTAINERS)
            engine.must("network", "rm", *_NETWORKS)
        return found


# What differs from dockerd 20.10, and why: whether ours reaches, and words in the name of the probe.
_DIFFERENCES = (
    (False, "outside -> {}'s address", "28 does not let other hosts past published ports either"),
    (False, "outside -> {}'s IPv6 address", "28 does not let other hosts past published ports either"),
    (True, "{}'s port of the host udp", "20.10 translates the answer's address only for those who come from elsewhere"),
    (True, "{}'s port of the host's IPv6 address udp", "20.10 translates the answer's address only for those who come from elsewhere"),
)


def _is_known(probe: str, *, reaches: bool) -> bool:
    return any(
        reaches is ours and any(text.format(name) in probe for name in ("web", "old", "alone", "shut")) for ours, text, _ in _DIFFERENCES
    )


@pytest.mark.alone
def test_what_reaches_what() -> None:
    """Beside dockerd; what differs is named, with its reason."""
    ours = _matrix(Engine)
    docker = _matrix(lambda: Dockerd(extra=("--experimental", "--ip6tables")))
    assert ours.keys() == docker.keys()
    different = [probe for probe in ours if ours[probe] != docker[probe] and not _is_known(probe, reaches=ours[probe])]
    assert not different, "\n".join(f"{probe}: teul {ours[probe]}, docker {docker[probe]}" for probe in different)
    assert sum(ours.values()) > len(ours) // 4
