"""Containers that another OCI runtime makes are containers like all others: what `docker` does with them, it does with these."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import with_images
from support.container_traces import cgroups_of, links_of
from support.engine import Engine
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs", "runc", "crun")]
_ADDED = ("--add-runtime", "crun=crun", "--add-runtime", "other=runc", "--add-runtime", "gone=/nowhere/runtime")
_BOTH = pytest.mark.parametrize("runtime", ["other", "crun"])
# What is ours whichever runtime it is, and what either has shown: runc as well when asked for, by TEUL_ALL_RUNTIMES (`make endurance`).
_EITHER = pytest.mark.parametrize("runtime", ["other", "crun"] if os.environ.get("TEUL_ALL_RUNTIMES") else ["crun"])


@pytest.fixture(scope="module")
def module_engine() -> Iterator[Engine]:
    with Engine(extra=_ADDED) as running:
        yield with_images(running)


@pytest.fixture
def fresh_engine() -> Iterator[Engine]:
    with Engine(extra=_ADDED) as running:
        yield with_images(running)


@_BOTH
def test_a_program_has_its_streams_and_its_exit_code(engine: Engine, runtime: str) -> None:
    said = engine.docker("run", "-i", "--runtime", runtime, "busybox", "sh", "-c", "cat; echo no >&2; exit 7", stdin=b"given")
    assert (said.exit_code, said.stdout, said.stderr) == (7, "given", "no\n")


@_EITHER
def test_logs_are_kept_and_inspection_names_the_runtime(engine: Engine, runtime: str) -> None:
    container = engine.must("run", "-d", "--runtime", runtime, "busybox", "echo", "kept")
    assert engine.must("wait", container) == "0"
    assert engine.must("logs", container) == "kept"
    assert engine.inspect(container)["HostConfig"]["Runtime"] == runtime


@_BOTH
def test_a_terminal_is_one_and_has_the_windows_size(engine: Engine, runtime: str) -> None:
    with engine.terminal("run", "-it", "--runtime", runtime, "busybox", "sh", rows=31, columns=97) as terminal:
        terminal.send("stty size; tty\n")
        terminal.expect(r"31 97")
        terminal.expect(r"/dev/pts/0")
        terminal.send("exit 5\n")
        assert terminal.wait() == 5


@_BOTH
def test_an_exec_is_the_runtimes(engine: Engine, runtime: str) -> None:
    container = engine.must("run", "-d", "--runtime", runtime, "-e", "OF=container", "busybox", "sleep", "1000")
    said = engine.docker(
        "exec", "-i", "-u", "1000:7", "-w", "/tmp", container, "sh", "-c", "echo $OF; id -u; id -g; pwd; cat; exit 9", stdin=b"in"
    )
    assert (said.exit_code, said.stdout.split()) == (9, ["container", "1000", "7", "/tmp", "in"])
    with engine.terminal("exec", "-it", container, "sh") as terminal:
        terminal.send("tty && echo size $(stty size)\n")
        terminal.expect(r"size \d+ \d+")
    missing = engine.docker("exec", container, "nosuch")
    assert missing.exit_code != 0
    assert "OCI runtime exec failed: " in missing.stdout
    assert "nosuch" in missing.stdout


@_EITHER
def test_stop_ends_gently(engine: Engine, runtime: str) -> None:
    container = engine.must(
        "run", "-d", "--runtime", runtime, "busybox", "sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"
    )
    eventually(lambda: engine.must("logs", container) == "up", "the command is up")
    engine.must("pause", container)
    engine.must("unpause", container)
    engine.must("stop", "-t", "30", container)
    assert engine.inspect(container)["State"]["ExitCode"] == 5


@_BOTH
def test_limits_hold(engine: Engine, runtime: str) -> None:
    """The runtime itself, which is larger, is in no cgroup of the container's; but for what becomes the program (runc's part has threads)."""
    limited = ("--memory", "16m", "--memory-swap", "16m")
    container = engine.must("run", "-d", "--runtime", runtime, *limited, "busybox", "sh", "-c", "tail /dev/zero")
    assert engine.must("wait", container) == "137"
    assert engine.inspect(container)["State"]["OOMKilled"]
    forks = engine.docker(
        "run", "--runtime", runtime, "--pids-limit", "20", "busybox", "sh", "-c", "for i in $(seq 30); do sleep 1 & done; wait"
    )
    assert "can't fork" in forks.stderr


@_BOTH
def test_user_read_only_root_and_mounts(engine: Engine, runtime: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    engine.must("volume", "create", "kept")
    options = ("--read-only", "-u", "1000", "-v", "kept:/kept", "--mount", "type=tmpfs,dst=/memory", "-v", f"{tmp_path}:/host:ro")
    said = engine.must(
        "run",
        "--runtime",
        runtime,
        *options,
        "busybox",
        "sh",
        "-c",
        "id -u; touch /new 2>&1; touch /host/new 2>&1; touch /memory/new && echo $HOME",
    )
    assert said.splitlines()[0] == "1000"
    assert said.count("Read-only file system") == 2
    engine.must("run", "--runtime", runtime, "-v", "kept:/kept", "busybox", "sh", "-c", "mkdir /kept/sub; echo there > /kept/sub/file")
    subpath = "type=volume,src=kept,dst=/sub,volume-subpath=sub"
    assert engine.must("run", "--runtime", runtime, "--mount", subpath, "busybox", "cat", "/sub/file") == "there"
    engine.remove_containers()
    engine.must("volume", "rm", "kept")


@_EITHER
def test_a_published_port_and_a_name_lead_to_it(engine: Engine, runtime: str) -> None:
    engine.must("network", "create", f"net-{runtime}")
    serve = "mkdir /www; echo served > /www/index.html; httpd -f -p 80 -h /www"
    container = engine.must(
        "run",
        "-d",
        "--runtime",
        runtime,
        "--network",
        f"net-{runtime}",
        "--name",
        f"web-{runtime}",
        "-P",
        "--expose",
        "80",
        "busybox",
        "sh",
        "-c",
        serve,
    )
    port = engine.must("port", container, "80/tcp").splitlines()[0].rpartition(":")[2]

    def answer() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
                return str(page.read().decode())
        except OSError:
            return ""

    eventually(lambda: answer() == "served\n", "the port answers")
    asked = ("run", "--runtime", runtime, "--network", f"net-{runtime}", "busybox", "wget", "-qO-", f"http://web-{runtime}/")
    assert engine.must(*asked) == "served"
    joined = ("run", "--runtime", runtime, "--network", f"container:{container}", "--pid", f"container:{container}", "busybox")
    assert engine.must(*joined, "sh", "-c", "wget -qO- http://127.0.0.1/; ps | grep -c '[h]ttpd'").split() == ["served", "1"]
    engine.remove_containers()
    engine.must("network", "rm", f"net-{runtime}")


@_EITHER
def test_a_killed_engine_leaves_it_running_and_the_next_one_has_it(fresh_engine: Engine, runtime: str) -> None:
    engine = fresh_engine
    container = engine.must("run", "-d", "--runtime", runtime, "busybox", "sh", "-c", "trap 'exit 6' TERM; while :; do sleep 0.05; done")
    pid = engine.init_pid(container)
    engine.kill9()
    engine.start()
    assert engine.init_pid(container) == pid
    assert engine.must("exec", container, "echo", "there") == "there"
    engine.must("stop", "-t", "30", container)
    assert engine.inspect(container)["State"]["ExitCode"] == 6
    engine.must("rm", container)
    assert not cgroups_of(container)
    assert not links_of([container])
    assert not list((engine.run_root / "containers").iterdir())


@_EITHER
def test_an_end_while_there_is_no_engine_is_cleaned_up_by_the_next(fresh_engine: Engine, runtime: str) -> None:
    engine = fresh_engine
    container = engine.must("run", "-d", "--rm", "--runtime", runtime, "busybox", "sh", "-c", "read line", "-i")
    engine.kill9()
    engine.start()
    eventually(lambda: not engine.must("ps", "-aq"), "it is removed")
    eventually(lambda: not cgroups_of(container), "nothing of it is left")
    assert not list((engine.run_root / "containers").iterdir())


@_EITHER
def test_restart_policies_hold(engine: Engine, runtime: str) -> None:
    container = engine.must("run", "-d", "--runtime", runtime, "--restart", "on-failure:2", "busybox", "sh", "-c", "echo once; exit 3")
    eventually(lambda: engine.inspect(container)["State"]["Status"] == "exited", "it has given up")
    assert engine.inspect(container)["RestartCount"] == 2
    assert engine.must("logs", container).split() == ["once"] * 3


@_BOTH
def test_the_seccomp_profile_and_the_capabilities_are_dockers(engine: Engine, runtime: str) -> None:
    look = "grep -E '^(Seccomp|CapBnd|CapEff):' /proc/self/status"
    ours = engine.must("run", "busybox", "sh", "-c", look)
    assert engine.must("run", "--runtime", runtime, "busybox", "sh", "-c", look) == ours
    assert "Seccomp:\t2" in ours


@_BOTH
def test_a_program_that_is_not_there_fails_in_the_runtimes_words(engine: Engine, runtime: str) -> None:
    failed = engine.docker("run", "--runtime", runtime, "busybox", "nosuch")
    assert failed.exit_code in (125, 127)  # docker: the command line knows runc's words only
    assert "failed to create task for container: failed to create shim task: OCI runtime create failed: " in failed.stderr
    assert "nosuch" in failed.stderr
    container = engine.must("ps", "-aql")
    assert engine.inspect(container)["State"]["ExitCode"] == 127
    assert not cgroups_of(container)


def test_an_unknown_runtime_is_refused_in_dockers_words(engine: Engine) -> None:
    refused = engine.docker("create", "--runtime", "nosuch", "busybox")
    assert "Error response from daemon: unknown or invalid runtime name: nosuch" in refused.stderr
    assert "--init is not supported with runtime crun" in engine.docker("create", "--init", "--runtime", "crun", "busybox").stderr


def test_a_runtime_that_is_not_installed_fails_the_start(engine: Engine) -> None:
    failed = engine.docker("run", "--runtime", "gone", "busybox", "true")
    assert 'exec: "/nowhere/runtime": executable file not found in $PATH' in failed.stderr
    assert failed.exit_code == 127


def test_info_tells_of_them(engine: Engine) -> None:
    info = json.loads(engine.must("info", "--format", "{{json .}}"))
    assert info["DefaultRuntime"] == "runc"
    assert {name: each["path"] for name, each in info["Runtimes"].items() if name in ("crun", "gone")} == {
        "crun": "crun",
        "gone": "/nowhere/runtime",
    }


def test_the_default_runtime_is_that_of_containers_that_name_none() -> None:
    with Engine(extra=("--add-runtime", "crun=crun", "--default-runtime", "crun")) as running:
        engine = with_images(running)
        container = engine.must("run", "-d", "busybox", "true")
        assert engine.must("wait", container) == "0"
        assert engine.inspect(container)["HostConfig"]["Runtime"] == "crun"
        own = engine.must("run", "-d", "--runtime", "runc", "busybox", "true")
        assert engine.must("wait", own) == "0"
