"""Which engine a command speaks to, and how one is started when nobody listens."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from teul.cli import engine as engine_module
from teul.cli.endpoint import Endpoint, choose_endpoint, default_run_root, load_config
from teul.cli.engine import engine_environment, opener, serve_arguments
from teul.cli.errors import CliError
from teul.cli.main import GLOBAL_OPTIONS
from teul.cli.options.parser import parse_options
from teul.client.address import Address
from teul.client.errors import ConnectionFailed


def choose(environment: dict[str, str], config: dict[str, Any] | None = None, **options: Any) -> Endpoint:
    return choose_endpoint(environment, lambda: config or {}, user_id=options.pop("user_id", 0), **options)


@pytest.mark.parametrize(
    ("environment", "options", "address", "startable"),
    [
        ({}, {}, "unix:///run/teul/docker.sock", True),
        ({}, {"user_id": 1000}, "unix:///run/teul/docker.sock", False),
        ({"TEUL_RUN_ROOT": "/r"}, {"user_id": 1000}, "unix:///r/docker.sock", False),
        ({"TEUL_RUN_ROOT": "/r"}, {}, "unix:///r/docker.sock", True),
        ({"TEUL_RUN_ROOT": "/r", "DOCKER_HOST": "tcp://h:1"}, {}, "tcp://h:1", False),
        ({"TEUL_HOST": "unix:///t", "DOCKER_HOST": "unix:///d"}, {}, "unix:///t", False),
        ({"DOCKER_HOST": "unix:///d", "DOCKER_CONTEXT": "c"}, {}, "unix:///d", False),
        ({"TEUL_HOST": "unix:///t"}, {"host": "unix:///h"}, "unix:///h", False),
        ({}, {"host": "unix:///run/teul/docker.sock"}, "unix:///run/teul/docker.sock", True),
        ({"TEUL_RUN_ROOT": "/r", "TEUL_HOST": "unix:///r/docker.sock"}, {}, "unix:///r/docker.sock", True),
        ({"DOCKER_CONTEXT": "default"}, {}, "unix:///run/teul/docker.sock", True),
        ({"DOCKER_HOST": "unix:///d"}, {"context_name": "default"}, "unix:///run/teul/docker.sock", True),
    ],
)
def test_the_order_of_choices(environment: dict[str, str], options: dict[str, Any], address: str, startable: bool) -> None:
    endpoint = choose(environment, **options)
    assert (str(endpoint.address), endpoint.startable) == (address, startable)


def test_a_user_has_a_second_choice() -> None:
    """Root's engine comes first, as the group docker may use it; then one in the user's own directory."""
    assert str(choose({}, user_id=1000).second) == "unix:///run/user/1000/teul/docker.sock"
    assert str(choose({"XDG_RUNTIME_DIR": "/x"}, user_id=1000).second) == "unix:///x/teul/docker.sock"
    assert choose({"TEUL_RUN_ROOT": "/r"}, user_id=1000).second is None
    assert choose({"DOCKER_HOST": "unix:///d"}, user_id=1000).second is None
    assert choose({}).second is None


def test_what_leads_away_from_our_own_engine_is_known(tmp_path: Path) -> None:
    """Docker's settings; not what was said to teul, nor a setting that leads here."""
    assert choose({"DOCKER_HOST": "unix:///d"}).chosen_by == "DOCKER_HOST"
    assert choose({"DOCKER_HOST": "unix:///run/teul/docker.sock"}).chosen_by == ""
    assert choose({"DOCKER_HOST": "unix:///d", "TEUL_HOST": "unix:///t"}).chosen_by == ""
    assert choose({"DOCKER_HOST": "unix:///d"}, host="unix:///h").chosen_by == ""
    directory = tmp_path / "contexts" / "meta" / hashlib.sha256(b"far").hexdigest()
    directory.mkdir(parents=True)
    (directory / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": "tcp://far:5"}}}))
    assert choose({"DOCKER_CONTEXT": "far"}, config_directory=str(tmp_path)).chosen_by == 'the docker context "far"'
    assert choose({}, {"currentContext": "far"}, config_directory=str(tmp_path)).chosen_by == 'the docker context "far"'
    assert choose({}, context_name="far", config_directory=str(tmp_path)).chosen_by == ""


def test_contexts_are_docker_s(tmp_path: Path) -> None:
    directory = tmp_path / "contexts" / "meta" / hashlib.sha256(b"far").hexdigest()
    directory.mkdir(parents=True)
    (directory / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": "tcp://far:5"}}}))
    found = choose({}, {"currentContext": "far"}, config_directory=str(tmp_path))
    assert (str(found.address), found.context_name) == ("tcp://far:5", "far")
    assert str(choose({"DOCKER_HOST": "unix:///d"}, context_name="far", config_directory=str(tmp_path)).address) == "tcp://far:5"
    with pytest.raises(CliError, match='context "near": context not found'):
        choose({"DOCKER_CONTEXT": "near"}, config_directory=str(tmp_path))
    (directory / "meta.json").write_text("{}")
    with pytest.raises(CliError, match='context "far"'):
        choose({}, context_name="far", config_directory=str(tmp_path))


def test_contradictions_and_what_is_not_spoken() -> None:
    with pytest.raises(CliError, match="cannot specify both --host and --context"):
        choose({}, host="unix:///x", context_name="y")
    assert choose({"DOCKER_TLS_VERIFY": "1"}).startable
    assert choose({"DOCKER_TLS_VERIFY": "1"}).tls is None


def tls_of(environment: dict[str, str], *arguments: str, directory: Path) -> tuple[str, str, str, bool] | None:
    options, _ = parse_options(GLOBAL_OPTIONS, arguments, interspersed=False)
    found = choose(environment, host="tcp://h", options=options, config_directory=str(directory))
    assert str(found.address) == ("tcp://h:2375" if found.tls is None else "tcp://h:2376")
    tls = found.tls
    return None if tls is None else (tls.ca, tls.cert, tls.key, tls.verify)


def test_tls_is_asked_for_as_with_docker(tmp_path: Path) -> None:
    """Default files of the client's own may be missing, named ones and the CA may not; --tlsverify=false is TLS with anybody."""
    other = tmp_path / "other"
    other.mkdir()
    assert tls_of({}, directory=tmp_path) is None
    assert tls_of({"DOCKER_CERT_PATH": str(tmp_path)}, directory=tmp_path) is None
    assert tls_of({"DOCKER_TLS_VERIFY": "1"}, directory=tmp_path) == (f"{tmp_path}/ca.pem", "", "", True)
    assert tls_of({"DOCKER_TLS": "1"}, directory=tmp_path) == ("", "", "", False)
    assert tls_of({}, "--tlsverify=false", directory=tmp_path) == ("", "", "", False)
    for name in ("cert.pem", "key.pem"):
        (other / name).touch()
    chosen = {"DOCKER_CERT_PATH": str(other)}
    assert tls_of(chosen, "--tlsverify", directory=tmp_path) == (f"{other}/ca.pem", f"{other}/cert.pem", f"{other}/key.pem", True)
    assert tls_of(chosen, "--tls", "--tlscert", "c", directory=tmp_path) == ("", "c", f"{other}/key.pem", False)


def test_a_context_brings_its_certificates(tmp_path: Path) -> None:
    key = hashlib.sha256(b"far").hexdigest()
    for kind in ("meta", "tls"):
        (tmp_path / "contexts" / kind / key / "docker").mkdir(parents=True)
    (tmp_path / "contexts/meta" / key / "meta.json").write_text('{"Endpoints": {"docker": {"Host": "tcp://far"}}}')
    plain = choose({}, context_name="far", config_directory=str(tmp_path))
    assert (str(plain.address), plain.tls) == ("tcp://far:2375", None)
    ca = tmp_path / "contexts/tls" / key / "docker/ca.pem"
    ca.touch()
    found = choose({}, context_name="far", config_directory=str(tmp_path))
    assert found.tls is not None
    assert (str(found.address), found.tls.ca, found.tls.verify) == ("tcp://far:2376", str(ca), True)


def test_settings(tmp_path: Path) -> None:
    assert load_config(str(tmp_path)) == {}
    (tmp_path / "config.json").write_text('{"psFormat": "x"}')
    assert load_config(str(tmp_path)) == {"psFormat": "x"}
    (tmp_path / "config.json").write_text("[]")
    assert load_config(str(tmp_path)) == {}
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CliError, match="error parsing config file"):
        load_config(str(tmp_path))


def test_the_run_root_of_a_user() -> None:
    assert default_run_root({}, 0) == "/run/teul"
    assert default_run_root({}, 7) == "/run/user/7/teul"


def test_the_command_line_of_an_engine() -> None:
    endpoint = Endpoint(Address(path="/r/docker.sock"), startable=True, root="/a", run_root="/r")
    expected = [sys.executable, "-P", "-m", "teul", "serve", "--on-demand", "--idle-timeout", "300", "--root", "/a", "--run-root", "/r"]
    assert serve_arguments(endpoint) == expected
    assert serve_arguments(Endpoint(Address(path="/x"), startable=True)) == expected[:8]


def test_the_environment_of_an_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the caller's, only what an engine needs, and nothing that depends on where the caller stands."""
    monkeypatch.chdir(tmp_path)
    caller = {
        "AWS_SECRET_ACCESS_KEY": "s",
        "HOME": "/home/u",
        "LC_ALL": "ko_KR.eucKR",
        "LD_PRELOAD": "libx.so",
        "PATH": ".:/opt/bin::bin:/usr/bin",
        "PYTHONPATH": "src:/lib/own",
        "PYTHONSTARTUP": "x.py",
        "TEUL_ROOT": "root",
        "TEUL_RUN_ROOT": "/r/run",
        "https_proxy": "http://user:password@proxy",
        "NO_PROXY": "example.test",
        "ftp_proxy": "http://other",
    }
    assert engine_environment(caller) == {
        "PATH": "/opt/bin:/usr/bin",
        "PYTHONPATH": f"{tmp_path}/src:/lib/own",
        "TEUL_ROOT": f"{tmp_path}/root",
        "TEUL_RUN_ROOT": "/r/run",
        "https_proxy": "http://user:password@proxy",
        "NO_PROXY": "example.test",
    }
    assert engine_environment({"PATH": ".", "TEUL_ROOT": ""}) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TEUL_ROOT": "",
    }


