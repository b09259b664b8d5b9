"""The writer of a container's log, at the moments when its keeper is killed or the host refuses something."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from teul.runtime.keeper.logs import LogFile

FULL = 1  # of so few bytes, a file is full with one line


class Killed(BaseException):
    """The end of the process, as far as a test can have it."""


def logged(path: Path) -> list[str]:
    """All whole lines in all files, oldest first."""
    files = sorted(path.parent.glob(f"{path.name}*"), key=lambda file: int(file.suffix[1:]) if file.suffix[1:].isdigit() else 0)
    texts = []
    for file in reversed(files):
        for line in file.read_bytes().splitlines():
            try:
                texts.append(json.loads(line)["log"])
            except json.JSONDecodeError:
                texts.append("half a line")
    return texts


def failing_at(monkeypatch: pytest.MonkeyPatch, at: int, failure: BaseException) -> Callable[[], bool]:
    """Have the call number `at` that changes the directory or a descriptor fail; returns what tells whether it came."""
    calls = count()
    came: list[int] = []

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*arguments: Any, **options: Any) -> Any:
            if next(calls) == at:
                came.append(at)
                raise failure
            return call(*arguments, **options)

        return failing

    for name in ("rename", "unlink", "open", "close"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    return lambda: bool(came)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "container.log"


@pytest.mark.parametrize("kept", [2, 3, 5])
def test_a_keeper_that_is_killed_in_a_rotation_loses_no_file(monkeypatch: pytest.MonkeyPatch, path: Path, kept: int) -> None:
    """Whatever step it was before: the next one goes on, and drops a file only when there is no number left for it."""
    for at in range(20):
        here = path.with_name(f"{at}.log")
        log = LogFile(str(here), max_bytes=FULL, max_files=kept)
        for number in range(kept):
            log.write(1, b"%d\n" % number)
        with monkeypatch.context() as patches:
            came = failing_at(patches, at, Killed())
            try:
                log.write(1, b"killed\n")
            except Killed:
                pass
            if not came():
                assert at >= kept
                return
        before = logged(here)
        assert before[-kept + 1 :] == [f"{number}\n" for number in range(1, kept)], f"before step {at}"
        log = LogFile(str(here), max_bytes=FULL, max_files=kept)
        log.write(1, b"next\n")
        assert logged(here) == [*before, "next\n"][-kept:], f"before step {at}"
        log.close()


@pytest.mark.parametrize("kept", [1, 3])
def test_a_rotation_that_the_host_refuses_leaves_the_log_its_own_descriptor(monkeypatch: pytest.MonkeyPatch, path: Path, kept: int) -> None:
    """A number that is closed is soon somebody else's: another container's log, or a client's socket. The next line is logged again."""
    for at in range(10):
        here = path.with_name(f"{at}.log")
        log = LogFile(str(here), max_bytes=FULL, max_files=kept)
        log.write(1, b"first\n")
        with monkeypatch.context() as patches:
            came = failing_at(patches, at, OSError(errno.ENFILE, os.strerror(errno.ENFILE)))
            log.write(1, b"refused\n")
        if not came():
            assert at >= 2
            return
        other_fd = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        others = os.fstat(other_fd).st_ino
        log.write(1, b"second\n")
        log.close()
        assert os.fstat(other_fd).st_ino == others, f"step {at} failed, and a descriptor of somebody else was closed"
        os.close(other_fd)
        assert logged(here)[-1] == "second\n", f"step {at} failed: {log.error}"
        assert log.error is not None
        assert log.lost_bytes > 0


@pytest.mark.parametrize("max_bytes", [FULL, 1 << 20])
def test_half_a_line_that_a_killed_keeper_left_spoils_no_other(path: Path, max_bytes: int) -> None:
    path.write_bytes(b'{"log":"ha')
    log = LogFile(str(path), max_bytes=max_bytes, max_files=3)
    log.write(1, b"whole\n")
    log.write(1, b"another\n")
    log.close()
    assert logged(path) == ["half a line", "whole\n", "another\n"]


def test_the_line_after_half_a_line_is_not_torn_by_a_disk_that_is_full(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    path.write_bytes(b'{"log":"ha')
    log = LogFile(str(path), max_bytes=1 << 20, max_files=3)
    with monkeypatch.context() as patches:
        patches.setattr(os, "write", lambda _fd, _data: disk_is_full())
        log.write(1, b"lost\n")
    log.write(1, b"whole\n")
    log.close()
    assert logged(path) == ["half a line", "whole\n"]


def disk_is_full() -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_reader_of_the_only_file_keeps_it(path: Path) -> None:
    """docker: the full file loses its name; cut off in its place, it would take unread lines along."""
    log = LogFile(str(path), max_bytes=FULL, max_files=1)
    log.write(1, b"first\n")
    with path.open() as reader:
        log.write(1, b"second\n")
        assert json.loads(reader.read())["log"] == "first\n"
    assert logged(path) == ["second\n"]
    log.close()


def test_a_rotation_costs_what_there_is_and_not_what_may_be(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """`max-file` has no upper bound, and the keeper one thread for all its containers."""
    log = LogFile(str(path), max_bytes=FULL, max_files=10**9)
    looks = []
    exists = os.path.exists

    def counted(name: str) -> bool:
        looks.append(name)
        assert len(looks) < 100, "the rotation looks for files that were never there"
        return exists(name)

    monkeypatch.setattr(os.path, "exists", counted)
    for number in range(4):
        log.write(1, b"%d\n" % number)
    log.close()
    assert logged(path) == ["0\n", "1\n", "2\n", "3\n"]
