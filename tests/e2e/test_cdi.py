"""Devices of the Container Device Interface: what a document says of one is in the container that asks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import with_images
from support.engine import Engine
from support.needs import needs

pytestmark = [needs("root", "docker_cli", "busybox", "overlayfs")]

_YAML = """cdiVersion: "0.6.0"
kind: example.com/null
containerEdits:
  env: [SHARED=yes]
devices:
  - name: one
    containerEdits:
      env: [ONE=1]
      deviceNodes: [{path: /dev/nought, hostPath: /dev/net/tun, permissions: r}]
      mounts: [{hostPath: HOST, containerPath: /given, options: [ro, nosuid, bind]}]
      additionalGids: [4711]
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cdi")
    host = tmp_path_factory.mktemp("host")
    (host / "file").write_text("from the host\n")
    (directory / "null.yaml").write_text(_YAML.replace("HOST", str(host)))
    hooked = {"name": "it", "containerEdits": {"hooks": [{"hookName": "createRuntime", "path": "/bin/true"}]}}
    (directory / "hooked.json").write_text(json.dumps({"cdiVersion": "0.6.0", "kind": "example.com/hooked", "devices": [hooked]}))
    (directory / "broken.json").write_text("{")
    return directory


@pytest.fixture(scope="module")
def module_engine(directory: Path) -> Iterator[Engine]:
    with Engine(extra=("--cdi-spec-dir", str(directory))) as running:
        yield with_images(running)


def test_a_device_brings_nodes_mounts_groups_and_variables(engine: Engine) -> None:
    script = "echo $SHARED $ONE; : < /dev/nought && echo readable; cat /given/file; id -G; touch /given/new 2>&1; : > /dev/nought"
    said = engine.docker("run", "--device", "example.com/null=one", "busybox", "sh", "-c", script)
    lines = said.stdout.splitlines()
    assert lines[:4] == ["yes 1", "readable", "from the host", "0 4711"], said
    assert "Read-only file system" in lines[4]
    assert "Operation not permitted" in said.stderr
    request = engine.inspect(engine.must("ps", "-aql"))["HostConfig"]["DeviceRequests"][0]
    assert (request["Driver"], request["DeviceIDs"]) == ("cdi", ["example.com/null=one"])


def test_teuls_command_asks_as_dockers_does(engine: Engine) -> None:
    said = engine.teul("run", "--rm", "--device", "example.com/null=one", "busybox", "sh", "-c", "echo $ONE")
    assert said.stdout == "1\n"


def test_what_is_not_there_or_cannot_be_is_refused(engine: Engine) -> None:
    unknown = engine.docker("run", "--rm", "--device", "example.com/null=two", "--device", "other.com/other=y", "busybox", "true")
    assert "CDI device injection failed: unresolvable CDI devices example.com/null=two, other.com/other=y" in unknown.stderr
    hooked = engine.docker("run", "--rm", "--device", "example.com/hooked=it", "busybox", "true")
    assert "CDI device injection failed: failed to inject devices: hooks are not supported" in hooked.stderr
    gpus = engine.docker("run", "--rm", "--gpus", "all", "busybox", "true")
    assert 'could not select device driver "" with capabilities: [[gpu]]' in gpus.stderr


def test_info_lists_directories_and_devices(engine: Engine, directory: Path) -> None:
    with engine.api() as api:
        info = api.expect(200, "GET", "/info").json()
    assert info["CDISpecDirs"] == [str(directory)]
    assert info["DiscoveredDevices"] == [{"Source": "cdi", "ID": f"example.com/{name}"} for name in ("hooked=it", "null=one")]
    assert any(f"CDI: Error associated with spec file {directory}/broken.json: " in warning for warning in info["Warnings"])
