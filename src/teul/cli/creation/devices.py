"""`--device` and the block I/O options: devices, cgroup rules, rates and weights. Pure."""

from __future__ import annotations

import posixpath

from teul.model.size import parse_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RATE = "The correct format is <device-path>:<number>"


def _is_mode(text: str) -> bool:
    """Letters out of r, w and m, each at most once."""
    return bool(text) and len(set(text)) == len(text) and set(text) <= set("rwm")


def parse_device(text: str) -> dict[str, str]:
    """`/dev/a[:/dev/b][:rwm]` as the API's DeviceMapping. Raises `ValueError`."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise ValueError(f"bad format for path: {text}")
    if len(parts) == 3 and not _is_mode(parts[2]):
        raise ValueError(f"bad mode specified: {parts[2]}")
    mode = parts[2] if len(parts) == 3 else "rwm"
    inside = parts[0]
    if len(parts) > 1:
        if len(parts) == 2 and _is_mode(parts[1]):
            mode = parts[1]
        else:
            inside = parts[1]
    if not inside.startswith("/"):
        raise ValueError(f"{inside} is not an absolute path")
    return {"PathOnHost": parts[0], "PathInContainer": posixpath.normpath(inside), "CgroupPermissions": mode}


def is_cdi_name(text: str) -> bool:
    """Whether this is a device of the Container Device Interface, `vendor/class=name`, and no path."""
    kind, equals, name = text.partition("=")
    vendor, slash, device_class = kind.partition("/")
    return bool(equals and slash and name and vendor[:1].isalpha() and device_class[:1].isalpha() and "/" not in device_class)


def parse_cgroup_rule(text: str) -> str:
    """A rule such as `c 1:3 rwm`, checked."""
    fields = text.split(" ")
    if len(fields) == 3 and fields[0] in ("a", "b", "c") and set(fields[2]) <= set("rwm") and 1 <= len(fields[2]) <= 3:
        numbers = fields[1].split(":")
        if len(numbers) == 2 and all(number == "*" or (number.isascii() and number.isdigit()) for number in numbers):
            return text
    raise ValueError(f"invalid device cgroup format '{text}'")


def _split(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def parse_throttle_bps(text: str) -> dict[str, Any]:
    """`/dev/sda:1mb` as a ThrottleDevice in bytes per second."""
    path, value = _split(text)
    try:
        return {"Path": path, "Rate": parse_memory(value)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. {_RATE}[<unit>]. Number must be a positive integer. "
            "Unit is optional and can be kb, mb, or gb"
        ) from None


def parse_rate_iops(text: str) -> dict[str, Any]:
    """`/dev/sda:100` as a ThrottleDevice in operations per second."""
    path, value = _split(text)
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"invalid rate for device: {text}. {_RATE}. Number must be a positive integer")
    return {"Path": path, "Rate": int(value)}


def parse_weight_device(text: str) -> dict[str, Any]:
    """`/dev/sda:500` as a WeightDevice."""
    path, value = _split(text)
    if not (value.isascii() and value.isdigit()) or (int(value) != 0 and not 10 <= int(value) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(value)}
