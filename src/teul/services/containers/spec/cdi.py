"""What a device of the Container Device Interface adds to a container's spec. Pure.

Source: CDI specification 0.8, containerEdits; container-device-interface pkg/cdi (Apply), whose order and defaults these are.
"""

from __future__ import annotations

import msgspec

from teul.oci.runtime_spec import Device, Mount, Spec

_ACCESS = "rwm"


class DeviceNode(msgspec.Struct, rename="camel"):
    """`kind`, the numbers and the rest are filled in from the host's node where the document does not say them."""

    path: str
    host_path: str = ""
    kind: str = msgspec.field(default="", name="type")
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class EditedMount(msgspec.Struct, rename="camel"):
    """What the host has at a path, at a path of the container's."""

    host_path: str
    container_path: str
    options: list[str] = []
    kind: str = msgspec.field(default="", name="type")


class Edits(msgspec.Struct, rename="camel"):
    """`containerEdits`; the last three are there to be refused."""

    env: list[str] = []
    device_nodes: list[DeviceNode] = []
    mounts: list[EditedMount] = []
    additional_gids: list[int] = msgspec.field(default_factory=list, name="additionalGids")
    hooks: list[dict[str, object]] = []
    net_devices: list[dict[str, object]] = []
    intel_rdt: dict[str, object] | None = None

    def unsupported(self) -> str | None:
        """What of it no container here can have."""
        named = {"hooks": self.hooks, "netDevices": self.net_devices, "intelRdt": self.intel_rdt}
        return next((name for name, value in named.items() if value), None)


def apply_edits(spec: Spec, edits: Edits) -> None:
    """Change `spec` in place. The nodes must be complete."""
    process, linux = spec["process"], spec["linux"]
    variables = {item.partition("=")[0]: item for item in process["env"]}
    process["env"] = list((variables | {item.partition("=")[0]: item for item in edits.env}).values())
    devices: dict[str, Device] = {device["path"]: device for device in linux.get("devices") or []}
    rules = (linux.get("resources") or {}).get("devices")
    for node in edits.device_nodes:
        devices.pop(node.path, None)
        devices[node.path] = _device(node)
        if rules is not None and node.kind in ("b", "c"):
            access = node.permissions or _ACCESS
            rules.append({"allow": True, "type": node.kind, "major": node.major, "minor": node.minor, "access": access})
    linux["devices"] = list(devices.values())
    if edits.mounts:
        replaced = {mount.container_path for mount in edits.mounts}
        for ours in (spec["teul"].get("sources", {}), spec["teul"].get("idmaps", {})):
            for destination in replaced & ours.keys():
                del ours[destination]
        mounts = [mount for mount in spec.get("mounts") or [] if mount["destination"] not in replaced]
        # As all mounts of the client's: fewer components first, so that none covers one that was made below it.
        spec["mounts"] = sorted([*mounts, *map(_mount, edits.mounts)], key=lambda mount: mount["destination"].rstrip("/").count("/"))
    groups = process["user"].setdefault("additionalGids", [])
    groups += [group for group in edits.additional_gids if group and group not in groups]


def _device(node: DeviceNode) -> Device:
    device: Device = {"path": node.path, "type": node.kind, "major": node.major, "minor": node.minor}
    if node.file_mode is not None:
        device["fileMode"] = node.file_mode & 0o7777
    if node.uid is not None:
        device["uid"] = node.uid
    if node.gid is not None:
        device["gid"] = node.gid
    return device


def _mount(mount: EditedMount) -> Mount:
    return {
        "destination": mount.container_path,
        "type": mount.kind or "bind",
        "source": mount.host_path,
        "options": mount.options or ["bind"],
    }
