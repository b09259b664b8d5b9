"""The engine's end of the network agent: has one where one is needed, tells it what to serve, and starts another if it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from teul.aio import Tasks, run_blocking, run_to_end
from teul.errors import NotFound, System
from teul.linux.process import open_pidfd
from teul.linux.resolver import ResolverSockets
from teul.network.agent import start
from teul.network.agent.difference import names_orders
from teul.network.agent.line import AgentLine, LineLost

if TYPE_CHECKING:
    from teul.network.agent.messages import Answer, NetworkTable, Order, Resolved, View

log = logging.getLogger(__name__)
T = TypeVar("T")

_ATTEMPTS = 3
_MAX_JUDGING = 64
# How long an agent may be silent that was told something: starts and ends of containers wait for it.
_PATIENCE_SECONDS = 5.0
# An agent that does not stay alive is started again less and less often.
_MEMORY_SECONDS = 300.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 10.0


class UnknownContainer(NotFound):
    """The agent does not serve this container: it has ended, or another agent has taken the place of the one that did."""


class UnknownRelay(NotFound):
    """The agent has no such relay: its container has ended, or another agent has taken the place of the one that had it."""


@dataclass(frozen=True, slots=True)
class Held:
    """What an agent holds: ids of containers that it serves, of networks whose names it knows, and of relays."""

    containers: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    relays: frozenset[str] = frozenset()


class NetworkAgent:
    """The agent of one engine. Every method returns when the agent has done what it was told; all of them may be repeated.

    An agent is started by the first method that needs one, and lives as long as it serves anybody or the engine lives. Methods raise
    `System` where no agent can be started, or the one that an earlier engine has left does not answer; one of this engine's that does not
    is ended, and another takes its place.
    """

    def __init__(
        self,
        tasks: Tasks,
        directory: str,
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        """`directory`: the engine's run directory, where the agent listens for the next engine."""
        self._allow: Callable[[Resolved], Awaitable[bool]] | None = None
        self._judging = 0
        self._patience_seconds = patience_seconds
        self._tasks = tasks
        self._directory = directory
        self._putters: list[Callable[[], Awaitable[None]]] = []
        self._line: AgentLine | None = None
        self._pid = 0  # of the agent that this engine has started last
        self._opening = asyncio.Lock()
        self._tables: dict[str, NetworkTable] = {}  # what the agent has, as far as this engine has put it there
        self._had_something = False
        self._lost_at_seconds: list[float] = []
        self._closed = False

    def after_loss(self, say_everything: Callable[[], Awaitable[None]]) -> None:
        """Have `say_everything` called, in a task, whenever an agent that had something was lost.

        It puts all that its caller had put, with new sockets; whatever the methods do meanwhile is valid, too. Raising System it is called
        again.
        """
        self._putters.append(say_everything)

    def judge_by(self, allow: Callable[[Resolved], Awaitable[bool]]) -> None:
        """Have `allow` judge what the agent tells of names that policies allow: it has it in force when it returns that it is allowed."""
        self._allow = allow

    async def find(self) -> Held | None:
        """Connect to the agent that an earlier engine has left; returns what it holds, None if there is none. Starts nothing."""
        async with self._opening:
            if self._line is None or not self._line.is_open:
                connection = await run_blocking(start.connect, self._directory)
                if connection is None:
                    return None
                self._adopt(connection)
        try:
            return await self.held()
        except LineLost:
            return None  # it was just leaving

    async def close(self) -> None:
        """Part from the agent. It stays if it serves anybody; else it ends, by itself and soon."""
        self._closed = True
        if self._line is not None:
            self._line.close()

    async def put_network(self, table: NetworkTable) -> None:
        """Have the network's names be these and no others. The table is the agent's from now on: it is not to be changed any more.

        Costs what is different from the table before. Containers see all of the change at once.
        """
        await self._retry(lambda line: self._put_network(line, table))

    async def drop_network(self, network_id: str) -> None:
        """Forget the network's names."""
        self._tables.pop(network_id, None)
        if self._is_open():
            await self.order({"order": "drop network", "id": network_id})

    async def put_container(self, container_id: str, view: View, *, pidfd: int, sockets: ResolverSockets) -> None:
        """Serve a container: its queries arrive at `sockets`, where those that came earlier wait, until the process of `pidfd` has ended.

        All descriptors stay the caller's, who closes the sockets, since they keep the container's network namespace alive; the agent, which
        has copies, does so by itself.
        """
        await self.order(
            {"order": "container", "id": container_id, "view": _numbered(view), "sockets": True}, (pidfd, sockets.udp_fd, sockets.tcp_fd)
        )

    async def update_view(self, container_id: str, view: View) -> None:
        """Answer a container's queries by another view from now on. Raises `UnknownContainer`: put it, with sockets."""
        if not self._is_open():
            raise UnknownContainer(f"no agent serves container {container_id}")
        await self.order({"order": "container", "id": container_id, "view": _numbered(view), "sockets": False})

    async def drop_container(self, container_id: str) -> None:
        """Serve a container no more; the agent lets go of its sockets."""
        if self._is_open():
            await self.order({"order": "drop container", "id": container_id})

    async def held(self) -> Held:
        """What the agent holds now; nothing if there is none."""
        if not self._is_open():
            return Held()
        answer = await self.order({"order": "list"})
        return Held(*(frozenset(listed) for listed in (answer.get("containers", ()), answer.get("networks", ()), answer.get("relays", ()))))

    async def open(self) -> None:
        """Have an agent, which is started if there is none."""
        await self._open()

    async def order(self, order: Order, descriptors: Sequence[int] = ()) -> Answer:
        """Have an order carried out that none of the other methods is for. The descriptors stay the caller's."""
        return await self._retry(lambda line: _carry_out(line, order, descriptors))

    async def order_descriptors(self, order: Order) -> list[int]:
        """Have an order carried out whose answer is descriptors; they are the caller's, who knows them for what somebody else has sent."""
        return await self._retry(lambda line: _fetch(line, order))

    async def report(self, container_id: str) -> Answer:
        """What the agent knows of a container's egress policy: addresses of names, and refused names. Nothing, if it serves no such one."""
        if not self._is_open():
            return {}
        try:
            return await self.order({"order": "report", "id": container_id})
        except UnknownContainer:
            return {}

    @property
    def pid(self) -> int:
        """The pid of the agent, if this engine has started it and it was not lost; 0 otherwise."""
        return self._pid if self._is_open() else 0

    # -- the line

    def _is_open(self) -> bool:
        return self._line is not None and self._line.is_open

    async def _retry(self, work: Callable[[AgentLine], Awaitable[T]]) -> T:
        for _attempt in range(_ATTEMPTS):
            line = await self._open()
            try:
                async with asyncio.timeout(self._patience_seconds):
                    answer = await work(line)
            except LineLost:
                continue
            except TimeoutError:
                self._give_up(line)
                continue
            except OSError as error:
                raise System(f"the network agent cannot be reached: {error}") from error
            self._had_something = True
            return answer
        raise System("the network agent does not stay alive")

    def _give_up(self, line: AgentLine) -> None:
        """The agent is silent: end it, if it is this engine's child. Raises System if it is not."""
        if not self._pid:
            line.close()
            raise System("the network agent does not answer")
        log.warning("the network agent does not answer, and is ended")
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    async def _put_network(self, line: AgentLine, table: NetworkTable) -> Answer:
        orders = names_orders(self._tables.get(table["id"]), table)
        # Noted before the agent has it: another put that begins meanwhile is sent after this one, and so is different from this table.
        self._tables[table["id"]] = table
        answers: list[Answer] = []
        try:
            answers = await asyncio.gather(*(_carry_out(line, order) for order in orders))
        except BaseException:
            self._tables.pop(table["id"], None)  # nobody knows what it has: the next time all is said
            raise
        return answers[-1] if answers else {}

    async def _open(self) -> AgentLine:
        """The line to the agent, which is started if there is none."""
        async with self._opening:
            if self._line is not None and self._line.is_open:
                return self._line
            if self._closed:
                raise System("the network agent is not needed any more")
            return await run_to_end(self._find_or_start())

    async def _find_or_start(self) -> AgentLine:
        try:
            found = await run_blocking(start.connect, self._directory)
            if found is not None:
                return self._adopt(found)
            pid, connection = await run_blocking(start.start, self._directory)
        except (OSError, ImportError) as error:
            raise System(f"the network agent cannot be started: {error}") from error
        self._pid = pid
        self._tasks.start(self._reap(pid), name=f"reap network agent {pid}")
        return self._adopt(connection)

    async def _reap(self, pid: int) -> None:
        """Wait for the end of an agent that this engine has started, which may come much later than that of the line to it."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        with contextlib.suppress(ProcessLookupError):  # reaped already, with others that the engine has inherited
            pidfd = open_pidfd(pid)
            loop.add_reader(pidfd, lambda: None if ended.done() else ended.set_result(None))
            try:
                await ended
            finally:
                loop.remove_reader(pidfd)
                os.close(pidfd)
        if self._pid == pid:
            self._pid = 0  # before the number can be another process's
        with contextlib.suppress(ChildProcessError):
            await run_blocking(os.waitpid, pid, 0)

    def _adopt(self, connection: socket.socket) -> AgentLine:
        self._tables.clear()
        self._line = AgentLine(connection, on_loss=self._lost, on_resolved=self._resolved if self._allow is not None else None)
        return self._line

    def _resolved(self, line: AgentLine, told: Resolved) -> None:
        # security: an agent that somebody has got the better of does not keep the engine busy; its queries are answered with a failure.
        if self._judging < _MAX_JUDGING:
            self._judging += 1
            self._tasks.start(self._judge(line, told), name="allow the addresses of a name")

    async def _judge(self, line: AgentLine, told: Resolved) -> None:
        try:
            assert self._allow is not None
            is_allowed = await self._allow(told)
            await _carry_out(line, {"order": "resolved", "number": told["number"], "allowed": is_allowed})
        except (LineLost, OSError, System) as error:
            log.warning("the network agent does not hear whether a container may reach %s: %r", told["resolved"], error)
        finally:
            self._judging -= 1

    def _lost(self) -> None:
        self._tables.clear()
        if self._closed or not self._had_something:
            return
        self._had_something = False
        now = time.monotonic()
        self._lost_at_seconds = [*(at for at in self._lost_at_seconds if now - at < _MEMORY_SECONDS), now]
        pause_seconds = min(_FIRST_PAUSE_SECONDS * 2 ** (len(self._lost_at_seconds) - 1), _LONGEST_PAUSE_SECONDS)
        log.warning("the network agent ended; all it has served is put to another one")
        self._tasks.start(self._recover(pause_seconds), name="put everything to another network agent")

    async def _recover(self, pause_seconds: float) -> None:
        while not self._closed:
            await asyncio.sleep(pause_seconds)
            try:
                for say_everything in self._putters:
                    await say_everything()
            except System as error:
                log.error("what a network agent has served cannot be put to another one yet: %s", error.message)
                pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
            else:
                return


async def _fetch(line: AgentLine, order: Order) -> list[int]:
    answer, descriptors = await line.ask_for_descriptors(order)
    try:
        _check(order, answer)
    except BaseException:
        for fd in descriptors:
            os.close(fd)
        raise
    return descriptors


async def _carry_out(line: AgentLine, order: Order, descriptors: Sequence[int] = ()) -> Answer:
    answer = await line.ask(order, descriptors)
    _check(order, answer)
    return answer


def _check(order: Order, answer: Answer) -> None:
    error = answer.get("error")
    if error is None:
        return
    is_of_one = order["order"] == "report" or (order["order"] == "container" and not order["sockets"])
    if is_of_one and error.startswith("Refused: no container"):
        raise UnknownContainer(f"the agent does not serve this container: {error}")
    if order["order"] in ("relay", "relay socket") and error.startswith("Refused: no relay"):
        raise UnknownRelay(f"the agent has no relay {order['id']}")
    raise System(f"the network agent refuses an order: {error}")


def _numbered(view: View) -> View:
    """The view with the zones of link-local servers as numbers: the agent may not ask the kernel which interface a name means."""
    return {**view, "servers": [_numbered_zone(server) for server in view["servers"]]}


def _numbered_zone(server: str) -> str:
    head, percent, rest = server.partition("%")
    zone, bracket, port = rest.partition("]")
    if not percent or zone.isdecimal():
        return server
    try:
        return f"{head}%{socket.if_nametoindex(zone)}{bracket}{port}"
    except OSError:
        return server  # there is no such interface, nor a way to that server; the agent finds that out
