"""HEALTHCHECK's flags and command. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from teul.dockerfile.arguments import exec_form, parse_flags
from teul.dockerfile.errors import InstructionError
from teul.oci.image_config import Healthcheck

_TIMES = ("interval", "timeout", "start-period", "start-interval")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNITS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def parse_health_check(flags: Sequence[str], text: str) -> Healthcheck:
    """Raises InstructionError."""
    kind, _, rest = text.partition(" ")
    if not kind:
        raise InstructionError("HEALTHCHECK requires at least one argument")
    if kind.upper() == "NONE":
        if rest.strip():
            raise InstructionError("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(test=["NONE"])
    given = parse_flags(flags, texts=(*_TIMES, "retries"))
    if kind.upper() != "CMD":
        raise InstructionError(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    words = exec_form(rest.strip())
    test = ["CMD-SHELL", rest.strip()] if words is None else ["CMD", *words]
    if not "".join(test[1:2]):
        raise InstructionError("Missing command after HEALTHCHECK CMD")
    interval, timeout, start_period, start_interval = (parse_duration_ns(name, given.text(name)) for name in _TIMES)
    return Healthcheck(
        test=test,
        interval_ns=interval,
        timeout_ns=timeout,
        start_period_ns=start_period,
        start_interval_ns=start_interval,
        retries=_retries(given.text("retries")),
    )


def parse_duration_ns(name: str, text: str) -> int:
    """A time in Go's notation, in nanoseconds; 0 for none. `name` is the flag that it is of. Raises InstructionError."""
    if not text or text == "0":
        return 0
    if _DURATION.sub("", text):
        raise InstructionError(f'time: invalid duration "{text}"')
    total = sum(round(float(number) * _UNITS_NS[unit]) for number, unit in _DURATION.findall(text))
    if 0 < total < 10**6:
        raise InstructionError(f'Interval "{name}" cannot be less than 1ms')
    return total


def _retries(text: str) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"[+-]?[0-9]+", text) or abs(int(text)) >= 1 << 31:
        raise InstructionError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if int(text) < 0:
        raise InstructionError(f"--retries cannot be negative ({int(text)})")
    return int(text)
