"""Files and records that cannot be read: what they belong to is set aside, and everything else goes on."""

from __future__ import annotations

import contextlib
import os
import sqlite3

import pytest

from support import processes
from support.engine import Engine
from support.needs import needs
from support.polling import eventually
from teul.runtime.messages import EXIT_FILE, PROCESS_FILE, SOCKET_FILE

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]


def _run_three(engine: Engine) -> list[str]:
    return [engine.must("run", "-d", "--name", name, "busybox", "sleep", "1000") for name in ("good", "bad", "fine")]


def _assert_set_aside(engine: Engine, containers: list[str], pids: dict[str, int]) -> None:
    """The one in the middle is the damaged one: it does not run, and can be removed. The others know nothing of it."""
    good, bad, fine = containers
    for container in (good, fine):
        assert engine.init_pid(container) == pids[container]
        assert engine.must("exec", container, "echo", "here") == "here"
    assert engine.must("ps", "-aq", "--no-trunc", "--filter", "name=bad") == bad
    eventually(lambda: not processes.is_alive(pids[bad]), "nobody could watch over its process, so that is ended")
    assert engine.inspect(bad)["State"]["Running"] is False
    assert bad in engine.log_tail(), "the engine's log says which container it is"
    engine.must("rm", "bad")
    assert not (engine.run_root / "containers" / bad).exists()
    eventually(lambda: not (engine.root / "containers" / bad).exists(), "its files are removed")
    assert engine.must("run", "--rm", "--name", "bad", "busybox", "echo", "again") == "again"
    engine.must("stop", "-t", "0", good, fine)
    assert engine.inspect(good)["State"]["ExitCode"] == 137


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe"], ids=["empty", "without-members", "no-text"])
def test_launch_file_that_cannot_be_read_costs_its_container_only(fresh_engine: Engine, content: bytes) -> None:
    engine = fresh_engine
    containers = _run_three(engine)
    pids = {container: engine.init_pid(container) for container in containers}
    engine.kill9()
    (engine.run_root / "containers" / containers[1] / "launch.json").write_bytes(content)
    engine.start()
    _assert_set_aside(engine, containers, pids)


def test_each_other_file_of_a_bundle_may_be_empty(fresh_engine: Engine) -> None:
    """What a monitor that lives can say is asked of the monitor; so the container goes on, whatever its other files hold."""
    engine = fresh_engine
    containers = _run_three(engine)
    pids = {container: engine.init_pid(container) for container in containers}
    bundle = engine.run_root / "containers" / containers[1]
    names = [entry.name for entry in os.scandir(bundle) if entry.is_file(follow_symlinks=False) and entry.name != "launch.json"]
    assert {"config.json", PROCESS_FILE} <= set(names)
    for name in names:
        engine.kill9()
        os.truncate(bundle / name, 0)
        engine.start()
        assert {container: engine.init_pid(container) for container in containers} == pids, name
        assert engine.must("ps", "-q", "--filter", "name=bad"), name
    engine.must("rm", "-f", *containers)


@pytest.mark.parametrize("name", [PROCESS_FILE, EXIT_FILE])
def test_without_a_monitor_such_a_file_costs_its_container_only(fresh_engine: Engine, name: str) -> None:
    """The process file, or an exit record, which is all that a monitor leaves of itself."""
    engine = fresh_engine
    containers = _run_three(engine)
    pids = {container: engine.init_pid(container) for container in containers}
    engine.kill9()
    bundle = engine.run_root / "containers" / containers[1]
    (bundle / SOCKET_FILE).unlink()
    (bundle / name).write_bytes(b"")
    engine.start()
    _assert_set_aside(engine, containers, pids)


@pytest.mark.parametrize("record", [b"", b"{}", b"\xff\xfe"], ids=["empty", "without-members", "no-text"])
def test_record_that_cannot_be_read_costs_its_container_only(fresh_engine: Engine, record: bytes) -> None:
    """Its row has its name and its image all the same: it is shown as dead, and its files are kept until it is removed."""
    engine = fresh_engine
    containers = _run_three(engine)
    pids = {container: engine.init_pid(container) for container in containers}
    kept = engine.root / "containers" / containers[1]
    engine.kill9()
    with contextlib.closing(sqlite3.connect(engine.root / "teul.db")) as connection:
        connection.execute("UPDATE containers SET record = CAST(? AS TEXT) WHERE id = ?", (record, containers[1]))
        connection.commit()
    engine.start()
    assert kept.exists(), "what the container wrote is not lost with its record"
    assert engine.inspect("bad")["State"]["Status"] == "dead"
    assert "cannot be read" in engine.inspect("bad")["State"]["Error"]
    for refused in (["start", "bad"], ["rename", "bad", "other"], ["update", "--pids-limit", "5", "bad"]):
        assert engine.docker(*refused).exit_code != 0, refused
    engine.kill9()
    engine.start()
    assert kept.exists(), "nor with another engine"
    _assert_set_aside(engine, containers, pids)


def test_what_cannot_be_swept_does_not_stop_the_engine(fresh_engine: Engine) -> None:
    """Files without a record that refuse to go are named in the log, and left."""
    engine = fresh_engine
    engine.stop()
    places = [engine.root / "containers" / ("f" * 64), engine.root / "tmp" / "stays", engine.root / "snapshots" / ("e" * 64)]
    mounted = []
    try:
        for place in places:
            place.mkdir()
            engine.run(["mount", "-t", "tmpfs", "stays", str(place)])
            mounted.append(place)
        engine.start()
        for place in places:
            assert place.name in engine.log_tail()
        assert engine.must("run", "--rm", "busybox", "echo", "works") == "works"
        engine.stop()
    finally:
        for place in [*mounted, engine.root / "tmp" / f"removed-{'f' * 64}"]:
            if os.path.ismount(place):
                engine.run(["umount", str(place)])
    engine.start()
    assert not any(place.exists() for place in places)
