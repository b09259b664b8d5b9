"""The agent under egress policies: which names it asks for, and when the container is told what they stand for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dnslib import RCODE

from kernel.network.agent.test_agent import FRONT, Container, container, eventually, server, view
from support import processes
from support.needs import needs
from teul.aio import Tasks
from teul.network.agent.client import NetworkAgent
from teul.network.agent.messages import Resolved, View

__all__ = ["container"]

pytestmark = needs("root", "nft")


def policed(*servers: str, rules: tuple[list[str], ...] = (["good.example"],)) -> View:
    return {**view(*servers), "allowed": [list(each) for each in rules]}


class Judge:
    """An engine that waits to be told to allow."""

    def __init__(self) -> None:
        self.told: list[Resolved] = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.allows = True

    async def __call__(self, told: Resolved) -> bool:
        self.told.append(told)
        self.asked.set()
        await self.may_answer.wait()
        return self.allows


def engines_agent(tasks: Tasks, directory: Path, judge: Judge) -> NetworkAgent:
    agent = NetworkAgent(tasks, str(directory))
    agent.judge_by(judge)
    return agent


async def test_an_answer_waits_until_the_engine_has_allowed_its_addresses(tmp_path: Path, container: Container) -> None:
    judge = Judge()
    async with Tasks() as tasks:
        agent = engines_agent(tasks, tmp_path, judge)
        await agent.put_network(FRONT)
        with server() as upstream:
            await container.serve(agent, policed(upstream.address))
            asking = asyncio.ensure_future(container.addresses("Good.example"))
            await judge.asked.wait()
            assert not asking.done()
            assert judge.told == [{"resolved": "good.example", "number": 1, "container": container.id, "addresses": [["192.0.2.7", 60]]}]
            judge.may_answer.set()
            assert await asking == ["192.0.2.7"]
            for tcp in (False, True):
                assert (await container.ask("bad.example", tcp=tcp)).header.rcode == RCODE.REFUSED
            assert await container.addresses("web") == ["172.18.0.2"], "names of its networks are as ever"
            assert len(upstream.asked) == 1
            report = await agent.report(container.id)
            assert report["refused"] == {"bad.example": 2}
            assert 0 < report["names"]["good.example"]["192.0.2.7"] <= 60
            judge.allows = False
            assert (await container.ask("good.example")).header.rcode == RCODE.SERVFAIL
            await agent.update_view(container.id, policed(upstream.address, rules=([],)))
            assert (await container.ask("good.example")).header.rcode == RCODE.REFUSED
            await agent.update_view(container.id, view(upstream.address))
            assert await container.addresses("bad.example") == ["192.0.2.7"], "no policy any more"
        assert await agent.report("nobody") == {}
        await agent.drop_container(container.id)
        await agent.close()


async def test_without_an_engine_what_is_allowed_is_told_and_the_rest_waits_for_the_next(tmp_path: Path, container: Container) -> None:
    judge = Judge()
    judge.may_answer.set()
    async with Tasks() as tasks:
        first = engines_agent(tasks, tmp_path, judge)
        with server() as upstream:
            await container.serve(first, policed(upstream.address, rules=(["*.example"],)))
            assert await container.addresses("good.example") == ["192.0.2.7"]
            pid = first.pid
            await first.close()
            assert await container.addresses("other.example") == ["192.0.2.7"], "the same address"
            second = engines_agent(tasks, tmp_path, judge)
            assert await second.find() is not None
            assert await container.addresses("third.example") == ["192.0.2.7"]
            assert [each["resolved"] for each in judge.told] == ["good.example", "third.example"]
            await second.drop_container(container.id)
            await second.close()
        await eventually(lambda: not processes.is_alive(pid), "it leaves when it serves nobody")
