"""What a container takes from its image, and what dockerd fills in; shown as `docker inspect` shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from teul.errors import InvalidParameter
from teul.model.document import render
from teul.oci.image_config import Healthcheck
from teul.services.containers.request.complete import DEFAULT_MASKED_PATHS, complete
from unit.services.containers.cases import CONTAINER_ID, HOST, check, container, image


@pytest.mark.parametrize(
    ("image_entrypoint", "image_cmd", "entrypoint", "cmd", "command"),
    [
        (None, ["sh"], None, None, ["sh"]),
        (["run"], ["-a"], None, None, ["run", "-a"]),
        (["run"], ["-a"], None, ["-b"], ["run", "-b"]),
        (["run"], ["-a"], ["other"], None, ["other"]),
        (["run"], ["-a"], ["other"], ["-b"], ["other", "-b"]),
        (["run"], ["-a"], [""], ["sh"], ["sh"]),
        (["run"], ["-a"], [], None, ["-a"]),
        (["run"], ["-a"], "other -x", None, ["other -x"]),
    ],
)
def test_command_and_entrypoint(
    image_entrypoint: list[str] | None, image_cmd: list[str] | None, entrypoint: Any, cmd: list[str] | None, command: list[str]
) -> None:
    """An entrypoint of one's own takes the image's command away with the image's entrypoint."""
    record = container({"Entrypoint": entrypoint, "Cmd": cmd}, of=image(entrypoint=image_entrypoint, cmd=image_cmd))
    assert [record.path, *record.args] == command


@pytest.mark.parametrize("body", [{"Cmd": None}, {"Cmd": []}, {"Cmd": None, "Entrypoint": [""]}])
def test_no_command_is_an_error(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=r"^no command specified$"):
        container(body)


def test_the_images_values_fill_the_gaps() -> None:
    inherited = image(
        user="web",
        env=["PATH=/img", "A=image"],
        labels={"a": "image", "b": "image"},
        exposed_ports={"80/tcp": {}},
        volumes={"/data": {}},
        working_dir="/srv",
        stop_signal="SIGQUIT",
        shell=["/bin/ash", "-c"],
        healthcheck=Healthcheck(test=["CMD", "true"], interval_ns=5_000_000_000, retries=3),
    )
    body = {"Env": ["A=own"], "Labels": {"a": "own"}, "ExposedPorts": {"443/tcp": {}}, "Healthcheck": {"Timeout": 1_000_000_000}}
    config = render(container(body, of=inherited).config)
    assert config["User"] == "web"
    assert config["Env"] == ["A=own", "PATH=/img"]
    assert config["Labels"] == {"a": "own", "b": "image"}
    assert config["ExposedPorts"] == {"443/tcp": {}, "80/tcp": {}}
    assert config["Volumes"] == {"/data": {}}, "an image's VOLUME is a plain directory, but stays visible"
    assert config["WorkingDir"] == "/srv"
    assert config["StopSignal"] == "SIGQUIT"
    assert config["Shell"] == ["/bin/ash", "-c"]
    assert config["Healthcheck"] == {"Test": ["CMD", "true"], "Interval": 5_000_000_000, "Timeout": 1_000_000_000, "Retries": 3}


def test_own_values_win() -> None:
    inherited = image(user="web", working_dir="/srv", stop_signal="SIGQUIT", healthcheck=Healthcheck(test=["CMD", "true"]))
    body = {"User": "0", "WorkingDir": "/", "StopSignal": "9", "Healthcheck": {"Test": ["NONE"]}}
    config = container(body, of=inherited).config
    assert (config.user, config.working_dir, config.stop_signal) == ("0", "/", "9")
    assert config.healthcheck is not None
    assert config.healthcheck.test == ["NONE"]


def test_merging_leaves_the_image_alone() -> None:
    inherited = image(env=["A=1"], labels={"a": "1"})
    first = container({}, of=inherited)
    (first.config.env or []).append("B=2")
    (first.config.labels or {})["b"] = "2"
    assert inherited.config.env == ["A=1"]
    assert inherited.config.labels == {"a": "1"}


def test_defaults_are_dockerds() -> None:
    shown = render(container({}).host_config)
    expected = {
        "LogConfig": {"Type": "json-file", "Config": {}},
        "NetworkMode": "bridge",
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "CgroupnsMode": "private",
        "IpcMode": "private",
        "PidMode": "",
        "SecurityOpt": None,
        "ShmSize": 67108864,
        "Runtime": "runc",
        "MemorySwap": 0,
        "OomKillDisable": False,
        "PidsLimit": None,
        "MaskedPaths": list(DEFAULT_MASKED_PATHS),
        "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    }
    assert {name: shown[name] for name in expected} == expected
    assert "Init" not in shown


def test_thermal_throttles_are_masked_where_they_are() -> None:
    path = "/sys/devices/system/cpu/cpu0/thermal_throttle"
    record = container({}, host=replace(HOST, thermal_throttle_paths=(path,)))
    assert (record.host_config.masked_paths or [])[-1] == path


def test_memory_brings_as_much_swap() -> None:
    assert container({"HostConfig": {"Memory": 64 << 20}}).host_config.memory_swap == 128 << 20
    assert container({"HostConfig": {"Memory": 64 << 20, "MemorySwap": -1}}).host_config.memory_swap == -1


@pytest.mark.parametrize("host_config", [{"Privileged": True}, {"PidMode": "host"}, {"IpcMode": "host"}])
def test_labels_are_disabled_where_docker_disables_them(host_config: dict[str, Any]) -> None:
    assert container({"HostConfig": host_config}).host_config.security_opt == ["label=disable"]
    own = host_config | {"SecurityOpt": ["label=type:x"]}
    assert container({"HostConfig": own}).host_config.security_opt == ["label=type:x"]


def test_a_privileged_container_hides_nothing() -> None:
    host_config = container({"HostConfig": {"Privileged": True}}).host_config
    assert host_config.masked_paths is None
    assert host_config.readonly_paths is None


def test_the_hostname_is_the_short_id_or_the_hosts() -> None:
    assert container({}).config.hostname == CONTAINER_ID[:12]
    assert container({"HostConfig": {"NetworkMode": "host"}}).config.hostname == "host.example"
    assert container({"Hostname": "web", "HostConfig": {"NetworkMode": "host"}}).config.hostname == "web"


def test_donors_are_remembered_by_id() -> None:
    """A donor that is renamed stays the donor."""
    checked = check({"Cmd": ["sh"], "HostConfig": {"NetworkMode": "container:web", "PidMode": "container:gone"}})
    record = complete(
        checked,
        image(),
        container_id=CONTAINER_ID,
        name="x",
        now_ns=0,
        host=HOST,
        find_container_id=lambda reference: "f" * 64 if reference == "web" else None,
    )
    assert record.host_config.network_mode == "container:" + "f" * 64
    assert record.host_config.pid_mode == "container:gone"


def test_the_record_keeps_what_was_asked() -> None:
    record = container({"Image": "local/shell", "HostConfig": {"Binds": ["/a:/b:ro"]}})
    assert record.image_reference == "local/shell"
    assert record.config.image == "local/shell"
    assert record.image_id == "sha256:" + "ab" * 32
    assert [point.destination for point in record.mounts] == ["/b"]
    assert record.decode(record.encode()) == record
