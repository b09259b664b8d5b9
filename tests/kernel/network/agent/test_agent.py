"""The network agent as it is: a process, sockets in other network namespaces, upstream servers on the host, and engines that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import random
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from dnslib import QR, QTYPE, RCODE, RR, A, DNSRecord

from kernel.netns import member
from support import processes
from support.needs import needs
from teul.aio import Tasks
from teul.errors import System
from teul.linux import netns
from teul.linux.process import open_pidfd
from teul.linux.resolver import ADDRESS, open_resolver_sockets
from teul.network.agent.client import NetworkAgent, UnknownContainer
from teul.network.agent.messages import NetworkTable, View
from teul.network.agent.program import resolver, upstream
from teul.network.agent.relays import AgentRelays, relay_id
from teul.network.firewall.ports import Forwarding

pytestmark = [needs("root"), pytest.mark.asyncio(loop_scope="function")]

SECONDS = 30.0
FRONT: NetworkTable = {
    "id": "n1",
    "name": "front",
    "names": {"web": ["172.18.0.2", "fd00::2"], "many": [f"10.0.{high}.{low}" for high in range(4) for low in range(200)]},
    "reverse": {"172.18.0.2": "web.front"},
}


def view(*servers: str, forwards: bool = True) -> View:
    return {"networks": ["n1"], "links": {}, "servers": list(servers), "forwards": forwards}


async def eventually(check: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(SECONDS):
        while not check():
            await asyncio.sleep(0.01)
        return
    raise AssertionError(f"not true in time: {what}")


class Container:
    """A network namespace with a process in it, which the test speaks for."""

    def __init__(self, pid: int) -> None:
        self.id = f"container-{pid}"
        self.pid = pid
        self.netns_fd = netns.open_of(pid)
        self.pidfd = open_pidfd(pid)

    async def serve(self, agent: NetworkAgent, as_seen: View) -> None:
        """What an engine does at a start, or when an agent was lost."""
        sockets = await asyncio.to_thread(netns.run_inside, self.netns_fd, open_resolver_sockets)
        await agent.put_container(self.id, as_seen, pidfd=self.pidfd, sockets=sockets)
        for fd in sockets:
            os.close(fd)

    async def ask(self, name: str, kind: str = "A", *, tcp: bool = False) -> DNSRecord:
        """The answer that a program in it gets."""
        query = DNSRecord.question(name, kind)
        exchange = _exchange_tcp if tcp else _exchange_udp
        answer = await asyncio.to_thread(netns.run_inside, self.netns_fd, lambda: exchange(query.pack()))
        record = DNSRecord.parse(answer)
        assert record.header.id == query.header.id
        return record

    async def addresses(self, name: str, kind: str = "A", *, tcp: bool = False) -> list[str]:
        return sorted(str(record.rdata) for record in (await self.ask(name, kind, tcp=tcp)).rr)

    async def run(self, work: Callable[[], None]) -> None:
        await asyncio.to_thread(netns.run_inside, self.netns_fd, work)

    def close(self) -> None:
        os.close(self.netns_fd)
        os.close(self.pidfd)


def _exchange_udp(query: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((ADDRESS, 53))
        client.settimeout(SECONDS / 30)
        for _ in range(30):  # a datagram may be lost where many are on their way
            client.send(query)
            with contextlib.suppress(TimeoutError):
                return client.recv(65535)
    raise AssertionError("no answer")


def _exchange_tcp(query: bytes) -> bytes:
    with socket.create_connection((ADDRESS, 53), timeout=SECONDS) as client:
        client.sendall(len(query).to_bytes(2, "big") + query)
        return _read_framed(client)


def _read_framed(client: socket.socket) -> bytes:
    with client.makefile("rb") as file:
        return file.read(int.from_bytes(file.read(2), "big"))


class Server:
    """An upstream server on the host's loopback, by UDP and TCP at one port."""

    def __init__(self, answer: Callable[[DNSRecord], bytes | list[bytes]]) -> None:
        self._answer = answer
        self.asked: list[tuple[str, str]] = []
        self._udp, self._tcp = _bound_pair()
        self.address = f"127.0.0.1:{self._udp.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._serve_udp), threading.Thread(target=self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def _answers(self, packet: bytes, way: str) -> list[bytes]:
        record = DNSRecord.parse(packet)
        self.asked.append((str(record.q.qname), way))
        answers = self._answer(record)
        return [answers] if isinstance(answers, bytes) else answers

    def _serve_udp(self) -> None:
        while True:
            packet, client = self._udp.recvfrom(4096)
            if not packet:
                return
            for answer in self._answers(packet, "udp"):
                self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        while True:
            connection, _client = self._tcp.accept()
            with connection:
                packet = _read_framed(connection)
                if not packet:
                    return
                for answer in self._answers(packet, "tcp"):
                    framed = len(answer).to_bytes(2, "big") + answer
                    for place in range(0, len(framed), 7):  # in pieces, as it may come
                        connection.sendall(framed[place : place + 7])

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.sendto(b"", self._udp.getsockname())
        socket.create_connection(self._tcp.getsockname()).close()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()


