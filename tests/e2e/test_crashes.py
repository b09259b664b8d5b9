"""The engine and its keeper may die at any time: containers go on, and the next engine takes over what it finds."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from e2e.conftest import with_images
from support import processes
from support.container_traces import cgroups_of, links_of
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from teul.daemon.config import parse_arguments
from teul.linux import cgroups

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

_TICKER = "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo tick $i; sleep 0.02; done; echo stopped; exit 44"


def _is_past(engine: Engine, container: str, tick: int) -> bool:
    return last_tick(engine, container) > tick


def last_tick(engine: Engine, container: str) -> int:
    return int(engine.must("logs", "--tail", "1", container).split()[-1])


def test_ten_containers_survive_the_engines_death(fresh_engine: Engine) -> None:
    """kill -9 with ten containers running and one attached to: output, exit codes, attach, exec, stop and wait all go on."""
    engine = fresh_engine
    tickers = [engine.must("run", "-d", "busybox", "sh", "-c", _TICKER) for _ in range(8)]
    ends_meanwhile = engine.must("run", "-d", "-i", "busybox", "sh", "-c", "read line; exit 7")
    ends_alone = engine.must("run", "-d", "busybox", "sh", "-c", "while [ ! -e /proc/1/root/go ]; do sleep 0.02; done; echo gone; exit 9")
    pids = {container: engine.init_pid(container) for container in (*tickers, ends_meanwhile, ends_alone)}
    with engine.begin("attach", "--sig-proxy=false", tickers[0]) as attached:
        assert attached.stdout is not None
        assert attached.stdout.readline().startswith(b"tick ")
        ticks_before = last_tick(engine, tickers[0])
        engine.kill9()
        assert attached.wait(15) != 0, "the attached client must learn that its engine is gone"
    # While there is no engine: one container is told to end, from outside; all others go on.
    Path(f"/proc/{pids[ends_alone]}/root/go").touch()
    eventually(lambda: not processes.is_alive(pids[ends_alone]), "the container ends without an engine")
    assert all(processes.is_alive(pids[container]) for container in tickers), "a container died with the engine"

    engine.start()
    assert sorted(engine.must("ps", "-q", "--no-trunc").split()) == sorted([*tickers, ends_meanwhile])
    assert {container: engine.init_pid(container) for container in tickers} == {container: pids[container] for container in tickers}
    assert engine.must("wait", ends_alone) == "9"
    assert engine.must("logs", ends_alone) == "gone", "what was written while there was no engine is in the log"
    eventually(lambda: last_tick(engine, tickers[0]) > ticks_before + 10, "the log goes on")
    numbers = [int(line.split()[1]) for line in engine.must("logs", tickers[0]).splitlines()]
    assert numbers == list(range(1, len(numbers) + 1)), "the log has a hole, or something twice"

    with engine.begin("attach", "--sig-proxy=false", tickers[1]) as attached:
        assert attached.stdout is not None
        assert attached.stdout.readline().startswith(b"tick ")
        attached.kill()
    assert engine.docker("attach", ends_meanwhile, stdin=b"typed\n").exit_code == 7
    with engine.begin("wait", tickers[2]) as waiter:
        engine.must("exec", tickers[2], "touch", "/stop")
        assert waiter.stdout is not None
        assert waiter.stdout.read() == b"44\n"
    assert engine.must("logs", "--tail", "1", tickers[2]) == "stopped"
    engine.must("stop", "-t", "0", tickers[3])
    assert engine.inspect(tickers[3])["State"]["ExitCode"] == 137
    engine.must("restart", "-t", "0", tickers[4])
    assert engine.inspect(tickers[4])["State"]["Running"] is True
    engine.must("rm", "-f", *tickers, ends_meanwhile, ends_alone)
    assert engine.must("ps", "-aq") == ""


def test_container_that_ends_while_there_is_no_engine_frees_what_it_had(fresh_engine: Engine) -> None:
    """Its address, link, cgroup and name are not lost with the engine that gave them."""
    engine = fresh_engine
    container = engine.must("run", "-d", "--rm", "--name", "orphan", "busybox", "sleep", "1000")
    pid = engine.init_pid(container)
    engine.kill9()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not processes.is_alive(pid), "the container is dead")
    engine.start()
    eventually(lambda: engine.must("ps", "-aq") == "", "a container with --rm is removed by the next engine")
    eventually(lambda: not links_of([container]), "its link is gone")
    eventually(lambda: not cgroups_of(container), "its cgroups are gone")
    engine.must("run", "-d", "--name", "orphan", "busybox", "true")


@pytest.mark.parametrize("times", [3])
def test_engine_can_be_killed_again_and_again(fresh_engine: Engine, times: int) -> None:
    engine = fresh_engine
    container = engine.must("run", "-d", "busybox", "sh", "-c", _TICKER)
    for _ in range(times):
        seen = last_tick(engine, container)
        engine.kill9()
        engine.start()
        eventually(partial(_is_past, engine, container, seen), "the log goes on")
    assert engine.must("exec", container, "echo", "still here") == "still here"


def cgroup_of(engine: Engine, container: str) -> cgroups.Plan:
    config = parse_arguments(["--root", str(engine.root), "-H", f"unix://{engine.socket_path}"], {})
    return cgroups.plan(cgroups.detect(), f"{config.cgroup_parent}/{container}")


def test_a_freeze_that_no_engine_recorded_is_undone(fresh_engine: Engine) -> None:
    """The engine was killed between freezing and writing it down, or in a commit: nobody was told of a pause."""
    engine = fresh_engine
    container = engine.must("run", "-d", "busybox", "sleep", "1000")
    engine.kill9()
    cgroups.freeze(cgroup_of(engine, container))
    engine.start()
    assert engine.inspect(container)["State"]["Status"] == "running"
    assert engine.must("exec", container, "echo", "goes on") == "goes on"


@pytest.mark.parametrize("verb", [["stop", "-t", "0"], ["kill"], ["rm", "-f"]], ids=lambda verb: verb[0])
def test_a_container_that_froze_itself_can_be_ended(fresh_engine: Engine, verb: list[str]) -> None:
    """kernel: v1's freezer holds what is killed, in whatever cgroup below its own the container has put it."""
    engine = fresh_engine
    container = engine.must("run", "-d", "busybox", "sleep", "1000")
    plan = cgroup_of(engine, container)
    if plan["freezer_file"] is None:
        pytest.skip("no v1 freezer on this host")
    below = Path(plan["freezer_file"]).parent / "of-the-container"
    below.mkdir()
    (below / "cgroup.procs").write_text(str(engine.init_pid(container)))
    (below / "freezer.state").write_text("FROZEN")
    assert engine.docker(*verb, container, timeout_seconds=9).exit_code == 0
    assert engine.must("ps", "-q") == ""


