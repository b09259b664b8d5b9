"""Starts that are made at the same time."""

from __future__ import annotations

import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from teul.linux import seccomp
from teul.services.containers.directories import EngineDirectories
from teul.services.containers.launch import Launcher

_STARTS = 8
_COMPILED = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000) * 1000  # BPF: return "allow"


class FirstLauncher(Launcher):
    """An engine's launcher before any start."""

    def __init__(self, path: Path) -> None:
        self.directories = EngineDirectories(str(path), str(path))
        self._filters = {}


def test_first_starts_at_the_same_time_share_one_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reboot all containers with a restart policy come at once. Their writers met in one temporary file, and most of them failed."""
    together = threading.Barrier(_STARTS)

    def compile_filter(profile: dict[str, Any]) -> bytes:
        together.wait(10)
        return _COMPILED

    monkeypatch.setattr(seccomp, "compile_filter", compile_filter)
    for number in range(20):
        launcher = FirstLauncher(tmp_path / str(number))
        with ThreadPoolExecutor(_STARTS) as threads:
            paths = list(threads.map(launcher._compiled_filter, [{"defaultAction": "SCMP_ACT_ERRNO"}] * _STARTS))
        assert len({path for path, _made in paths}) == 1
        assert [file.read_bytes() for file in Path(paths[0][0]).parent.iterdir()] == [_COMPILED]
