"""The fixture that ends a tier: nothing may be left on the host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import host
from support.polling import eventually


@pytest.fixture(scope="session", autouse=True)
def nothing_left_on_the_host() -> Iterator[None]:
    """Mounts, cgroups, links, namespaces, rules, processes and temp files after the tier are those from before it.

    The kernel takes network namespaces and cgroups down asynchronously, so the comparison is repeated for a while.
    """
    before = host.snapshot()
    yield
    left: list[str] = []

    def is_clean() -> bool:
        left[:] = host.difference(before, host.snapshot())
        return not left

    try:
        eventually(is_clean, "the host is as it was before the tests", timeout_seconds=15.0, interval_seconds=0.25)
    except AssertionError:
        pytest.fail("the tests left something on the host:\n" + "\n".join(left), pytrace=False)
