"""Where clients come in: the listening sockets, opened or inherited, and the server behind them. It can be shut and opened again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Mapping, Sequence

from teul.aio import run_blocking
from teul.api.http.connection import Runner
from teul.daemon.listeners import open_listener, serve_at

# A client that has connected and asks for nothing holds up an engine that leaves for two seconds.
_LOOK_SECONDS = 0.02
_LOOKS = 100


class Entrance:
    """The sockets at `hosts`, in order; those in `inherited` are taken, the others opened. `tls` is spoken on those of TCP."""

    def __init__(self, runner: Runner, hosts: Sequence[str], inherited: Mapping[str, socket.socket], tls: ssl.SSLContext | None) -> None:
        self._runner = runner
        self._hosts = hosts
        self._inherited = inherited
        self._tls = tls
        self.listeners: list[socket.socket] = []

    async def open(self) -> None:
        """Serve whoever connects, and who has connected while nobody served. Raises what `open_listener` raises."""
        for host in self._hosts[len(self.listeners) :]:
            inherited = self._inherited.get(host)
            self.listeners.append(await run_blocking(open_listener, host) if inherited is None else inherited)
        for listener in self.listeners:
            # A copy: the server closes what it gets, and a socket that is closed has no queue for those who come meanwhile.
            await serve_at(listener.dup(), self._runner, self._tls if listener.family != socket.AF_UNIX else None)

    async def shut(self) -> None:
        """Take nobody in any more; who comes waits in the sockets. Who is in already, and was not asked yet, has been when this returns."""
        await self._runner.stop_sites()
        for _ in range(_LOOKS):
            if not self._runner.has_newcomers:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """End the sockets: who waits in them is refused."""
        for listener in self.listeners:
            listener.close()

    def remove_names(self) -> None:
        """Take the names of unix sockets out of the file system. Blocking."""
        for host in self._hosts[: len(self.listeners)]:
            if host.startswith("unix://"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(host.removeprefix("unix://"))