def _bound_pair() -> tuple[socket.socket, socket.socket]:
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        try:
            return udp, socket.create_server(udp.getsockname())
        except OSError:
            udp.close()  # the port is somebody's by TCP


def address_answer(query: DNSRecord, address: str = "192.0.2.7") -> bytes:
    reply = query.reply()
    reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(address), ttl=60))
    return bytes(reply.pack())


def failure_answer(query: DNSRecord, code: int) -> bytes:
    reply = query.reply()
    reply.header.rcode = code
    return bytes(reply.pack())


@contextlib.contextmanager
def server(answer: Callable[[DNSRecord], bytes | list[bytes]] = address_answer) -> Iterator[Server]:
    made = Server(answer)
    try:
        yield made
    finally:
        made.close()


async def _never() -> None:
    raise AssertionError("no agent was to be lost")


@contextlib.asynccontextmanager
async def engine(directory: Path, say_everything: Callable[[], Awaitable[None]] = _never) -> AsyncIterator[NetworkAgent]:
    """An engine's end of an agent; left as an engine leaves in peace."""
    async with Tasks() as tasks:
        client = NetworkAgent(tasks, str(directory))
        client.after_loss(say_everything)
        try:
            yield client
        finally:
            pid = client.pid
            await client.close()
            served = bool(pid) and not await _ends(pid)
            assert not served or _left_serving, f"agent {pid} stays, and has nobody to serve"


_left_serving: list[int] = []


async def _ends(pid: int) -> bool:
    with contextlib.suppress(AssertionError, TimeoutError):
        async with asyncio.timeout(1.0 if _left_serving else SECONDS):
            while processes.is_alive(pid):
                await asyncio.sleep(0.01)
    return not processes.is_alive(pid)


@pytest_asyncio.fixture
async def agent(tmp_path: Path) -> AsyncIterator[NetworkAgent]:
    async with engine(tmp_path) as made:
        await made.put_network(FRONT)
        yield made


@pytest.fixture
def container() -> Iterator[Container]:
    with member() as other:
        made = Container(other.pid)
        yield made
        made.close()


@pytest_asyncio.fixture
async def served(agent: NetworkAgent, container: Container) -> AsyncIterator[Container]:
    await container.serve(agent, view())
    yield container
    await agent.drop_container(container.id)


@pytest.mark.parametrize("tcp", [False, True])
async def test_names_of_the_network_are_answered(served: Container, tcp: bool) -> None:
    assert await served.addresses("web", tcp=tcp) == ["172.18.0.2"]
    assert await served.addresses("WEB.front", "AAAA", tcp=tcp) == ["fd00::2"]
    assert await served.addresses("2.0.18.172.in-addr.arpa", "PTR", tcp=tcp) == ["web.front."]
    assert len(await served.addresses("many", tcp=True)) == 800
    assert (await served.ask("many")).header.tc == 1


async def test_a_change_of_names_and_views_counts_at_once(agent: NetworkAgent, served: Container) -> None:
    await agent.put_network({**FRONT, "names": {"new": ["172.18.0.9"]}})
    assert await served.addresses("new") == ["172.18.0.9"]
    assert (await served.ask("web")).header.rcode == RCODE.SERVFAIL  # not known any more, and no server to ask
    linked: View = {**view(), "links": {"n1": {"alias": ["172.18.0.77"]}}}
    await agent.update_view(served.id, linked)
    assert await served.addresses("alias") == ["172.18.0.77"]
    await agent.drop_network("n1")
    assert (await served.ask("new")).header.rcode == RCODE.SERVFAIL
    with pytest.raises(UnknownContainer):
        await agent.update_view("nobody", view())