class Starter:
    """Stands for the processes that are started: each does what its turn in `plan` says."""

    def __init__(self, path: str, plan: list[Any]) -> None:
        self.path = path
        self.plan = plan
        self.started: list[list[str]] = []
        self.listener: socket.socket | None = None
        self.exit_status: int | None = None

    def spawn(self, arguments: list[str], environment: dict[str, str], log_fd: int) -> int:
        self.started.append(arguments)
        action = self.plan.pop(0)
        self.exit_status = None
        if action == "listen":
            self.listen()
        else:
            os.write(log_fd, b"line of the log\n")
            self.exit_status = action
        return 1000 + len(self.started)

    def listen(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()

    def wait(self, pid: int, _options: int) -> tuple[int, int]:
        assert pid == 1000 + len(self.started)
        return (0, 0) if self.exit_status is None else (pid, self.exit_status)


@pytest.fixture
def run_root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="run-", dir="/tmp") as directory:
        yield Path(directory) / "teul"


@pytest.fixture
def starter(run_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Starter]:
    made = Starter(f"{run_root}/docker.sock", [])
    monkeypatch.setattr(engine_module, "_spawn", made.spawn)
    monkeypatch.setattr(engine_module, "RESTART_SECONDS", 0.01)
    monkeypatch.setattr(engine_module, "START_SECONDS", 0.3)
    monkeypatch.setattr(os, "waitpid", made.wait)
    yield made
    if made.listener is not None:
        made.listener.close()


