"""One engine for all that is asked here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import images
from support.engine import Engine


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine with both images."""
    with Engine(hurried={"teul.plugins.registry._LOOKING_SECONDS": 0.1}) as running:
        for image in (images.busybox(), images.layered()):
            running.load(image.docker_archive())
        yield running
