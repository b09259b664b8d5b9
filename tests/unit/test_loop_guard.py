"""The guard of the event loop guards, and its list of exceptions is not out of date."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

import teul
from support.loop_guard import ALLOWED, BlockingError, guarding
from teul.aio import run_blocking
from teul.store.atomic import remove_tree


def test_a_blocking_call_of_ours_raises_and_is_reported(tmp_path: Path) -> None:
    offences: list[BlockingError] = []

    async def offend() -> None:
        with pytest.raises(BlockingError, match=r"os\.unlink"):
            remove_tree(str(tmp_path / "nothing"))

    with guarding(offences.append):
        asyncio.run(offend())
    assert [str(offence) for offence in offences] == ["Blocking call to os.unlink"]


def test_what_is_not_on_the_loop_or_not_ours_may_block(tmp_path: Path) -> None:
    async def behave() -> None:
        await run_blocking(remove_tree, str(tmp_path / "nothing"))
        os.stat(tmp_path)

    with guarding(_no_offence):
        asyncio.run(behave())
        remove_tree(str(tmp_path / "nothing"))


def _no_offence(offence: BlockingError) -> None:
    raise AssertionError(offence)


def test_what_is_allowed_exists() -> None:
    source = Path(teul.__file__).parents[1]
    for file, name in ALLOWED:
        if file.startswith("teul/"):
            assert f"def {name}(" in (source / file).read_text(), f"support/loop_guard.py allows {file}, {name}"
