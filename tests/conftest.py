"""What all tiers share: needs declared by name, and who may run beside whom. Everything else belongs to a tier's own conftest."""

from __future__ import annotations

import pytest

from support import side_by_side
from support.needs import enforce


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): what the test needs from the machine (support/needs.py)")
    config.addinivalue_line("markers", "alone: nothing may happen on the host beside the test (support/side_by_side.py)")
    side_by_side.install(config)


def pytest_runtest_setup(item: pytest.Item) -> None:
    enforce(item)
