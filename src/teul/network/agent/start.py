"""Start the agent's process, or find the one that an earlier engine has started. Blocking."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
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


def start(directory: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A new agent, and the connection to it; its socket takes the place of an older one's in the engine's run directory.

    It is a session of its own, so that nobody's ^C ends it, and it outlives the engine.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with theirs, _listen(directory) as listener:
            agent = subprocess.Popen(
                # -I -S: nothing from the environment or the current directory.
                [sys.executable, "-I", "-S", "-c", _PROGRAM.format(path=_import_path()), str(theirs.fileno()), str(listener.fileno())],
                pass_fds=(theirs.fileno(), listener.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env={},
            )
    except BaseException:
        ours.close()
        raise
    return agent, ours


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
