"""Health checks as Docker runs them: the verdict, its log and its events; and what stops, resumes and restarts them."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import datetime
from typing import Any

import pytest

from support import images
from support.docker_host import DockerHost
from support.engine import Engine
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

QUICK = ("--health-interval", "100ms", "--health-retries", "2", "--health-timeout", "30s")
# Healthy as long as there is a file, which an exec may take away.
BY_FILE = ("--health-cmd", "test -e /well && echo well || { echo ill; exit 3; }", *QUICK)


def health(engine: DockerHost, container: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.inspect(container)["State"]["Health"]
    return found


def becomes(engine: DockerHost, container: str, status: str) -> dict[str, Any]:
    """The health of the container once it has this status."""
    eventually(lambda: health(engine, container)["Status"] == status, f"{container} is {status}")
    return health(engine, container)


def actions(engine: DockerHost, container: str) -> list[str]:
    """What has happened to the container so far."""
    output = engine.must("events", "--since", "0", "--until", str(time.time()), "--filter", f"container={container}", "--format", "json")
    return [json.loads(line)["Action"] for line in output.splitlines()]


def run(engine: DockerHost, *options: str) -> str:
    return engine.must("run", "-d", *options, "busybox", "sh", "-c", "touch /well; exec sleep 1000")


def moment(text: str) -> datetime:
    head, _, rest = text.partition(".")
    return datetime.fromisoformat(f"{head}.{rest.rstrip('Z')[:6]}+00:00")


def test_verdict_follows_the_probes_and_is_told(engine: DockerHost) -> None:
    """In inspect, in the list, and as events; nothing but a change is an event of its own."""
    container = run(engine, *BY_FILE)
    assert health(engine, container)["Status"] in {"starting", "healthy"}
    well = becomes(engine, container, "healthy")
    assert well["FailingStreak"] == 0
    assert set(well["Log"][0]) == {"Start", "End", "ExitCode", "Output"}
    assert (well["Log"][-1]["ExitCode"], well["Log"][-1]["Output"]) == (0, "well\n")
    assert moment(well["Log"][-1]["Start"]) < moment(well["Log"][-1]["End"])
    assert engine.must("ps", "--format", "{{.Status}}").endswith(" (healthy)")
    engine.must("exec", container, "rm", "/well")
    ill = becomes(engine, container, "unhealthy")
    assert ill["FailingStreak"] >= 2
    assert (ill["Log"][-1]["ExitCode"], ill["Log"][-1]["Output"]) == (3, "ill\n")
    eventually(lambda: len(health(engine, container)["Log"]) == 5, "five results are kept")
    eventually(lambda: health(engine, container)["FailingStreak"] > 5, "the streak is counted on")
    assert len(health(engine, container)["Log"]) == 5
    engine.must("exec", container, "touch", "/well")
    becomes(engine, container, "healthy")
    told = [action for action in actions(engine, container) if action.startswith("health_status")]
    assert told == ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]


def test_probe_is_an_exec_like_any_other_to_whoever_listens(engine: DockerHost) -> None:
    container = run(engine, *BY_FILE)
    becomes(engine, container, "healthy")
    seen = actions(engine, container)
    first = next(position for position, action in enumerate(seen) if action.startswith("exec_"))
    command = f"/bin/sh -c {BY_FILE[1]}"
    assert seen[first : first + 4] == [f"exec_create: {command}", f"exec_start: {command}", "exec_die", "health_status: healthy"]


def test_health_filter_chooses(engine: DockerHost) -> None:
    well, ill, young = run(engine, *BY_FILE), run(engine, "--health-cmd", "exit 1", *QUICK), run(engine, "--health-cmd", "true")
    plain = run(engine)
    becomes(engine, well, "healthy")
    becomes(engine, ill, "unhealthy")
    for status, container in (("healthy", well), ("unhealthy", ill), ("starting", young), ("none", plain)):
        assert engine.must("ps", "-q", "--no-trunc", "--filter", f"health={status}") == container
    assert engine.must("ps", "--filter", "health=starting", "--format", "{{.Status}}").endswith(" (health: starting)")
    assert "Health" not in engine.inspect(plain)["State"]


def test_probe_that_takes_too_long_is_ended_and_its_words_are_kept(engine: DockerHost) -> None:
    container = run(engine, "--health-cmd", "echo begun; exec sleep 500", "--health-interval", "50ms", "--health-timeout", "300ms")
    becomes(engine, container, "unhealthy")
    last = health(engine, container)["Log"][-1]
    assert (last["ExitCode"], last["Output"]) == (-1, "Health check exceeded timeout (300ms): begun\n")
    engine.must("pause", container)  # no probe is on its way
    engine.must("unpause", container)
    eventually(lambda: engine.must("top", container, "-eo", "pid,args").count("sleep 500") <= 1, "ended probes do not pile up")


def test_output_is_cut_at_four_kilobytes(engine: DockerHost) -> None:
    container = run(engine, "--health-cmd", "yes | head -c 100000; echo end >&2", *QUICK)
    output = becomes(engine, container, "healthy")["Log"][0]["Output"]
    assert output == "y\n" * 2048 + "..."


def test_probe_that_cannot_be_run_is_a_failure_with_a_reason(engine: DockerHost) -> None:
    """docker: a broken probe is no reason to trust the container."""
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "Healthcheck": {"Test": ["CMD", "/no/such/probe"], "Interval": 50_000_000}}
    with engine.api() as api:
        container = api.expect(201, "POST", "/containers/create", body).json()["Id"]
        api.expect(204, "POST", f"/containers/{container}/start")
    result = becomes(engine, container, "unhealthy")["Log"][-1]
    assert result["ExitCode"] == -1
    assert 'exec: "/no/such/probe"' in result["Output"]


def test_failures_in_the_start_period_do_not_count(engine: DockerHost) -> None:
    container = run(engine, "--health-cmd", "exit 1", *QUICK[:4], "--health-start-period", "1000s", "--health-start-interval", "50ms")
    eventually(lambda: len(health(engine, container)["Log"]) == 5, "five probes have failed")
    assert health(engine, container)["Status"] == "starting"
    assert health(engine, container)["FailingStreak"] == 0


def test_nothing_is_probed_while_a_container_is_paused_or_stopped(engine: DockerHost) -> None:
    """docker: who is not looked at is unhealthy; unpausing goes on, a start begins anew, and the log is kept."""
    container = run(engine, "--health-cmd", "echo >> /probed", *QUICK)
    becomes(engine, container, "healthy")
    engine.must("pause", container)
    paused = health(engine, container)
    assert paused["Status"] == "unhealthy"
    assert engine.must("ps", "--format", "{{.Status}}").endswith("(Paused)")
    engine.must("unpause", container)
    becomes(engine, container, "healthy")
    engine.must("stop", "-t", "0", container)
    stopped = health(engine, container)
    assert stopped["Status"] == "unhealthy"
    assert health(engine, container) == stopped
    engine.must("start", container)
    becomes(engine, container, "healthy")
    assert not [action for action in actions(engine, container) if action == "health_status: unhealthy"]


def test_check_of_the_image_is_used_unless_the_container_says_none(engine: DockerHost) -> None:
    healthcheck = {"Test": ["CMD-SHELL", "echo $0"], "Interval": 50_000_000}
    config = {"Cmd": ["sleep", "1000"], "Shell": ["/bin/ash", "-ec"], "Healthcheck": healthcheck}
    engine.load(dataclasses.replace(images.busybox(), names=("judge/checked:1",), config=config).docker_archive())
    inherited = engine.must("run", "-d", "judge/checked:1")
    assert becomes(engine, inherited, "healthy")["Log"][0]["Output"] == "/bin/ash\n"
    own = engine.must("run", "-d", "--health-cmd", "echo own", "judge/checked:1")
    assert becomes(engine, own, "healthy")["Log"][0]["Output"] == "own\n"
    none = engine.must("run", "-d", "--no-healthcheck", "judge/checked:1")
    assert "Health" not in engine.inspect(none)["State"]
    assert engine.inspect(none)["Config"]["Healthcheck"]["Test"] == ["NONE"]


def test_check_in_words_that_nobody_knows_is_said_to_be_none(engine: DockerHost) -> None:
    with engine.api() as api:
        body = {"Image": "busybox", "Cmd": ["true"], "Healthcheck": {"Test": ["ASK-NICELY", "x"]}}
        assert "ASK-NICELY" in api.expect(201, "POST", "/containers/create", body).json()["Warnings"][0]


def test_label_has_an_unhealthy_container_restarted(engine: DockerHost) -> None:
    """Teul's own: Docker leaves that to others. Here the restart makes the container well again."""
    container = engine.must(
        *("run", "-d", "--label", "io.teul.restart-unhealthy=true", "--stop-timeout", "0"),
        *("--health-cmd", "test -e /restarted", *QUICK),
        *("busybox", "sh", "-c", "test -e /first && touch /restarted; touch /first; exec sleep 1000"),
    )
    becomes(engine, container, "healthy")
    seen = [action for action in actions(engine, container) if not action.startswith("exec_")]
    assert seen[:2] == ["create", "start"]
    # One kill by the stop signal, one more by force since `sleep` as a first process does not hear it.
    assert [action for action in seen[2:] if action != "kill"] == [
        *("health_status: unhealthy", "die", "stop", "start", "restart", "health_status: healthy")
    ]


