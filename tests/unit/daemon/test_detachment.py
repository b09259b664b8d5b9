"""What an engine on demand gives up of its caller's. That it does is tests/e2e/test_on_demand.py's; here: what becomes of a refusal."""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Iterator

import pytest

from teul.daemon import detachment
from teul.linux import cgroups, process


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the steps that were taken, in place of the real ones, of which the second is refused."""
    taken: list[str] = []

    def refuse() -> None:
        taken.append("second")
        raise OSError(errno.EPERM, "not for you")

    def fake() -> Iterator[tuple[str, object]]:
        yield "first", lambda: taken.append("first")
        yield "second", refuse
        yield "third", lambda: taken.append("third")

    monkeypatch.setattr(detachment, "_steps", fake)
    monkeypatch.setattr(process, "close_from", lambda first_fd: taken.append(f"close {first_fd}"))
    monkeypatch.setattr(os, "umask", lambda mode: taken.append(f"umask {mode:o}"))
    return taken


def test_what_cannot_be_given_up_is_logged_and_the_rest_goes_on(steps: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        detachment.leave_caller()
    assert steps == ["close 3", "umask 22", "first", "second", "third"]
    assert caplog.messages == ["the engine keeps the second of the command that started it: [Errno 1] not for you"]


def test_limit_above_the_hard_one_is_raised_as_far_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CAP_SYS_RESOURCE no hard limit can be raised; all others are set, and one error names those that could not be."""
    limits = dict.fromkeys((resource.RLIMIT_NOFILE, resource.RLIMIT_STACK, resource.RLIMIT_CORE), (64, 4096))
    unlimited = resource.RLIM_INFINITY

    def set_limit(kind: int, wanted: tuple[int, int]) -> None:
        hard = limits.get(kind, (0, unlimited))[1]
        if hard != unlimited and (wanted[1] == unlimited or wanted[1] > hard):
            raise ValueError("not allowed to raise maximum limit")
        limits[kind] = wanted

    monkeypatch.setattr(resource, "setrlimit", set_limit)
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    with pytest.raises(OSError, match=r"^.Errno 1. setrlimit RLIMIT_CORE, RLIMIT_STACK, RLIMIT_NOFILE: ") as raised:
        detachment._reset_limits()
    assert raised.value.errno == errno.EPERM
    assert limits[resource.RLIMIT_CORE] == limits[resource.RLIMIT_STACK] == limits[resource.RLIMIT_NOFILE] == (4096, 4096)
    assert limits[resource.RLIMIT_MSGQUEUE] == (819200, 819200)
    assert limits[resource.RLIMIT_FSIZE] == (unlimited, unlimited)


def test_cgroups_that_are_not_left_are_all_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "detect", lambda: None)
    failures = [OSError(errno.EBUSY, "write `0` to `/a`: Device or resource busy"), OSError(errno.EACCES, "write `0` to `/b`: no")]
    monkeypatch.setattr(cgroups, "leave", lambda layout: failures)
    with pytest.raises(OSError, match="`/a`: Device or resource busy; write `0` to `/b`") as raised:
        detachment._leave_cgroups()
    assert raised.value.errno == errno.EBUSY