@pytest.mark.parametrize("way", ["udp", "tcp"])
async def test_what_no_network_knows_goes_to_the_servers_as_it_came(agent: NetworkAgent, served: Container, way: str) -> None:
    """They are asked from the host's namespace: loopback is the host's."""
    with server() as first:
        await agent.update_view(served.id, view(first.address))
        assert await served.addresses("example.org", tcp=way == "tcp") == ["192.0.2.7"]
        assert first.asked == [("example.org.", way)]


@pytest.mark.parametrize("way", ["udp", "tcp"])
@pytest.mark.parametrize("code", [RCODE.SERVFAIL, RCODE.REFUSED])
async def test_after_a_failure_another_server_is_asked(agent: NetworkAgent, served: Container, way: str, code: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        closed = f"127.0.0.1:{nobody.getsockname()[1]}"
    with server(lambda query: failure_answer(query, code)) as failing, server() as good:
        await agent.update_view(served.id, view(closed, failing.address, good.address))
        assert await served.addresses("example.org", tcp=way == "tcp") == ["192.0.2.7"]
        assert (len(failing.asked), len(good.asked)) == (1, 1)
        await agent.update_view(served.id, view(failing.address))
        assert (await served.ask("example.org", tcp=way == "tcp")).header.rcode == RCODE.SERVFAIL


async def test_a_name_that_does_not_exist_is_the_servers_to_say(agent: NetworkAgent, served: Container) -> None:
    with server(lambda query: failure_answer(query, RCODE.NXDOMAIN)) as first, server() as second:
        await agent.update_view(served.id, view(first.address, second.address))
        assert (await served.ask("example.org")).header.rcode == RCODE.NXDOMAIN
        assert second.asked == []


async def test_an_answer_that_was_cut_is_handed_on_for_the_client_to_come_back(agent: NetworkAgent, served: Container) -> None:
    def cut(query: DNSRecord) -> bytes:
        reply = query.reply()
        reply.header.tc = 1
        return bytes(reply.pack())

    with server(cut) as first:
        await agent.update_view(served.id, view(first.address))
        record = await served.ask("example.org")
        assert (record.header.tc, record.rr) == (1, [])


async def test_a_reply_to_something_else_is_not_believed(agent: NetworkAgent, served: Container) -> None:
    def lies(query: DNSRecord) -> list[bytes]:
        good = address_answer(query)
        other_id = bytes([good[0] ^ 1]) + good[1:]
        other_question = address_answer(DNSRecord(query.header, q=DNSRecord.question("evil.org").q), "192.0.2.66")
        no_reply = address_answer(query, "192.0.2.66")
        no_reply = no_reply[:2] + bytes([no_reply[2] & 0x7F]) + no_reply[3:]
        return [other_id.replace(b"\xc0\x00\x02\x07", b"\xc0\x00\x02\x42"), other_question, no_reply, b"", b"\0" * 5, good]

    with server(lies) as first:
        await agent.update_view(served.id, view(first.address))
        assert await served.addresses("example.org") == ["192.0.2.7"]


async def test_on_an_internal_network_nothing_goes_on(agent: NetworkAgent, served: Container) -> None:
    """docker: SERVFAIL, as where no server can be reached."""
    with server() as first:
        await agent.update_view(served.id, view(first.address, forwards=False))
        assert (await served.ask("example.org")).header.rcode == RCODE.SERVFAIL
        assert await served.addresses("web") == ["172.18.0.2"]
        assert first.asked == []


async def test_one_container_cannot_have_more_than_so_many_queries_on_their_way(agent: NetworkAgent, served: Container) -> None:
    """A server that does not answer; what is too much is refused at once, and names of the network are answered as before."""
    counts: dict[int, int] = {}

    def await_name(client: socket.socket) -> None:
        known = DNSRecord.question("web")
        client.send(known.pack())
        while (answer := DNSRecord.parse(client.recv(512))).header.id != known.header.id:
            counts[answer.header.rcode] = counts.get(answer.header.rcode, 0) + 1
        assert len(answer.rr) == 1

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(SECONDS)
            client.connect((ADDRESS, 53))
            for number in range(resolver.MAX_PENDING + 20):
                client.send(DNSRecord.question(f"n{number}.example.org").pack())
                if number % 32 == 0:
                    await_name(client)  # as many as are sent fill the socket of an agent that is not scheduled, and the rest is lost
            await_name(client)

    with server(lambda _query: []) as silent:
        await agent.update_view(served.id, view(silent.address))
        await served.run(flood)
    given_up = counts.get(RCODE.SERVFAIL, 0)  # some seconds later: on a machine that is very slow, before this is over
    assert 20 - given_up <= counts.get(RCODE.REFUSED, 0) <= 20
    assert resolver.MAX_PENDING * 2 < upstream.MAX_PENDING


async def test_foreign_bytes_do_not_end_the_agent(agent: NetworkAgent, served: Container) -> None:
    """From the container and from the server, by UDP and by TCP."""
    chance = random.Random(7)

    def noise(size: int) -> bytes:
        return chance.randbytes(size)

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((ADDRESS, 53))
            good = DNSRecord.question("web.front").pack()
            for number in range(300):
                packet = bytearray(good)
                packet[chance.randrange(len(packet))] = chance.randrange(256)
                for each in (noise(number % 64), bytes(packet), noise(5000) if number % 50 == 0 else b""):
                    client.send(each)
        for number in range(30):
            # It may have hung up by the time when all is said.
            with socket.create_connection((ADDRESS, 53), timeout=SECONDS) as client, contextlib.suppress(OSError):
                client.sendall(noise(number * 50))

    with server(lambda _query: [noise(size) for size in (0, 3, 12, 40, 600)]) as mad:
        await agent.update_view(served.id, view(mad.address))
        pid = agent.pid
        await served.run(flood)
        assert await served.addresses("web") == ["172.18.0.2"]
        assert await served.addresses("web", tcp=True) == ["172.18.0.2"]
    assert agent.pid == pid


async def test_many_queries_on_one_connection(served: Container) -> None:
    """More than wait at a time, sent at once, by a client that then says no more."""

    def pipeline() -> None:
        with socket.create_connection((ADDRESS, 53), timeout=SECONDS) as client:
            query = DNSRecord.question("web").pack()
            client.sendall((len(query).to_bytes(2, "big") + query) * 100)
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as file:
                data = file.read()
        answers = 0
        while data:
            size = int.from_bytes(data[:2], "big")
            assert len(DNSRecord.parse(data[2 : 2 + size]).rr) == 1
            data, answers = data[2 + size :], answers + 1
        assert answers == 100

    await served.run(pipeline)


async def test_connections_beyond_the_bound_are_closed(served: Container) -> None:
    def connect() -> None:
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection((ADDRESS, 53), timeout=SECONDS)) for _ in range(resolver.MAX_CONNECTIONS + 1)
            ]
            assert clients[-1].recv(1) == b""
            query = DNSRecord.question("web").pack()
            clients[0].sendall(len(query).to_bytes(2, "big") + query)
            assert DNSRecord.parse(_read_framed(clients[0])).header.get_qr() == QR.RESPONSE

    await served.run(connect)


