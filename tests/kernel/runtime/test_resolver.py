"""The sockets of a container's resolver, made with the container: there before its program, the engine's alone, and gone with the start."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.runtime.bare_containers import Bench, eventually, within
from support import processes
from support.needs import needs
from teul.aio import Tasks
from teul.linux import netns
from teul.linux.netlink import messages
from teul.linux.netlink.links import Plan
from teul.linux.netlink.socket import Netlink
from teul.linux.resolver import ResolverSockets, open_resolver_sockets
from teul.network.agent.client import NetworkAgent
from teul.network.agent.messages import View
from teul.runtime.engine.process import StartError

pytestmark = [needs("root", "busybox", "overlayfs"), pytest.mark.asyncio(loop_scope="session")]

BRIDGE = "teulrslv0"
NUMBERS = itertools.count()
LAUNCH_FAILS = "/no/such/program"
VIEW: View = {"networks": ["n1"], "links": {}, "servers": [], "forwards": False}


class Networked:
    """What makes a launch one with a network and a resolver, and what has come of it."""

    def __init__(self) -> None:
        self.veth = f"vethrslv{next(NUMBERS)}"
        plan: Plan = {
            "host_name": self.veth,
            "bridge": BRIDGE,
            "mac": "02:42:0a:4d:4d:02",
            "mtu": 1500,
            "container_name": "eth0",
            "addresses": ["10.77.77.2/24"],
            "gateway": None,
            "gateway6": None,
            "isolated": False,
            "hairpin": False,
        }
        self.message: dict[str, Any] = {"networks": [plan], "resolver": True}
        self.taken = contextlib.ExitStack()

    def has_link(self) -> bool:
        """The kernel takes the link away with the namespace, which lives as long as a socket of it."""
        with Netlink() as host:
            return host.get_link(name=self.veth) is not None

    def take(self, sockets: ResolverSockets | None) -> ResolverSockets:
        """The sockets, closed at the test's end at the latest."""
        assert sockets is not None
        for fd in sockets:
            self.taken.callback(os.close, fd)
        return sockets


@pytest.fixture
def networked() -> Iterator[Networked]:
    with Netlink() as host:
        host.execute(messages.new_bridge(name=BRIDGE, mac="02:42:0a:4d:4d:01", mtu=1500), subject=BRIDGE)
    made = Networked()
    with made.taken:
        yield made
    with Netlink() as host:
        host.execute(messages.delete_link(name=BRIDGE), subject=BRIDGE)


def sockets_of(pid: int) -> list[str]:
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.append(target)
    return sorted(found)


async def test_a_programs_first_query_is_answered(bench: Bench, networked: Networked, tmp_path: Path) -> None:
    """It waits until the agent serves the container."""

    async def nothing() -> None:
        raise AssertionError("the agent was lost")

    async with Tasks() as tasks:
        agent = NetworkAgent(tasks, str(tmp_path))
        agent.after_loss(nothing)
        running = await bench.start("nslookup", "-type=a", "web.front", "127.0.0.11", message=networked.message)
        sockets = networked.take(running.process.take_resolver_sockets())
        assert running.process.take_resolver_sockets() is None
        table = {"web": ["10.77.77.9"]}
        await agent.put_network({"id": "n1", "name": "front", "names": table, "reverse": {}})
        await agent.put_container(running.name, VIEW, pidfd=running.process.pidfd, sockets=sockets)
        networked.taken.close()
        ended = await running.ended()
        assert "Server:\t\t127.0.0.11" in ended.out
        assert "10.77.77.9" in ended.out
        await eventually(lambda: not networked.has_link(), "its namespace is gone, though the agent lives")
        await agent.close()


async def test_nobody_has_them_but_the_engine(bench: Bench, networked: Networked) -> None:
    """Neither the container nor the keeper, which every other process is forked from."""
    running = await bench.start("sleep", "1000", attach=False, message=networked.message)
    sockets = networked.take(running.process.take_resolver_sockets())
    ours = {os.readlink(f"/proc/self/fd/{fd}") for fd in sockets}
    assert len(ours) == 2
    assert sockets_of(running.pid) == []
    await eventually(lambda: ours.isdisjoint(sockets_of(bench.supervisor.keeper_pid)), "the keeper has handed them on")
    for fd, kind in zip(sockets, (socket.SOCK_DGRAM, socket.SOCK_STREAM), strict=True):
        with socket.socket(fileno=os.dup(fd)) as opened:
            assert (opened.getsockname()[0], opened.type) == ("127.0.0.11", kind)


async def test_an_engine_that_lost_them_makes_others(bench: Bench, networked: Networked) -> None:
    """From outside, while the container runs."""
    running = await bench.start("sleep", "1000", attach=False, message=networked.message)
    networked.take(running.process.take_resolver_sockets())
    networked.taken.close()
    networked.take(await asyncio.to_thread(netns.run_inside, running.process.pidfd, open_resolver_sockets))
    assert (await running.ask("cat /proc/net/udp")).count("0B00007F") == 1


async def test_those_that_nobody_took_go_with_the_process(bench: Bench, networked: Networked) -> None:
    running = await bench.start("true", message=networked.message)
    await running.ended()
    assert running.process.take_resolver_sockets() is None
    await eventually(lambda: not networked.has_link(), "its namespace is gone")


async def test_without_the_word_none_are_made(bench: Bench, networked: Networked) -> None:
    """As in the bundles of older engines."""
    del networked.message["resolver"]
    running = await bench.start("cat", "/proc/net/udp", message=networked.message)
    assert running.process.take_resolver_sockets() is None
    assert "0B00007F" not in (await running.ended()).out


async def test_a_start_that_fails_leaves_none(bench: Bench, networked: Networked) -> None:
    keeper = bench.supervisor.keeper_pid
    await bench.run("true")
    await eventually(lambda: len(processes.children_of(keeper)) == 1, "one starter stands by")
    before = sockets_of(keeper)
    with pytest.raises(StartError):
        await bench.start(LAUNCH_FAILS, message=networked.message)
    await eventually(lambda: not networked.has_link(), "its namespace is gone")
    await eventually(lambda: len(sockets_of(keeper)) <= len(before), "the keeper has no more sockets than before")


@pytest.mark.parametrize("victim", ["teul: starter container-", "teul-init", "keeper"])
async def test_death_at_any_moment_of_a_start_leaves_none(bench: Bench, networked: Networked, victim: str) -> None:
    """Whatever becomes of the start: with the container, its namespace goes."""
    chance = random.Random(victim)
    for _ in range(8):
        keeper = bench.supervisor.keeper_pid
        starting = asyncio.ensure_future(bench.start("sleep", "1000", attach=False, message=networked.message))
        await asyncio.sleep(chance.uniform(0.0, 0.03))
        pids = processes.children_of(keeper)
        victims = [keeper] if victim == "keeper" else [pid for pid in pids if processes.command_line(pid).startswith(victim)]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            running = await within(starting)
        except StartError:
            pass
        else:
            await running.kill()
        await eventually(lambda: not networked.has_link(), "its namespace is gone")
    assert (await bench.run("echo", "next")).out == "next\n"
