"""Guards of the unit tier: no process, no network beyond loopback, no blocked event loop, a scrubbed environment."""

from __future__ import annotations

import inspect
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from support.loop_guard import BlockingError, guarding

_KEPT = {"PATH", "HOME", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST", "PYTEST_VERSION", "COVERAGE_PROCESS_START"}
_LOOPBACK = ("127.", "::1", "localhost")


def _refuse_process(*args: Any, **options: Any) -> NoReturn:
    raise AssertionError(f"a unit test starts a process: {args!r}")


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit tests prove things about plans and bytes; what needs a process belongs to the kernel or e2e tier."""
    monkeypatch.setattr(subprocess.Popen, "__init__", _refuse_process)
    for name in ("fork", "forkpty", "system", "posix_spawn", "posix_spawnp", "popen"):
        monkeypatch.setattr(os, name, _refuse_process)


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections go to unix sockets and to this machine only."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and not str(address[0]).startswith(_LOOPBACK):
            raise AssertionError(f"a unit test connects to {address!r}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def free_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Teul's code blocks no event loop: it gets an exception, and the test fails even if that is swallowed.

    Tests without a loop go without the guard: some of the command line's are about when signals arrive.
    """
    if not inspect.iscoroutinefunction(request.function):
        yield
        return
    offences: list[BlockingError] = []
    with guarding(offences.append):
        yield
    assert not offences, f"the event loop was blocked: {offences}"


@pytest.fixture(autouse=True)
def scrubbed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on whose machine it runs on: DOCKER_HOST, proxies, locale and the like are gone."""
    for name in set(os.environ) - _KEPT:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
