"""The health of a container, as a table: results in, status out. The rules are dockerd's (moby daemon/health.go)."""

from __future__ import annotations

import pytest

from teul.model.config import ContainerConfig, HealthConfig
from teul.model.health import (
    OUTPUT_BYTES,
    Health,
    HealthStatus,
    Probe,
    begun,
    completed,
    cut_output,
    next_delay_ns,
    probe_of,
    recorded,
    render_duration,
    stopped,
    timed_out,
)

SECOND = 1_000_000_000
PROBE = Probe(command=("true",), retries=3)


def after(exit_codes: list[int], probe: Probe = PROBE, health: Health | None = None) -> Health:
    """The health after a probe per second with these exit codes, of a container started at 0."""
    health = health or Health()
    for second, code in enumerate(exit_codes, start=1):
        health = recorded(health, probe, completed(second * SECOND, second * SECOND, code, b""), started_at_ns=0)
    return health


@pytest.mark.parametrize(
    ("exit_codes", "status", "streak"),
    [
        ([], "starting", 0),
        ([0], "healthy", 0),
        ([1], "starting", 1),
        ([1, 1], "starting", 2),
        ([1, 2, -1], "unhealthy", 3),
        ([1, 1, 0], "healthy", 0),
        ([0, 1, 1], "healthy", 2),
        ([0, 1, 1, 1, 1], "unhealthy", 4),
        ([1, 1, 1, 0], "healthy", 0),
        ([1, 1, 1, 0, 1], "healthy", 1),
    ],
)
def test_status_follows_the_results(exit_codes: list[int], status: str, streak: int) -> None:
    """One success makes healthy, as many failures in a row as there are retries make unhealthy."""
    health = after(exit_codes)
    assert (health.status, health.failing_streak) == (status, streak)


def test_failures_do_not_count_in_the_start_period_until_the_first_success() -> None:
    probe = Probe(command=("true",), retries=1, start_period_ns=3 * SECOND)
    assert after([1, 1], probe) == Health(log=after([1, 1], probe).log)
    assert after([1, 1, 1], probe).status is HealthStatus.UNHEALTHY  # the third begins when the period is over
    assert after([0, 1], probe).status is HealthStatus.UNHEALTHY


def test_log_keeps_the_last_five_results() -> None:
    assert [result.exit_code for result in after([1, 2, 3, 4, 5, 6, 7]).log] == [3, 4, 5, 6, 7]


def test_health_that_nobody_watches_is_bad_and_begins_anew_with_the_next_start() -> None:
    """The log goes on."""
    health = stopped(after([0, 1]))
    assert (health.status, health.failing_streak) == ("unhealthy", 1)
    again = begun(health)
    assert (again.status, again.failing_streak, again.log) == ("starting", 0, health.log)
    assert begun(None) == Health()


def test_start_period_has_an_interval_of_its_own() -> None:
    probe = Probe(command=("true",), interval_ns=30 * SECOND, start_interval_ns=SECOND, start_period_ns=10 * SECOND)
    assert next_delay_ns(Health(), probe, started_at_ns=0, now_ns=9 * SECOND) == SECOND
    assert next_delay_ns(Health(), probe, started_at_ns=0, now_ns=10 * SECOND) == 30 * SECOND
    assert next_delay_ns(after([0], probe), probe, started_at_ns=0, now_ns=2 * SECOND) == 30 * SECOND


@pytest.mark.parametrize(
    ("test", "shell", "command"),
    [
        (["CMD", "curl", "-f", "x"], None, ("curl", "-f", "x")),
        (["CMD-SHELL", "exit 1"], None, ("/bin/sh", "-c", "exit 1")),
        (["CMD-SHELL", "exit 1"], ["/bin/bash", "-ec"], ("/bin/bash", "-ec", "exit 1")),
    ],
)
def test_command_of_a_probe(test: list[str], shell: list[str] | None, command: tuple[str, ...]) -> None:
    probe = probe_of(ContainerConfig(healthcheck=HealthConfig(test=test), shell=shell))
    assert probe is not None
    assert probe == Probe(command=command)
    assert (probe.interval_ns, probe.timeout_ns, probe.retries) == (30 * SECOND, 30 * SECOND, 3)


@pytest.mark.parametrize("test", [None, [], ["NONE"], ["UNHEARD-OF", "x"]])
def test_containers_without_a_probe(test: list[str] | None) -> None:
    assert probe_of(ContainerConfig(healthcheck=HealthConfig(test=test))) is None
    assert probe_of(ContainerConfig()) is None


def test_output_is_cut_and_says_so() -> None:
    assert cut_output(b"a" * OUTPUT_BYTES) == "a" * OUTPUT_BYTES
    assert cut_output(b"a" * (OUTPUT_BYTES + 1)) == "a" * OUTPUT_BYTES + "..."
    assert cut_output(b"caf\xc3\xa9 \xff") == "café \ufffd"


def test_probe_that_took_too_long_says_so_in_dockerds_words() -> None:
    probe = Probe(command=("true",), timeout_ns=1_500_000_000)
    silent, talking = timed_out(probe, 0, 2, b""), timed_out(probe, 0, 2, b"working\n")
    assert (silent.exit_code, silent.output) == (-1, "Health check exceeded timeout (1.5s)")
    assert talking.output == "Health check exceeded timeout (1.5s): working\n"


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (1, "1ns"),
        (1_500, "1.5µs"),
        (1_000_000, "1ms"),
        (20_050_000, "20.05ms"),
        (SECOND, "1s"),
        (30 * SECOND, "30s"),
        (60 * SECOND, "1m0s"),
        (90_500_000_000, "1m30.5s"),
        (3600 * SECOND, "1h0m0s"),
        (3723 * SECOND, "1h2m3s"),
    ],
)
def test_durations_are_printed_as_go_does(duration_ns: int, text: str) -> None:
    assert render_duration(duration_ns) == text