async def test_a_container_that_ends_is_let_go(agent: NetworkAgent) -> None:
    with member() as other:
        ending = Container(other.pid)
        await ending.serve(agent, view())
        assert (await agent.held()).containers == {ending.id}
        ending.close()
    pid = agent.pid
    await eventually(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= 6, "its sockets are closed")
    assert (await agent.held()).containers == frozenset()


async def test_sockets_of_a_container_may_be_replaced_and_dropped(agent: NetworkAgent, container: Container) -> None:
    await container.serve(agent, view())
    await container.serve(agent, view())
    assert await container.addresses("web") == ["172.18.0.2"]
    assert (await agent.held()).containers == {container.id}
    await agent.drop_container(container.id)
    assert (await agent.held()).containers == frozenset()
    with pytest.raises(ConnectionRefusedError):
        await container.ask("web")
    with pytest.raises(UnknownContainer):
        await agent.update_view(container.id, view())


async def test_it_has_nothing_that_it_does_not_need(agent: NetworkAgent, container: Container) -> None:
    """No capability, nobody's user id, no file, a filter; nobody may look into it; other users may not give orders."""
    await container.serve(agent, view())
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{agent.pid}/status").read_text().splitlines() if ":\t" in line)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"], status["Threads"], status["Groups"].strip()) == ("1", "2", "1", "")
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"2000000053"}
    assert os.listdir(f"/proc/{agent.pid}/root") == []
    assert Path(f"/proc/{agent.pid}/mountinfo").read_text().count("\n") == 1
    assert os.stat(f"/proc/{agent.pid}/maps").st_uid == 0  # not dumpable
    assert os.readlink(f"/proc/{agent.pid}/ns/net") == os.readlink("/proc/self/ns/net")
    assert processes.command_line(agent.pid).startswith("teul: network agent")
    assert os.stat(f"{agent._directory}/agent.sock").st_mode & 0o7777 == 0o600
    await agent.drop_container(container.id)


