"""The device rules of OCI `linux.resources.devices`, and what they come to on cgroup v1. Pure.

Rules apply in order, a later rule winning over an earlier one for each access (mknod, read, write) by itself; what no rule speaks of is
refused. v2 runs exactly that (`linux.bpf`). A v1 cgroup only knows a default and exceptions from it, so the rules are first folded into
those; rules that cannot be folded (a hole in a wildcard) are refused rather than silently allowed.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from teul.linux.bpf import DeviceRule

_ALL = "rwm"
_LARGEST_NUMBER = 0x7FFFFFFF

Device = tuple[str, "int | None", "int | None"]


def parse_rules(devices: list[dict[str, Any]]) -> list[DeviceRule]:
    """OCI's dicts as checked rules. Major or minor -1 or absent is any number; no type or "a" is both types; no access is all three."""
    rules: list[DeviceRule] = []
    for device in devices:
        kind = device.get("type") or "a"
        access = device.get("access") or _ALL
        if kind == "u":
            kind = "c"  # config-linux.md: an unbuffered character device
        if kind not in {"a", "b", "c"} or set(access) - set(_ALL):
            raise OSError(errno.EINVAL, f"invalid device cgroup rule: type {kind!r}, access {access!r}")
        allow = bool(device.get("allow", False))
        rules.append((allow, kind, _number(device.get("major")), _number(device.get("minor")), _ordered(access)))
    return rules


def is_allow_all(rules: list[DeviceRule]) -> bool:
    """Whether every device is allowed, so that there is nothing to filter."""
    allowed_by_default, exceptions = fold(rules)
    return allowed_by_default and not exceptions


def fold(rules: list[DeviceRule]) -> tuple[bool, dict[Device, str]]:
    """The rules as a v1 default (True: allow) and the exceptions from it, each with the accesses it is about."""
    allowed_by_default = False
    exceptions: dict[Device, str] = {}
    for allow, kind, major, minor, access in rules:
        if kind == "a" and major is None and minor is None and access == _ALL:
            allowed_by_default, exceptions = allow, {}
            continue
        for each in ("b", "c") if kind == "a" else (kind,):
            if allow == allowed_by_default:
                _take_out(exceptions, (each, major, minor), access)
            else:
                exceptions[each, major, minor] = _ordered(exceptions.get((each, major, minor), "") + access)
    return allowed_by_default, exceptions


def v1_writes(rules: list[DeviceRule]) -> list[tuple[str, str]]:
    """The writes that bring a new v1 cgroup, which has what its parent allows, to these rules."""
    allowed_by_default, exceptions = fold(rules)
    # Nothing to write for allow-all: it is inherited, and below a parent that is restricted itself the kernel refuses the word.
    writes = [] if allowed_by_default else [("devices.deny", "a")]
    file = "devices.deny" if allowed_by_default else "devices.allow"
    # kernel: one exception must grant all of an open(2)'s accesses (match_exception), so each carries those of the wider ones too.
    # Refusals need no such care: any refusal that touches the request counts.
    wide = [] if allowed_by_default else [(device, access) for device, access in exceptions.items() if None in device]
    for device, access in exceptions.items():
        granted = access + "".join(more for other, more in wide if _covers(other, device))
        writes.append((file, f"{_text(device)} {_ordered(granted)}"))
    return writes


def _take_out(exceptions: dict[Device, str], device: Device, access: str) -> None:
    for other in list(exceptions):
        common = set(exceptions[other]) & set(access)
        if not common or not _overlap(other, device):
            continue
        if not _covers(device, other):
            raise OSError(
                errno.EINVAL,
                f"device rule {_text(device)} {access} cannot be set on cgroup v1: it makes a hole in {_text(other)} {exceptions[other]}",
            )
        left = _ordered("".join(set(exceptions[other]) - common))
        if left:
            exceptions[other] = left
        else:
            del exceptions[other]


def _overlap(one: Device, other: Device) -> bool:
    return one[0] == other[0] and (one[1] == other[1] or None in {one[1], other[1]}) and (one[2] == other[2] or None in {one[2], other[2]})


def _covers(wide: Device, narrow: Device) -> bool:
    return wide[0] == narrow[0] and wide[1] in {None, narrow[1]} and wide[2] in {None, narrow[2]}


def _number(value: int | None) -> int | None:
    if value is None or value == -1:
        return None
    if not 0 <= value <= _LARGEST_NUMBER:
        raise OSError(errno.EINVAL, f"invalid device number: {value}")
    return value


def _ordered(access: str) -> str:
    return "".join(letter for letter in _ALL if letter in access)


def _or_any(number: int | None) -> str:
    return "*" if number is None else str(number)


def _text(device: Device) -> str:
    return f"{device[0]} {_or_any(device[1])}:{_or_any(device[2])}"
