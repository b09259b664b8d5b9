"""A container's record becomes the OCI spec that Docker's container would have, as data and always the same."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from teul.errors import InvalidParameter
from teul.linux.caps import CAPABILITIES
from teul.model.exec import ExecConfig
from teul.model.host_config import HostConfig
from teul.services.containers.spec.build import build_exec_spec, build_spec, cgroups_path, merge_environment
from teul.services.containers.spec.devices import ContainerDevices
from teul.services.containers.spec.namespaces import namespace_donors
from unit.services.containers.cases import CASES, CONTAINER_ID, HOST, PATHS, container, golden_path, render


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_spec_is_the_golden_one(name: str) -> None:
    """Written again by `python tests/unit/services/containers/cases.py`; every difference is to be reviewed."""
    with open(golden_path(name), encoding="utf-8") as file:
        assert render(CASES[name]()) == file.read()


def test_building_twice_gives_the_same_and_changes_nothing() -> None:
    record = container({"Env": ["A=1"], "HostConfig": {"Binds": ["/a:/b"], "CapAdd": ["SYS_PTRACE"]}})
    before = record.encode()
    assert build_spec(record, HOST, PATHS) == build_spec(record, HOST, PATHS)
    assert record.encode() == before


def test_every_spec_survives_json() -> None:
    for build in CASES.values():
        spec = build()
        assert json.loads(json.dumps(spec)) == spec


def test_the_seccomp_profile_follows_the_capabilities() -> None:
    """moby's profile allows mount(2) and more only beside CAP_SYS_ADMIN."""

    def allowed(**host_config: object) -> set[str]:
        spec = build_spec(container({"HostConfig": host_config}), HOST, PATHS)
        rules = [rule for rule in spec["linux"]["seccomp"]["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW"]
        return {name for rule in rules for name in rule["names"]}

    assert "mount" not in allowed()
    assert "mount" in allowed(CapAdd=["SYS_ADMIN"])
    assert "chroot" in allowed()
    assert "chroot" not in allowed(CapDrop=["SYS_CHROOT"])


def test_a_profile_of_ones_own_is_resolved() -> None:
    profile = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}'
    spec = build_spec(container({"HostConfig": {"SecurityOpt": [f"seccomp={profile}"]}}), HOST, PATHS)
    assert spec["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ALLOW"
    assert spec["linux"]["seccomp"]["syscalls"] == [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]


def test_a_profile_that_is_no_json_is_refused() -> None:
    record = container({"HostConfig": {"SecurityOpt": ["seccomp=/etc/profile.json"]}})
    with pytest.raises(InvalidParameter, match=r"^Decoding seccomp profile failed: "):
        build_spec(record, HOST, PATHS)


def test_without_seccomp_in_the_kernel_only_an_own_profile_is_an_error() -> None:
    host = replace(HOST, seccomp=False)
    assert "seccomp" not in build_spec(container({}), host, PATHS)["linux"]
    record = container({"HostConfig": {"SecurityOpt": ["seccomp={}"]}})
    with pytest.raises(InvalidParameter, match=r"^seccomp is not enabled in your kernel, cannot run a custom seccomp profile$"):
        build_spec(record, host, PATHS)


@pytest.mark.parametrize(
    ("options", "privileged", "profiles", "expected"),
    [
        ([], False, None, None),
        (["apparmor=strict"], False, None, None),
        ([], False, {"docker-default"}, "docker-default"),
        ([], False, set(), None),
        ([], True, {"docker-default"}, "unconfined"),
        (["apparmor=unconfined"], False, {"docker-default"}, "unconfined"),
        (["apparmor=strict"], True, {"strict"}, "strict"),
    ],
)
def test_the_apparmor_profile(options: list[str], privileged: bool, profiles: set[str] | None, expected: str | None) -> None:
    host = replace(HOST, apparmor_profiles=None if profiles is None else frozenset(profiles))
    record = container({"HostConfig": {"SecurityOpt": options, "Privileged": privileged}})
    spec = build_spec(record, host, PATHS, devices=ContainerDevices())
    assert spec["process"].get("apparmorProfile") == expected


def test_an_apparmor_profile_that_is_not_loaded_is_refused() -> None:
    host = replace(HOST, apparmor_profiles=frozenset())
    with pytest.raises(InvalidParameter, match="strict is not loaded"):
        build_spec(container({"HostConfig": {"SecurityOpt": ["apparmor=strict"]}}), host, PATHS)


def test_read_only_binds_are_recursive_only_where_the_kernel_can() -> None:
    record = container({"HostConfig": {"Binds": ["/a:/b:ro"]}})

    def options(kernel: tuple[int, int]) -> list[str]:
        mounts = build_spec(record, replace(HOST, kernel=kernel), PATHS)["mounts"]
        return next(mount["options"] for mount in mounts if mount["destination"] == "/b")

    assert options((5, 12)) == ["rbind", "rro", "rprivate"]
    assert options((5, 11)) == ["rbind", "ro", "rprivate"]


def test_forced_recursion_fails_where_the_kernel_cannot() -> None:
    mount = {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True, "BindOptions": {"ReadOnlyForceRecursive": True}}
    with pytest.raises(InvalidParameter, match=r"kernel is older than 5.12"):
        build_spec(container({"HostConfig": {"Mounts": [mount]}}), replace(HOST, kernel=(5, 11)), PATHS)


def test_a_dev_of_the_clients_own_is_left_alone() -> None:
    spec = build_spec(container({"HostConfig": {"Binds": ["/dev:/dev"]}}), HOST, PATHS)
    below = [mount["destination"] for mount in spec["mounts"] if mount["destination"].startswith("/dev")]
    assert below == ["/dev"]
    assert spec["linux"]["devices"] == []


def test_ipc_none_has_no_shared_memory() -> None:
    spec = build_spec(container({"HostConfig": {"IpcMode": "none"}}), HOST, PATHS)
    assert "/dev/shm" not in [mount["destination"] for mount in spec["mounts"]]
    assert {"type": "ipc"} in spec["linux"]["namespaces"]


def test_init_needs_a_pid_namespace_of_its_own() -> None:
    record = container({"HostConfig": {"Init": True, "PidMode": "host"}})
    assert build_spec(record, HOST, PATHS)["teul"]["init"] is False


def test_a_user_namespace_keeps_the_ping_range() -> None:
    spec = build_spec(container({}), replace(HOST, in_user_namespace=True), PATHS)
    assert spec["linux"]["sysctl"] == {"net.ipv4.ip_unprivileged_port_start": "0"}


def test_a_capability_the_engine_lacks_is_not_promised() -> None:
    host = replace(HOST, capabilities=tuple(name for name in CAPABILITIES if name != "CAP_MKNOD"))
    assert "CAP_MKNOD" not in build_spec(container({}), host, PATHS)["process"]["capabilities"]["bounding"]


@pytest.mark.parametrize("host_config", [{"Privileged": True}, {"Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse"}]}])
def test_devices_cannot_be_forgotten(host_config: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="none were gathered"):
        build_spec(container({"HostConfig": host_config}), HOST, PATHS)


