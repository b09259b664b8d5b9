"""Renewed containers, by `teul renew` and as the docker command line sees them: the new one has all that the former one had, or nothing changes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.test_ports import ask, await_answer, free_port
from support import images
from support.docker_host import Output
from support.engine import Engine
from support.needs import needs
from support.polling import eventually

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs", "nft")]

_SERVER = "mkdir -p /w /data; echo $VERSION $WORD >/w/index.html; echo $VERSION >>/data/log; exec httpd -f -p 80 -h /w"
_HEALTHY = {"Test": ["CMD-SHELL", "true"], "Interval": 100_000_000}


def version(number: int, command: str = _SERVER, **config: Any) -> images.Image:
    """The image that is called app:1, in that version."""
    base = images.busybox()
    settings = {
        "Cmd": ["sh", "-c", command],
        "Env": [images.PATH, f"VERSION={number}", f"ONLY_{number}=1"],
        "Labels": {"version": str(number)},
        "Volumes": {"/data": {}},
        "Healthcheck": _HEALTHY,
        "StopSignal": "SIGKILL",  # a first process does not hear of another one that it does not wait for
        **config,
    }
    return dataclasses.replace(base, names=("app:1",), config=settings)


@pytest.fixture(scope="module")
def engine_for_all() -> Iterator[Engine]:
    with Engine(hurried={"teul.services.containers.trial._CALM_SECONDS": 0.5}) as running:
        running.load(images.busybox().docker_archive())
        yield running


@pytest.fixture
def engine(engine_for_all: Engine) -> Iterator[Engine]:
    """With the first version of the image, and no containers."""
    engine_for_all.load(version(1).docker_archive())
    yield engine_for_all
    engine_for_all.remove_containers()


def renew(engine: Engine, *arguments: str) -> Output:
    return engine.teul("renew", "-q", *arguments)


def must_renew(engine: Engine, *arguments: str) -> None:
    outcome = renew(engine, *arguments)
    assert outcome.exit_code == 0, outcome.stderr


@contextlib.contextmanager
def begun(engine: Engine, path: str) -> Iterator[None]:
    """A request whose client is there inside the `with`."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(engine.socket_path))
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: engine\r\n\r\n".encode())
        yield


