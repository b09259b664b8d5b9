"""What the network agent is told of relays, over an agent that does as it is told, and sockets that are really bound."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import AsyncIterator

import pytest

from teul.aio import Tasks
from teul.errors import System
from teul.linux import reserved_ports
from teul.network.agent.client import NetworkAgent
from teul.network.agent.relays import AgentRelays, relay_id
from teul.network.firewall.ports import Forwarding
from teul.network.ipam import Address
from teul.services.networks.relays import Relays

HERE = ipaddress.ip_address("127.0.0.1")


class FakeAgent(AgentRelays):
    """Remembers what it was told, and keeps copies of sockets."""

    def __init__(self) -> None:
        self.relays: dict[str, tuple[str, int]] = {}  # where it leads, and its socket
        self.told: list[str] = []
        self.error: System | None = None
        self.opening = asyncio.Event()
        self.opening.set()

    async def find(self) -> frozenset[str]:
        return frozenset(self.relays)

    async def open(self) -> None:
        await self.opening.wait()
        if self.error is not None:
            raise self.error

    async def put(self, relay: Forwarding, made: socket.socket, *, pidfd: int, may_be_there: bool) -> None:
        os.fstat(pidfd)
        name = relay_id(relay.address, relay.protocol, relay.port)
        self.told.append(f"{'keep' if may_be_there else 'put'} {relay.target}")
        _target, fd = self.relays.pop(name, ("", -1))
        self.relays[name] = str(relay.target), fd if fd >= 0 else os.dup(made.fileno())

    async def drop(self, name: str) -> None:
        self.told.append("drop")
        _target, fd = self.relays.pop(name, ("", -1))
        if fd >= 0:
            os.close(fd)

    async def take(self, address: Address, protocol: str, port: int) -> socket.socket | None:
        return socket.socket(fileno=os.dup(self.relays[relay_id(address, protocol, port)][1]))

    def lose(self) -> None:
        for _target, fd in self.relays.values():
            os.close(fd)
        self.relays.clear()


class World:
    """One engine's relays of one container, whose process is this one."""

    def __init__(self, tasks: Tasks) -> None:
        self.agent = FakeAgent()
        self.tasks = tasks
        self.pidfd: int | None = os.open("/dev/null", os.O_RDONLY)
        self.relays = self.next_engine()
        self.socket = _bound_socket()
        self.port = int(self.socket.getsockname()[1])

    def next_engine(self) -> Relays:
        return Relays(self.agent, self.tasks, find_pidfd=lambda _container_id: self.pidfd)

    def leading_to(self, target: str) -> dict[Forwarding, socket.socket]:
        address = ipaddress.ip_address(target)
        return {Forwarding(address=HERE, protocol="tcp", port=self.port, target=address, target_port=80): self.socket}

    async def change(self, target: str = "172.17.0.2") -> None:
        await self.relays.change("c", self.leading_to(target))
        await self.settle()

    async def settle(self) -> None:
        async with asyncio.timeout(10):
            while len(self.tasks):
                await asyncio.sleep(0)

    def admits(self) -> bool:
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    def close(self) -> None:
        self.agent.lose()
        self.socket.close()
        if self.pidfd is not None:
            os.close(self.pidfd)


def _bound_socket() -> socket.socket:
    for port in range(24000, 25000):
        made = reserved_ports.open_socket(4, "tcp")
        try:
            reserved_ports.bind(made, str(HERE), port)
        except OSError:
            made.close()
        else:
            return made
    raise AssertionError("no port is free")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with Tasks() as tasks:
        made = World(tasks)
        yield made
    made.close()


async def test_a_port_admits_at_once_and_is_put_to_the_agent_when_its_container_runs(world: World) -> None:
    pidfd, world.pidfd = world.pidfd, None
    await world.change()
    assert world.admits()
    assert world.agent.relays == {}, "there is no process yet"
    world.pidfd = pidfd
    for _ in range(2):
        world.relays.begin("c")
        await world.settle()
    assert world.agent.told == ["put 172.17.0.2"]
    for _ in range(2):
        await world.relays.change("c", {})
        assert not world.admits()
        assert world.agent.relays == {}
    assert world.agent.told == ["put 172.17.0.2", "drop"]


async def test_it_leads_elsewhere_without_being_given_up_meanwhile(world: World) -> None:
    await world.change()
    await world.change("172.18.0.2")
    await world.change("172.18.0.2")
    assert world.agent.told == ["put 172.17.0.2", "keep 172.18.0.2"]
    assert world.admits()


async def test_who_ends_while_the_agent_is_started_does_not_wait_for_that(world: World) -> None:
    world.agent.opening.clear()
    await world.relays.change("c", world.leading_to("172.17.0.2"))
    await world.relays.change("c", {})
    world.socket.close()
    world.agent.opening.set()
    await world.settle()
    assert world.agent.told == []


async def test_without_an_agent_the_port_refuses_until_there_is_one(world: World) -> None:
    world.agent.error = System("no")
    await world.change()
    assert not world.admits()
    with pytest.raises(System):
        await world.relays.say_everything()
    world.agent.error = None
    await world.relays.say_everything()
    assert world.admits()
    assert len(world.agent.relays) == 1


async def test_another_agent_is_told_everything(world: World) -> None:
    await world.change()
    world.agent.lose()
    await world.relays.say_everything()
    assert [target for target, _fd in world.agent.relays.values()] == ["172.17.0.2"]


async def test_another_engine_takes_what_is_wanted_and_drops_the_rest(world: World) -> None:
    await world.change()
    successor = world.next_engine()
    assert await successor.take(HERE, "tcp", world.port) is None, "it does not know yet"
    await successor.find()
    assert await successor.take(HERE, "udp", world.port) is None
    taken = await successor.take(HERE, "tcp", world.port)
    assert taken is not None
    with taken:
        await successor.change("c", dict.fromkeys(world.leading_to("172.17.0.2"), taken), may_be_there=True)
        await successor.drop_others()
        await world.settle()
        assert world.agent.told == ["put 172.17.0.2", "keep 172.17.0.2"]
        await successor.change("c", {})
    assert world.agent.told[2:] == ["drop"]
    await world.change("172.17.0.3")
    another = world.next_engine()
    await another.find()
    await another.drop_others()
    assert world.agent.relays == {}, "of a container that has ended meanwhile"


class Hostile(NetworkAgent):
    """Says what whoever has got the better of an agent may."""

    def __init__(self, *sent: int) -> None:
        self.sent = list(sent)

    async def order_descriptors(self, order: object) -> list[int]:
        return self.sent


async def test_a_socket_that_is_not_the_ports_is_not_taken(world: World) -> None:
    reserved_ports.admit(world.socket)
    reading, writing = os.pipe()
    kinds = [socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.create_server(("127.0.0.1", 0))]
    with _bound_socket() as silent, world.socket.dup() as good:
        port = silent.getsockname()[1]
        others = [*(os.dup(each.fileno()) for each in kinds), reading]
        assert await AgentRelays(Hostile(os.dup(silent.fileno()))).take(HERE, "tcp", port) is None, "it does not listen"
        assert await AgentRelays(Hostile(*others)).take(HERE, "tcp", world.port) is None
        taken = await AgentRelays(Hostile(os.dup(writing), os.dup(good.fileno()), os.dup(good.fileno()))).take(HERE, "tcp", world.port)
    assert taken is not None
    assert taken.getsockname()[1] == world.port
    taken.close()
    for each in kinds:
        each.close()
    for fd in others:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
    os.close(writing)