def test_label_takes_a_yes_or_a_no(engine: DockerHost) -> None:
    refused = engine.docker("create", "--label", "io.teul.restart-unhealthy=maybe", "busybox", "true")
    assert 'label io.teul.restart-unhealthy must be "true" or "false", not "maybe"' in refused.stderr


def test_container_without_the_label_stays_as_it_is(engine: DockerHost) -> None:
    container = run(engine, "--health-cmd", "exit 1", *QUICK)
    becomes(engine, container, "unhealthy")
    pid = engine.inspect(container)["State"]["Pid"]
    eventually(lambda: health(engine, container)["FailingStreak"] > 4, "it was probed some more")
    assert engine.inspect(container)["State"]["Pid"] == pid


@pytest.mark.parametrize("end", ["kill9", "stop"])
def test_checks_go_on_when_another_engine_takes_over(fresh_engine: Engine, end: str) -> None:
    """The verdict is kept meanwhile: whoever waits for it need not wait again."""
    well, ill = run(fresh_engine, *BY_FILE), run(fresh_engine, "--health-cmd", "exit 1", *QUICK)
    becomes(fresh_engine, well, "healthy")
    becomes(fresh_engine, ill, "unhealthy")
    getattr(fresh_engine, end)()
    fresh_engine.start()
    assert health(fresh_engine, well)["Status"] == "healthy"
    assert health(fresh_engine, ill)["Status"] == "unhealthy"
    before = health(fresh_engine, ill)["FailingStreak"]
    assert before >= 2
    eventually(lambda: health(fresh_engine, ill)["FailingStreak"] > before, "the checks go on")
    fresh_engine.must("exec", well, "rm", "/well")
    becomes(fresh_engine, well, "unhealthy")
    fresh_engine.must("rm", "-f", well, ill)


def test_many_checked_containers_are_all_looked_after(engine: DockerHost) -> None:
    """A check costs the engine little; with many, none is forgotten."""
    containers = [run(engine, "--net", "none", *BY_FILE) for _ in range(20)]
    for container in containers:
        becomes(engine, container, "healthy")
    engine.must("rm", "-f", *containers)
