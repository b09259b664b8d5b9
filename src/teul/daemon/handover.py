"""How listening sockets go from one process to the next without being closed: from systemd, and to the door and from it (door.py)."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import sys
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from typing import NoReturn

from teul.daemon import door
from teul.errors import InvalidParameter
from teul.linux import process
from teul.store import atomic

_RECORD = "door"
_LOOK_MILLISECONDS = 10_000
_LOW_FDS = 64  # where copies are out of the way of the places that the sockets go to


def take_listeners(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that this process was started with (sd_listen_fds(3)); the variables that say so are taken away.

    They keep their descriptors, and are not passed on any more. Raises `InvalidParameter` for what is no listening stream socket.
    """
    count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    taken = []
    for fd in range(door.FIRST_FD, door.FIRST_FD + int(count)):
        try:
            listener = socket.socket(fileno=fd)
            good = listener.type == socket.SOCK_STREAM and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        except OSError as error:
            raise InvalidParameter(f"descriptor {fd} of LISTEN_FDS: {error.strerror}") from error
        if not good:
            listener.detach()  # whoever passed it may go on with it
            raise InvalidParameter(f"descriptor {fd} of LISTEN_FDS is no listening stream socket")
        listener.set_inheritable(False)
        taken.append(listener)
    return taken


def listener_address(listener: socket.socket) -> str:
    """Where `listener` listens, as `-H` has it."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix://{name}"
    return f"tcp://[{name[0]}]:{name[1]}" if listener.family == socket.AF_INET6 else f"tcp://{name[0]}:{name[1]}"


def become_door(
    listeners: Sequence[socket.socket], hosts: Sequence[str], *, root: str, run_root: str, arguments: Sequence[str]
) -> NoReturn:
    """Turn this process into the door of an engine with these `arguments` of `teul serve`. `listeners` belong to `hosts`, in order."""
    copies = [fcntl.fcntl(listener, fcntl.F_DUPFD_CLOEXEC, _LOW_FDS) for listener in listeners]
    write_record(run_root, hosts)
    for number, copy in enumerate(copies):
        os.dup2(copy, door.FIRST_FD + number, inheritable=True)
    process.close_from(door.FIRST_FD + len(copies))
    paths = [host.removeprefix("unix://") for host in hosts if host.startswith("unix://")]
    engine = [sys.executable, "-P", "-m", "teul", "serve", *arguments, "--root", root, "--run-root", run_root]
    settings = [str(_LOOK_MILLISECONDS), f"{run_root}/{_RECORD}", root, str(len(listeners)), *paths]
    # No site-packages, no user's settings: nothing is loaded that the door does not need.
    os.execv(sys.executable, [sys.executable, "-I", "-S", str(door.__file__), *settings, "--", *engine])


def give_up(listeners: Sequence[socket.socket], hosts: Sequence[str]) -> None:
    """End sockets that were to go on, of `hosts` in order, and take their names away."""
    for listener, host in zip(listeners, hosts, strict=False):
        listener.close()
        if host.startswith("unix://"):
            with suppress(FileNotFoundError):
                os.unlink(host.removeprefix("unix://"))


def write_record(run_root: str, hosts: Sequence[str]) -> None:
    """Say that this process, and whatever it becomes, holds the sockets of `hosts`."""
    lines = [f"{os.getpid()} {process.started_at(os.getpid())}", *hosts]
    atomic.replace_file(f"{run_root}/{_RECORD}", "\n".join(lines).encode() + b"\n", durable=False)


def forget_record(run_root: str) -> None:
    """The sockets are an engine's again."""
    try:
        os.unlink(f"{run_root}/{_RECORD}")
    except FileNotFoundError:
        return


def take_from_door(run_root: str, wanted: Sequence[str]) -> dict[str, socket.socket]:
    """Those of the `wanted` addresses' sockets that a door of this run root holds; the door is ended. For an engine that holds the lock.

    The door may be on its way to become an engine, which waits for the lock; it has the sockets in the same places.
    """
    try:
        with open(f"{run_root}/{_RECORD}", encoding="utf-8") as file:
            first, *hosts = file.read().splitlines()
        pid, start_time = first.split(" ")
        pidfd = os.pidfd_open(int(pid))
    except (FileNotFoundError, ProcessLookupError):
        return {}
    taken: dict[str, socket.socket] = {}
    try:
        if process.started_at(int(pid)) != int(start_time):
            return {}
        for number, host in enumerate(hosts):
            path = host.removeprefix("unix://")
            if host not in wanted or (path != host and not os.path.exists(path)):
                continue
            taken[host] = socket.socket(fileno=process.copy_descriptor(pidfd, door.FIRST_FD + number))
        # Not SIGTERM: that would have the door take the sockets' names away.
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [])
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.EBADF, errno.ENOENT):  # it has left meanwhile
            raise
    finally:
        os.close(pidfd)
        forget_record(run_root)
    return taken
