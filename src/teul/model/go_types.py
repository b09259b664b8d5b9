"""What is wrong with the types of values in a document, in the words that Go has for it. Pure.

docker: encoding/json, UnmarshalTypeError: the first value, in the order of the document, that the field of its name cannot hold. The words
name Go's structs and types, those of Docker 29, and a field's way from the outermost struct, embedded ones included (Go 1.24).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, get_args, get_origin

import msgspec

# Go's names of the structs that are not called as here, and the packages of those that are not in `container`.
_STRUCTS = {
    "BindOptions": "mount.BindOptions",
    "ConfigReference": "network.ConfigReference",
    "ConnectRequest": "network.ConnectRequest",
    "ContainerConfig": "container.CreateRequest",
    "CreateNetwork": "network.CreateRequest",
    "CreateVolume": "volume.CreateRequest",
    "DisconnectRequest": "network.DisconnectRequest",
    "Empty": "struct {}",
    "EndpointIPAMConfig": "network.EndpointIPAMConfig",
    "EndpointSettings": "network.EndpointSettings",
    "ExecConfig": "container.ExecCreateRequest",
    "ExecStartConfig": "container.ExecStartRequest",
    "ImageOptions": "mount.ImageOptions",
    "IpamConfig": "network.IPAMConfig",
    "IpamRequest": "network.IPAM",
    "Mount": "mount.Mount",
    "NetworkingConfig": "network.NetworkingConfig",
    "PortBinding": "network.PortBinding",
    "Resources": "container.UpdateConfig",
    "ThrottleDevice": "blkiodev.ThrottleDevice",
    "TmpfsOptions": "mount.TmpfsOptions",
    "Ulimit": "units.Ulimit",
    "VolumeDriver": "mount.Driver",
    "VolumeOptions": "mount.VolumeOptions",
    "WeightDevice": "blkiodev.WeightDevice",
}
# The structs whose fields are those of an embedded one, and which that is.
_EMBEDDED = {"ContainerConfig": "Config", "Resources": "Resources"}
# The types of fields that do not follow from those that they have here.
_FIELDS = {
    "ContainerConfig.StopTimeout": "int",
    "CreateNetwork.Options": "map[string]string",
    "DeviceRequest.Count": "int",
    "EndpointIPAMConfig.IPv4Address": "netip.Addr",
    "EndpointIPAMConfig.IPv6Address": "netip.Addr",
    "EndpointSettings.GlobalIPv6PrefixLen": "int",
    "EndpointSettings.GwPriority": "int",
    "EndpointSettings.IPPrefixLen": "int",
    "ExecConfig.ConsoleSize": "uint",
    "ExecStartConfig.ConsoleSize": "uint",
    "HealthConfig.Interval": "time.Duration",
    "HealthConfig.Retries": "int",
    "HealthConfig.StartInterval": "time.Duration",
    "HealthConfig.StartPeriod": "time.Duration",
    "HealthConfig.Timeout": "time.Duration",
    "HostConfig.Cgroup": "container.CgroupSpec",
    "HostConfig.CgroupnsMode": "container.CgroupnsMode",
    "HostConfig.ConsoleSize": "uint",
    "HostConfig.IpcMode": "container.IpcMode",
    "HostConfig.Isolation": "container.Isolation",
    "HostConfig.NetworkMode": "container.NetworkMode",
    "HostConfig.OomScoreAdj": "int",
    "HostConfig.PidMode": "container.PidMode",
    "HostConfig.PortBindings": "network.PortMap",
    "HostConfig.UTSMode": "container.UTSMode",
    "HostConfig.UsernsMode": "container.UsernsMode",
    "Mount.Consistency": "mount.Consistency",
    "Mount.Type": "mount.Type",
    "BindOptions.Propagation": "mount.Propagation",
    "PortBinding.HostIp": "netip.Addr",
    "Resources.BlkioWeight": "uint16",
    "Resources.IOMaximumBandwidth": "uint64",
    "Resources.IOMaximumIOps": "uint64",
    "RestartPolicy.MaximumRetryCount": "int",
    "RestartPolicy.Name": "container.RestartPolicyMode",
    "ThrottleDevice.Rate": "uint64",
    "TmpfsOptions.Mode": "fs.FileMode",
    "WeightDevice.Weight": "uint16",
}
_RANGES = {"uint": (0, 2**64), "uint16": (0, 2**16), "uint64": (0, 2**64), "fs.FileMode": (0, 2**32)}
_INT64 = (-(2**63), 2**63)
_KINDS = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
_TEXTS = {str: "string", bool: "bool", int: "int64", float: "float64"}


def type_fault(kind: type[msgspec.Struct], value: object, more: Mapping[str, type[msgspec.Struct]] | None = None) -> str:
    """What is wrong with the decoded JSON `value` as a `kind`, whose document has `more` members, by lower-case name; "" if nothing is."""
    if value is None:
        return ""
    if not isinstance(value, dict):
        return f"json: cannot unmarshal {_KINDS[type(value)]} into Go value of type {_struct(kind)}"
    return _object_fault(kind, value, (), more or {})


def _object_fault(
    kind: type[msgspec.Struct], value: dict[str, Any], path: tuple[str, ...], more: Mapping[str, type[msgspec.Struct]]
) -> str:
    fields = _fields(kind)
    for key, item in value.items():
        lower = key.lower()
        known = fields.get(lower)
        if known is not None:
            name, place, field_kind, text, takes_text = known
            if item is None or (takes_text and isinstance(item, str)):
                continue
            place = (*path, *place)
        elif lower in more and item is not None:
            field_kind, name, text = more[lower], more[lower].__name__, ""
            place = (*path, name)
        else:
            continue
        fault = _fault(field_kind, item, place, _struct(kind).rpartition(".")[2], text)
        if fault:
            return fault
    return ""


def _fault(kind: Any, value: Any, path: tuple[str, ...], struct: str, text: str) -> str:
    """Of the value at `path` of `struct`, whose type is called `text` if not as it follows from `kind`."""
    kind = _bare(kind)
    if value is None or kind is Any:
        return ""
    given = _KINDS[type(value)]
    origin = get_origin(kind)
    if kind is int:
        low, high = _RANGES.get(text, _INT64)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value < high:
            return ""
        literal = f" {value!r}" if given == "number" else ""
        return _words(given + literal, struct, path, text or "int64")
    if origin in (list, tuple) and isinstance(value, list):
        inner = get_args(kind)[0]
        return next((fault for item in value if (fault := _fault(inner, item, path, struct, text))), "")
    if origin is dict and isinstance(value, dict):
        inner = get_args(kind)[1]
        return next((fault for item in value.values() if (fault := _fault(inner, item, path, struct, ""))), "")
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        return _object_fault(kind, value, path, {})
    if isinstance(kind, type) and (isinstance(value, kind) or (kind is float and given == "number")):
        return ""
    return _words(given, struct, path, text or _go_type(kind))


def _words(given: str, struct: str, path: tuple[str, ...], text: str) -> str:
    return f"json: cannot unmarshal {given} into Go struct field {struct}.{'.'.join(path)} of type {text}"


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, tuple[str, tuple[str, ...], Any, str, bool]]:
    """By lower-case name: the JSON name, the way to it from the struct, its type, what Go calls that ("" if it follows), whether one string
    stands for a list."""
    base = kind.__bases__[0]
    inherited = {field.name for field in msgspec.structs.fields(base)} if base.__name__ in _EMBEDDED else frozenset()
    known: dict[str, tuple[str, tuple[str, ...], Any, str, bool]] = {}
    for field in msgspec.structs.fields(kind):
        owner = base.__name__ if field.name in inherited else kind.__name__
        name = field.encode_name
        go_name = "IPAM" if name == "Ipam" else name
        place = (_EMBEDDED[owner], go_name) if owner in _EMBEDDED else (go_name,)
        takes_text = field.name in getattr(kind, "STRING_OR_LIST", ())
        known[name.lower()] = (name, place, field.type, _FIELDS.get(f"{owner}.{name}", ""), takes_text)
    return known


def _struct(kind: type[msgspec.Struct]) -> str:
    return _STRUCTS.get(kind.__name__, f"container.{kind.__name__}")


def _bare(kind: Any) -> Any:
    """`kind` without `| None`."""
    members = [member for member in get_args(kind) if member is not type(None)]
    return members[0] if type(None) in get_args(kind) and len(members) == 1 else kind


def _go_type(kind: Any) -> str:
    kind = _bare(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is list:
        return f"[]{_go_type(arguments[0])}"
    if origin is tuple:
        return f"[{len(arguments)}]uint"
    if origin is dict:
        return f"map[string]{_go_type(arguments[1])}"
    return _TEXTS.get(kind) or _struct(kind)
