"""`--change`: Dockerfile instructions applied to an image config, for `import` and `commit`.

Only the instructions that change the config and run nothing are known. The texts of errors and the order of effects are those of
Docker's builder (moby builder/dockerfile: dispatchers.go, buildkit's shell lexer for variables and quotes).
"""

from __future__ import annotations

import posixpath
import re
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

import msgspec

from teul.dockerfile.words import expand, split_words
from teul.errors import InvalidParameter
from teul.oci.image_config import Healthcheck, ImageConfig

_SHELL = ["/bin/sh", "-c"]
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNITS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PORT = re.compile(r"([0-9]+)(?:-([0-9]+))?(?:/([a-zA-Z]+))?")


class InvalidChange(InvalidParameter):
    """An instruction that cannot be applied."""


def apply_changes(config: ImageConfig, changes: Iterable[str]) -> ImageConfig:
    """`config` with the instructions `changes` applied in their order. Raises `InvalidChange`."""
    draft = _Draft(config)
    for line in _logical_lines("\n".join(changes)):
        word, _, rest = line.partition(" ")
        apply = _INSTRUCTIONS.get(word.upper())
        if apply is None:
            raise InvalidChange(f"{word.upper()} is not a valid change command")
        apply(draft, rest.strip())
    return draft.config


class _Draft:
    """The config while instructions are applied; `command_given` says whether one of them was CMD."""

    def __init__(self, config: ImageConfig) -> None:
        self.config = config
        self.command_given = False

    def set(self, **fields: object) -> None:
        self.config = msgspec.structs.replace(self.config, **fields)

    @property
    def environment(self) -> dict[str, str]:
        pairs = (entry.partition("=") for entry in self.config.env or ())
        return {name: value for name, _, value in pairs}

    def expand(self, text: str) -> str:
        """`text` without quotes and with its variables replaced by the config's environment."""
        return expand(text, self.environment)


def _logical_lines(text: str) -> list[str]:
    """The instructions in `text`, without comments and with continued lines joined."""
    lines: list[str] = []
    continued = ""
    for raw in text.split("\n"):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.endswith("\\"):
            continued += line[:-1]
            continue
        lines.append(re.sub(r"\s+", " ", continued + line, count=1))
        continued = ""
    return [*lines, continued.strip()] if continued.strip() else lines


def _fail(text: str) -> NoReturn:
    raise InvalidChange(text)


def _argument(name: str, text: str) -> str:
    return text or _fail(f"{name} requires exactly one argument")


def _json_list(text: str) -> list[str] | None:
    """The arguments of an instruction in exec form; None if `text` is no JSON list of strings and hence the shell form."""
    if not text.startswith("["):
        return None
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        return None


def _command(text: str, draft: _Draft) -> list[str] | None:
    if (words := _json_list(text)) is not None:
        return words or None
    return [*(draft.config.shell or _SHELL), text] if text else None


def _cmd(draft: _Draft, text: str) -> None:
    draft.command_given = True
    draft.set(cmd=_command(text, draft))


def _entrypoint(draft: _Draft, text: str) -> None:
    draft.set(entrypoint=_command(text, draft))
    # docker: an inherited command was meant for the inherited entrypoint.
    if not draft.command_given:
        draft.set(cmd=None)


def _env(draft: _Draft, text: str) -> None:
    environment = list(draft.config.env or ())
    for name, value in _pairs("ENV", text, draft):
        entry = f"{name}={value}"
        for index, old in enumerate(environment):
            if old.partition("=")[0] == name:
                environment[index] = entry
                break
        else:
            environment.append(entry)
    draft.set(env=environment)


def _label(draft: _Draft, text: str) -> None:
    draft.set(labels={**(draft.config.labels or {}), **dict(_pairs("LABEL", text, draft))})


