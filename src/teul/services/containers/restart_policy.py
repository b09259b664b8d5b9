"""Whether and when an ended container starts again. Docker's rules (moby restartmanager), as a pure function."""

from __future__ import annotations

from dataclasses import dataclass

from teul.model.container import Container
from teul.runtime.engine.process import ExitRecord

_FIRST_DELAY_SECONDS = 0.1
_LONGEST_DELAY_SECONDS = 60.0
_CALM_NS = 10 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class RestartDecision:
    """Whether to start the container `again`, and after how long."""

    again: bool
    delay_seconds: float = 0.0


def decide_restart(container: Container, record: ExitRecord, *, lasted_ns: int, last_delay_seconds: float) -> RestartDecision:
    """What becomes of an ended container. The delay doubles with each restart up to a minute, and begins anew after a run of ten seconds.

    docker: a container that was stopped by hand stays stopped, whatever its policy.
    """
    policy = container.host_config.restart_policy
    if container.manually_stopped:
        return RestartDecision(again=False)
    match policy.name:
        case "always" | "unless-stopped":
            again = True
        case "on-failure":
            limit = policy.maximum_retry_count
            again = record.exit_code != 0 and (limit == 0 or container.restart_count < limit)
        case _:
            again = False
    if not again:
        return RestartDecision(again=False)
    if lasted_ns >= _CALM_NS or last_delay_seconds == 0:
        return RestartDecision(again=True, delay_seconds=_FIRST_DELAY_SECONDS)
    return RestartDecision(again=True, delay_seconds=min(last_delay_seconds * 2, _LONGEST_DELAY_SECONDS))
