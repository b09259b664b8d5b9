"""Start the agent's process, or find the one that an earlier engine has started. Blocking."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys

import teul
from teul.network.agent.messages import SOCKET_FILE

_PROGRAM = "import sys; sys.path[:] = {path!r}; from teul.network.agent.program.main import main; main()"
_BACKLOG = 8


def connect(directory: str) -> socket.socket | None:
    """A connection to the agent that listens in the engine's run directory, None if there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # By way of a descriptor: a socket's path may have 107 bytes only.
        connection.connect(f"/proc/self/fd/{directory_fd}/{SOCKET_FILE}")
    except OSError:  # none was started, or it has left its socket behind
        connection.close()
        return None
    finally:
        os.close(directory_fd)
    return connection


def start(directory: str) -> tuple[int, socket.socket]:
    """A new agent's pid, and the connection to it; its socket takes the place of an older one's in the engine's run directory.

    It is in a session of its own, so that nobody's ^C ends it, and it outlives the engine. The caller reaps it. Raises `OSError`.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with theirs, _listen(directory) as listener:
            inherited = (theirs.fileno(), listener.fileno())
            pid = os.posix_spawn(
                sys.executable,
                # -I -S: nothing from the environment or the current directory.
                [sys.executable, "-I", "-S", "-c", _PROGRAM.format(path=_import_path()), *map(str, inherited)],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                    *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in inherited),  # onto itself: it stays open there
                ],
                setsid=True,
            )
    except BaseException:
        ours.close()
        raise
    return pid, ours


def _listen(directory: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    temporary, final = f"/proc/self/fd/{directory_fd}/{SOCKET_FILE}.new", f"{directory}/{SOCKET_FILE}"
    try:
        os.fchmod(listener.fileno(), 0o600)  # kernel: bind(2) makes the file with the socket's own mode
        try:
            os.unlink(f"{final}.new")
        except FileNotFoundError:
            pass  # nobody was killed between the two names
        listener.bind(temporary)
        listener.listen(_BACKLOG)
        os.rename(f"{final}.new", final)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(directory_fd)
    return listener


def _import_path() -> list[str]:
    """The standard library, Teul, and where the one library is that the agent needs."""
    library = os.path.dirname(os.__file__)
    package = os.path.dirname(os.path.dirname(os.path.abspath(teul.__file__)))
    found = importlib.util.find_spec("dnslib")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("the package dnslib is not installed", name="dnslib")
    return [library, f"{library}/lib-dynload", package, os.path.dirname(os.path.dirname(os.path.abspath(found.origin)))]
