"""Containers live as Docker's do: created, started, stopped, killed, waited for, removed; and nothing of them stays."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support import processes
from support.container_traces import cgroups_of, links_of
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from support.side_by_side import alone
from support.unix_http import demultiplex

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]


@pytest.mark.parametrize("code", [0, 1, 2, 125, 126, 127, 128, 130, 137, 255])
def test_exit_code_of_a_command_is_passed_on_unchanged(engine: Engine, code: int) -> None:
    """All of a byte's values belong to the command; none is reserved for the engine's own use in `wait`."""
    container = engine.must("run", "-d", "busybox", "sh", "-c", f"exit {code}")
    assert engine.must("wait", container) == str(code)


@pytest.mark.parametrize(("signal", "code"), [("KILL", 137), ("TERM", 143), ("HUP", 129), ("USR1", 138)])
def test_death_by_signal_is_128_plus_its_number(engine: Engine, signal: str, code: int) -> None:
    container = engine.must("run", "-d", "--init", "busybox", "sleep", "1000")
    engine.must("kill", "-s", signal, container)
    assert engine.must("wait", container) == str(code)


def test_stop_ends_gently_before_it_ends_by_force(engine: Engine) -> None:
    """A command that obeys its stop signal is never killed; one that does not is killed when the time is up."""
    gentle = engine.must("run", "-d", "busybox", "sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done")
    deaf = engine.must("run", "-d", "busybox", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    eventually(lambda: engine.must("logs", gentle) == engine.must("logs", deaf) == "up", "the commands are up")
    engine.must("stop", "-t", "30", gentle)
    engine.must("stop", "-t", "1", deaf)
    assert engine.inspect(gentle)["State"]["ExitCode"] == 5
    assert engine.must("logs", gentle).endswith("bye")
    assert engine.inspect(deaf)["State"]["ExitCode"] == 137


def test_stop_uses_the_images_stop_signal(engine: Engine) -> None:
    container = engine.must("run", "-d", "judge/layers:1", "sh", "-c", "trap 'exit 33' QUIT; echo up; while :; do sleep 0.05; done")
    eventually(lambda: "up" in engine.must("logs", container), "the command is up")
    engine.must("stop", "-t", "30", container)
    assert engine.inspect(container)["State"]["ExitCode"] == 33


def test_files_of_a_container_survive_a_restart_and_go_with_removal(engine: Engine) -> None:
    """The upper layer belongs to the container, not to one run of it."""
    container = engine.must("run", "-d", "busybox", "sh", "-c", "cat /count; echo line >> /count; wc -l < /count")
    assert engine.must("wait", container) == "0"
    engine.must("start", container)
    assert engine.must("wait", container) == "0"
    assert engine.must("logs", container).split() == ["1", "line", "2"]
    engine.must("rm", container)
    eventually(lambda: not paths_naming(engine.root, container), "a removed container leaves no files")


def paths_naming(root: Path, part: str) -> list[str]:
    """Paths below ``root`` with ``part`` in their last component; os.walk passes over directories that vanish during the walk, Path.rglob fails."""
    return [
        os.path.join(directory, name) for directory, directories, files in os.walk(root) for name in directories + files if part in name
    ]


def test_containers_of_one_image_do_not_see_each_others_files(engine: Engine) -> None:
    engine.must("run", "busybox", "sh", "-c", "echo secret > /etc/passwd; rm /bin/ls; touch /new")
    assert engine.must("run", "busybox", "sh", "-c", "head -1 /etc/passwd; ls -d /bin/ls; test -e /new || echo clean").split("\n") == [
        "root:x:0:0:root:/root:/bin/sh",
        "/bin/ls",
        "clean",
    ]


def test_name_is_free_again_after_removal(engine: Engine) -> None:
    for _ in range(3):
        engine.must("run", "--name", "again", "busybox", "true")
        engine.must("rm", "again")


def test_automatic_removal_takes_the_container_away_when_it_ends(engine: Engine) -> None:
    """Also when nobody waits for it."""
    engine.must("run", "-d", "--rm", "--name", "brief", "busybox", "true")
    eventually(lambda: engine.must("ps", "-aq") == "", "the container is gone")


def test_memory_limit_kills_and_says_so(engine: Engine) -> None:
    """`OOMKilled` tells a user why it is 137."""
    container = engine.must("run", "-d", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "exec head -c 200m /dev/zero | tail")
    engine.must("wait", container)
    assert engine.inspect(container)["State"]["OOMKilled"] is True


def test_pause_stops_all_processes_and_unpause_lets_them_go_on(engine: Engine) -> None:
    container = engine.must("run", "-d", "busybox", "sh", "-c", "while :; do date +%s%N; sleep 0.02; done")
    eventually(lambda: engine.must("logs", container), "the clock ticks")
    engine.must("pause", container)
    before = engine.must("logs", container)
    assert engine.must("logs", container) == before
    engine.must("unpause", container)
    eventually(lambda: engine.must("logs", container) != before, "the clock ticks again")


def test_thirty_containers_at_once_all_get_their_own_answer(engine: Engine) -> None:
    """Concurrent requests do not mix their outputs, exit codes or addresses."""

    def run(number: int) -> tuple[int, str]:
        output = engine.docker("run", "--rm", "busybox", "sh", "-c", f"echo number {number}; exit {number}", timeout_seconds=120.0)
        return output.exit_code, output.stdout

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(run, range(30)))
    assert answers == [(number, f"number {number}\n") for number in range(30)]


def test_addresses_on_the_bridge_are_unique_and_given_back(engine: Engine) -> None:
    containers = [engine.must("run", "-d", "busybox", "sleep", "1000") for _ in range(5)]
    addresses = {engine.inspect(container)["NetworkSettings"]["IPAddress"] for container in containers}
    assert len(addresses) == 5
    assert engine.name == "dockerd" or len(links_of(containers)) == 5, "they are not called so any more"
    engine.must("rm", "-f", *containers)
    eventually(lambda: not links_of(containers), "their links are gone")


def test_containers_on_the_bridge_reach_each_other(engine: Engine) -> None:
    server = engine.must("run", "-d", "busybox", "sh", "-c", "echo served > /index.html; exec httpd -f -p 8000 -h /")
    address = engine.inspect(server)["NetworkSettings"]["IPAddress"]
    command = f"for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://{address}:8000/ && break; sleep 0.2; done"
    assert engine.must("run", "--rm", "busybox", "sh", "-c", command) == "served"


def test_removal_by_force_leaves_no_process_and_no_cgroup(engine: Engine) -> None:
    """Also not of children that left the first process's session and ignore every signal."""
    script = (
        "for i in 1 2 3; do setsid sh -c \"trap '' TERM HUP INT; while :; do sleep 1; done\" & done; echo up; while :; do sleep 1; done"
    )
    container = engine.must("run", "-d", "busybox", "sh", "-c", script)
    eventually(lambda: engine.must("logs", container) == "up", "the children are started")
    inside = processes.namespace_of(engine.init_pid(container), "pid")
    assert cgroups_of(container)
    engine.must("rm", "-f", container)
    left = [pid for pid in processes.all_pids() if processes.namespace_of(pid, "pid") == inside]
    assert not left, f"processes outlive their container: {left}"
    eventually(lambda: not cgroups_of(container), "its cgroups are gone")


