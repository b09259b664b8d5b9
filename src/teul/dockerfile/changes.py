"""What instructions do to an image's config: those that change nothing else, for `--change` and for builds. Pure.

The texts of errors and the order of effects are those of Docker's builder (moby daemon/builder/dockerfile/dispatchers.go).
"""

from __future__ import annotations

import posixpath
import re
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import msgspec

from teul.dockerfile.errors import DockerfileError
from teul.dockerfile.lines import read_lines
from teul.dockerfile.parse import parse_line
from teul.dockerfile.syntax import (
    Cmd,
    CommandLine,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    OnBuild,
    Pair,
    StopSignal,
    User,
    Volume,
    WorkDir,
)
from teul.dockerfile.words import expand
from teul.errors import InvalidParameter
from teul.oci.image_config import ImageConfig

_SHELL = ["/bin/sh", "-c"]
_PORT = re.compile(r"([0-9]+)(?:-([0-9]+))?(?:/([a-zA-Z]+))?")


class InvalidChange(InvalidParameter):
    """An instruction that cannot be applied."""


def apply_changes(config: ImageConfig, changes: Iterable[str]) -> ImageConfig:
    """`config` with the instructions `changes` applied in their order. Raises `InvalidChange`."""
    text = "\n".join(changes)
    if not text.strip():
        return config
    draft = _Draft(config)
    try:
        instructions = []
        for line in read_lines(text).lines:
            if line.name not in _ALLOWED:
                _fail(f"{line.keyword} is not a valid change command")
            instructions.append(parse_line(line))
    except DockerfileError as error:
        raise InvalidChange(error.reason) from error
    for instruction in instructions:
        _EFFECTS[type(instruction)](draft, instruction)
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

    def expand(self, text: str, instruction: Instruction) -> str:
        """`text` without quotes and with its variables replaced by the config's environment."""
        return expand(text, self.environment, escape=instruction.line.escape)


def _fail(text: str) -> NoReturn:
    raise InvalidChange(text)


def _command(command: CommandLine, draft: _Draft) -> list[str] | None:
    words = [*(draft.config.shell or _SHELL)] if command.shell and command.words else []
    return [*words, *command.words] or None


def _cmd(draft: _Draft, instruction: Cmd) -> None:
    draft.command_given = True
    draft.set(cmd=_command(instruction.command, draft))


def _entrypoint(draft: _Draft, instruction: Entrypoint) -> None:
    draft.set(entrypoint=_command(instruction.command, draft))
    # docker: an inherited command was meant for the inherited entrypoint.
    if not draft.command_given:
        draft.set(cmd=None)


def _env(draft: _Draft, instruction: Env) -> None:
    environment = list(draft.config.env or ())
    for name, value in _pairs(draft, instruction, instruction.pairs):
        entry = f"{name}={value}"
        for index, old in enumerate(environment):
            if old.partition("=")[0] == name:
                environment[index] = entry
                break
        else:
            environment.append(entry)
    draft.set(env=environment)


def _label(draft: _Draft, instruction: Label) -> None:
    draft.set(labels={**(draft.config.labels or {}), **dict(_pairs(draft, instruction, instruction.pairs))})


def _pairs(draft: _Draft, instruction: Instruction, pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    found = [(draft.expand(pair.name, instruction), draft.expand(pair.value or "", instruction)) for pair in pairs]
    if not all(name for name, _ in found):
        _fail(f"{instruction.line.name} names can not be blank")
    return found


def _expose(draft: _Draft, instruction: Expose) -> None:
    ports = dict(draft.config.exposed_ports or {})
    # docker: the one instruction in which a variable may stand for several words.
    for word in " ".join(draft.expand(port, instruction) for port in instruction.ports).split():
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


def _user(draft: _Draft, instruction: User) -> None:
    draft.set(user=draft.expand(instruction.user, instruction))


def _volume(draft: _Draft, instruction: Volume) -> None:
    paths = [draft.expand(path, instruction) for path in instruction.paths]
    if not all(paths):
        _fail("VOLUME specified can not be an empty string")
    draft.set(volumes={**(draft.config.volumes or {}), **{path: {} for path in paths}})


def _workdir(draft: _Draft, instruction: WorkDir) -> None:
    path = draft.expand(instruction.path, instruction)
    draft.set(working_dir=posixpath.normpath("/" + posixpath.join(draft.config.working_dir or "/", path).lstrip("/")))


def _stop_signal(draft: _Draft, instruction: StopSignal) -> None:
    name = draft.expand(instruction.signal, instruction)
    known = {entry.name.removeprefix("SIG") for entry in signal.Signals}
    realtime = re.fullmatch(r"RT(?:MIN(?:\+\d+)?|MAX(?:-\d+)?)", name.upper().removeprefix("SIG"))
    is_number = name.isascii() and name.isdecimal() and 0 < int(name) <= 64
    if not is_number and realtime is None and name.upper().removeprefix("SIG") not in known:
        _fail(f"invalid signal: {name}")
    draft.set(stop_signal=name)


def _on_build(draft: _Draft, instruction: OnBuild) -> None:
    draft.set(on_build=[*(draft.config.on_build or ()), instruction.expression])


def _health_check(draft: _Draft, instruction: HealthCheck) -> None:
    draft.set(healthcheck=instruction.check)


_ALLOWED = ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
_EFFECTS: dict[type[Instruction], Callable[[_Draft, Any], None]] = {
    Cmd: _cmd,
    Entrypoint: _entrypoint,
    Env: _env,
    Expose: _expose,
    HealthCheck: _health_check,
    Label: _label,
    OnBuild: _on_build,
    StopSignal: _stop_signal,
    User: _user,
    Volume: _volume,
    WorkDir: _workdir,
}
