"""What all tiers share: needs declared by name. Everything else belongs to a tier's own conftest."""

from __future__ import annotations

import pytest

from support.needs import enforce


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): what the test needs from the machine (support/needs.py)")


def pytest_runtest_setup(item: pytest.Item) -> None:
    enforce(item)
