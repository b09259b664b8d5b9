"""The bundle's files are whole or not there, and each of a bundle's own is written once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from teul.oci.runtime_spec import Spec
from teul.runtime.messages import Launch
from teul.services.containers.bundle import make_bundle, read_bundle_files, read_host_file, write_bundle_files
from teul.services.containers.directories import EngineDirectories, make_container_directories

ID = "0" * 64

SPEC: Spec = {
    "ociVersion": "1.2.0",
    "process": {"terminal": False, "user": {}, "args": ["sh"], "env": [], "cwd": "/"},
    "root": {"path": "/rootfs"},
    "mounts": [],
    "linux": {"namespaces": []},
    "teul": {},
}
LAUNCH: Launch = {
    "kind": "create",
    "id": "a",
    "keyring": "_ses.a",
    "directory": "/run/a",
    "spill_directory": "/var/a",
    "terminal": False,
    "rows": 0,
    "columns": 0,
    "stdin": "null",
    "log": None,
    "cgroup": None,
    "kill_cgroup": False,
    "new_pids": True,
    "joins": [],
    "mounts": 0,
    "networks": [],
}


@pytest.fixture
def directories(tmp_path: Path) -> EngineDirectories:
    (tmp_path / "root/containers").mkdir(parents=True)
    (tmp_path / "run/containers").mkdir(parents=True)
    directories = EngineDirectories(str(tmp_path / "root"), str(tmp_path / "run"))
    make_container_directories(directories, ID)
    return directories


def test_what_an_earlier_run_left_does_not_stay(directories: EngineDirectories) -> None:
    bundle = make_bundle(directories, ID, {"hosts": "old\n"})
    write_bundle_files(bundle, SPEC, LAUNCH)
    kept = Path(directories.container(ID))
    assert make_bundle(directories, ID, {"hosts": "new\n"}) == bundle
    assert os.listdir(bundle) == ["rootfs"]
    assert (kept / "hosts").read_text() == "new\n"
    assert (kept / "hosts").stat().st_mode & 0o7777 == 0o644, "every user of the container reads it"
    assert sorted(os.listdir(kept)) == ["hosts", "upper", "work"]


def test_a_bundle_says_how_its_container_was_started_and_is_not_written_twice(directories: EngineDirectories) -> None:
    bundle = make_bundle(directories, ID, {})
    write_bundle_files(bundle, SPEC, LAUNCH)
    with pytest.raises(FileExistsError):
        write_bundle_files(bundle, {**SPEC, "ociVersion": "9"}, LAUNCH)
    assert read_bundle_files(bundle) == (SPEC, LAUNCH)
    assert sorted(os.listdir(bundle)) == ["config.json", "launch.json", "rootfs"]
    assert os.stat(f"{bundle}/config.json").st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("name", ["hosts", "resolv.conf"])
def test_a_file_of_the_host_s_goes_through_byte_for_byte(directories: EngineDirectories, tmp_path: Path, name: str) -> None:
    """Whatever it is written in: somebody's editor may have left Latin-1 in a comment, or a line's end of another system."""
    content = b"127.0.0.1\tlocalhost\r\n# caf\xe9 \xff\xfe \xe2\x80\xa8 \x85\rlegacy"
    (tmp_path / "of-the-host").write_bytes(content)
    make_bundle(directories, ID, {name: read_host_file(str(tmp_path / "of-the-host"))})
    assert Path(directories.container(ID), name).read_bytes() == content


def test_a_file_that_the_host_lacks_is_empty(tmp_path: Path) -> None:
    assert read_host_file(str(tmp_path / "none")) == ""
