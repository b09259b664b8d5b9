"""A fake engine and a command line that speaks to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.cli.fake_engine import CommandLine, FakeEngine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(tmp_path, {}) as fake:
        yield fake


@pytest.fixture
def teul(tmp_path: Path, engine: FakeEngine) -> CommandLine:
    """The command line of a user whose engine is the fake one."""
    return CommandLine(tmp_path, {"TEUL_HOST": f"unix://{engine.path}"})