def names(engine: Engine) -> list[str]:
    return sorted(engine.must("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines())


def test_a_newer_image_takes_over_with_everything_that_was_asked_for(engine: Engine) -> None:
    """Name, ports, restart policy, labels and variables; what came from the image comes from the new one."""
    port = free_port()
    options = ["-e", "WORD=hello", "-l", "mine=1", "-p", f"{port}:80", "--restart", "unless-stopped", "--memory", "64m", "-w", "/tmp"]
    former = engine.must("run", "-d", "--name", "web", *options, "app:1")
    await_answer("127.0.0.1", port)
    engine.load(version(2).docker_archive())
    outcome = engine.teul("renew", "web")
    assert (outcome.exit_code, outcome.stdout) == (0, "web\n"), outcome.stderr
    assert "Stopping container" in outcome.stderr
    assert names(engine) == ["web running"]
    found = engine.inspect("web")
    assert found["Id"] != former
    await_answer("127.0.0.1", port)
    assert "2 hello" in ask("127.0.0.1", port)
    assert set(found["Config"]["Env"]) == {images.PATH, "VERSION=2", "ONLY_2=1", "WORD=hello"}
    assert found["Config"]["Labels"] == {"mine": "1", "version": "2"}
    assert found["Config"]["WorkingDir"] == "/tmp"
    assert found["Config"]["Image"] == "app:1"
    assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert found["HostConfig"]["Memory"] == 64 << 20
    assert engine.must("ps", "--filter", "name=web", "--format", "{{.Image}}") == "app:1"
    again = engine.teul("renew", "web")
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "web is up to date\n")
    assert engine.inspect("web")["Id"] == found["Id"]


def test_a_volume_that_nobody_has_named_moves_with_its_data(engine: Engine) -> None:
    engine.must("run", "-d", "--name", "web", "-v", "/own", "--mount", "type=volume,target=/third", "app:1")
    engine.must("exec", "web", "sh", "-c", "echo kept >/own/file; echo kept >/third/file")
    before = {mount["Destination"]: mount["Name"] for mount in engine.inspect("web")["Mounts"]}
    assert set(before) == {"/data", "/own", "/third"}
    engine.load(version(2).docker_archive())
    must_renew(engine, "web")
    assert {mount["Destination"]: mount["Name"] for mount in engine.inspect("web")["Mounts"]} == before
    assert engine.must("exec", "web", "cat", "/own/file", "/third/file", "/data/log") == "kept\nkept\n1\n2"
    assert set(before.values()) <= set(engine.must("volume", "ls", "-q").splitlines())
    engine.must("rm", "-f", "-v", "web")
    assert not set(before.values()) & set(engine.must("volume", "ls", "-q").splitlines()), "they are the container's still"


def test_a_static_address_and_aliases_are_the_new_ones(engine: Engine) -> None:
    engine.must("network", "create", "--subnet", "10.213.7.0/24", "renewed")
    where = ["--network", "renewed", "--ip", "10.213.7.9", "--network-alias", "site", "--mac-address", "02:11:22:33:44:55"]
    engine.must("run", "-d", "--name", "web", *where, "app:1")
    engine.must("run", "-d", "--name", "asker", "--network", "renewed", "busybox", "sleep", "1000")
    engine.load(version(2).docker_archive())
    must_renew(engine, "web")
    [endpoint] = engine.inspect("web")["NetworkSettings"]["Networks"].values()
    assert (endpoint["IPAddress"], endpoint["MacAddress"]) == ("10.213.7.9", "02:11:22:33:44:55")
    for name in ("web", "site"):
        eventually(lambda name=name: "2" in engine.docker("exec", "asker", "wget", "-qO-", f"http://{name}/").stdout, f"{name} answers")  # type: ignore[misc]
    engine.remove_containers()
    engine.must("network", "rm", "renewed")


def test_networks_are_those_that_it_has_by_now(engine: Engine) -> None:
    """What was connected and disconnected since its creation counts, and what `update` and `port add` have changed."""
    engine.must("network", "create", "later")
    engine.must("run", "-d", "--name", "web", "app:1")
    engine.must("network", "connect", "--alias", "site", "later", "web")
    engine.must("network", "disconnect", "bridge", "web")
    engine.must("update", "--pids-limit", "77", "web")
    must_renew(engine, "--force", "web")
    found = engine.inspect("web")
    assert list(found["NetworkSettings"]["Networks"]) == ["later"]
    assert "site" in found["NetworkSettings"]["Networks"]["later"]["Aliases"]
    assert found["HostConfig"]["PidsLimit"] == 77
    engine.must("network", "disconnect", "later", "web")
    must_renew(engine, "--force", "web")
    assert engine.inspect("web")["NetworkSettings"]["Networks"] == {}
    engine.remove_containers()
    engine.must("network", "rm", "later")


def test_other_options_with_the_same_image(engine: Engine) -> None:
    """What is changed takes the place of what there was; the rest stays."""
    port, other = free_port(), free_port()
    engine.must("volume", "create", "named")
    engine.must("run", "-d", "--name", "web", "-e", "WORD=a", "-e", "STAYS=1", "-p", f"{port}:80", "-v", "/data", "app:1")
    must_renew(engine, "-e", "WORD=b", "-p", f"{other}:80", "-v", "named:/data", "web")
    await_answer("127.0.0.1", other)
    assert "1 b" in ask("127.0.0.1", other)
    assert ask("127.0.0.1", port) == ""
    found = engine.inspect("web")
    assert "STAYS=1" in found["Config"]["Env"]
    assert [mount["Name"] for mount in found["Mounts"]] == ["named"]
    engine.remove_containers()
    engine.must("volume", "rm", "named")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (version(2, "echo broken; exit 3", Healthcheck=None), ["ended with exit code 3", "its last lines:", "  broken"]),
        (version(2, "/no/such/program"), ["exit code 127"]),
        (version(2, Cmd=["/no/such/program"]), ["/no/such/program"]),
        (
            version(2, Healthcheck={"Test": ["CMD-SHELL", "echo ill; exit 4"], "Interval": 50_000_000, "Retries": 2}),
            ["is unhealthy", "the last probe ended with 4: ill"],
        ),
    ],
    ids=["crash", "crash before a probe", "no such program", "unhealthy"],
)
def test_what_is_no_good_goes_and_the_former_one_runs_again(engine: Engine, image: images.Image, reason: list[str]) -> None:
    port = free_port()
    persistent = ["--restart", "always", "-l", "io.teul.restart-unhealthy=true"]
    former = engine.must("run", "-d", "--name", "web", *persistent, "-p", f"{port}:80", "app:1")
    await_answer("127.0.0.1", port)
    volumes = engine.must("volume", "ls", "-q")
    engine.load(image.docker_archive())
    outcome = renew(engine, "web")
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("container web could not be renewed, and it runs as before: ")
    for part in reason:
        assert part in outcome.stderr
    assert names(engine) == ["web running"]
    assert engine.inspect("web")["Id"] == former
    await_answer("127.0.0.1", port)
    assert engine.must("volume", "ls", "-q") == volumes
    engine.must("restart", "-t", "0", "web")
    [_, attempt] = json.loads(
        "[" + ",".join(reversed(engine.teul("container", "history", "--format", "json", "web").stdout.splitlines())) + "]"
    )
    assert attempt["Result"].startswith("failed: ")


