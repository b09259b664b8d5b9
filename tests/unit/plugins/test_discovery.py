"""Plug-ins are found where Docker finds them, by name."""

from __future__ import annotations

import json
import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from teul.plugins.discovery import Address, PluginDirectories, TlsSettings, find, scan
from teul.plugins.errors import PluginNotFound, PluginUnusable


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("run", "etc", "lib"):
        (tmp_path / name).mkdir()
    return tmp_path


def directories(place: Path) -> PluginDirectories:
    return PluginDirectories((str(place / "run"),), (str(place / "etc"), str(place / "lib")))


def make_socket(path: Path) -> str:
    path.parent.mkdir(exist_ok=True)
    with closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(str(path))
    return str(path)


def write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_defaults_are_dockers_places() -> None:
    assert PluginDirectories() == PluginDirectories(("/run/docker/plugins",), ("/etc/docker/plugins", "/usr/lib/docker/plugins"))


def test_sockets_are_found_by_name_and_in_directories_of_that_name(place: Path) -> None:
    plain, nested = make_socket(place / "run/plain.sock"), make_socket(place / "run/nested/nested.sock")
    (place / "run/file.sock").write_text("no socket")
    (place / "run/empty").mkdir()
    assert find(directories(place), "plain") == Address("unix", plain)
    assert find(directories(place), "nested") == Address("unix", nested)
    assert sorted(scan(directories(place))) == ["nested", "plain"]
    for name in ("file", "empty", "run", "", ".", "..", "../run/plain", "plain.sock", "a\0b"):
        with pytest.raises(PluginNotFound):
            find(directories(place), name)


def test_link_to_a_socket_is_found_by_name_only_as_by_docker(place: Path) -> None:
    os.symlink(make_socket(place / "elsewhere.sock"), place / "run/link.sock")
    assert find(directories(place), "link").scheme == "unix"
    assert scan(directories(place)) == []


def test_files_say_where_a_plugin_listens(place: Path) -> None:
    write(place / "etc/a.spec", " unix:///tmp/a.sock\n")
    write(place / "lib/b/b.spec", "tcp://localhost:8080")
    write(place / "etc/c.json", {"Name": "ignored", "Addr": "https://example.test:1"})
    write(place / "lib/d.json", {"addr": "https://example.test:1", "TLSConfig": {"CAFile": "/ca", "CertFile": "/c", "KeyFile": "/k"}})
    write(place / "lib/e.json", {"Addr": "http://h:1", "TLSConfig": {}})
    write(place / "etc/readme.txt", "x")
    known = directories(place)
    assert find(known, "a") == Address("unix", "/tmp/a.sock", TlsSettings(verify=False))
    assert find(known, "b") == Address("tcp", "localhost:8080", TlsSettings(verify=False))
    assert find(known, "c") == Address("https", "example.test:1", TlsSettings(verify=True))
    assert find(known, "d") == Address("https", "example.test:1", TlsSettings(ca="/ca", certificate="/c", key="/k", verify=True))
    assert find(known, "e") == Address("tcp", "h:1", TlsSettings(verify=False))
    assert sorted(scan(known)) == ["a", "b", "c", "d", "e"]


def test_socket_wins_over_a_file_and_earlier_directories_over_later(place: Path) -> None:
    write(place / "etc/x.json", {"Addr": "tcp://later:1"})
    write(place / "lib/x.spec", "tcp://last:1")
    assert find(directories(place), "x").place == "later:1"
    path = make_socket(place / "run/x.sock")
    assert find(directories(place), "x").place == path
    assert scan(directories(place)) == ["x"]


@pytest.mark.parametrize("text", ["", "/run/x.sock", "unix://run/x.sock", "nonsense://x", "tcp://", "tcp://h:port", "http://[::1"])
def test_addresses_that_are_none_are_refused(place: Path, text: str) -> None:
    write(place / "etc/x.spec", text)
    with pytest.raises(PluginUnusable, match=r"^legacy plugin: "):
        find(directories(place), "x")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"Addr": 5}', "{}"])
def test_documents_that_are_none_are_refused(place: Path, text: str) -> None:
    write(place / "etc/x.json", text)
    with pytest.raises(PluginUnusable, match=r"^legacy plugin: "):
        find(directories(place), "x")


def test_no_directories_are_no_plugins(tmp_path: Path) -> None:
    assert scan(directories(tmp_path)) == []
