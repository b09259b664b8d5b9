"""`-v`, `--mount` and `--tmpfs`: what people write, to the API's Binds, Mounts, Volumes and Tmpfs. Pure but for the current directory."""

from __future__ import annotations

import os

from teul.model.size import parse_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FLAGS = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src", "idmap")
_BIND_RECURSIVE = {"enabled": None, "disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive", "readonly": "ReadOnlyForceRecursive"}


def parse_volumes(values: list[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """`-v` options as (Binds, anonymous Volumes). Raises `ValueError`."""
    binds: list[str] = []
    volumes: dict[str, dict[str, str]] = {}
    for value in values:
        parts = value.split(":")
        if not value:
            raise ValueError("invalid empty volume spec")
        if "" in parts:
            raise ValueError(f"invalid spec: {value}: empty section between colons")
        if len(parts) > 3:
            raise ValueError(f"invalid spec: {value}: too many colons")
        if len(parts) == 1:
            volumes[value] = {}
        elif parts[0].startswith("."):
            binds.append(":".join([os.path.abspath(parts[0]), *parts[1:]]))
        else:
            binds.append(value)
    return binds, volumes


def parse_tmpfs(values: list[str]) -> dict[str, str]:
    """`--tmpfs` options as path to mount options."""
    split = (value.partition(":") for value in values)
    return {path: options for path, _, options in split}


def parse_mount(value: str) -> dict[str, Any]:
    """A `--mount` option as the API's Mount. Raises `ValueError` with docker's texts."""
    mount: dict[str, Any] = {"Type": "volume", "Source": "", "Target": ""}
    for field in split_csv(value):
        key, equals, text = field.partition("=")
        _check_field(key, equals, text, field)
        _apply(mount, key.lower(), text, field, given=bool(equals))
    _validate(mount)
    return mount


def _check_field(key: str, equals: str, text: str, field: str) -> None:
    if key != key.strip():
        raise ValueError(f"invalid option '{key.strip()}' in '{field}': option should not have whitespace")
    if not equals:
        if key.lower() not in _FLAGS:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        return
    if not text.strip():
        raise ValueError(f"invalid value for '{key}': value is empty")
    if text != text.strip():
        raise ValueError(f"invalid value for '{key}' in '{field}': value should not have whitespace")


def _apply(mount: dict[str, Any], key: str, text: str, field: str, *, given: bool) -> None:
    group, _, name = key.partition("-")
    if key == "type":
        mount["Type"] = text.lower()
    elif key in ("source", "src"):
        mount["Source"] = os.path.abspath(text) if text.startswith(".") else text
    elif key in ("target", "dst", "destination"):
        mount["Target"] = text
    elif key in ("readonly", "ro"):
        mount["ReadOnly"] = _flag(key, text, given=given)
    elif key == "idmap":
        mount["IdMap"] = text if given else "owner"
    elif key == "consistency":
        mount["Consistency"] = text.lower()
    elif group == "bind":
        _apply_bind(mount.setdefault("BindOptions", {}), key, name, text, field, given=given)
    elif group == "volume":
        _apply_volume(mount.setdefault("VolumeOptions", {}), key, name, text, field, given=given)
    elif key == "image-subpath":
        mount.setdefault("ImageOptions", {})["Subpath"] = text
    elif group == "tmpfs":
        _apply_tmpfs(mount.setdefault("TmpfsOptions", {}), key, name, text, field)
    else:
        raise ValueError(f"unknown option '{key}' in '{field}'")


def _apply_bind(options: dict[str, Any], key: str, name: str, text: str, field: str, *, given: bool) -> None:
    if name == "propagation":
        options["Propagation"] = text.lower()
    elif name == "nonrecursive":
        options["NonRecursive"] = _flag(key, text, given=given)
    elif name == "create-src":
        options["CreateMountpoint"] = _flag(key, text, given=given)
    elif name == "recursive":
        if text not in _BIND_RECURSIVE:
            raise ValueError(f'invalid value for {key}: {text} (must be "enabled", "disabled", "writable", or "readonly")')
        chosen = _BIND_RECURSIVE[text]
        if chosen is not None:
            options[chosen] = True
    else:
        raise ValueError(f"unknown option '{key}' in '{field}'")


def _apply_volume(options: dict[str, Any], key: str, name: str, text: str, field: str, *, given: bool) -> None:
    if name == "subpath":
        options["Subpath"] = text
    elif name == "nocopy":
        options["NoCopy"] = _flag(key, text, given=given)
    elif name == "label":
        label, _, value = text.partition("=")
        options.setdefault("Labels", {})[label] = value
    elif name == "driver":
        options.setdefault("DriverConfig", {})["Name"] = text
    elif name == "opt":
        option, _, value = text.partition("=")
        options.setdefault("DriverConfig", {}).setdefault("Options", {})[option] = value
    else:
        raise ValueError(f"unknown option '{key}' in '{field}'")


def _apply_tmpfs(options: dict[str, Any], key: str, name: str, text: str, field: str) -> None:
    try:
        if name == "size":
            options["SizeBytes"] = parse_memory(text)
        elif name == "mode":
            options["Mode"] = int(text, 8)
        else:
            raise LookupError
    except ValueError:
        raise ValueError(f"invalid value for {key}: {text}") from None
    except LookupError:
        raise ValueError(f"unknown option '{key}' in '{field}'") from None


def _flag(key: str, text: str, *, given: bool) -> bool:
    if not given:
        return True
    if text not in ("1", "true", "0", "false"):
        raise ValueError(
            f'invalid value for \'{key}\': invalid boolean value ("{text}"): must be one of "true", "1", "false", or "0" (default "true")'
        )
    return text in ("1", "true")


def _validate(mount: dict[str, Any]) -> None:
    kind = mount["Type"]
    if not kind:
        raise ValueError("type is required")
    if not mount["Target"]:
        raise ValueError("target is required")
    for group, word in (("BindOptions", "bind"), ("VolumeOptions", "volume"), ("TmpfsOptions", "tmpfs"), ("ImageOptions", "image")):
        if group in mount and word != kind:
            raise ValueError(f"cannot mix '{word}-*' options with mount type '{kind}'")
    if "IdMap" in mount:
        options = {"bind": "BindOptions", "volume": "VolumeOptions"}.get(kind)
        if options is None:
            raise ValueError(f"cannot use 'idmap' with mount type '{kind}'")
        mount.setdefault(options, {})["IdMap"] = mount.pop("IdMap")
    bind = mount.get("BindOptions", {})
    if bind.get("ReadOnlyNonRecursive") and not mount.get("ReadOnly"):
        raise ValueError("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction")
    if bind.get("ReadOnlyForceRecursive") and not mount.get("ReadOnly"):
        raise ValueError("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") != "rprivate":
        raise ValueError("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")


def split_csv(value: str) -> list[str]:
    """The fields of one line of comma-separated values; a field in double quotes may hold commas (Go's encoding/csv)."""
    if not value:
        raise ValueError("value is empty")
    fields: list[str] = []
    position = 0
    while True:
        if value[position : position + 1] == '"':
            field, position = _quoted_field(value, position + 1)
        else:
            end = value.find(",", position)
            end = len(value) if end < 0 else end
            field, position = value[position:end], end
            if '"' in field:
                column = position - len(field) + field.index('"') + 1
                raise ValueError(f'parse error on line 1, column {column}: bare " in non-quoted-field')
        fields.append(field)
        if position == len(value):
            return fields
        position += 1  # the comma


def _quoted_field(value: str, position: int) -> tuple[str, int]:
    """The field that begins at `position`, after its quote, and where its comma (or the end) is. Two quotes stand for one."""
    field = ""
    while True:
        end = value.find('"', position)
        if end < 0:
            raise ValueError('parse error on line 1: extraneous or missing " in quoted-field')
        field += value[position:end]
        position = end + 1
        if value[position : position + 1] != '"':
            break
        field += '"'
        position += 1
    if position < len(value) and value[position] != ",":
        raise ValueError('parse error on line 1: extraneous or missing " in quoted-field')
    return field, position