def test_a_request_that_is_wrong_stops_nothing(engine: Engine) -> None:
    former = engine.must("run", "-d", "--name", "web", "app:1")
    pid = engine.init_pid("web")
    for arguments, reason in (
        (("--image", "nothing:here", "web"), "No such image: nothing:here"),
        (("-v", "relative:nowhere", "web"), "invalid volume specification"),
        (("nobody",), "No such container: nobody"),
        (("--image", "busybox", "--all"), "--all goes with no container and no --image"),
    ):
        outcome = renew(engine, *arguments)
        assert outcome.exit_code == 1
        assert reason in outcome.stderr
    engine.must("pause", "web")
    assert "is paused" in renew(engine, "--force", "web").stderr
    engine.must("unpause", "web")
    assert (engine.inspect("web")["Id"], engine.init_pid("web")) == (former, pid)
    engine.must("run", "-d", "--name", "guest", "--network", "container:web", "busybox", "sleep", "1000")
    assert "container guest is tied to it by its id" in renew(engine, "--force", "web").stderr


def test_a_port_that_somebody_else_has_brings_the_former_one_back(engine: Engine) -> None:
    taken = free_port()
    engine.must("run", "-d", "--name", "other", "-p", f"{taken}:80", "app:1")
    former = engine.must("run", "-d", "--name", "web", "app:1")
    outcome = renew(engine, "-p", f"{taken}:80", "web")
    assert outcome.exit_code == 1
    assert "port is already allocated" in outcome.stderr
    assert (engine.inspect("web")["Id"], names(engine)) == (former, ["other running", "web running"])


def test_kept_stopped_and_removed_by_itself(engine: Engine) -> None:
    """`--keep` leaves the former one beside it; one that does not run is not started; with --rm the flag stays."""
    former = engine.must("run", "-d", "--name", "web", "app:1")
    must_renew(engine, "--force", "--keep", "web")
    assert names(engine) == ["web running", "web-1 exited"]
    assert engine.inspect("web-1")["Id"] == former
    engine.must("stop", "-t", "0", "web")
    must_renew(engine, "--force", "web")
    assert names(engine) == ["web created", "web-1 exited"]
    engine.must("run", "-d", "--rm", "--name", "brief", "app:1")
    must_renew(engine, "--force", "--keep", "brief")
    assert [name for name in names(engine) if name.startswith("brief")] == ["brief running", "brief-1 exited"]
    engine.must("stop", "-t", "0", "brief")
    eventually(lambda: "brief exited" not in names(engine) and "brief-1 exited" in names(engine), "only the one with --rm goes")


def test_going_back_and_what_is_known_of_former_generations(engine: Engine) -> None:
    port = free_port()
    engine.must("run", "-d", "--name", "web", "-e", "WORD=first", "-p", f"{port}:80", "app:1")
    assert "no generation to go back to" in engine.teul("rollback", "web").stderr
    old_image = engine.inspect("web")["Image"]
    engine.load(version(2).docker_archive())
    must_renew(engine, "-e", "WORD=second", "web")
    refused = engine.docker("rmi", old_image)
    assert refused.exit_code == 1
    assert "image is being used" in refused.stderr
    engine.must("image", "prune", "-f")
    outcome = engine.teul("rollback", "-q", "web")
    assert outcome.exit_code == 0, outcome.stderr
    await_answer("127.0.0.1", port)
    assert "1 first" in ask("127.0.0.1", port)
    found = engine.inspect("web")
    assert (found["Image"], found["Config"]["Image"]) == (old_image, "app:1")
    rows = [json.loads(line) for line in engine.teul("container", "history", "--format", "json", "web").stdout.splitlines()]
    assert [row["Generation"] for row in rows] == ["3", "2", "1"]
    assert [row["Result"] for row in rows] == ["current", "replaced (kept)", "replaced"]
    assert rows[1]["Changes"].endswith("env WORD")
    assert rows[0]["Changes"] == "back to generation 1"
    assert "is not kept any more" in engine.teul("rollback", "web", "1").stderr
    assert engine.teul("history", "app:1").exit_code == 0
    assert engine.teul("rollback", "-q", "web", "2").exit_code == 0
    await_answer("127.0.0.1", port)
    assert "2 second" in ask("127.0.0.1", port)