@pytest.fixture
def impatient_engine() -> Iterator[Engine]:
    """It waits a second only for a container's end that does not come."""
    with Engine(hurried={"teul.services.containers.filesystem._SETTLE_SECONDS": 1.0}) as running:
        yield with_images(running)


def test_a_container_that_paused_processes_keep_from_ending_is_told_of(impatient_engine: Engine) -> None:
    """kernel: a first process has ended for all who look only when the last of its descendants has."""
    engine = impatient_engine
    container = engine.must("run", "-d", "busybox", "sh", "-c", "sleep 1000 & exec sleep 1000")
    plan = cgroup_of(engine, container)
    if plan["freezer_file"] is None:
        pytest.skip("no v1 freezer on this host")
    init, member = engine.init_pid(container), Path(plan["freezer_file"]).parent
    eventually(lambda: len((member / "cgroup.procs").read_text().split()) == 2, "both run")
    [other] = set((member / "cgroup.procs").read_text().split()) - {str(init)}
    (member / "held").mkdir()
    (member / "held" / "cgroup.procs").write_text(other)
    (member / "held" / "freezer.state").write_text("FROZEN")
    os.kill(init, signal.SIGKILL)
    refused = engine.docker("cp", f"{container}:/etc", "-", timeout_seconds=30)
    assert refused.exit_code == 1
    assert "is ending, and some of its processes are paused" in refused.stderr
    engine.must("rm", "-f", container)


def test_the_cgroup_of_a_start_that_nobody_remembers_goes(fresh_engine: Engine) -> None:
    """Engine, keeper and starter were killed together: there may be a cgroup and nothing else."""
    engine = fresh_engine
    stopped = engine.must("create", "busybox", "true")
    engine.stop()
    plans = [cgroup_of(engine, container) for container in (stopped, "f" * 64)]
    for plan in plans:
        cgroups.create(plan)
    engine.start()
    assert [directory for plan in plans for directory in plan["directories"] if os.path.exists(directory)] == []


