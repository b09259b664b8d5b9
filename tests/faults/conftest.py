"""Fixtures of the tier of faults: one engine that test after test kills, fills up and hangs up on. Nothing may be left on the host after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults import judge
from faults.victim import IMAGE, Victim, small_image
from support.leaks import nothing_left_on_the_host
from teul.linux.process import PR_SET_CHILD_SUBREAPER, prctl

__all__ = ["nothing_left_on_the_host"]

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    if call.when == "call":
        item.stash[_failed] = call.excinfo is not None
    return (yield)


class Ward:
    """Keeps a victim, until a fault has left it in a state that the next test cannot begin with."""

    def __init__(self) -> None:
        self._victim: Victim | None = None

    def admit(self) -> Victim:
        if self._victim is None:
            self._victim = Victim().__enter__()
            self._victim.load(small_image(IMAGE).docker_archive())
        return self._victim

    def discharge(self) -> None:
        victim, self._victim = self._victim, None
        if victim is not None:
            victim.close()


@pytest.fixture(scope="session")
def ward(nothing_left_on_the_host: None) -> Iterator[Ward]:
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # so that what outlives a killed engine can be told from what others run
    ward = Ward()
    yield ward
    ward.discharge()
    prctl(PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
def victim(ward: Ward, request: pytest.FixtureRequest) -> Iterator[Victim]:
    """An engine without containers and with one image, in which everything is as it should be."""
    victim = ward.admit()
    victim.is_hopeless = request.node.get_closest_marker("xfail") is not None
    yield victim
    if request.node.stash.get(_failed, True):
        victim.is_damaged = True
        ward.discharge()
        return
    victim.disarm()
    victim.remove_containers()
    judge.assert_whole(victim)
