"""`RUN --mount=…`. Pure. Source: the Dockerfile reference; buildkit instructions/commands_runmount.go for the texts of errors."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass

from teul.dockerfile.errors import InstructionError, did_you_mean
from teul.model.size import parse_memory

_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_KEYS = ("type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid", "gid", "env")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_TRUTHS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
_OF_TYPE = {"required": ("secret", "ssh"), "size": ("tmpfs",)}


@dataclass(slots=True)
class RunMount:
    """One mount of a RUN. `sharing` is empty where it is not said; `env` is the variable of a secret, "" for one named as the secret."""

    type: str = "bind"
    origin: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = True
    size_bytes: int = 0
    id: str = ""
    sharing: str = ""
    required: bool = False
    env: str | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


def check_early(text: str) -> None:
    """What can be told before variables are known. Raises InstructionError."""
    for field in _fields(text):
        key, equals, value = field.partition("=")
        if key.lower() == "from" and equals and "$" in value[:-1]:
            raise InstructionError("'from' doesn't support variable expansion, define alias stage instead")


def parse_mount(text: str, expand: Callable[[str], str]) -> RunMount:
    """Read a mount's fields, with their variables replaced by `expand`. Raises InstructionError."""
    mount = RunMount()
    said_read_only = False
    for field in _fields(text):
        written, equals, value = field.partition("=")
        key = _ALIASES.get(written.lower(), written.lower())
        if not equals and key not in ("readonly", "readwrite", "required"):
            raise InstructionError(f"invalid field '{field}' must be a key=value pair")
        value = expand(value) if equals else "true"
        if key in ("readonly", "readwrite"):
            mount.read_only = _truth(written.lower(), value) is (key == "readonly")
            said_read_only = True
        elif key in _KEYS:
            _set(mount, key, written.lower(), value)
        else:
            names = (*_KEYS, *_ALIASES, "readwrite")
            raise InstructionError(f"unexpected key '{written.lower()}' in '{field}'{did_you_mean(written.lower(), names)}")
    if not said_read_only:
        mount.read_only = mount.type not in ("cache", "tmpfs")
    _check(mount)
    return mount


def _fields(text: str) -> list[str]:
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise InstructionError(f"failed to parse csv mounts: {error}") from error


def _set(mount: RunMount, key: str, written: str, value: str) -> None:
    if mount.type not in _OF_TYPE.get(key, _TYPES):
        raise InstructionError(f"unexpected key '{written}' for mount type '{mount.type}'")
    match key:
        case "type":
            mount.type = _choice("mount type", value, _TYPES)
        case "sharing":
            mount.sharing = _choice("sharing value", value, _SHARING)
        case "from":
            mount.origin = value
        case "source" | "target" | "id" | "env":
            setattr(mount, key, value)
        case "required":
            mount.required = _truth(written, value)
        case "size":
            try:
                mount.size_bytes = parse_memory(value)
            except ValueError as error:
                raise InstructionError(f"invalid value for {written}: {value}") from error
        case _:
            setattr(mount, key, _number(key, value, base=8 if key == "mode" else 10))


def _choice(what: str, value: str, options: tuple[str, ...]) -> str:
    if value.lower() not in options:
        raise InstructionError(f'unsupported {what} "{value}"{did_you_mean(value, options)}')
    return value.lower()


def _truth(key: str, value: str) -> bool:
    if value not in _TRUTHS:
        raise InstructionError(f"invalid value for {key}: {value}")
    return _TRUTHS[value]


def _number(key: str, value: str, *, base: int) -> int:
    try:
        number = int(value, base) if value.isascii() and value.isdigit() else -1
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 32:
        raise InstructionError(f"invalid value {value} for {key}")
    return number


def _check(mount: RunMount) -> None:
    if mount.type not in ("secret", "ssh", "cache"):
        for key in ("mode", "uid", "gid"):
            if getattr(mount, key) is not None:
                raise InstructionError(f'{key} not allowed for "{mount.type}" type mounts')
    if mount.type == "secret":
        if mount.origin:
            raise InstructionError("secret mount should not have a from")
        if mount.sharing:
            raise InstructionError("secret mount should not define sharing")
        if not (mount.source or mount.target or mount.id):
            raise InstructionError("invalid secret mount. one of source, target required")
        if mount.source and mount.id:
            raise InstructionError("both source and id can't be set")
    if mount.sharing and mount.type != "cache":
        raise InstructionError(f"invalid cache sharing set for {mount.type} mount")
