"""Which log drivers there are, what each may be asked for, and what the engine's own defaults add. Pure.

docker: daemon/logger/factory.go, daemon/logs.go (mergeAndVerifyLogConfig). What dockerd finds out about a value when a container starts is
refused here when it is made: that a value is none does not change until then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from teul.errors import InvalidParameter
from teul.model.host_config import LogConfig
from teul.model.size import parse_memory
from teul.services.containers.request import log_options, syslog_options
from teul.services.containers.request.log_tag import check_tag

JSON_FILE, LOCAL, SYSLOG, JOURNALD, NONE = "json-file", "local", "syslog", "journald", "none"
# As the engine shows them: in order, and without the one that is none.
DRIVERS = (JOURNALD, JSON_FILE, LOCAL, SYSLOG)
# Those whose lines go to somebody else, who is not asked for them again.
FORWARDING = (JOURNALD, SYSLOG)

_ATTRIBUTES = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})
_FILES = frozenset({"max-file", "max-size", "compress"})
_OPTIONS = {
    JSON_FILE: _ATTRIBUTES | _FILES,
    LOCAL: _ATTRIBUTES | _FILES,
    SYSLOG: _ATTRIBUTES | syslog_options.NAMES,
    JOURNALD: _ATTRIBUTES,
}
_MODE_OPTIONS = frozenset({"mode", "max-buffer-size"})
_CACHE_OPTIONS = frozenset({"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"})
NON_BLOCKING = "non-blocking"
_BUFFER_BYTES = 1_000_000  # docker: daemon/logger/ring.go


def with_defaults(given: LogConfig, defaults: LogConfig) -> LogConfig:
    """What a container's log is, given what the engine's are: its options count where the driver is the same, but those of the copy
    that is kept here count for every driver.
    """
    driver = given.type or defaults.type
    inherited = defaults.config or {}
    if driver != defaults.type:
        inherited = {name: value for name, value in inherited.items() if name in _CACHE_OPTIONS}
    return LogConfig(type=driver, config={**inherited, **(given.config or {})})


def check_log_config(log_config: LogConfig, *, exists: Callable[[str], bool] = lambda _path: True) -> None:
    """`exists` tells whether a path of the host is there. Raises InvalidParameter."""
    driver = log_config.type or JSON_FILE
    options = log_config.config or {}
    if driver == NONE:
        return
    buffer_bytes(options)
    log_options.keeps_cache(options)
    if driver not in DRIVERS:
        # docker: what is no driver of its own is looked for among plugins.
        raise InvalidParameter(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    for name in options:
        if name not in _OPTIONS[driver] | _MODE_OPTIONS | _CACHE_OPTIONS:
            known_as = f"log driver {driver}" if driver == LOCAL else f"{driver} log driver"
            raise InvalidParameter(f"unknown log opt '{name}' for {known_as}")
    for name in ("labels-regex", "env-regex"):
        log_options.parse_regex(options.get(name, ""))
    check_tag(options.get("tag", ""))
    if driver == JSON_FILE:
        log_options.json_file_limits(options)
    elif driver == LOCAL:
        log_options.local_limits(options)
    else:
        log_options.local_limits(options, "cache-")
    if driver == SYSLOG:
        syslog_options.check(options, exists)


def buffer_bytes(options: Mapping[str, str]) -> int | None:
    """How much may wait for a server before lines are lost; None where the program is to wait instead. Raises InvalidParameter."""
    mode = options.get("mode", "")
    if mode not in ("", "blocking", NON_BLOCKING):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != NON_BLOCKING:
            raise InvalidParameter(f"logger: max-buffer-size option is only supported with 'mode={NON_BLOCKING}'")
        try:
            return parse_memory(options["max-buffer-size"])
        except ValueError as error:
            raise InvalidParameter(f"error parsing option max-buffer-size: {error}") from None
    return _BUFFER_BYTES if mode == NON_BLOCKING else None
