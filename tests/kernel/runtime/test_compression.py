"""Full files of a log are compressed beside the keeper, whatever is renamed meanwhile."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from teul.linux.loop import Loop
from teul.runtime.keeper.compression import Compressor


def test_a_file_that_is_renamed_before_the_child_comes_to_run_is_the_one_that_is_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of the one would be lost, and those of the other there twice."""
    path = tmp_path / "log"
    (tmp_path / "log.1").write_text("older\n")
    fork = os.fork

    def rotate_and_fork() -> int:
        monkeypatch.setattr(os, "fork", fork)
        os.rename(tmp_path / "log.1", tmp_path / "log.2")
        (tmp_path / "log.1").write_text("newer\n")
        return fork()

    monkeypatch.setattr(os, "fork", rotate_and_fork)
    children: list[int] = []
    loop = Loop(lambda _owner, _error: None)
    compressor = Compressor(str(path), loop, children.append)
    compressor.look()
    while not (tmp_path / "log.2.gz").exists() or not (tmp_path / "log.1.gz").exists():
        assert compressor.error is None
        loop.turn()
    assert gzip.decompress((tmp_path / "log.2.gz").read_bytes()) == b"older\n"
    assert gzip.decompress((tmp_path / "log.1.gz").read_bytes()) == b"newer\n"
    compressor.close()
    for pid in children:
        os.waitpid(pid, 0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["log.1.gz", "log.2.gz"]