@alone
def test_engine_hides_nothing_on_the_hosts_mount_table(engine: Engine) -> None:
    """No mount on the host, ever: a running container's overlay is in its own mount namespace only."""
    before = Path("/proc/self/mountinfo").read_text()
    container = engine.must("run", "-d", "busybox", "sleep", "1000")
    assert Path("/proc/self/mountinfo").read_text() == before
    assert Path(f"/proc/{engine.pid}/mountinfo").read_text().count("overlay") == before.count("overlay")
    assert " / / " in Path(f"/proc/{engine.init_pid(container)}/mountinfo").read_text()


def test_wait_for_the_next_exit_is_registered_before_the_start(engine: Engine) -> None:
    """What `docker run` relies on: a wait that began before the start reports this run, not the one before."""
    with engine.api() as api, engine.api() as waiting:
        container = api.expect(201, "POST", "/containers/create", {"Image": "busybox", "Cmd": ["sh", "-c", "exit 21"]}).json()["Id"]
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(waiting.expect, 200, "POST", f"/containers/{container}/wait?condition=next-exit")
            # Headers are sent when the wait is registered, the body at the end; a start before that would be a race of this test.
            api.expect(204, "POST", f"/containers/{container}/start")
            assert answer.result(30).json()["StatusCode"] == 21


def test_logs_keep_every_byte_of_binary_output(engine: Engine) -> None:
    """The log is JSON; bytes that are no text must come out as far as Docker brings them out, and lengths must agree."""
    container = engine.must("run", "-d", "busybox", "sh", "-c", "printf 'a\\000b\\001\\033[0m\\n'; printf 'last'")
    engine.must("wait", container)
    with engine.api() as api:
        body = api.expect(200, "GET", f"/containers/{container}/logs?stdout=1").body
    assert demultiplex(body)[0] == b"a\x00b\x01\x1b[0m\nlast"


def test_log_of_a_container_is_rotated(engine: Engine) -> None:
    """A container that talks for months does not fill the disk."""
    options = ("--log-opt", "max-size=20k", "--log-opt", "max-file=3")
    container = engine.must("run", "-d", *options, "busybox", "sh", "-c", "seq 1 20000")
    engine.must("wait", container)
    files = list(engine.root.rglob("*-json.log*"))
    assert 1 < len(files) <= 3
    assert sum(path.stat().st_size for path in files) < 100_000
    assert engine.must("logs", "--tail", "1", container) == "20000"
