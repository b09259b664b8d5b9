"""The contract tier: what a fake and the real thing are both held to. The real ones need root, and leave nothing on the host."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

import pytest

from contract.witness import Witness
from support import images
from support.engine import Engine

if os.geteuid() == 0:  # without root only fakes run
    from support.leaks import nothing_left_on_the_host  # noqa: F401


@pytest.fixture(scope="module")
def witness() -> Witness:
    """Sees what a suite calls of its fakes."""
    return Witness()


@pytest.fixture
def whole_suite(request: pytest.FixtureRequest, witness: Witness) -> Witness:
    """The witness of a suite that has run, for the test at its end; skips where only a part of the suite was asked for."""
    if request.config.option.keyword or any("::" in argument for argument in request.config.args):
        pytest.skip("only a part of the suite runs")
    return witness


@pytest.fixture(scope="session")
def real_engine() -> Iterator[Engine]:
    """The engine that all suites share; each leaves it without containers."""
    with Engine() as running:
        with running.api() as api:
            response = api.upload("/images/load?quiet=1", io.BytesIO(images.busybox().docker_archive()))
            assert response.status == 200, response.message
        yield running
