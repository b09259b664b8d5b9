"""The request for a volume, checked with Docker's rules and texts. Pure.

docker: daemon/volume/local/local.go (names), local_unix.go (options), daemon/volume/service/errors.go (what an operation's error says).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from teul.errors import Conflict, InvalidParameter, NotFound
from teul.model.size import parse_memory

_NAME_CHARACTERS = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_NAME = re.compile(f"{_NAME_CHARACTERS}+")
_MAX_NAME_BYTES = 255  # of a directory
_OPTIONS = frozenset({"type", "o", "device", "size"})
_NEEDED = (("device", ("type",)), ("type", ("device",)), ("o", ("device", "type")))


class NoSuchVolume(NotFound):
    """There is no volume of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"get {name}: no such volume" if name else "get: no such volume")


class VolumeInUse(Conflict):
    """Containers have the volume."""

    def __init__(self, name: str, containers: list[str]) -> None:
        super().__init__(f"remove {name}: volume is in use - [{', '.join(containers)}]")


def check_name(name: str) -> None:
    """Raise InvalidParameter for what cannot be a volume's name."""
    if len(name) == 1:
        raise _refused(name, "volume name is too short, names should be at least two alphanumeric characters")
    if not _NAME.fullmatch(name):
        raise _refused(
            name,
            f'{json.dumps(name)} includes invalid characters for a local volume name, only "{_NAME_CHARACTERS}" are allowed. '
            "If you intended to pass a host directory, use absolute path",
        )
    if len(name) > _MAX_NAME_BYTES:
        raise _refused(name, f"volume name is too long, it should be less than {_MAX_NAME_BYTES + 1} characters")


def check_options(name: str, options: Mapping[str, str] | None) -> None:
    """Raise InvalidParameter for options that the local driver does not know, or not alone."""
    if not options:
        return
    for option in options:
        if option not in _OPTIONS:
            raise _refused(name, f"invalid option: {json.dumps(option)}")
    if "size" in options:
        try:
            size_bytes = parse_memory(options["size"])
        except ValueError as error:
            raise _refused(name, str(error)) from None
        if size_bytes > 0:
            raise _refused(name, "quota size requested but no quota support")
    for option, needed in _NEEDED:
        for other in needed:
            if option in options and other not in options:
                raise _refused(name, f"missing required option: {json.dumps(other)}")


def _refused(name: str, reason: str) -> InvalidParameter:
    return InvalidParameter(f"create {name}: {reason}")
