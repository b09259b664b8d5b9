"""Tests in several processes (`pytest -n 2`, pytest-xdist), and those among them that want the host to themselves: `@alone`.

A test that is `alone` begins when every test that runs in another process has ended, and until it has ended no other begins; its fixtures
are part of it. The engines of other modules are there meanwhile, and do nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support.leaks import HostWatch

alone = pytest.mark.alone


def install(config: pytest.Config) -> None:
    """Give this process the plugin of its part: it starts the others, it is one of them, or it is the only one and needs none."""
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Turns(Path(config.option.basetemp).parent))
    elif config.getoption("dist", "no") != "no" and os.geteuid() == 0:
        config.pluginmanager.register(HostWatch())


class Turns:
    """A plugin of each process that runs tests beside another one. Both locks are files that the processes of one run share.

    Whoever wants to begin passes the door, and who wants to be alone keeps it shut while he waits: otherwise tests that overlap would keep
    him waiting to the end.
    """

    def __init__(self, directory: Path) -> None:
        self._door = directory / "door.lock"
        self._room = directory / "room.lock"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        with ExitStack() as stack:
            with _locked(self._door, fcntl.LOCK_EX):
                is_alone = item.get_closest_marker("alone") is not None
                stack.enter_context(_locked(self._room, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH))
            return (yield)


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, operation)
        yield
        fcntl.flock(fd, fcntl.LOCK_UN)  # a child that the test has forked may have the descriptor still
    finally:
        os.close(fd)
