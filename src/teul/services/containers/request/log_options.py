"""The log driver of a container and its options, checked and read. docker: daemon/logger/factory.go, jsonfilelog.go. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from teul.errors import InvalidParameter, NotImplementedHere
from teul.model.config import ContainerConfig
from teul.model.host_config import LogConfig
from teul.model.number import parse_int64

DEFAULT_DRIVER = "json-file"
_MODE_OPTIONS = frozenset({"mode", "max-buffer-size"})
_CACHE_OPTIONS = frozenset({"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"})
_JSON_FILE_OPTIONS = frozenset({"max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"})
_LARGEST_BYTES = (1 << 63) - 1
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?) ?(?:([kKmMgGtTpP])[iI]?)?[bB]?")
_THOUSANDS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_FALSE = ("", "0", "f", "F", "FALSE", "false", "False")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """How much of a log to keep; None is "not said". docker: with a size alone there is one file, which starts over when it is full."""

    max_bytes: int | None = None
    max_files: int | None = None


def check_log_config(log_config: LogConfig) -> None:
    """Raises InvalidParameter, and NotImplementedHere for what Docker's json-file driver can do and this engine's cannot."""
    driver = log_config.type or DEFAULT_DRIVER
    options = log_config.config or {}
    if driver == "none":
        return
    _check_mode(options)
    if driver != DEFAULT_DRIVER:
        # docker: what is no driver of its own is looked for among plugins.
        raise InvalidParameter(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    for name in options:
        if name not in _JSON_FILE_OPTIONS | _MODE_OPTIONS | _CACHE_OPTIONS:
            raise InvalidParameter(f"unknown log opt '{name}' for json-file log driver")
    for name in ("labels-regex", "env-regex", "tag"):
        if options.get(name):
            raise NotImplementedHere(f"log opt '{name}' is not supported yet")
    if options.get("compress", "") not in _FALSE:
        raise NotImplementedHere("log opt 'compress' is not supported yet")
    parse_log_options(options)


def parse_log_options(options: Mapping[str, str]) -> LogOptions:
    """LogConfig.Config to numbers. Raises InvalidParameter."""
    size, files = options.get("max-size"), options.get("max-file")
    return LogOptions(max_bytes=None if size is None else _max_bytes(size), max_files=None if files is None else _max_files(files))


def log_attributes(options: Mapping[str, str], config: ContainerConfig) -> dict[str, str]:
    """The `attrs` of each log entry: the labels and variables that the options `labels` and `env` name."""
    labels = config.labels or {}
    environment = dict(entry.partition("=")[::2] for entry in config.env or ())
    attributes = {name: labels[name] for name in _names(options.get("labels")) if name in labels}
    return attributes | {name: environment[name] for name in _names(options.get("env")) if name in environment}


def _check_mode(options: Mapping[str, str]) -> None:
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        try:
            parse_size(options["max-buffer-size"])
        except InvalidParameter as error:
            raise InvalidParameter(f"error parsing option max-buffer-size: {error.message}") from None


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


def parse_size(text: str) -> int:
    """`10m` to 10,000,000: thousands, not 1024s (go-units FromHumanSize). Raises InvalidParameter."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidParameter(f"invalid size: '{text}'")
    size_bytes = float(match[1]) * 1000 ** _THOUSANDS[(match[2] or "").lower()]
    if size_bytes > _LARGEST_BYTES:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(size_bytes)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name for name in (text or "").split(",") if name)
