"""Who is asked for a connection, and what is said when nobody is there: as Go words it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from teul.runtime.forwarder import connection
from teul.runtime.forwarder.connection import NoServer, connect

if TYPE_CHECKING:
    from teul.runtime.messages import LogServer


def server(network: str, address: str, host: str = "", port: str = "") -> LogServer:
    return {"network": network, "address": address, "host": host, "port": port, "tls": None}


@pytest.mark.parametrize("network", ["unixgram", "journal", ""])
def test_a_socket_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str) -> None:
    path = str(tmp_path / "log")
    monkeypatch.setattr(connection, "_LOCAL_PATHS", (str(tmp_path / "nobody"), path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sink:
        sink.bind(path)
        with connect(server(network, path)) as there:
            there.send(b"line")
        assert sink.recv(10) == b"line"


@pytest.mark.parametrize(
    ("network", "text"),
    [
        ("unix", "dial unix {path}: connect: no such file or directory"),
        ("unixgram", "dial unixgram {path}: connect: no such file or directory"),
        ("journal", "journald is not enabled on this host"),
        ("", "Unix syslog delivery error"),
    ],
)
def test_nobody_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, text: str) -> None:
    path = str(tmp_path / "log")
    monkeypatch.setattr(connection, "_LOCAL_PATHS", (path,))
    with pytest.raises(NoServer) as raised:
        connect(server(network, path))
    assert str(raised.value) == text.format(path=path)
