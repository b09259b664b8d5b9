"""Addresses of names that egress policies allow: told to the engine, which lets the container reach them, before the container is.

The agent cannot change the firewall. While there is no engine, an answer waits a little for one, unless the firewall has its addresses yet.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from teul.linux.loop import Loop
from teul.network.agent.program.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from teul.network.agent.messages import Resolved

WAIT_SECONDS = 4.0
MIN_SECONDS, MAX_SECONDS = 30, 86400
MAX_PENDING = 512
_MAX_NAMES = 512  # of one container that are remembered


class Known:
    """What is known of one container's policy: the addresses of allowed names, and names that were refused. Both are bounded."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._names: OrderedDict[str, dict[str, float]] = OrderedDict()  # until when; the name asked for last stands last
        self._refused: OrderedDict[str, int] = OrderedDict()

    def note(self, name: str, addresses: Sequence[tuple[str, int]]) -> None:
        """The firewall has these addresses for so many seconds."""
        now = self._clock()
        known = self._names.setdefault(name, {})
        known.update({address: now + seconds for address, seconds in addresses})
        self._names.move_to_end(name)
        while len(known) > _MAX_NAMES:
            del known[min(known, key=known.__getitem__)]
        while len(self._names) > _MAX_NAMES:
            self._names.popitem(last=False)

    def has(self, addresses: Sequence[tuple[str, int]]) -> bool:
        """Whether the firewall still has all of these."""
        now = self._clock()
        present = {address for known in self._names.values() for address, until in known.items() if until > now}
        return all(address in present for address, _seconds in addresses)

    def refuse(self, name: str) -> None:
        """Count a name that was not asked for."""
        self._refused[name] = self._refused.get(name, 0) + 1
        self._refused.move_to_end(name)
        if len(self._refused) > _MAX_NAMES:
            self._refused.popitem(last=False)

    def names(self) -> dict[str, dict[str, int]]:
        """Names, their addresses, and for how many seconds yet these are allowed; 0 for those whose time is over."""
        now = self._clock()
        return {name: {address: max(0, int(until - now)) for address, until in known.items()} for name, known in self._names.items()}

    def refused(self) -> dict[str, int]:
        """The refused names, and how often."""
        return dict(self._refused)


class _Report:
    __slots__ = ("done", "known", "message")

    def __init__(self, message: Resolved, known: Known, done: Callable[[bool], None]) -> None:
        self.message = message
        self.known = known
        self.done = done


class Reports:
    """What the engine was told, or is to be told, and has not answered yet."""

    def __init__(self, loop: Loop, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._deadlines: Deadlines[int] = Deadlines(loop, wait_seconds, lambda number: self.finish(number, is_allowed=False))
        self._pending: dict[int, _Report] = {}
        self._number = 0
        self._send: Callable[[Resolved], None] | None = None

    def attend(self, send: Callable[[Resolved], None] | None) -> None:
        """There is an engine, which is told by `send`, or none any more. What no engine has answered is told to this one."""
        self._send = send
        for report in list(self._pending.values()) if send is not None else ():
            self._tell(report)

    def tell(self, container_id: str, name: str, addresses: Sequence[tuple[str, int]], known: Known, done: Callable[[bool], None]) -> None:
        """Have the engine let the container reach these addresses of `name`; `done` hears, once, whether it does."""
        lasting = [(address, max(MIN_SECONDS, min(seconds, MAX_SECONDS))) for address, seconds in addresses]
        if self._send is None and known.has(lasting):
            done(True)
            return
        if len(self._pending) >= MAX_PENDING:
            done(False)
            return
        self._number += 1
        message: Resolved = {"resolved": name, "number": self._number, "container": container_id, "addresses": lasting}
        report = self._pending[self._number] = _Report(message, known, done)
        self._deadlines.set(self._number)
        self._tell(report)

    def finish(self, number: int, *, is_allowed: bool) -> None:
        """The engine has answered, or its time is over."""
        report = self._pending.pop(number, None)
        self._deadlines.remove(number)
        if report is None:
            return
        if is_allowed:
            report.known.note(report.message["resolved"], report.message["addresses"])
        report.done(is_allowed)

    def _tell(self, report: _Report) -> None:
        if self._send is not None:
            self._send(report.message)