def connect(run_root: Path, *, startable: bool = True) -> socket.socket:
    endpoint = Endpoint(Address(path=f"{run_root}/docker.sock"), startable=startable, run_root=str(run_root))
    connection = opener(endpoint, {})()
    connection.close()
    return connection  # type: ignore[return-value]


def test_an_engine_that_answers_is_not_started(run_root: Path, starter: Starter) -> None:
    run_root.mkdir()
    starter.listen()
    connect(run_root)
    assert starter.started == []


def test_an_engine_is_started_when_nobody_listens(run_root: Path, starter: Starter) -> None:
    starter.plan = ["listen"]
    connect(run_root)
    assert len(starter.started) == 1
    assert (run_root / "engine.log").stat().st_mode & 0o777 == 0o600


def test_only_our_own_engine_is_started(run_root: Path, starter: Starter) -> None:
    with pytest.raises(ConnectionFailed, match="Is it running") as caught:
        connect(run_root, startable=False)
    assert caught.value.refused
    assert starter.started == []


def test_the_second_choice_is_tried_when_the_first_is_not_to_be_had(run_root: Path, starter: Starter) -> None:
    run_root.mkdir()
    endpoint = Endpoint(Address(path="/nowhere/docker.sock"), startable=False, own=True, second=Address(path=starter.path))
    with pytest.raises(ConnectionFailed, match=r"/nowhere/docker\.sock"):
        opener(endpoint, {})()
    starter.listen()
    opener(endpoint, {})().close()
    assert starter.started == []


def test_who_loses_the_race_waits_for_the_winner(run_root: Path, starter: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    starter.plan = [0]
    monkeypatch.setattr(engine_module, "sleep", lambda _seconds: starter.listen() if starter.listener is None else None)
    connect(run_root)
    assert len(starter.started) == 1


def test_when_the_winner_has_left_too_another_one_is_started(run_root: Path, starter: Starter) -> None:
    starter.plan = [0, "listen"]
    connect(run_root)
    assert len(starter.started) == 2


@pytest.mark.parametrize(("status", "how"), [(256, "exit code 1"), (9, "signal 9")])
def test_an_engine_that_fails_shows_its_log(run_root: Path, starter: Starter, status: int, how: str) -> None:
    run_root.mkdir()
    (run_root / "engine.log").write_text("old news\n")
    starter.plan = [status]
    with pytest.raises(ConnectionFailed) as caught:
        connect(run_root)
    assert caught.value.message == f"The engine could not be started ({how}). Its log, {run_root}/engine.log, ends with:\nline of the log"


def test_an_engine_that_never_answers_is_given_up(run_root: Path, starter: Starter) -> None:
    starter.plan = [0] * 100
    with pytest.raises(ConnectionFailed, match=r"did not answer at unix://.* within 0.3 seconds"):
        connect(run_root)


def test_a_log_that_has_grown_is_begun_anew(run_root: Path, starter: Starter) -> None:
    run_root.mkdir()
    (run_root / "engine.log").write_bytes(b"x" * (2 << 20))
    starter.plan = ["listen"]
    connect(run_root)
    assert (run_root / "engine.log").stat().st_size == 0


def test_a_run_root_that_cannot_be_made_is_named(run_root: Path, starter: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, **_: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "makedirs", refuse)
    with pytest.raises(ConnectionFailed, match=f"and cannot start it: Permission denied: {run_root}"):
        connect(run_root)
