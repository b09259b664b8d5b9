"""Lines of one container's log on their way to a server. Blocking; what cannot be sent is lost, and counted."""

from __future__ import annotations

import array
import os
import socket
import time
from typing import TYPE_CHECKING

from teul.runtime.forwarder.connection import NoServer, connect
from teul.wire import journal
from teul.wire.syslog import Formatter

if TYPE_CHECKING:
    from collections.abc import Callable

    from teul.runtime.messages import Forwarding


class Sender:
    """Connects when there is something to send, and again when the connection has ended. docker: a line is tried twice.

    After an attempt that took long, lines are lost for as long again: else each of them would hold up those after it, and the program.
    """

    def __init__(self, plan: Forwarding, tell: Callable[[str], None]) -> None:
        """`tell` is told when lines begin to be lost, and when they no longer are."""
        self._plan = plan
        self._server = plan["server"]
        self._tell = tell
        self._connection: socket.socket | None = None
        self._not_before = 0.0
        self._lost = 0
        self._ordinal = 0
        self._formatter = Formatter(
            plan["format"],
            facility=plan["facility"],
            tag=plan["tag"],
            hostname=plan["hostname"],
            pid=os.getpid(),
            counted=self._server["tls"] is not None,
        )

    def send(self, stream: int, time_ns: int, line: bytes, *, partial: bool) -> None:
        """Send one line, without its newline. docker: one that is empty is not sent to a syslog."""
        if self._server["network"] == "journal":
            self._ordinal += 1
            message = journal.entry(self._plan["fields"], stream, time_ns, line, ordinal=self._ordinal, partial=partial)
        elif line:
            message = self._formatter.message(stream, time_ns, line)
        else:
            return
        try:
            self._deliver(message)
        except (NoServer, OSError) as error:
            if not self._lost:
                self._tell(f"lines of its log are lost: {error}")
            self._lost += 1
            return
        if self._lost:
            self._tell(f"its log goes on; {self._lost} lines were lost")
            self._lost = 0

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _deliver(self, message: bytes) -> None:
        if self._connection is not None:
            try:
                self._write(self._connection, message)
                return
            except OSError:
                self.close()  # the server has gone; it may be there again
        began = time.monotonic()
        if began < self._not_before:
            raise NoServer("it did not answer")
        try:
            self._connection = connect(self._server)
            self._write(self._connection, message)
        except (NoServer, OSError):
            self.close()
            now = time.monotonic()
            self._not_before = now + (now - began)
            raise

    def _write(self, connection: socket.socket, message: bytes) -> None:
        if self._server["network"] != "journal":
            connection.sendall(message)
            return
        try:
            connection.send(message)
        except OSError:
            # systemd: what is too large for a datagram comes as a file that cannot be changed any more.
            _send_as_file(connection, message)


def _send_as_file(connection: socket.socket, message: bytes) -> None:
    import fcntl  # noqa: PLC0415 (seldom needed)

    fd = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(message)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
        connection.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    finally:
        os.close(fd)
