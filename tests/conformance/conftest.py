"""Fixtures of the conformance tier. Nothing may be left on the host after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import images
from support.leaks import nothing_left_on_the_host

__all__ = ["nothing_left_on_the_host"]


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every archive the judges use, by file name."""
    return images.save(tmp_path_factory.mktemp("archives"))
