"""What the engine holds in memory for a container beyond its record: its process, who waits for its end, who attached before its start.

Also who wants to hear when any container starts, ends, is paused or goes on.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from teul.errors import Unavailable
from teul.model.container import Container, ContainerExit
from teul.model.lifecycle import Move
from teul.runtime.engine.process import Process
from teul.runtime.engine.supervisor import PendingAttachment

NOT_RUNNING = "not-running"
NEXT_EXIT = "next-exit"
REMOVED = "removed"
# One `Request` to the keeper carries at most 64 descriptors (runtime.messages).
_MAX_PENDING = 48


class ContainerRun:
    """Guards one container: whoever changes its state holds `lock`."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.process: Process | None = None
        self.pending: list[PendingAttachment] = []
        self.restart: asyncio.Task[None] | None = None
        self.restart_delay_seconds = 0.0
        # The latest process's own: set when that has ended and all that follows from its end is done. Whoever waits for it keeps what was
        # here when they looked at `process`, for the next start puts another one in its place.
        self.settled = asyncio.Event()
        self._keeping = 0
        self._no_start_under_way = asyncio.Event()
        self._no_start_under_way.set()
        self._waiters: dict[str, list[asyncio.Future[ContainerExit]]] = {NOT_RUNNING: [], NEXT_EXIT: [], REMOVED: []}

    def waiter(self, condition: str) -> asyncio.Future[ContainerExit]:
        """A future that is done when `condition` comes true."""
        future: asyncio.Future[ContainerExit] = asyncio.get_running_loop().create_future()
        waiters = self._waiters[condition]
        waiters[:] = [waiter for waiter in waiters if not waiter.done()]
        waiters.append(future)
        return future

    def notify(self, end: ContainerExit, *conditions: str) -> None:
        """Tell everybody who waits for one of `conditions`."""
        for condition in conditions:
            waiters, self._waiters[condition] = self._waiters[condition], []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(end)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Have who asks in the meantime what needs a running container wait for the end of the `with`."""
        self._no_start_under_way.clear()
        try:
            yield
        finally:
            self._no_start_under_way.set()

    async def start_is_over(self) -> None:
        """Wait for the end of a start that is under way, if one is. docker: there a start holds the lock that all of them want."""
        await self._no_start_under_way.wait()

    @property
    def kept(self) -> bool:
        """Whether --rm does not apply: somebody is in the middle of a restart."""
        return self._keeping > 0

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Have --rm not apply inside the `with`."""
        self._keeping += 1
        try:
            yield
        finally:
            self._keeping -= 1

    def add_pending(self, pending: PendingAttachment) -> None:
        """Have `pending` attached by the next start. Raises Unavailable when too many wait already."""
        self.pending = self.take_pending()
        if len(self.pending) >= _MAX_PENDING:
            pending.connection.close()
            raise Unavailable(f"{len(self.pending)} clients wait for this container's start already")
        self.pending.append(pending)

    def take_pending(self) -> list[PendingAttachment]:
        """The attachments made before the start whose clients are still there."""
        alive: list[PendingAttachment] = []
        for pending in self.pending:
            if _has_peer(pending.connection):
                alive.append(pending)
            else:
                pending.connection.close()
        self.pending = []
        return alive

    def drop_pending(self) -> None:
        """There will be no start for those who attached before it: let them see the end of the stream."""
        for pending in self.pending:
            pending.connection.close()
        self.pending.clear()


Follower = Callable[[Container, Move], None]


class Runs:
    """The `ContainerRun` of every container, and the followers of all."""

    def __init__(self) -> None:
        self._runs: dict[str, ContainerRun] = {}
        self._followers: list[Follower] = []

    def of(self, container_id: str) -> ContainerRun:
        """The run of one container, made when it is first asked for."""
        return self._runs.setdefault(container_id, ContainerRun())

    def all(self) -> list[ContainerRun]:
        """The runs that were asked for so far."""
        return list(self._runs.values())

    def find_pidfd(self, container_id: str) -> int | None:
        """The pidfd of a container's first process, which stays the process's; None for a container that does not run."""
        run = self._runs.get(container_id)
        process = run.process if run is not None else None
        return process.pidfd if process is not None and process.pidfd >= 0 and not process.exit.done() else None

    def forget(self, container_id: str) -> None:
        """Forget the run of a container that is gone. Idempotent."""
        self._runs.pop(container_id, None)

    def follow(self, follower: Follower) -> None:
        """Have `follower` called when a container has started or ended, before the record is saved, or was paused or unpaused, after that.

        The follower must neither block nor raise.
        """
        self._followers.append(follower)

    def tell(self, container: Container, move: Move) -> None:
        """Tell the followers that the container has made this move."""
        for follower in self._followers:
            follower(container, move)


def _has_peer(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True
    except OSError:
        return False
