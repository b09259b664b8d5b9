"""What a CDI device adds to a spec stands where the runtime looks for it, and what was there before goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from teul.errors import InvalidParameter, System
from teul.model.host_config import DeviceRequest
from teul.services.containers.cdi import CdiDevices, edits_of
from teul.services.containers.spec.cdi import DeviceNode, EditedMount, Edits, apply_edits

if TYPE_CHECKING:
    from pathlib import Path

    from teul.oci.runtime_spec import Spec


def spec() -> Spec:
    return {
        "ociVersion": "1.2.0",
        "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": ["x"], "env": ["A=1", "B=2"], "cwd": "/"},
        "root": {"path": "/r"},
        "mounts": [{"destination": "/a/b", "type": "bind", "source": "/old", "options": ["bind"]}],
        "linux": {"namespaces": [], "resources": {"devices": []}, "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 1}]},
        "teul": {"sources": {"/a/b": 0}, "idmaps": {"/a/b": {"uids": [], "gids": []}}},
    }


def test_variables_replace_those_of_the_same_name_in_their_places() -> None:
    edited = spec()
    apply_edits(edited, Edits(env=["C=3", "A=4"]))
    assert edited["process"]["env"] == ["A=4", "B=2", "C=3"]


def test_a_node_replaces_the_one_at_its_path_and_may_be_used() -> None:
    edited = spec()
    apply_edits(edited, Edits(device_nodes=[DeviceNode("/dev/x", kind="b", major=7, minor=8, file_mode=0o20660, permissions="r", gid=5)]))
    assert edited["linux"]["devices"] == [{"path": "/dev/x", "type": "b", "major": 7, "minor": 8, "fileMode": 0o660, "gid": 5}]
    assert edited["linux"]["resources"]["devices"] == [{"allow": True, "type": "b", "major": 7, "minor": 8, "access": "r"}]


def test_a_mount_takes_the_place_of_what_was_asked_for_there() -> None:
    """Also where the source came as a descriptor, which goes by the destination."""
    edited = spec()
    apply_edits(edited, Edits(mounts=[EditedMount("/new", "/a/b", ["ro", "bind"]), EditedMount("/top", "/top")], additional_gids=[0, 7]))
    assert edited["mounts"] == [
        {"destination": "/top", "type": "bind", "source": "/top", "options": ["bind"]},
        {"destination": "/a/b", "type": "bind", "source": "/new", "options": ["ro", "bind"]},
    ]
    assert not edited["teul"]["sources"]
    assert not edited["teul"]["idmaps"]
    assert edited["process"]["user"]["additionalGids"] == [7]


def test_a_later_directory_wins_and_a_device_named_twice_in_one_is_none(tmp_path: Path) -> None:
    for place, value in (("first", "1"), ("second", "2")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.yaml").write_text(
            f"{{cdiVersion: '0.6.0', kind: v.com/cc, devices: [{{name: d, containerEdits: {{env: [X={value}]}}}}]}}"
        )
    directories = [str(tmp_path / "first"), str(tmp_path / "second"), str(tmp_path / "none")]
    found = CdiDevices(directories)
    assert (found.names(), found.problems) == (["v.com/cc=d"], [])
    assert [edits.env for edits in found.edits(["v.com/cc=d"])] == [[], ["X=2"]]
    (tmp_path / "second" / "b.yaml").write_text((tmp_path / "second" / "a.yaml").read_text())
    again = CdiDevices(directories[1:])
    assert again.names() == []
    assert 'conflicting device "v.com/cc=d"' in again.problems[0]


def test_requests_that_no_device_can_meet_are_refused_in_dockers_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="unexpected count in CDI device request"):
        edits_of([DeviceRequest(driver="cdi", count=1)], [])
    with pytest.raises(InvalidParameter, match="unexpected options in CDI device request"):
        edits_of([DeviceRequest(driver="cdi", options={"a": "b"})], [])
    with pytest.raises(System, match="CDI device injection failed: unresolvable CDI devices a/b=c"):
        edits_of([DeviceRequest(driver="cdi", device_ids=["a/b=c"])], [str(tmp_path)])
    assert edits_of([DeviceRequest(driver="cdi")], []) == []
