"""Listening sockets that a process is started with."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from teul.daemon import door
from teul.daemon.config import parse_arguments
from teul.daemon.handover import forget_record, listener_address, take_from_door, take_listeners, write_record
from teul.errors import InvalidParameter


def variables(count: int, pid: int | None = None) -> dict[str, str]:
    return {"LISTEN_FDS": str(count), "LISTEN_PID": str(os.getpid() if pid is None else pid), "LISTEN_FDNAMES": "a", "PATH": "/bin"}


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    made = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(door, "FIRST_FD", made.fileno())
    yield made
    made.close()


def test_what_systemd_passes_is_taken_once(listener: socket.socket) -> None:
    """And is not handed on to the processes that this one starts, the variables neither."""
    listener.set_inheritable(True)
    environment = variables(1)
    (taken,) = take_listeners(environment)
    assert taken.fileno() == listener.detach()
    assert not taken.get_inheritable()
    assert environment == {"PATH": "/bin"}
    assert listener_address(taken) == f"tcp://127.0.0.1:{taken.getsockname()[1]}"
    taken.close()


def test_what_is_meant_for_another_process_is_left(listener: socket.socket) -> None:
    environment = variables(1, pid=1)
    assert take_listeners(environment) == []
    assert environment == {"PATH": "/bin"}
    assert take_listeners({}) == []


def test_what_is_no_listener_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        monkeypatch.setattr(door, "FIRST_FD", one.fileno())
        with pytest.raises(InvalidParameter, match="is no listening stream socket"):
            take_listeners(variables(1))


def test_systemd_s_addresses_are_held_to_the_rule_of_ours() -> None:
    """Whoever reaches an engine is root."""
    config = parse_arguments(["--root", "/r", "--run-root", "/run/r"], {})
    assert config.with_listeners(("unix:///x", "tcp://127.0.0.1:5")).hosts == ("unix:///x", "tcp://127.0.0.1:5")
    with pytest.raises(InvalidParameter, match="loopback only"):
        config.with_listeners(("tcp://0.0.0.0:2375",))
    open_config = parse_arguments(["--root", "/r", "--run-root", "/run/r", "-H", "tcp://0.0.0.0:2375", "--insecure-tcp"], {})
    assert open_config.with_listeners(("tcp://0.0.0.0:2375",)).finds_listeners


def test_a_record_of_a_process_that_is_gone_leads_nowhere(tmp_path: Path) -> None:
    assert take_from_door(str(tmp_path), ["unix:///x"]) == {}
    write_record(str(tmp_path), ["unix:///x"])
    record = tmp_path / "door"
    pid, started = record.read_text().splitlines()[0].split()
    assert int(pid) == os.getpid()
    record.write_text(f"{pid} {int(started) + 1}\nunix:///x\n")  # the number is another process's by now
    assert take_from_door(str(tmp_path), ["unix:///x"]) == {}
    assert not record.exists()
    forget_record(str(tmp_path))
