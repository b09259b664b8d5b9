"""Work inside another network namespace, for a process that stays in its own."""

from __future__ import annotations

import _thread
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

from teul.linux import process

T = TypeVar("T")


def open_own() -> int:
    """A descriptor of the calling thread's network namespace; whoever holds it keeps the namespace alive."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def open_of(pid: int) -> int:
    """A descriptor of the network namespace of process `pid`. Raises `OSError`; ENOENT also for a zombie, which has none any more."""
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def run_inside(netns_fd: int, work: Callable[[], T]) -> T:
    """What `work` returns, or raises, run inside the network namespace that `netns_fd` names. Blocking.

    `netns_fd` is a namespace file or a pidfd; it stays the caller's. Sockets and netlink connections that `work` opens belong to that
    namespace for good, and so do the settings that it finds below /proc/sys/net. The caller's thread never leaves its own namespace: a
    thread of its own does it, and ends with the work, so that no thread of a pool is left behind in there, whatever fails. Needs
    CAP_SYS_ADMIN over the namespace. Raises `OSError` where it cannot be entered (ESRCH: the process of a pidfd has ended).
    """
    outcome: list[T] = []
    failures: list[BaseException] = []
    done = _thread.allocate_lock()

    def enter_and_work() -> None:
        try:
            process.setns(netns_fd, process.CLONE_NEWNET)
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failures.append(error)
        finally:
            done.release()

    done.acquire()
    _thread.start_new_thread(enter_and_work, ())
    with done:
        pass
    if failures:
        try:
            raise failures[0]
        finally:
            failures.clear()  # or the error and this frame would keep each other
    return outcome[0]


@contextlib.contextmanager
def being_inside(netns_fd: int) -> Iterator[None]:
    """Have this whole process, which has one thread and will not live long, be inside the network namespace; afterwards it is back.

    `netns_fd` is as of `run_inside`, which is for everybody else. Raises `OSError`.
    """
    own_fd = open_own()
    try:
        process.setns(netns_fd, process.CLONE_NEWNET)
        try:
            yield
        finally:
            process.setns(own_fd, process.CLONE_NEWNET)
    finally:
        os.close(own_fd)
