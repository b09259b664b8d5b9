"""The engine's line to its agent: orders go out one after the other, and each gets its answer."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from teul.linux.seqpacket import receive_message, send_message

if TYPE_CHECKING:
    from teul.network.agent.messages import Answer, Order, Resolved

_MAX_NAME, _MAX_ADDRESSES = 255, 64


class LineLost(Exception):
    """The agent is gone. Whether the order was carried out does not matter: what the agent held is gone with it."""


class AgentLine:
    """A connection to an agent. To be made on the running loop, and used from there only. `on_loss` is called once: the agent is gone.

    `on_resolved` hears what the agent tells unasked; without it, that is no answer.
    """

    def __init__(
        self, connection: socket.socket, *, on_loss: Callable[[], None], on_resolved: Callable[[AgentLine, Resolved], None] | None = None
    ) -> None:
        self._on_resolved = on_resolved
        self._connection = connection
        self._connection.setblocking(False)
        self._on_loss = on_loss
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._writable: asyncio.Future[None] | None = None
        self._expected: deque[asyncio.Future[tuple[Answer, list[int]]]] = deque()
        self._loop.add_reader(connection.fileno(), self._hear)

    @property
    def is_open(self) -> bool:
        """Whether the agent was there when it was last heard of."""
        return self._connection.fileno() >= 0

    async def ask(self, order: Order, descriptors: Sequence[int] = ()) -> Answer:
        """Send an order and return its answer. The descriptors stay the caller's. Raises `LineLost`, `OSError` for what cannot be sent."""
        answer, received = await self.ask_for_descriptors(order, descriptors)
        _close(received)  # nobody asked for any
        return answer

    async def ask_for_descriptors(self, order: Order, descriptors: Sequence[int] = ()) -> tuple[Answer, list[int]]:
        """As `ask`; with the descriptors that came along, which are the caller's to look at, and to close."""
        answer: asyncio.Future[tuple[Answer, list[int]]] = self._loop.create_future()
        await self._send(order, list(descriptors), answer)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                _close(answer.result()[1])
            raise

    def close(self) -> None:
        """Part from the agent, which goes on while it serves anybody. Who still waits for an answer hears `LineLost`."""
        if not self.is_open:
            return
        self._loop.remove_reader(self._connection.fileno())
        self._loop.remove_writer(self._connection.fileno())
        self._connection.close()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        while self._expected:
            answer = self._expected.popleft()
            if not answer.done():
                answer.set_exception(LineLost())

    async def _send(self, order: Order, descriptors: list[int], answer: asyncio.Future[tuple[Answer, list[int]]]) -> None:
        async with self._sending:
            while True:
                if not self.is_open:
                    raise LineLost
                try:
                    send_message(self._connection, order, descriptors)
                except BlockingIOError:
                    await self._wait_for_room()
                except (BrokenPipeError, ConnectionResetError):
                    self._lose()
                else:
                    self._expected.append(answer)  # in one step with the sending: the answers come in this order
                    return

    async def _wait_for_room(self) -> None:
        fd = self._connection.fileno()
        self._writable = writable = self._loop.create_future()
        self._loop.add_writer(fd, lambda: None if writable.done() else writable.set_result(None))
        try:
            await writable
        finally:
            self._writable = None
            if self._connection.fileno() == fd:
                self._loop.remove_writer(fd)

    def _hear(self) -> None:
        try:
            received = receive_message(self._connection)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            received = None
        message, descriptors = received or (None, [])
        if self._on_resolved is not None and _is_resolved(message):
            _close(descriptors)
            self._on_resolved(self, cast("Resolved", message))
            return
        # security: whoever has got the better of the agent speaks to the engine, which hears answers to its orders, addresses to be judged,
        # and nothing else.
        if not (self._expected and _is_answer(message)):
            _close(descriptors)
            self._lose()
            return
        answer = self._expected.popleft()
        if answer.done():  # its asker was cancelled
            _close(descriptors)
        else:
            answer.set_result((cast("Answer", message), descriptors))

    def _lose(self) -> None:
        if self.is_open:
            self.close()
            self._on_loss()


def _is_answer(message: object) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get("error", ""), str):
        return False
    lists = [message.get(name, []) for name in ("containers", "networks", "relays")]
    if not all(isinstance(each, list) and all(isinstance(item, str) for item in each) for each in lists):
        return False
    names, refused = message.get("names", {}), message.get("refused", {})
    return isinstance(names, dict) and all(map(_is_counts, names.values())) and _is_counts(refused)


def _is_counts(value: object) -> bool:
    return isinstance(value, dict) and all(type(number) is int and number >= 0 for number in value.values())


def _is_resolved(message: object) -> bool:
    if not isinstance(message, dict) or set(message) != {"resolved", "number", "container", "addresses"}:
        return False
    name, addresses = message["resolved"], message["addresses"]
    return (
        isinstance(name, str)
        and len(name) <= _MAX_NAME
        and isinstance(message["container"], str)
        and type(message["number"]) is int
        and isinstance(addresses, list)
        and len(addresses) <= _MAX_ADDRESSES
        and all(isinstance(each, list) and len(each) == 2 and isinstance(each[0], str) and type(each[1]) is int for each in addresses)
    )


def _close(descriptors: Sequence[int]) -> None:
    for fd in descriptors:
        os.close(fd)
