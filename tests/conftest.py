"""What all tiers share: needs declared by name, and who may run beside whom. Everything else belongs to a tier's own conftest."""

from __future__ import annotations

from collections import Counter

import pytest

from support import side_by_side
from support.needs import enforce


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): what the test needs from the machine (support/needs.py)")
    config.addinivalue_line("markers", "alone: nothing may happen on the host beside the test (support/side_by_side.py)")
    side_by_side.install(config)


def pytest_runtest_setup(item: pytest.Item) -> None:
    enforce(item)


# Files with few tests that take long. Processes that share the work take whole files, and whoever takes such a one last lets the others wait.
_LONG = {
    *("test_compose.py", "test_compose_volumes.py", "test_docker_cli.py", "test_fuzz.py", "test_linked_reachability.py"),
    *("test_network_refusals.py", "test_networks.py", "test_reachability.py", "test_volumes.py"),
    *("test_endurance.py", "test_network_cycles.py", "test_readme.py", "test_storm.py", "test_swapped_paths.py"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, then those with the most tests; the order inside of each stays."""
    counts = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.name not in _LONG, -counts[item.path], str(item.path)))
