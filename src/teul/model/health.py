"""The health of a container as a pure state machine: what is probed, what a result changes, and when the next probe is due.

    (start) ──▶ starting ──success──▶ healthy ◀──success── unhealthy
                   │                     │                     ▲
                   └─── `retries` failures in a row, in the start period none counts while it is starting

When probing stops (the container ended or is paused) the status is "unhealthy".
Source: moby daemon/health.go, daemon/container/health.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from teul.model.config import ContainerConfig

OUTPUT_BYTES = 4096
LOG_RESULTS = 5
DEFAULT_SHELL = ("/bin/sh", "-c")
# Beyond Docker: a container with this label ("true") is restarted when it turns unhealthy.
RESTART_LABEL = "io.teul.restart-unhealthy"

_SECOND_NS = 1_000_000_000
_INTERVAL_NS = 30 * _SECOND_NS
_TIMEOUT_NS = 30 * _SECOND_NS
_START_INTERVAL_NS = 5 * _SECOND_NS
_RETRIES = 3
_FAILED = -1


class HealthStatus(StrEnum):
    """What is thought of a container that is probed."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


NO_HEALTH = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What is run to learn a container's health, and when. Every default is filled in."""

    command: tuple[str, ...]
    interval_ns: int = _INTERVAL_NS
    timeout_ns: int = _TIMEOUT_NS
    start_period_ns: int = 0
    start_interval_ns: int = _START_INTERVAL_NS
    retries: int = _RETRIES


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one probe ended; `exit_code` is -1 for a probe that could not be run or took too long."""

    started_at_ns: int
    ended_at_ns: int
    exit_code: int
    output: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a container's health; `log` has the last results, oldest first."""

    status: HealthStatus = HealthStatus.STARTING
    failing_streak: int = 0
    log: tuple[ProbeResult, ...] = ()


def probe_of(config: ContainerConfig) -> Probe | None:
    """What to probe a container of this configuration with; None if it asks for no probe, or in words that nobody knows."""
    health = config.healthcheck
    if health is None or not health.test:
        return None
    kind, *command = health.test
    match kind:
        case "CMD":
            pass
        case "CMD-SHELL":
            command = [*(config.shell or DEFAULT_SHELL), *command]
        case _:
            return None
    return Probe(
        command=tuple(command),
        interval_ns=health.interval or _INTERVAL_NS,
        timeout_ns=health.timeout or _TIMEOUT_NS,
        start_period_ns=health.start_period,
        start_interval_ns=health.start_interval or _START_INTERVAL_NS,
        retries=health.retries if health.retries > 0 else _RETRIES,
    )


def begun(health: Health | None) -> Health:
    """The container has started. The results of its earlier run stay in the log."""
    return Health(log=health.log if health is not None else ())


def stopped(health: Health) -> Health:
    """Nobody probes the container any more. docker: that is called unhealthy."""
    return msgspec.structs.replace(health, status=HealthStatus.UNHEALTHY)


def recorded(health: Health, probe: Probe, result: ProbeResult, *, started_at_ns: int) -> Health:
    """What `result` says of a container that runs since `started_at_ns`."""
    log = (*health.log, result)[-LOG_RESULTS:]
    if result.exit_code == 0:
        return Health(status=HealthStatus.HEALTHY, failing_streak=0, log=log)
    if health.status is HealthStatus.STARTING and result.started_at_ns - started_at_ns < probe.start_period_ns:
        return msgspec.structs.replace(health, log=log)
    streak = health.failing_streak + 1
    status = HealthStatus.UNHEALTHY if streak >= probe.retries else health.status
    return Health(status=status, failing_streak=streak, log=log)


def next_delay_ns(health: Health, probe: Probe, *, started_at_ns: int, now_ns: int) -> int:
    """How long to wait for the next probe, from the end of the one before. docker: the start period has an interval of its own."""
    is_young = now_ns - started_at_ns < probe.start_period_ns
    return probe.start_interval_ns if is_young and health.status is HealthStatus.STARTING else probe.interval_ns


def completed(probe_started_at_ns: int, ended_at_ns: int, exit_code: int, output: bytes) -> ProbeResult:
    """The result of a probe that ran to its end."""
    return ProbeResult(started_at_ns=probe_started_at_ns, ended_at_ns=ended_at_ns, exit_code=exit_code, output=cut_output(output))


def timed_out(probe: Probe, probe_started_at_ns: int, ended_at_ns: int, output: bytes) -> ProbeResult:
    """The result of a probe that was ended because it took too long."""
    said = cut_output(output)
    text = f"Health check exceeded timeout ({render_duration(probe.timeout_ns)})"
    return failed(probe_started_at_ns, ended_at_ns, f"{text}: {said}" if said else text)


def failed(probe_started_at_ns: int, ended_at_ns: int, message: str) -> ProbeResult:
    """The result of a probe that has no exit code of its own."""
    return ProbeResult(started_at_ns=probe_started_at_ns, ended_at_ns=ended_at_ns, exit_code=_FAILED, output=message)


def cut_output(output: bytes) -> str:
    """What is kept of a probe's output: its beginning, and dots if there was more."""
    text = output[:OUTPUT_BYTES].decode(errors="replace")
    return f"{text}..." if len(output) > OUTPUT_BYTES else text


def render_duration(duration_ns: int) -> str:
    """A positive span of time as Go prints it: `1m30s`, `1.5s`, `20ms`."""
    for unit_ns, name in ((1, "ns"), (1_000, "µs"), (1_000_000, "ms")):
        if duration_ns < unit_ns * 1000:
            return f"{_decimal(duration_ns, unit_ns)}{name}"
    minutes, rest_ns = divmod(duration_ns, 60 * _SECOND_NS)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(rest_ns, _SECOND_NS)}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    digits = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)
