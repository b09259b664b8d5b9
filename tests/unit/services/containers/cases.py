"""The containers whose specs are kept in golden/, and the host they are planned for.

Run as a program (`python tests/unit/services/containers/cases.py`) it writes the golden files again; review the difference.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

from support.image_models import image_of
from teul.linux.caps import CAPABILITIES
from teul.model.config import decode_create_body
from teul.model.container import Container, CreateContainer
from teul.model.image import Image
from teul.oci.digest import Digest
from teul.oci.image_config import ImageConfig, ImageDocument, RootFS
from teul.oci.runtime_spec import Spec
from teul.services.containers.request.check import CheckedRequest, check_request
from teul.services.containers.request.complete import complete
from teul.services.containers.spec.build import ContainerPaths, build_spec
from teul.services.containers.spec.devices import ContainerDevices, DeviceNode
from teul.services.host import NETWORK_SYSCTLS, HostFacts, LimitSupport

CONTAINER_ID = "0123456789abcdef" * 4
GOLDEN_DIRECTORY = os.path.join(os.path.dirname(__file__), "golden")

HOST = HostFacts(
    architecture="amd64",
    kernel=(6, 1),
    hostname="host.example",
    cpus=4,
    cgroup_mode="v2",
    limits=LimitSupport(memory_swappiness=False, oom_kill_disable=False),
    capabilities=tuple(CAPABILITIES),
    known_capabilities=tuple(CAPABILITIES),
    cpuset_cpus="0-3",
    cpuset_mems="0",
    sysctls=frozenset(NETWORK_SYSCTLS),
)
V1_HOST = replace(HOST, cgroup_mode="v1", limits=LimitSupport())
PATHS = ContainerPaths(
    bundle=f"/run/teul/containers/{CONTAINER_ID}",
    directory=f"/var/lib/teul/containers/{CONTAINER_ID}",
    cgroup=f"/teul/{CONTAINER_ID}",
    lower=("/var/lib/teul/snapshots/bb/fs", "/var/lib/teul/snapshots/aa/fs"),
)
LOOP = DeviceNode(path="/dev/loop7", kind="b", major=7, minor=7, mode=0o660, uid=0, gid=6, access="rw")
DISK = {"/dev/sda": (8, 0)}


def image(**config: Any) -> Image:
    """An image with this config."""
    return image_of(ImageDocument(config=ImageConfig(**config), rootfs=RootFS()), image_id=Digest("sha256:" + "ab" * 32))


def check(body: dict[str, Any], *, host: HostFacts = HOST, exists: bool = True) -> CheckedRequest:
    """The body of a create request through all checks."""
    config, host_config, networking = decode_create_body(json.dumps({"Tty": False, **body}).encode())
    request = CreateContainer(name=None, config=config, host_config=host_config, networking=networking)
    return check_request(request, host, exists=lambda _path: exists)


def container(body: dict[str, Any], *, host: HostFacts = HOST, of: Image | None = None) -> Container:
    """The record that a create request becomes."""
    return complete(
        check({"Image": "shell", "Cmd": ["sh"], **body}, host=host),
        of or image(),
        container_id=CONTAINER_ID,
        name="swift_noether",
        now_ns=1_700_000_000_000_000_000,
        host=host,
    )


def _default() -> Spec:
    return build_spec(container({}), HOST, PATHS)


def _limits() -> Spec:
    devices = ContainerDevices((LOOP,), DISK)
    host_config = {
        "Memory": 64 << 20,
        "MemoryReservation": 32 << 20,
        "MemorySwappiness": 10,
        "OomKillDisable": True,
        "NanoCpus": 1_500_000_000,
        "CpuShares": 512,
        "CpusetCpus": "0,2-3",
        "PidsLimit": 100,
        "BlkioWeight": 300,
        "BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 200}],
        "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1048576}],
        "BlkioDeviceWriteIOps": [{"Path": "/dev/sda", "Rate": 50}],
        "Devices": [{"PathOnHost": "/dev/loop7", "PathInContainer": "/dev/loop7", "CgroupPermissions": "rw"}],
        "DeviceCgroupRules": ["c 10:* r"],
        "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}, {"Name": "core", "Soft": 0, "Hard": -1}],
        "OomScoreAdj": 500,
    }
    return build_spec(container({"HostConfig": host_config}, host=V1_HOST), V1_HOST, PATHS, devices=devices)


def _privileged() -> Spec:
    devices = ContainerDevices((LOOP, replace(LOOP, path="/dev/null", kind="c", major=1, minor=3)))
    return build_spec(container({"HostConfig": {"Privileged": True}}), HOST, PATHS, devices=devices)


def _terminal() -> Spec:
    body = {
        "Tty": True,
        "OpenStdin": True,
        "Env": ["PATH=/bin", "A=1", "TERM"],
        "User": "www-data:adm",
        "WorkingDir": "/srv//www/",
        "Hostname": "web",
        "Domainname": "example.org",
        "HostConfig": {"ConsoleSize": [24, 80], "GroupAdd": ["44", "video"], "Init": True, "Annotations": {"org.example": "yes"}},
    }
    return build_spec(container(body), HOST, PATHS)


def _mounts() -> Spec:
    host_config = {
        "Binds": ["/src:/usr/src:ro", "/etc/own-hosts:/etc/hosts:z", "/data:/a/b/c/d:rslave"],
        "Mounts": [
            {"Type": "bind", "Source": "/lib", "Target": "/lib", "ReadOnly": True, "BindOptions": {"ReadOnlyNonRecursive": True}},
            {"Type": "bind", "Source": "/one", "Target": "/one", "BindOptions": {"NonRecursive": True}},
            {"Type": "tmpfs", "Target": "/cache", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o700, "Options": [["exec"]]}},
        ],
        "Tmpfs": {"/run": "rw,exec,size=65536k"},
        "ReadonlyRootfs": True,
        "ShmSize": 1 << 20,
    }
    return build_spec(container({"HostConfig": host_config}), HOST, PATHS)


def _host_namespaces() -> Spec:
    host_config = {"NetworkMode": "host", "PidMode": "host", "IpcMode": "host", "UTSMode": "host", "CgroupnsMode": "host"}
    return build_spec(container({"HostConfig": host_config}), HOST, PATHS)


def _donor_namespaces() -> Spec:
    donor = "container:" + "f" * 64
    record = container({"HostConfig": {"NetworkMode": donor, "PidMode": donor}})
    paths = replace(PATHS, network_files="/var/lib/teul/containers/" + "f" * 64)
    return build_spec(record, HOST, paths, donor_pids={"network": 41, "pid": 42})


def _hardened() -> Spec:
    host_config = {
        "CapDrop": ["ALL"],
        "CapAdd": ["net_bind_service"],
        "SecurityOpt": ["no-new-privileges", "apparmor=strict", "seccomp=unconfined", "writable-cgroups=true"],
        "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "1024", "kernel/msgmax": "65536"},
        "MaskedPaths": ["/proc/kcore"],
        "ReadonlyPaths": [],
    }
    host = replace(HOST, apparmor_profiles=frozenset({"strict", "docker-default"}))
    return build_spec(container({"HostConfig": host_config}, host=host), host, PATHS)


CASES = {
    "default": _default,
    "limits": _limits,
    "privileged": _privileged,
    "terminal": _terminal,
    "mounts": _mounts,
    "host_namespaces": _host_namespaces,
    "donor_namespaces": _donor_namespaces,
    "hardened": _hardened,
}


def render(spec: Spec) -> str:
    """A spec as its golden file has it. The seccomp rules have tests of their own; here only their presence counts."""
    linux: dict[str, Any] = dict(spec["linux"])
    if "seccomp" in linux:
        linux["seccomp"] = f"{linux['seccomp']['defaultAction']}, {bool(linux['seccomp']['syscalls'])}"
    return json.dumps(spec | {"linux": linux}, indent=2) + "\n"


def golden_path(name: str) -> str:
    """Where a case's golden file is."""
    return os.path.join(GOLDEN_DIRECTORY, f"{name}.json")


if __name__ == "__main__":
    for case, build in CASES.items():
        with open(golden_path(case), "w", encoding="utf-8") as file:
            file.write(render(build()))
