"""Who may enter the engine's directories, new ones and those of an older engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from teul.daemon.directories import make_directories

PRIVATE = ("blobs", "blobs/sha256", "snapshots", "containers", "volumes", "tmp")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture(params=[None, 0o755, 0o777], ids=["new", "old", "very open"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A root and a run root: not there yet, or made with the given mode by somebody less careful."""
    root, run_root = tmp_path / "root", tmp_path / "run"
    if request.param is not None:
        for path in (root, *(root / name for name in PRIVATE), run_root, run_root / "containers"):
            path.mkdir()
            path.chmod(request.param)
    make_directories(str(root), str(run_root))
    return root, run_root


def test_nobody_else_enters_the_root(places: tuple[Path, Path]) -> None:
    """security: unpacked layers have set-user-id programs, records and archives have secrets."""
    root, run_root = places
    assert mode(root) == 0o710
    assert {name: mode(root / name) for name in PRIVATE} == dict.fromkeys(PRIVATE, 0o700)
    assert mode(run_root / "containers") == 0o700


def test_the_socket_can_be_reached_and_not_replaced(places: tuple[Path, Path]) -> None:
    """The run root is where the API's socket lies, which has a mode of its own."""
    assert mode(places[1]) == 0o755


def test_what_is_closed_further_stays_so(tmp_path: Path) -> None:
    for name in ("root", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    make_directories(str(tmp_path / "root"), str(tmp_path / "run"))
    assert (mode(tmp_path / "root"), mode(tmp_path / "run")) == (0o700, 0o700)


def test_a_directory_that_everybody_shares_stays_shared(tmp_path: Path) -> None:
    """As a run root, /tmp is a strange choice, but closing it would be worse: there the sticky bit guards the socket."""
    (tmp_path / "run").mkdir()
    os.chmod(tmp_path / "run", 0o1777)
    make_directories(str(tmp_path / "root"), str(tmp_path / "run"))
    assert mode(tmp_path / "run") == 0o1777
