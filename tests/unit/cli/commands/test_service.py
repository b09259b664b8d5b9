"""The engine as a service, written for a system that is not this one; and its end."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from teul.cli.commands import service
from unit.cli.fake_engine import CommandLine


def test_units_are_written_and_taken_away(teul: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_docker_group", lambda: "docker")
    directory = tmp_path / "etc/systemd/system"
    outcome = teul("system", "install", "--destination", str(tmp_path), "--docker-socket")
    assert (outcome.status, outcome.out) == (0, f"{directory}/teul.socket\n{directory}/teul.service\n")
    sockets = (directory / "teul.socket").read_text()
    assert (
        "ListenStream=/run/teul/docker.sock\nListenStream=/run/docker.sock\nSocketMode=0660\nSocketUser=root\nSocketGroup=docker\n"
        in sockets
    )
    assert "KillMode=process\n" in (directory / "teul.service").read_text()
    assert teul("system", "uninstall", "--destination", str(tmp_path)).status == 0
    assert list(directory.iterdir()) == []
    assert teul("system", "uninstall", "--destination", str(tmp_path)).err == f"there are no units of Teul's in {directory}\n"


def test_docker_s_socket_and_a_group_are_not_taken_for_granted() -> None:
    text = service.socket_unit(paths=["/run/teul/docker.sock"], group="")
    assert "/run/docker.sock" not in text
    assert "SocketGroup" not in text


def test_without_systemd_a_destination_is_needed(teul: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_SYSTEMD_RUNS", str(tmp_path / "nowhere"))
    assert teul("system", "install").err == "systemd does not run here: use --destination DIR to write the units for another system\n"


def test_another_engine_than_ours_is_not_stopped(teul: CommandLine) -> None:
    outcome = teul("system", "stop")
    assert outcome.status == 1
    assert outcome.err.startswith("only Teul's own engine can be stopped, and unix://")


def test_who_is_to_be_stopped_is_found_by_the_lock(tmp_path: Path) -> None:
    """A lock that nobody holds says nothing, and a door is known by its start, as pids are used again."""
    assert not service.stop_engine(str(tmp_path))
    (tmp_path / "lock").write_text("4711\n")
    assert not service.stop_engine(str(tmp_path))
    (tmp_path / "door").write_text(f"{os.getpid()} 1\nunix:///x\n")
    assert not service.stop_engine(str(tmp_path))
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert service._holder(str(tmp_path)) == 4711
