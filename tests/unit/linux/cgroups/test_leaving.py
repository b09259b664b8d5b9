"""Leaving a caller's cgroups: what is written where, and what becomes of a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from teul.linux.cgroups import Layout, files, leave


@pytest.fixture
def tops(tmp_path: Path) -> tuple[Path, Path]:
    """A hierarchy of each kind."""
    for name, file in (("v1", "tasks"), ("unified", "cgroup.procs")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    return tmp_path / "v1", tmp_path / "unified"


@pytest.mark.parametrize(("path", "written"), [("/user.slice/session-1.scope", "0"), ("/", "")])
def test_the_top_of_the_unified_hierarchy_is_entered_only_from_below(
    tops: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, path: str, written: str
) -> None:
    """Entering it costs a wait in the kernel."""
    v1, unified = tops
    monkeypatch.setattr(files, "read", lambda _path: f"1:cpu:/\n0::{path}\n")
    assert leave(Layout({}, (str(v1),), str(unified), frozenset())) == []
    assert (v1 / "tasks").read_text() == "0"
    assert (unified / "cgroup.procs").read_text() == written


def test_a_hierarchy_that_refuses_keeps_none_of_the_others(tops: tuple[Path, Path], tmp_path: Path) -> None:
    v1, _unified = tops
    failures = leave(Layout({}, (str(tmp_path / "none"), str(v1)), None, frozenset()))
    assert [failure.strerror for failure in failures] == [f"write `0` to `{tmp_path}/none/tasks`: No such file or directory"]
    assert (v1 / "tasks").read_text() == "0"
