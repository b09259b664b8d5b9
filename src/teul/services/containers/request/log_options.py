"""Options of log drivers, read: sizes, numbers, and what of a container goes along with its lines. Pure.

docker: daemon/logger/loginfo.go, jsonfilelog/jsonfilelog.go, local/config.go, loggerutils/cache.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from teul.errors import InvalidParameter
from teul.model.config import ContainerConfig
from teul.model.number import parse_int64

T = TypeVar("T")
_LARGEST_BYTES = (1 << 63) - 1
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?) ?(?:([kKmMgGtTpP])[iI]?)?[bB]?")
_THOUSANDS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
# Go, strconv.ParseBool.
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
# What a json-file log may grow to when a container does not say: a limit by default, unlike Docker.
_JSON_FILE_BYTES = 20_000_000
# docker: local/local.go.
_LOCAL_BYTES = 20 * 1024 * 1024
_FILES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """How much of a log to keep: so many files of so many bytes, and whether those that are full are compressed."""

    max_bytes: int
    max_files: int
    compress: bool


def json_file_limits(options: Mapping[str, str]) -> FileLimits:
    """Of a json-file log. docker: with a size alone there is one file, which starts over when it is full. Raises InvalidParameter."""
    size, files = options.get("max-size"), options.get("max-file")
    max_bytes = None if size is None else _max_bytes(size)
    max_files = None if files is None else _max_files(files)
    compress = "compress" in options and parse_boolean(options["compress"])
    if compress and ((max_files or 1) < 2 or max_bytes is None):
        raise InvalidParameter("compress cannot be true when max-file is less than 2 or max-size is not set")
    return FileLimits(
        max_bytes=_JSON_FILE_BYTES if max_bytes is None else max_bytes,
        max_files=max_files or (_FILES if max_bytes is None else 1),
        compress=compress,
    )


def local_limits(options: Mapping[str, str], prefix: str = "") -> FileLimits:
    """Of a log of the `local` driver; with the `prefix` "cache-", of the copy that is kept of what goes elsewhere.

    Raises InvalidParameter.
    """
    max_bytes, max_files, compress = _LOCAL_BYTES, _FILES, True
    if (size := options.get(f"{prefix}max-size")) is not None:
        if size.startswith("-") and _SIZE.fullmatch(size[1:]):
            raise InvalidParameter(f"{prefix}max-size must not be negative")
        max_bytes = _named(f"invalid value for {prefix}max-size: {size}", parse_size, size)
    if (files := options.get(f"{prefix}max-file")) is not None:
        max_files = _named(f"invalid value for {prefix}max-file: {files}", _parse_count, files)
        if max_files < 0:
            raise InvalidParameter(f"{prefix}max-file must not be negative")
    if (text := options.get(f"{prefix}compress")) is not None:
        compress = _named(f"invalid boolean value for {prefix}compress", parse_boolean, text)
    if compress and max_files <= 1:
        raise InvalidParameter("compression cannot be enabled when max file count is 1")
    # docker: a log that may have no bytes is full with each line.
    return FileLimits(max_bytes=max(1, max_bytes), max_files=max(1, max_files), compress=compress)


def keeps_cache(options: Mapping[str, str]) -> bool:
    """Whether what goes elsewhere is kept here as well, to be read back. Raises InvalidParameter."""
    text = options.get("cache-disabled", "")
    try:
        return not (text and parse_boolean(text))
    except InvalidParameter:
        raise InvalidParameter(f"invalid value for option cache-disabled: {text}") from None


def log_attributes(options: Mapping[str, str], config: ContainerConfig) -> dict[str, str]:
    """What goes along with each line: the labels and variables that `labels`, `env` and their `-regex` name. Raises InvalidParameter."""
    environment = dict(entry.split("=", 1) for entry in config.env or () if "=" in entry)
    found: dict[str, str] = {}
    for option, values in (("labels", config.labels or {}), ("env", environment)):
        found |= {name: values[name] for name in _names(options.get(option)) if name in values}
        if pattern := options.get(f"{option}-regex"):
            expression = parse_regex(pattern)
            found |= {name: value for name, value in values.items() if expression.search(name)}
    return found


def parse_regex(pattern: str) -> re.Pattern[str]:
    """A regular expression of a client's: Go's (RE2), as far as Python understands the same by it. Raises InvalidParameter."""
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidParameter(f"error parsing regexp: {error}: `{pattern}`") from None


def parse_boolean(text: str) -> bool:
    """As Go reads truth. Raises InvalidParameter."""
    if text not in _BOOLEANS:
        raise InvalidParameter(f"strconv.ParseBool: parsing {json.dumps(text)}: invalid syntax")
    return _BOOLEANS[text]


def parse_size(text: str) -> int:
    """`10m` to 10,000,000: thousands, not 1024s (go-units FromHumanSize). Raises InvalidParameter."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidParameter(f"invalid size: '{text}'")
    size_bytes = float(match[1]) * 1000 ** _THOUSANDS[(match[2] or "").lower()]
    if size_bytes > _LARGEST_BYTES:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(size_bytes)


def _max_bytes(text: str) -> int:
    size_bytes = parse_size(text)
    if size_bytes <= 0:
        raise InvalidParameter("max-size must be a positive number")
    return size_bytes


def _max_files(text: str) -> int:
    try:
        count = parse_int64(text)
    except ValueError:
        raise InvalidParameter(f"invalid max-file: {json.dumps(text)}") from None
    if count < 1:
        raise InvalidParameter("max-file cannot be less than 1")
    return count


def _parse_count(text: str) -> int:
    try:
        return parse_int64(text)
    except ValueError:
        raise InvalidParameter(f"strconv.Atoi: parsing {json.dumps(text)}: invalid syntax") from None


def _named(what: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except InvalidParameter as error:
        raise InvalidParameter(f"{what}: {error.message}") from None


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name for name in (text or "").split(",") if name)