def _pairs(name: str, text: str, draft: _Draft) -> Sequence[tuple[str, str]]:
    """The pairs of an instruction's `key=value …`, or of the old form `key value`."""
    words = split_words(text)
    if not words:
        _fail(f"{name} requires at least one argument")
    if "=" not in words[0]:
        key, _, value = text.partition(" ")
        if not value.strip():
            _fail(f"{name} must have two arguments")
        return [(draft.expand(key), draft.expand(value.strip()))]
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            _fail(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
        key = draft.expand(key)
        if not key:
            _fail(f"{name} names can not be blank")
        pairs.append((key, draft.expand(value)))
    return pairs


def _expose(draft: _Draft, text: str) -> None:
    ports = dict(draft.config.exposed_ports or {})
    words = [draft.expand(word) for word in split_words(text)]
    if not words:
        _fail("EXPOSE requires at least one argument")
    for word in words:
        match = _PORT.fullmatch(word)
        first, last, protocol = match.groups() if match is not None else _fail(f"invalid containerPort: {word}")
        low, high = int(first), int(last or first)
        protocol = (protocol or "tcp").lower()
        if not low <= high <= 65535:
            _fail(f"invalid containerPort: {word}")
        if protocol not in ("tcp", "udp", "sctp"):
            _fail(f"invalid proto: {protocol}")
        ports.update({f"{port}/{protocol}": {} for port in range(low, high + 1)})
    draft.set(exposed_ports=ports)


def _user(draft: _Draft, text: str) -> None:
    draft.set(user=draft.expand(_argument("USER", text)))


def _volume(draft: _Draft, text: str) -> None:
    words = _json_list(text)
    paths = [draft.expand(word) for word in (split_words(text) if words is None else words)]
    if not paths:
        _fail("VOLUME requires at least one argument")
    if any(not path.strip() for path in paths):
        _fail("VOLUME specified can not be an empty string")
    draft.set(volumes={**(draft.config.volumes or {}), **{path: {} for path in paths}})


def _workdir(draft: _Draft, text: str) -> None:
    path = draft.expand(_argument("WORKDIR", text))
    draft.set(working_dir=posixpath.normpath("/" + posixpath.join(draft.config.working_dir or "/", path).lstrip("/")))


def _stop_signal(draft: _Draft, text: str) -> None:
    name = draft.expand(_argument("STOPSIGNAL", text))
    known = {entry.name.removeprefix("SIG") for entry in signal.Signals}
    realtime = re.fullmatch(r"RT(?:MIN(?:\+\d+)?|MAX(?:-\d+)?)", name.upper().removeprefix("SIG"))
    is_number = name.isascii() and name.isdecimal() and 0 < int(name) <= 64
    if not is_number and realtime is None and name.upper().removeprefix("SIG") not in known:
        _fail(f"invalid signal: {name}")
    draft.set(stop_signal=name)


def _on_build(draft: _Draft, text: str) -> None:
    trigger = _argument("ONBUILD", text).split(" ")[0].upper()
    if trigger == "ONBUILD":
        _fail("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        _fail(f"{trigger} isn't allowed as an ONBUILD trigger")
    draft.set(on_build=[*(draft.config.on_build or ()), text])


def _healthcheck(draft: _Draft, text: str) -> None:
    flags: dict[str, str] = {}
    while text.startswith("--"):
        flag, _, text = text.partition(" ")
        name, _, value = flag[2:].partition("=")
        flags[name] = value
        text = text.strip()
    kind, _, command = text.partition(" ")
    if kind.upper() == "NONE":
        if command.strip():
            _fail("HEALTHCHECK NONE takes no arguments")
        draft.set(healthcheck=Healthcheck(test=["NONE"]))
        return
    if kind.upper() != "CMD":
        _fail(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)' if kind else "HEALTHCHECK requires at least one argument")
    words = _json_list(command.strip())
    test = ["CMD", *words] if words is not None else ["CMD-SHELL", command.strip()]
    if len(test) == 1 or not test[1]:
        _fail("Missing command after HEALTHCHECK CMD")
    draft.set(healthcheck=_healthcheck_of(test, flags))


def _healthcheck_of(test: list[str], flags: dict[str, str]) -> Healthcheck:
    times = ("interval", "timeout", "start-period", "start-interval")
    for name in flags:
        if name not in (*times, "retries"):
            _fail(f"unknown flag: {name}")
    retries = flags.get("retries", "0") or "0"
    if not (retries.isascii() and retries.isdecimal()):
        _fail(f"--retries must be at least 0 (not {retries})")
    interval, timeout, start_period, start_interval = (_duration_ns(name, flags.get(name, "")) for name in times)
    return Healthcheck(
        test=test,
        interval_ns=interval,
        timeout_ns=timeout,
        start_period_ns=start_period,
        start_interval_ns=start_interval,
        retries=int(retries),
    )


def _duration_ns(name: str, text: str) -> int:
    if not text or text == "0":
        return 0
    if _DURATION.sub("", text):
        _fail(f'time: invalid duration "{text}"')
    total = sum(round(float(number) * _UNITS_NS[unit]) for number, unit in _DURATION.findall(text))
    if total < 10**6:
        _fail(f'Interval "{name}" cannot be less than 1ms')
    return total


_INSTRUCTIONS: dict[str, Callable[[_Draft, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
