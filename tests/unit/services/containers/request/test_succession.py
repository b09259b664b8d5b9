"""What a container that follows another one is asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from teul.errors import InvalidParameter
from teul.model.container import Container, LinkedContainer
from teul.model.document import convert
from teul.model.renewal import RenewRequest, Settings
from teul.oci.image_config import Healthcheck, ImageConfig
from teul.services.containers.request.complete import merge_image_config
from teul.services.containers.request.succession import asked_of, changed, describe_changes, difference, needed_by, settings_of
from unit.services.containers.cases import CONTAINER_ID, container, image

OLD: dict[str, Any] = {
    "user": "web",
    "env": ["PATH=/img", "A=image"],
    "labels": {"a": "image", "b": "image"},
    "exposed_ports": {"80/tcp": {}},
    "volumes": {"/data": {}},
    "entrypoint": ["run"],
    "cmd": ["-a"],
    "working_dir": "/srv",
    "stop_signal": "SIGQUIT",
    "shell": ["/bin/ash", "-c"],
    "healthcheck": Healthcheck(test=["CMD", "true"], interval_ns=5_000_000_000, retries=3),
}
NEW = ImageConfig(env=["PATH=/new", "B=new"], cmd=["serve"], labels={"a": "new"}, user="other")
BODIES: dict[str, dict[str, Any]] = {
    "nothing": {"Cmd": None},
    "a command": {"Cmd": ["-b"]},
    "an entrypoint": {"Cmd": ["x"], "Entrypoint": ["other"]},
    "no entrypoint": {"Cmd": ["sh"], "Entrypoint": [""]},
    "variables and labels": {"Cmd": None, "Env": ["A=own", "OWN=1"], "Labels": {"a": "own", "c": "own"}},
    "ports and volumes": {"Cmd": None, "ExposedPorts": {"443/tcp": {}}, "Volumes": {"/own": {}}},
    "a probe": {"Cmd": None, "Healthcheck": {"Timeout": 1_000_000_000, "Retries": 9}},
    "places and names": {"Cmd": None, "User": "me", "WorkingDir": "/w", "StopSignal": "SIGINT", "Hostname": "h", "Shell": ["/bin/sh"]},
}


def record(body: dict[str, Any]) -> Container:
    return container(body, of=image(**OLD))


def refuse() -> ImageConfig:
    raise AssertionError("the record says what was asked for")


def without_asked(found: Container) -> Container:
    """As it was recorded before that was kept."""
    return msgspec.structs.replace(found, asked=None)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_with_the_same_image_the_difference_comes_to_the_same(body: dict[str, Any]) -> None:
    found = record(body)
    merged = merge_image_config(difference(found, ImageConfig(**OLD)), ImageConfig(**OLD))
    merged.hostname = merged.hostname or CONTAINER_ID[:12]
    if merged.entrypoint == [""]:
        merged.entrypoint = None
    merged.env, found.config.env = sorted(merged.env or ()), sorted(found.config.env or ())
    assert merged == found.config


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_old_record_is_asked_for_what_a_new_one_was(body: dict[str, Any]) -> None:
    """With another image, the two come to the same."""
    found = record(body)
    exact = merge_image_config(asked_of(found, refuse), NEW)
    deduced = merge_image_config(asked_of(without_asked(found), lambda: ImageConfig(**OLD)), NEW)
    assert exact.hostname == deduced.hostname
    assert deduced == exact


def test_what_came_from_the_image_is_the_new_ones() -> None:
    found = merge_image_config(asked_of(record({"Cmd": None, "Env": ["A=own"], "Labels": {"c": "own"}}), refuse), NEW)
    assert found.env == ["A=own", "PATH=/new", "B=new"]
    assert found.labels == {"a": "new", "c": "own"}
    assert (found.cmd, found.entrypoint, found.user, found.working_dir) == (["serve"], None, "other", "")


def test_a_port_that_is_published_stays_exposed() -> None:
    """The image exposes it as well, and the next image may not."""
    body: dict[str, Any] = {"Cmd": None, "ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}}
    assert list(difference(record(body), ImageConfig(**OLD)).exposed_ports or ()) == ["80/tcp"]


def change(settings: Settings, **body: Any) -> Settings:
    return changed(settings, convert(RenewRequest, body))


def test_changes_take_the_place_of_what_there_was() -> None:
    host_config: dict[str, Any] = {
        "Binds": ["/src:/one", "named:/two"],
        "Mounts": [{"Type": "volume", "Target": "/three"}],
        "Tmpfs": {"/four": ""},
        "PortBindings": {"80/tcp": [{"HostPort": "8080"}], "90/tcp": [{"HostPort": "9090"}]},
    }
    found = record({"Cmd": None, "Env": ["A=1", "B=2"], "Volumes": {"/five": {}}, "HostConfig": host_config})
    before = settings_of(found, refuse)
    copy = msgspec.json.encode(before)
    after = change(
        before,
        Env=["B=3", "C=4"],
        PortBindings={"80/tcp": [{"HostPort": "8081"}]},
        Binds=["/other:/one:ro", "/x:/three", "/x:/four", "/x:/five"],
        Volumes={"/two": {}},
    )
    assert after.config.env == ["A=1", "B=3", "C=4"]
    ports = after.host_config.port_bindings or {}
    assert [bindings[0].host_port for bindings in ports.values() if bindings] == ["8081", "9090"]
    assert list(after.config.exposed_ports or ()) == ["80/tcp"]
    assert after.host_config.binds == ["/other:/one:ro", "/x:/three", "/x:/four", "/x:/five"]
    assert (after.host_config.mounts, after.host_config.tmpfs, list(after.config.volumes or ())) == (None, None, ["/two"])
    assert [mount.destination for mount in after.mounts] == ["/data"], "what comes from elsewhere does not go over"
    assert msgspec.json.encode(before) == copy, "nothing that was given is changed"


def test_nothing_changes_without_changes() -> None:
    before = settings_of(record({"Cmd": None}), refuse)
    assert change(before) == before
    assert describe_changes(RenewRequest()) == []


def test_values_of_variables_are_not_told() -> None:
    body: dict[str, Any] = {"Env": ["SECRET=abc"], "PortBindings": {"80/tcp": []}, "Binds": ["/a:/b/"], "Volumes": {"/c": {}}}
    assert describe_changes(convert(RenewRequest, body)) == ["env SECRET", "port 80/tcp", "volume /b", "volume /c"]


def test_a_bind_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="invalid"):
        change(settings_of(record({"Cmd": None}), refuse), Binds=["/a:/b:wrong"])


def test_who_is_tied_to_a_container_by_its_id() -> None:
    found = record({"Cmd": None})
    mode = f"container:{CONTAINER_ID}"
    for name in ("network_mode", "pid_mode", "ipc_mode"):
        other = msgspec.structs.replace(container({}), id="f" * 64)
        setattr(other.host_config, name, mode)
        assert needed_by(found, [found, other]) is other
    linked = msgspec.structs.replace(container({}), id="f" * 64, links={"db": LinkedContainer(id=CONTAINER_ID, name="x")})
    assert needed_by(found, [linked]) is linked
    assert needed_by(found, [found, msgspec.structs.replace(container({}), id="f" * 64)]) is None
