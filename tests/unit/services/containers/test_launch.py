"""Starts that are made at the same time, and starts that are given up."""

from __future__ import annotations

import asyncio
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.container_records import container_record
from teul.errors import Unavailable
from teul.linux import seccomp
from teul.model.container import Container
from teul.runtime.engine.process import Process
from teul.runtime.engine.supervisor import PendingAttachment
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


def test_a_missing_library_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_LIBRARY", "libnowhere.so.2")
    monkeypatch.setattr(seccomp, "_libraries", [])
    with pytest.raises(
        Unavailable, match=r"^containers need libseccomp: libnowhere.so.2 is not installed \(Debian package libseccomp2\)$"
    ) as caught:
        FirstLauncher(tmp_path)._compiled_filter({"defaultAction": "SCMP_ACT_ERRNO"})
    assert caught.value.hint == "apt-get install libseccomp2"


class StuckLauncher(Launcher):
    """A start that does not end by itself, and a clean-up that takes as long as the test says."""

    def __init__(self, path: Path) -> None:
        self.directories = EngineDirectories(str(path), str(path))
        self.under_way, self.cleaning, self.go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.cleaned: list[str] = []

    async def _start(self, container: Container, attach: list[PendingAttachment]) -> Process:
        self.under_way.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def clean_up(self, container: Container) -> None:
        self.cleaning.set()
        await self.go_on.wait()
        self.cleaned.append(container.id)


async def test_a_cancelled_start_gives_back_what_it_took_though_it_is_cancelled_again(tmp_path: Path) -> None:
    launcher, container = StuckLauncher(tmp_path), container_record()
    starting = asyncio.get_running_loop().create_task(launcher.launch(container, []))
    await launcher.under_way.wait()
    starting.cancel()
    async with asyncio.timeout(10):
        await launcher.cleaning.wait()
    starting.cancel()
    await asyncio.sleep(0)
    assert not starting.done()
    launcher.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert launcher.cleaned == [container.id]
