"""What stands in for `teul.failpoints.reach` in an engine under judgement, in its keeper, and in the forks of that.

A point is armed by a file of its name, which says what is to happen there and how many times it is to be reached before. Whoever
comes to an armed point takes the file away and strikes: once, in whichever process that is. An engine without such files is like any
other. Standard library only, since the keeper loads this, too.
"""

from __future__ import annotations

import errno
import functools
import os
import signal

import teul.failpoints


def arm(directory: str, point: str, way: str, *, occurrence: int = 1) -> None:
    """Have `way` happen when `point` is reached for the `occurrence`-th time from now on."""
    path = f"{directory}/{point}"
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write(f"{way} {occurrence}")
    os.rename(f"{path}.new", path)


def is_armed(directory: str, point: str) -> bool:
    """Whether the point has yet to strike."""
    return os.path.exists(f"{directory}/{point}")


def install(directory: str) -> None:
    """Have this process, and those that it forks, look into `directory` at every point."""
    teul.failpoints.reach = functools.partial(_reach, directory)


def _reach(directory: str, point: str) -> None:
    try:
        with open(f"{directory}/{point}", encoding="ascii") as file:
            way, occurrence = file.read().split()
        if int(occurrence) > 1:
            arm(directory, point, way, occurrence=int(occurrence) - 1)
            return
        os.unlink(f"{directory}/{point}")
    except FileNotFoundError:
        return  # not armed, or another process was faster
    WAYS[way](point)


def _kill(_point: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail(point: str) -> None:
    raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} at {point}")


WAYS = {"kill": _kill, "error": _fail}
