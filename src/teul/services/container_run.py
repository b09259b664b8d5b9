"""What the engine holds in memory for a container beyond its record: its process, who waits for it, who is attached early."""

from __future__ import annotations

import asyncio

from teul.model.container import ContainerExit
from teul.runtime.process import Process
from teul.runtime.supervisor import PendingAttachment

NOT_RUNNING = "not-running"
NEXT_EXIT = "next-exit"
REMOVED = "removed"


class ContainerRun:
    """Guards one container: whoever changes its state holds `lock`."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.process: Process | None = None
        self.pending: list[PendingAttachment] = []
        self.restart: asyncio.Task[None] | None = None
        self.restart_delay_seconds = 0.0
        # Done when the present process has ended and all that follows from it was recorded.
        self.settled: asyncio.Future[None] | None = None
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

    def drop_pending(self) -> None:
        """Nobody will start for those who attached early: let them see the end."""
        for pending in self.pending:
            pending.connection.close()
        self.pending.clear()