def test_a_donor_cannot_be_forgotten() -> None:
    """A namespace of its own instead of the donor's would be a container that nobody asked for."""
    record = container({"HostConfig": {"NetworkMode": "container:abc"}})
    with pytest.raises(ValueError, match="donor_pids"):
        build_spec(record, HOST, PATHS)


def test_donors_are_named_by_namespace() -> None:
    host_config = HostConfig(network_mode="container:a", pid_mode="container:b")
    assert namespace_donors(host_config) == {"network": "a", "pid": "b"}
    assert namespace_donors(HostConfig(network_mode="host", pid_mode="host")) == {}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("", "/teul"), ("/batch/", "/batch"), ("batch/night", "/batch/night"), ("../../etc", "/etc"), ("/a/../..", "/"), ("//x", "/x")],
)
def test_the_cgroup_stays_below_the_root(asked: str, expected: str) -> None:
    assert cgroups_path(HostConfig(cgroup_parent=asked), "/teul", "c1") == f"{expected.rstrip('/')}/c1"


def test_environment_overrides_keep_their_place() -> None:
    assert merge_environment(["A=1", "B=2"], ["B=3", "C=4", "A"]) == ["B=3", "C=4"]
    assert merge_environment(["A=1"], ["A=1=2", "A=", "B=x=y"]) == ["A=", "B=x=y"]


def test_exec_inherits_from_the_container() -> None:
    record = container({"User": "web", "WorkingDir": "/srv", "Env": ["A=1"], "HostConfig": {"GroupAdd": ["7", "audio"]}})
    spec = build_spec(record, HOST, PATHS)
    spec["teul"] |= {"seccomp_bpf": "/run/teul/seccomp/x.bpf", "seccomp_flags": 4, "seccomp_forks": True}
    built = build_exec_spec(record, ExecConfig(cmd=["ls", "-l"]), spec, HOST)
    process, extension = built["process"], built["teul"]
    assert process["args"] == ["ls", "-l"]
    assert process["cwd"] == "/srv"
    assert process["env"] == spec["process"]["env"]
    assert process["capabilities"] == spec["process"]["capabilities"]
    assert process["user"]["additionalGids"] == [7]
    assert extension == {
        "user": "web",
        "groups": ["audio"],
        "seccomp_bpf": "/run/teul/seccomp/x.bpf",
        "seccomp_flags": 4,
        "seccomp_forks": True,
    }


def test_exec_overrides_what_it_names() -> None:
    record = container({"Tty": True, "Env": ["A=1", "B=2"], "HostConfig": {"ConsoleSize": [24, 80]}})
    spec = build_spec(record, HOST, PATHS)
    config = ExecConfig(cmd=["id"], user="nobody", working_dir="/tmp", env=["B", "C=3"], privileged=True)
    built = build_exec_spec(record, config, spec, HOST)
    process, extension = built["process"], built["teul"]
    assert process["terminal"] is False
    assert "consoleSize" not in process
    assert process["cwd"] == "/tmp"
    assert process["env"][1:] == [f"HOSTNAME={CONTAINER_ID[:12]}", "A=1", "C=3"]
    assert process["capabilities"]["effective"] == list(CAPABILITIES)
    assert extension["user"] == "nobody"
    assert spec["process"]["terminal"] is True, "the container's own process is not touched"


def test_exec_with_a_terminal_has_term_and_a_size() -> None:
    record = container({})
    spec = build_spec(record, HOST, PATHS)
    process = build_exec_spec(record, ExecConfig(cmd=["sh"], tty=True, console_size=(30, 100)), spec, HOST)["process"]
    assert "TERM=xterm" in process["env"]
    assert process["consoleSize"] == {"height": 30, "width": 100}