async def test_another_agent_takes_the_place_of_one_that_was_killed(tmp_path: Path, container: Container) -> None:
    """The engine is asked to say everything again, and does; however often."""
    said: list[int] = []

    async def say_everything() -> None:
        await client.put_network(FRONT)
        await container.serve(client, view())
        said.append(client.pid)

    async with engine(tmp_path, say_everything) as client:
        await say_everything()
        for count in (2, 3):
            os.kill(said[-1], signal.SIGKILL)
            await eventually(lambda count=count: len(said) == count, "everything is said again")  # type: ignore[misc]
            assert await container.addresses("web") == ["172.18.0.2"]
        assert len(set(said)) == 3
        await client.drop_container(container.id)


async def test_one_that_is_silent_is_ended_and_another_takes_its_place(tmp_path: Path, container: Container) -> None:
    """Whoever starts or ends a container does not wait for it for ever."""
    async with Tasks() as tasks:
        client = NetworkAgent(tasks, str(tmp_path), patience_seconds=0.5)
        client.after_loss(lambda: container.serve(client, view()))
        await client.put_network(FRONT)
        await container.serve(client, view())
        silent = client.pid
        os.kill(silent, signal.SIGSTOP)
        await client.put_network({"id": "n1", "name": "front", "names": {"other": ["10.0.0.9"]}, "reverse": {}})
        assert client.pid != silent
        await eventually(lambda: not processes.is_alive(silent), "it is ended")
        async with asyncio.timeout(SECONDS):
            while (await client.held()).containers != {container.id}:
                await asyncio.sleep(0.01)
        assert await container.addresses("other") == ["10.0.0.9"]
        await client.close()


async def test_one_of_an_earlier_engine_that_is_silent_is_told_of(tmp_path: Path, container: Container) -> None:
    async with Tasks() as tasks:
        first = NetworkAgent(tasks, str(tmp_path))
        await first.put_network(FRONT)
        await container.serve(first, view())
        second = NetworkAgent(tasks, str(tmp_path), patience_seconds=0.2)
        assert await second.find() is not None
        os.kill(first.pid, signal.SIGSTOP)
        with pytest.raises(System, match="the network agent does not answer"):
            await second.put_network({"id": "n1", "name": "front", "names": {}, "reverse": {}})
        os.kill(first.pid, signal.SIGCONT)
        await second.put_network(FRONT)
        await first.close()
        await second.close()


async def test_an_order_that_meets_the_agents_end_is_carried_out_by_the_next(tmp_path: Path, container: Container) -> None:
    async def nothing() -> None:
        return

    async with engine(tmp_path, nothing) as client:
        await client.put_network({"id": "n1", "name": "front", "names": {}, "reverse": {}})
        os.kill(client.pid, signal.SIGKILL)
        await client.put_network(FRONT)
        await container.serve(client, view())
        assert await container.addresses("web") == ["172.18.0.2"]
        await client.drop_container(container.id)


async def test_names_go_on_without_an_engine_and_the_next_one_finds_the_agent(tmp_path: Path, container: Container) -> None:
    _left_serving.append(1)
    try:
        async with engine(tmp_path) as first:
            await first.put_network(FRONT)
            await container.serve(first, view())
            pid = first.pid
    finally:
        _left_serving.clear()
    assert processes.is_alive(pid)
    assert await container.addresses("web") == ["172.18.0.2"]
    async with engine(tmp_path) as second:
        held = await second.find()
        assert held is not None
        assert (held.containers, held.networks) == (frozenset({container.id}), frozenset({"n1"}))
        await second.put_network({**FRONT, "names": {"new": ["172.18.0.9"]}})
        assert await container.addresses("new") == ["172.18.0.9"]
        await second.drop_container(container.id)
    await eventually(lambda: not processes.is_alive(pid), "it has left: no engine, and nobody to serve")


