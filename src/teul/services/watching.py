"""Being told when files in a directory change, for any number of tasks, at the price of one inotify instance.

A user of the host has few instances for all programs together, so the engine has one, made when it is first wanted. Where the host gives
none, or no more watches, whoever wants to know is woken from time to time and has to look: later than could be, but nothing is missed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from teul.aio import run_blocking, run_to_end
from teul.linux import inotify

log = logging.getLogger(__name__)

_CHANGES = inotify.IN_MODIFY | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO | inotify.IN_CREATE | inotify.IN_DELETE
_POLL_SECONDS = 0.5
# What says that the host has no more of it, and not that there is something wrong with the directory.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ENOSYS}


class _Watch:
    """One directory and who wants to know. `number` is the kernel's, None as long as it tells us nothing."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.listeners: set[asyncio.Event] = set()
        self.number: int | None = None
        self.beginning = asyncio.Lock()

    def wake(self) -> None:
        for listener in self.listeners:
            listener.set()


class DirectoryWatcher:
    """All watches of an engine. To be closed after everybody who watches has left."""

    def __init__(self) -> None:
        self._fd: int | None = None
        self._watches: dict[str, _Watch] = {}
        self._by_number: dict[int, _Watch] = {}
        self._poll: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def watching(self, directory: str) -> AsyncIterator[asyncio.Event]:
        """Inside of the `with`: an event that is set whenever a file in `directory` was changed, made, moved or removed.

        It may be set without a cause. What had changed before the `with` was entered does not set it. Raises `OSError`.
        """
        changed = asyncio.Event()
        watch = self._watches.setdefault(directory, _Watch(directory))
        watch.listeners.add(changed)
        try:
            await run_to_end(self._begin(watch))
            yield changed
        finally:
            watch.listeners.discard(changed)
            if not watch.listeners:
                self._end(watch)

    def close(self) -> None:
        """Give the instance back. Idempotent."""
        if self._poll is not None:
            self._poll.cancel()
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    async def _begin(self, watch: _Watch) -> None:
        async with watch.beginning:
            if watch.number is not None:
                return
            try:
                if self._fd is None:
                    self._fd = inotify.open_instance()
                    asyncio.get_running_loop().add_reader(self._fd, self._notice, self._fd)
                watch.number = await run_blocking(inotify.add_watch, self._fd, watch.directory, _CHANGES)
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                log.warning("looking into %s every %g s, for the host does not tell of changes: %s", watch.directory, _POLL_SECONDS, error)
                self._keep_polling()
            else:
                self._by_number[watch.number] = watch

    def _end(self, watch: _Watch) -> None:
        del self._watches[watch.directory]
        if watch.number is not None and self._fd is not None:
            self._by_number.pop(watch.number, None)
            with suppress(OSError):  # EINVAL: the directory is gone, and we have not heard of it yet
                inotify.remove_watch(self._fd, watch.number)

    def _notice(self, fd: int) -> None:
        for number, mask in inotify.read_events(fd):
            if mask & inotify.IN_Q_OVERFLOW:
                for watch in self._watches.values():
                    watch.wake()
            elif (found := self._by_number.get(number)) is not None:
                found.wake()
                if mask & inotify.IN_IGNORED:  # the directory is gone, or what it was mounted from
                    del self._by_number[number]
                    found.number = None
                    self._keep_polling()

    def _keep_polling(self) -> None:
        if self._poll is None:
            self._poll = asyncio.get_running_loop().call_later(_POLL_SECONDS, self._look)

    def _look(self) -> None:
        self._poll = None
        unwatched = [watch for watch in self._watches.values() if watch.number is None]
        for watch in unwatched:
            watch.wake()
        if unwatched:
            self._keep_polling()
