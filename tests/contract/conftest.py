"""The contract tier: what a fake and the real thing are both held to. The real ones need root, and leave nothing on the host."""

from __future__ import annotations

import os

import pytest

from contract.witness import Witness

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
