"""The end of a tier: nothing may be left on the host.

Tests that run side by side (pytest-xdist) would each see what the others have at the moment. So the process that starts the others looks,
before it starts them and when all have ended; from them it only hears whether a test of a tier was run that leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import host
from support.polling import eventually

_PROMISED = "leaves nothing on the host"


@pytest.fixture(scope="session", autouse=True)
def nothing_left_on_the_host(request: pytest.FixtureRequest) -> Iterator[None]:
    """Mounts, cgroups, links, namespaces, rules, processes and temp files after the tier are those from before it."""
    output: dict[str, object] | None = getattr(request.config, "workeroutput", None)
    if output is not None:
        output[_PROMISED] = True
        yield
        return
    before = host.snapshot()
    yield
    left = _left_since(before)
    if left:
        pytest.fail("the tests left something on the host:\n" + "\n".join(left), pytrace=False)


class HostWatch:
    """A plugin of the process that starts the others: does for all of them what the fixture does for one."""

    def __init__(self) -> None:
        self._before = host.snapshot()
        self._is_promised = False
        self._left: list[str] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """A process that died can no longer say what it ran, and is the likeliest to have left something."""
        self._is_promised |= bool(getattr(node, "workeroutput", {_PROMISED: True}).get(_PROMISED))

    @pytest.hookimpl(trylast=True)  # after xdist's own, which waits for the processes
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._left = _left_since(self._before) if self._is_promised else []
        if self._left:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._left:
            terminalreporter.section("the tests left something on the host", red=True)
            for line in self._left:
                terminalreporter.line(line)


def _left_since(before: host.HostState) -> list[str]:
    """The kernel takes network namespaces and cgroups down asynchronously, so the comparison is repeated for a while."""
    left: list[str] = []

    def is_clean() -> bool:
        left[:] = host.difference(before, host.snapshot())
        return not left

    try:
        eventually(is_clean, "the host is as it was before the tests", timeout_seconds=15.0, interval_seconds=0.25)
    except AssertionError:
        return left
    return []