def test_stop_of_the_engine_leaves_containers_running(fresh_engine: Engine) -> None:
    """SIGTERM is a restart of the engine, not of the containers."""
    engine = fresh_engine
    container = engine.must("run", "-d", "busybox", "sleep", "1000")
    pid = engine.init_pid(container)
    assert engine.stop() == 0
    assert processes.is_alive(pid)
    engine.start()
    assert engine.init_pid(container) == pid
    engine.must("rm", "-f", container)


def test_death_of_the_keeper_costs_no_start(fresh_engine: Engine) -> None:
    """kill -9 of the keeper: containers go on, and the next start works."""
    engine = fresh_engine
    container = engine.must("run", "-d", "busybox", "sleep", "1000")
    keeper = engine.keeper_pid
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: not processes.is_alive(keeper), "the keeper is dead")
    assert engine.must("run", "--rm", "busybox", "echo", "started") == "started"
    assert engine.must("exec", container, "echo", "executed") == "executed"
    assert engine.keeper_pid != keeper
    engine.must("stop", "-t", "0", container)
    assert engine.inspect(container)["State"]["ExitCode"] == 137


def test_container_outlives_what_started_it(fresh_engine: Engine) -> None:
    """kill -9 of its keeper: the container's processes go on, and the engine can still list, exec into, stop and remove it."""
    engine = fresh_engine
    container = engine.must("run", "-d", "busybox", "sleep", "1000")
    pid, keeper = engine.init_pid(container), engine.parent_of_init(container)
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: not processes.is_alive(keeper), "it is dead")
    assert processes.is_alive(pid)
    assert engine.must("ps", "-q", "--no-trunc") == container
    assert engine.must("exec", container, "echo", "executed") == "executed"
    engine.must("stop", "-t", "1", container)
    eventually(lambda: not processes.is_alive(pid), "the container stops")
    engine.must("rm", container)
    assert engine.must("run", "--rm", "busybox", "echo", "next") == "next"


def test_failed_create_and_start_leave_nothing(fresh_engine: Engine) -> None:
    """A start that fails half-way takes everything back: the container can be removed, the name and address used again."""
    engine = fresh_engine
    files = [engine.base / f"id-{number}" for number in range(5)]
    for file in files:
        broken = ("run", "--rm", "--cidfile", str(file), "--name", "broken", "busybox", "no-such-command")
        assert engine.docker(*broken).exit_code == 127
    assert engine.must("ps", "-aq") == ""
    eventually(lambda: not links_of([file.read_text() for file in files]), "no link is left")
    assert list((engine.run_root / "containers").iterdir()) == []


def test_unfinished_work_is_swept_at_start(fresh_engine: Engine) -> None:
    """What is not in the database does not exist: temp files and unknown container directories go at the next start."""
    engine = fresh_engine
    engine.stop()
    (engine.root / "tmp" / "half-an-upload").write_bytes(b"x" * 1000)
    (engine.root / "containers" / ("f" * 64)).mkdir()
    engine.start()
    assert engine.must("run", "--rm", "busybox", "echo", "works") == "works"
    assert not (engine.root / "tmp" / "half-an-upload").exists()
    eventually(lambda: not (engine.root / "containers" / ("f" * 64)).exists(), "the unknown directory is swept")


def test_second_engine_on_the_same_root_is_refused(fresh_engine: Engine) -> None:
    """One engine owns one root; the second says so and leaves the first alone."""
    command = fresh_engine.command()
    command[command.index(f"unix://{fresh_engine.socket_path}")] = f"unix://{fresh_engine.base}/second.sock"
    output = fresh_engine.run(command, timeout_seconds=20)
    assert output.exit_code != 0
    assert output.stderr.strip()
    assert fresh_engine.must("run", "--rm", "busybox", "echo", "first") == "first"


def test_two_engines_with_different_roots_live_side_by_side(fresh_engine: Engine) -> None:
    """Bridges, tables, cgroups and subnets follow the root."""
    with Engine() as other:
        other.must("load", stdin=_busybox())
        containers = [host.must("run", "-d", "busybox", "sleep", "1000") for host in (fresh_engine, other)]
        addresses = [
            host.inspect(container)["NetworkSettings"]["IPAddress"]
            for host, container in zip((fresh_engine, other), containers, strict=True)
        ]
        assert addresses[0].rsplit(".", 2)[0] != addresses[1].rsplit(".", 2)[0], "both engines use one subnet"
        other.kill9()
        other.start()
        assert fresh_engine.must("exec", containers[0], "echo", "unharmed") == "unharmed"
        assert other.must("exec", containers[1], "echo", "back") == "back"


def _busybox() -> bytes:
    from support import images

    return images.busybox().docker_archive()
