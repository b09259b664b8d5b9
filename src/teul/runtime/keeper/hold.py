"""Whether a process waits for those who read its output: a slow one holds it up, as a slow reader of a pipe does, a stopped one does not.

What a client has yet to take is kept for it (`outbox`), up to a point. Beyond that point the monitor reads no more of the process's output,
so the process waits when its pipe is full, until every client has caught up, or those that take nothing at all have been given up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from teul.runtime.keeper.client import Client

_STALLED_SECONDS = 10.0


class Hold:
    """Decides for one monitor, whose `clients` these are. The monitor does what has to be done, so that its troubles stay its own."""

    __slots__ = ("_clients", "_look_later", "_looking", "_switch", "is_on")

    def __init__(self, clients: dict[int, Client], *, switch: Callable[[], None], look_later: Callable[[float], None]) -> None:
        """`switch` is called when `is_on` has changed; `look_later` is to have `stalled` called in so many seconds."""
        self._clients = clients
        self._switch = switch
        self._look_later = look_later
        self._looking = False  # a look at whether clients that are far behind move is due
        self.is_on = False  # a client is far behind, and no output is to be read

    def begin_for(self, client: Client) -> None:
        """Have the process wait if `client`, which was just sent something, is so far behind that more would be too much to keep for it."""
        if self.is_on or not client.is_far_behind:
            return
        self.is_on = True
        self._switch()
        client.moved = self._looking  # the next look may be near
        if not self._looking:
            self._looking = True
            self._look_later(_STALLED_SECONDS)

    def end_if_possible(self) -> None:
        """Read on, once every client has taken the better part of what waited for it. Called when one has taken something, or has gone."""
        if self.is_on and all(client.keeps_up for client in self._clients.values()):
            self.is_on = False
            self._switch()

    def stalled(self, *, has_output: bool) -> list[Client]:
        """Clients to let go of, since they have taken nothing since the last look. `has_output`: the process may still write something."""
        self._looking = self.is_on and has_output
        if not self._looking:
            return []
        stalled = [client for client in self._clients.values() if not (client.keeps_up or client.moved)]
        for client in self._clients.values():
            client.moved = False
        self._look_later(_STALLED_SECONDS)
        return stalled
