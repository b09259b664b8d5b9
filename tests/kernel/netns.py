"""Network namespaces for tests: the test's body runs in one of its own, and everything vanishes with the processes in it."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from teul.linux import process
from teul.linux.netlink import links

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_SECONDS = 60


def isolated(test: Callable[P, None]) -> Callable[P, None]:
    """Run a test in a child, in a fresh network namespace with loopback up; its failure is reported here."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        def body() -> None:
            signal.alarm(LONGEST_SECONDS)
            process.unshare(process.CLONE_NEWNET)
            links.set_loopback_up()
            test(*args, **kwargs)

        in_child(body)

    return run


def in_child(work: Callable[[], T]) -> T:
    """What `work` returns, run in a forked child; an AssertionError with its traceback if it fails."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_fd)
        try:
            answer: tuple[bool, Any] = (True, work())
        except BaseException:  # noqa: BLE001 - boundary: one child
            answer = (False, traceback.format_exc())
        with open(write_fd, "wb") as file:
            pickle.dump(answer, file)
        os._exit(0)
    os.close(write_fd)
    with open(read_fd, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    if not data:
        raise AssertionError(f"the child ended without a word (took longer than {LONGEST_SECONDS} s?)")
    succeeded, value = pickle.loads(data)
    if not succeeded:
        raise AssertionError(f"in the child:\n{value}")
    returned: T = value
    return returned


class Member:
    """A process that does nothing in a network namespace of its own."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, run in this namespace."""

        def enter_and_work() -> T:
            fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            process.setns(fd, process.CLONE_NEWNET)
            os.close(fd)
            return work()

        return in_child(enter_and_work)


@contextlib.contextmanager
def member() -> Iterator[Member]:
    """A fresh network namespace, held by a child."""
    ready_read_fd, ready_write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
        process.unshare(process.CLONE_NEWNET)
        os.write(ready_write_fd, b"!")
        while True:
            signal.pause()
    os.close(ready_write_fd)
    os.read(ready_read_fd, 1)
    os.close(ready_read_fd)
    try:
        yield Member(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextlib.contextmanager
def echo_server(address: str, port: int = 8000, *, inside: Member | None = None) -> Iterator[None]:
    """A TCP server that tells each client the client's address."""
    ready_read_fd, ready_write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
        if inside is not None:
            fd = os.open(f"/proc/{inside.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            process.setns(fd, process.CLONE_NEWNET)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, port), family=family) as server:
            os.write(ready_write_fd, b"!")
            while True:
                connection, client = server.accept()
                connection.sendall(client[0].encode())
                connection.close()
    os.close(ready_write_fd)
    started = os.read(ready_read_fd, 1)
    os.close(ready_read_fd)
    try:
        assert started, f"no server at {address}"
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def address_seen_by(server: str, port: int = 8000, *, timeout_seconds: float = 5.0) -> str:
    """Connect to an `echo_server` and return what it calls us."""
    with socket.create_connection((server, port), timeout=timeout_seconds) as connection:
        return connection.recv(64).decode()


def is_reachable(server: str, port: int = 8000) -> bool:
    """Whether a connection comes about; a dropped packet costs half a second."""
    try:
        socket.create_connection((server, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def eventually(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait for what the kernel does in the background."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
