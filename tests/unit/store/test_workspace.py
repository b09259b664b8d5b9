"""What is unfinished has a place of its own, which never keeps anything."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from teul.aio import SlowWork
from teul.store.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(str(tmp_path / "root/tmp"), SlowWork())
    workspace.open()
    return workspace


def test_nobody_else_looks_in(workspace: Workspace) -> None:
    os.chmod(workspace.path, 0o755)
    workspace.open()
    assert stat.S_IMODE(os.stat(workspace.path).st_mode) == 0o700


def test_what_an_engine_left_is_removed_by_the_next(workspace: Workspace) -> None:
    os.makedirs(os.path.join(workspace.path, "half/layer/fs"))
    Path(workspace.path, "blob").write_bytes(b"half")
    workspace.open()
    assert os.listdir(workspace.path) == []


async def test_a_directory_goes_with_all_that_is_in_it(workspace: Workspace) -> None:
    async with workspace.directory() as first, workspace.directory() as second:
        assert {first, second} == {os.path.join(workspace.path, name) for name in os.listdir(workspace.path)}
        os.makedirs(os.path.join(first, "layer/fs"))
    assert os.listdir(workspace.path) == []


async def test_a_directory_goes_when_its_owner_fails_or_is_cancelled(workspace: Workspace) -> None:
    with pytest.raises(LookupError):
        async with workspace.directory():
            raise LookupError

    begun = asyncio.Event()

    async def own() -> None:
        async with workspace.directory():
            begun.set()
            await asyncio.Event().wait()

    owner = asyncio.get_running_loop().create_task(own())
    await begun.wait()
    owner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await owner
    assert os.listdir(workspace.path) == []
