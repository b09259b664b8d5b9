"""The sockets of a container's resolver: port 53 of 127.0.0.11 leads to them, and the answers come from there."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from kernel.netns import Member, isolated, member
from support.needs import needs
from teul.linux import netns
from teul.linux.caps import set_capabilities
from teul.linux.netlink import links, nfnetlink
from teul.linux.resolver import ADDRESS, ResolverSockets, open_resolver_sockets

pytestmark = needs("root", "nft")

SECONDS = 5.0


@contextlib.contextmanager
def _answering(sockets: ResolverSockets, answer: bytes) -> Iterator[None]:
    """Something on the host that says `answer` to every query, by UDP and by TCP."""
    udp, tcp = socket.socket(fileno=sockets.udp_fd), socket.socket(fileno=sockets.tcp_fd)
    udp.setblocking(True)
    tcp.setblocking(True)

    def serve_udp() -> None:
        while True:
            query, client = udp.recvfrom(512)
            if query == b"end":
                return
            udp.sendto(answer + query, client)

    def serve_tcp() -> None:
        while True:
            connection, _client = tcp.accept()
            with connection:
                query = connection.recv(512)
                if query == b"end":
                    return
                connection.sendall(answer + query)

    threads = [threading.Thread(target=serve_udp), threading.Thread(target=serve_tcp)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        udp_address, tcp_address = udp.getsockname(), tcp.getsockname()
        _IN_NAMESPACE[-1].run(lambda: _end(udp_address, tcp_address))
        for thread in threads:
            thread.join()
        udp.close()
        tcp.close()


_IN_NAMESPACE: list[Member] = []


def _end(udp_address: tuple[str, int], tcp_address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"end", udp_address)
    with socket.create_connection(tcp_address) as tcp:
        tcp.sendall(b"end")


def _ask_udp() -> tuple[bytes, tuple[str, int]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(SECONDS)
        client.sendto(b"udp", (ADDRESS, 53))
        answer: tuple[bytes, tuple[str, int]] = client.recvfrom(512)
        return answer


def _ask_tcp() -> bytes:
    with socket.create_connection((ADDRESS, 53), timeout=SECONDS) as client:
        client.sendall(b"tcp")
        return client.recv(512)


@contextlib.contextmanager
def _container() -> Iterator[tuple[Member, int]]:
    with member() as other:
        fd = netns.open_of(other.pid)
        _IN_NAMESPACE.append(other)
        try:
            yield other, fd
        finally:
            _IN_NAMESPACE.pop()
            os.close(fd)


@isolated
def test_queries_arrive_and_their_answers_come_from_port_53() -> None:
    """A client drops an answer of another source than it has asked. Loopback was never up before."""
    with _container() as (container, fd):
        sockets = netns.run_inside(fd, open_resolver_sockets)
        with _answering(sockets, b"answer to "):
            assert container.run(_ask_udp) == (b"answer to udp", (ADDRESS, 53))
            assert container.run(_ask_tcp) == b"answer to tcp"


@isolated
def test_a_program_of_the_container_may_have_port_53_of_every_address() -> None:
    def bind_and_ask() -> tuple[bytes, bytes]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_server(("0.0.0.0", 53)):
            udp.bind(("0.0.0.0", 53))
            return _ask_udp()[0], _ask_tcp()

    with _container() as (container, fd):
        sockets = netns.run_inside(fd, open_resolver_sockets)
        with _answering(sockets, b"answer to "):
            assert container.run(bind_and_ask) == (b"answer to udp", b"answer to tcp")


@isolated
def test_made_again_the_new_pair_takes_the_place_of_the_old_one() -> None:
    with _container() as (container, fd):
        old = netns.run_inside(fd, open_resolver_sockets)
        new = netns.run_inside(fd, open_resolver_sockets)
        for each in old:
            os.close(each)
        with _answering(new, b"new "):
            assert container.run(_ask_udp)[0] == b"new udp"
            assert container.run(_ask_tcp) == b"new tcp"
        rules = container.run(lambda: subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout)
        assert rules.count("dnat to") == 2
        assert rules.count("table ") == 1


@isolated
def test_the_table_is_what_its_module_says() -> None:
    with _container() as (container, fd):
        sockets = netns.run_inside(fd, open_resolver_sockets)
        listed = container.run(lambda: subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout)
        ports = []
        for each in sockets:
            with socket.socket(fileno=each) as opened:
                ports.append(opened.getsockname()[1])
    rules = [" ".join(line.split()) for line in listed.splitlines() if "dport" in line]
    assert rules == [
        f"ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:{ports[0]}",
        f"ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:{ports[1]}",
    ]
    assert "type nat hook output priority dstnat" in listed.replace("priority -100", "priority dstnat")


@isolated
def test_without_the_privilege_nothing_is_made_and_nothing_changed() -> None:
    def attempt() -> int | None:
        links.set_loopback_up()
        set_capabilities(effective=(), permitted=(), inheritable=())
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="not permitted"):
            open_resolver_sockets()
        with pytest.raises(OSError, match="table teul_dns") as refused:
            nfnetlink.lead_queries(ADDRESS, udp_port=1000, tcp_port=1000)
        assert len(os.listdir("/proc/self/fd")) == before
        return refused.value.errno

    with _container() as (container, _fd):
        assert container.run(attempt) == errno.EPERM
