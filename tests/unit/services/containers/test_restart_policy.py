"""When an ended container starts again."""

from __future__ import annotations

import pytest

from teul.model.config import ContainerConfig
from teul.model.container import Container
from teul.model.host_config import HostConfig, RestartPolicy
from teul.runtime.engine.process import ExitRecord
from teul.services.containers.restart_policy import decide_restart


def _container(policy: str, *, retries: int = 0, restarts: int = 0, stopped: bool = False) -> Container:
    host_config = HostConfig(restart_policy=RestartPolicy(name=policy, maximum_retry_count=retries))
    return Container(
        id="i", name="n", created_at_ns=0, image_id="", image_reference="", path="", args=[], config=ContainerConfig(),
        host_config=host_config, restart_count=restarts, manually_stopped=stopped,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("container", "exit_code", "again"),
    [
        (_container("no"), 1, False),
        (_container(""), 1, False),
        (_container("always"), 0, True),
        (_container("unless-stopped"), 0, True),
        (_container("always", stopped=True), 0, False),
        (_container("on-failure"), 0, False),
        (_container("on-failure"), 3, True),
        (_container("on-failure", retries=2, restarts=1), 3, True),
        (_container("on-failure", retries=2, restarts=2), 3, False),
    ],
)
def test_the_policy_decides(container: Container, exit_code: int, again: bool) -> None:
    """A container stopped by hand stays stopped; on-failure counts its tries."""
    record = ExitRecord(exit_code, 0)
    assert decide_restart(container, record, lasted_ns=0, last_delay_seconds=0).again is again


@pytest.mark.parametrize(("lasted_seconds", "last_delay", "delay"), [(0, 0, 0.1), (0, 0.1, 0.2), (1, 0.8, 1.6), (0, 50, 60), (11, 50, 0.1)])
def test_the_delay_doubles_until_a_calm_run(lasted_seconds: int, last_delay: float, delay: float) -> None:
    """100 ms, doubling to a minute, forgotten after ten seconds of running."""
    decision = decide_restart(_container("always"), ExitRecord(1, 0), lasted_ns=lasted_seconds * 10**9, last_delay_seconds=last_delay)
    assert decision.delay_seconds == pytest.approx(delay)