def test_as_many_generations_are_kept_as_the_label_says(engine: Engine) -> None:
    engine.must(
        "run",
        "-d",
        "--name",
        "web",
        "-l",
        "io.teul.keep-generations=2",
        "-e",
        "WORD=1",
        "--stop-signal",
        "KILL",
        "busybox",
        "sleep",
        "1000",
    )
    for word in ("2", "3", "4"):
        must_renew(engine, "-e", f"WORD={word}", "web")
    rows = [json.loads(line) for line in engine.teul("container", "history", "--format", "json", "web").stdout.splitlines()]
    assert [row["Result"] for row in rows] == ["current", "replaced (kept)", "replaced (kept)", "replaced"]
    assert engine.teul("rollback", "-q", "web", "2").exit_code == 0
    assert engine.must("exec", "web", "sh", "-c", "echo $WORD") == "2"


def test_all_that_are_out_of_date_one_after_the_other(engine: Engine) -> None:
    """It stops at the first one that does not work."""
    for name, team in (("one", "a"), ("two", "a"), ("three", "b")):
        engine.must("run", "-d", "--name", name, "-l", f"team={team}", "app:1")
    engine.must("run", "-d", "--name", "plain", "busybox", "sleep", "1000")
    assert engine.teul("outdated").stdout.count("\n") == 1
    engine.load(version(2).docker_archive())
    listed = engine.teul("outdated", "--format", "{{.Name}} {{.Image}}").stdout.splitlines()
    assert listed == ["three app:1", "two app:1", "one app:1"]
    outcome = renew(engine, "--all", "--filter", "label=team=a")
    assert (outcome.exit_code, sorted(outcome.stdout.split())) == (0, ["one", "two"]), outcome.stderr
    assert engine.teul("outdated", "--format", "{{.Name}}").stdout == "three\n"
    engine.load(version(3, "exit 5").docker_archive())
    outcome = renew(engine, "--all")
    assert outcome.exit_code == 1
    assert outcome.stdout == ""
    assert len(engine.teul("outdated", "-q").stdout.split()) == 3
    assert len([name for name in names(engine) if name.endswith(" running")]) == 4


def test_a_client_that_leaves_stops_nothing(engine: Engine) -> None:
    former = engine.must("run", "-d", "--name", "web", "app:1")
    engine.load(version(2, Healthcheck={"Test": ["CMD-SHELL", "test -e /go"], "Interval": 50_000_000, "Retries": 1000}).docker_archive())
    with begun(engine, "/teul/containers/web/renew"):
        eventually(lambda: engine.inspect("web")["Id"] != former, "the names are exchanged")
    eventually(lambda: engine.docker("exec", "web", "touch", "/go").exit_code == 0, "the new one runs")
    eventually(lambda: names(engine) == ["web running"], "it takes over")
    assert engine.inspect("web")["Id"] != former


def test_docker_sees_ordinary_containers_meanwhile(engine: Engine) -> None:
    former = engine.must("run", "-d", "--name", "web", "app:1")
    engine.load(version(2, Healthcheck={"Test": ["CMD-SHELL", "test -e /go"], "Interval": 50_000_000, "Retries": 1000}).docker_archive())
    with begun(engine, "/teul/containers/web/renew"):
        eventually(lambda: names(engine) == ["web running", "web-1 exited"], "both are there")
        assert engine.inspect("web-1")["Id"] == former
        assert "is being renewed already" in renew(engine, "--force", "web").stderr
        engine.must("rm", "-f", "web")
    eventually(lambda: names(engine) == ["web running"], "the former one is back")
    assert engine.inspect("web")["Id"] == former
