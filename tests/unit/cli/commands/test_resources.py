"""`teul stats` and `teul update` against a fake engine: requests and output as docker's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from teul.cli.commands.stats import cpu_percent, memory_used
from unit.cli.fake_engine import Answer, CommandLine, FakeEngine, failure, reply

ID = "0123456789ab" + "0" * 52
MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teul.cli.commands.stats.sleep", lambda _: None)


def sample(cpu_ns: int = 0, system_ns: int = 10**9, **changes: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "name": "/web",
        "pids_stats": {"current": 3},
        "cpu_stats": {"cpu_usage": {"total_usage": cpu_ns}, "system_cpu_usage": system_ns, "online_cpus": 2},
        "memory_stats": {"usage": 48 * MIB, "limit": 64 * MIB, "stats": {"total_inactive_file": 16 * MIB, "inactive_file": MIB}},
        "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 1}, "eth1": {"rx_bytes": 500, "tx_bytes": 1}},
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"op": "Read", "value": 4096},
                {"op": "write", "value": 2_000_000},
                {"op": "Total", "value": 9},
                {"op": "Sync", "value": 9},
            ]
        },
        **changes,
    }


STOPPED = {"id": ID, "name": "/web", "pids_stats": {}, "cpu_stats": {}, "memory_stats": {}, "blkio_stats": {}}


def two(first: Answer, second: Answer) -> list[Answer]:
    return [first, second]


def test_once_is_a_table(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /containers/web/stats": two(reply(sample()), reply(sample(10**9, 3 * 10**9)))}
    assert teul("stats", "--no-stream", "web").out == (
        "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O      BLOCK I/O     PIDS\n"
        "0123456789ab   web       100.00%   32MiB / 64MiB       50.00%    1.5kB / 2B   4.1kB / 2MB   3\n"
    )
    assert [request.query for request in engine.requests] == [{"stream": ["0"], "one-shot": ["1"]}] * 2


def test_all_running_ones_are_shown_unless_named(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {
        "GET /containers/json": reply([{"Id": ID}, {"Id": "f" * 64}]),
        "GET /containers/0123456789ab/stats": two(reply(sample()), reply(STOPPED)),
        "GET /containers/ffffffffffff/stats": failure(404, "No such container: ffffffffffff"),
    }
    outcome = teul("container", "stats", "--no-stream", "--all", "--format", "json")
    assert json.loads(outcome.out) == {
        "BlockIO": "0B / 0B",
        "CPUPerc": "0.00%",
        "Container": "0123456789ab",
        "ID": "0123456789ab",
        "MemPerc": "0.00%",
        "MemUsage": "0B / 0B",
        "Name": "web",
        "NetIO": "0B / 0B",
        "PIDs": "0",
    }
    assert (outcome.status, outcome.err) == (0, "")
    assert engine.requests[0].query == {"all": ["1"]}


def test_what_is_not_there_from_the_beginning_is_an_error(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {
        "GET /containers/web/stats": reply(sample()),
        "GET /containers/one/stats": failure(404, "No such container: one"),
        "GET /containers/two/stats": failure(404, "No such container: two"),
    }
    outcome = teul("stats", "one", "web", "two")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "Error response from daemon: No such container: one\nError response from daemon: No such container: two\n"


def test_what_goes_meanwhile_is_unknown(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {"GET /containers/web/stats": two(reply(sample()), failure(404, "No such container: web"))}
    outcome = teul("stats", "--no-stream", "--no-trunc", "--format", "{{.ID}} {{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}", "web")
    assert (outcome.status, outcome.out) == (0, f"{ID} web -- -- / -- --\n")


def test_a_stream_draws_over_what_it_drew(engine: FakeEngine, teul: CommandLine) -> None:
    """Until the engine is gone, here."""
    engine.routes = {
        "GET /containers/web/stats": [*(reply(sample()) for _ in range(3)), failure(500, "over"), failure(500, "over")],
    }
    rounds: list[str] = []

    def count(_: float) -> None:
        rounds.append("")
        if len(rounds) == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("teul.cli.commands.stats.sleep", count)
        outcome = teul("stats", "--format", "{{.Name}}", "web")
    assert outcome.status == 130
    assert outcome.out == "\033[Hweb \033[K\n \033[K\n\033[J" * 2


def test_a_first_sample_alone_tells_no_share_of_the_processor() -> None:
    assert cpu_percent({}, sample(10**9)) == 0
    assert cpu_percent(sample(5), sample(4, 2 * 10**9)) == 0, "it was restarted in between"


def test_cache_that_could_go_is_not_counted_as_used() -> None:
    assert memory_used(sample()) == 32 * MIB
    assert memory_used({"memory_stats": {"usage": 5, "stats": {"inactive_file": 2}}}) == 3
    assert memory_used({"memory_stats": {"usage": 5, "stats": {"inactive_file": 9}}}) == 5
    assert memory_used({}) == 0


def test_update_sends_what_was_said(engine: FakeEngine, teul: CommandLine) -> None:
    engine.routes = {
        "POST /containers/one/update": reply({"Warnings": None}),
        "POST /containers/two/update": reply({"Warnings": ["no swap here"]}),
        "POST /containers/three/update": failure(404, "No such container: three"),
    }
    flags = ["-m", "1g", "--memory-swap", "-1", "--cpus", "1.5", "-c", "10", "--pids-limit", "-1", "--restart", "on-failure:3"]
    outcome = teul("update", *flags, "--cpuset-cpus", "0-1", "one", "three", "two")
    assert outcome.status == 1
    assert outcome.out == "one\ntwo\nno swap here\n"
    assert outcome.err == "Error response from daemon: No such container: three\n"
    body = engine.requests[0].json()
    assert {key: value for key, value in body.items() if value} == {
        "Memory": 1 << 30,
        "MemorySwap": -1,
        "NanoCpus": 1_500_000_000,
        "CpuShares": 10,
        "PidsLimit": -1,
        "CpusetCpus": "0-1",
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
    }


def test_update_without_a_change_is_refused(engine: FakeEngine, teul: CommandLine) -> None:
    outcome = teul("container", "update", "one")
    assert (outcome.status, outcome.err) == (1, "you must provide one or more flags when using this command\n")
    outcome = teul("update", "--restart", "on-failure:x", "one")
    assert (outcome.status, outcome.err) == (1, "invalid restart policy format: maximum retry count must be an integer\n")
    assert engine.requests == []