async def test_without_an_engine_it_leaves_with_the_last_container(tmp_path: Path) -> None:
    _left_serving.append(1)
    try:
        with member() as other:
            last = Container(other.pid)
            async with engine(tmp_path) as client:
                await last.serve(client, view())
                pid = client.pid
            assert processes.is_alive(pid)
            last.close()
    finally:
        _left_serving.clear()
    await eventually(lambda: not processes.is_alive(pid), "it has left")
    async with engine(tmp_path) as client:
        assert await client.find() is None  # the socket that it left behind is nobody's
        await client.put_network(FRONT)


async def test_where_no_agent_is_none_is_started_to_forget_something(tmp_path: Path) -> None:
    async with engine(tmp_path) as client:
        assert await client.find() is None
        await client.drop_network("n1")
        await client.drop_container("nobody")
        assert (await client.held()).containers == frozenset()
        assert client.pid == 0
        with pytest.raises(UnknownContainer):
            await client.update_view("nobody", view())


async def test_a_large_network_is_put_whole_and_changed_in_part(agent: NetworkAgent, served: Container) -> None:
    names = {f"c{number}": [f"10.9.{number >> 8}.{number & 255}"] for number in range(10_000)}
    await agent.put_network({**FRONT, "names": names})
    assert await served.addresses("c9999") == ["10.9.39.15"]
    await agent.put_network({**FRONT, "names": {**names, "c5": ["10.8.0.1"]}})
    assert await served.addresses("c5") == ["10.8.0.1"]


def _relay_of(outside: socket.socket, inside: socket.socket) -> Forwarding:
    (address, port), (target, target_port) = outside.getsockname(), inside.getsockname()
    return Forwarding(
        address=ipaddress.ip_address(address), protocol="tcp", port=port, target=ipaddress.ip_address(target), target_port=target_port
    )


def _echoed(place: tuple[str, int], inside: socket.socket) -> bytes:
    """What comes back by way of a relay, from an end that hears all before it answers."""
    with socket.create_connection(place, timeout=SECONDS) as client:
        client.sendall(b"word")
        client.shutdown(socket.SHUT_WR)
        inside.settimeout(SECONDS)
        program, _address = inside.accept()
        with program, program.makefile("rb") as heard:
            program.sendall(heard.read())
        with client.makefile("rb") as file:
            return file.read()


async def test_relays_go_on_without_an_engine_and_the_next_one_gets_their_sockets(tmp_path: Path, container: Container) -> None:
    """By a process that may neither bind nor listen; a relay ends with its container."""
    with socket.create_server(("127.0.0.1", 0)) as outside, socket.create_server(("127.0.0.1", 0)) as inside:
        place, relay = outside.getsockname(), _relay_of(outside, inside)
        _left_serving.append(1)
        try:
            async with engine(tmp_path) as first:
                relays = AgentRelays(first)
                for may_be_there in (False, True):
                    await relays.put(relay, outside, pidfd=container.pidfd, may_be_there=may_be_there)
                assert await asyncio.to_thread(_echoed, place, inside) == b"word"
        finally:
            _left_serving.clear()
        outside.close()
        assert await asyncio.to_thread(_echoed, place, inside) == b"word"
        async with engine(tmp_path) as second:
            relays = AgentRelays(second)
            name = relay_id(relay.address, relay.protocol, relay.port)
            assert await relays.find() == {name}
            taken = await relays.take(relay.address, relay.protocol, relay.port)
            assert taken is not None
            with taken:
                assert taken.getsockname() == place
                os.kill(container.pid, signal.SIGKILL)
                async with asyncio.timeout(SECONDS):
                    while await relays.find():
                        await asyncio.sleep(0.01)
            assert await relays.take(relay.address, relay.protocol, relay.port) is None
            await relays.drop(name)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.to_thread(_echoed, place, inside)
