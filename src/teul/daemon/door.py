"""What an engine that was started on demand leaves behind when it leaves by itself: its listening sockets, in a process of few megabytes.

The engine's process becomes this program by exec, and this program the next engine: the sockets are never closed in between, so a client
that connects at any moment waits in their queue until it is served. The next engine gets them as from systemd (sd_listen_fds(3):
descriptors from 3 on, LISTEN_FDS, LISTEN_PID).

The program imports what is built into the interpreter and `select`, since what it is for is to be small. Its arguments: milliseconds
between two looks at the host, the record that says who holds the sockets, the engine's root, the number of sockets, the paths of those that
have one, `--`, and the command line of the next engine.
"""

from __future__ import annotations

import posix
import select
import sys
from _signal import SIG_DFL, SIGTERM, signal  # type: ignore[import-not-found]  # without the enums of `signal`

FIRST_FD = 3  # sd_listen_fds(3)

# The engine's helpers end when it is gone, and then there is nothing for a while.
_FIRST_LOOK_MILLISECONDS = 500

Identity = tuple[int, int] | None


def main(arguments: list[str]) -> None:
    """Wait for a client and become the engine; or leave, on SIGTERM and when the root or a socket is not there any more."""
    look_milliseconds, record, root, count = int(arguments[0]), arguments[1], arguments[2], int(arguments[3])
    end = arguments.index("--")
    paths, engine = arguments[4:end], arguments[end + 1 :]
    watched = {path: identity(path) for path in (root, *paths)}

    def leave(_number: int, _frame: object) -> None:
        remove({path: watched[path] for path in paths}, record)
        sys.exit(0)

    signal(SIGTERM, leave)
    poller = select.poll()
    for fd in range(FIRST_FD, FIRST_FD + count):
        poller.register(fd, select.POLLIN)
    milliseconds = _FIRST_LOOK_MILLISECONDS
    while not poller.poll(milliseconds):
        reap()
        milliseconds = min(milliseconds * 2, look_milliseconds)
        if any(known is None or identity(path) != known for path, known in watched.items()):
            remove({path: watched[path] for path in paths}, record)
            return
    signal(SIGTERM, SIG_DFL)
    listening = {b"LISTEN_FDS": b"%d" % count, b"LISTEN_PID": b"%d" % posix.getpid()}
    posix.execve(engine[0], engine, {**posix.environ, **listening})


def identity(path: str) -> Identity:
    """What is at `path`; None for nothing."""
    try:
        status = posix.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remove(sockets: dict[str, Identity], record: str) -> None:
    """Take away the sockets that are still there, and not somebody else's of that name, and the record."""
    for path, known in sockets.items():
        if known is not None and identity(path) == known:
            posix.unlink(path)
    if identity(record) is not None:
        posix.unlink(record)


def reap() -> None:
    """Of children of the engine that this process was."""
    try:
        while posix.waitpid(-1, posix.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    main(sys.argv[1:])
