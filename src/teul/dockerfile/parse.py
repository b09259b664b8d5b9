"""From a Dockerfile's lines to its instructions. Pure.

Source: the Dockerfile reference; buildkit frontend/dockerfile/changes (parse.go) for the texts of errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypedDict

from teul.dockerfile.arguments import Flags, exec_form, parse_flags
from teul.dockerfile.errors import DockerfileError, InstructionError, did_you_mean
from teul.dockerfile.health import parse_health_check
from teul.dockerfile.lines import BLANKS, Heredoc, Line, parse_heredoc, read_lines
from teul.dockerfile.run_mounts import check_early
from teul.dockerfile.syntax import (
    Add,
    Arg,
    Cmd,
    CommandLine,
    Copy,
    Dockerfile,
    Entrypoint,
    Env,
    Expose,
    From,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Pair,
    Run,
    Shell,
    Stage,
    StopSignal,
    User,
    Volume,
    WorkDir,
)
from teul.dockerfile.words import split_words

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_ONBUILD = re.compile(r"\s*ONBUILD\s*", re.IGNORECASE)
_NETWORKS = ("default", "none", "host")
_SECURITY = ("sandbox", "insecure")


def parse(text: str) -> Dockerfile:
    """Read a Dockerfile. Raises DockerfileError."""
    found = read_lines(text)
    stages: list[Stage] = []
    arguments: list[Arg] = []
    for line in found.lines:
        instruction = parse_line(line)
        if isinstance(instruction, From):
            stages.append(Stage(instruction, []))
        elif stages:
            stages[-1] = Stage(stages[-1].start, [*stages[-1].instructions, instruction])
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            raise DockerfileError("no build stage in current context", line.first_line, line.last_line)
    if not stages:
        raise DockerfileError("dockerfile contains no stages to build", found.lines[0].first_line)
    return Dockerfile(stages, arguments, found.directives, found.escape, found.empty_continuations)


def parse_line(line: Line) -> Instruction:
    """One instruction. Raises DockerfileError."""
    try:
        make = _INSTRUCTIONS.get(line.name)
        if make is None:
            raise InstructionError(f"unknown instruction: {line.keyword}{did_you_mean(line.keyword, _INSTRUCTIONS, keeps_case=False)}")
        return make(line)
    except InstructionError as error:
        raise DockerfileError(error.message, line.first_line, line.last_line) from error


def parse_trigger(expression: str) -> Instruction:
    """What an image's ONBUILD has in store: one instruction, which must be allowed there. Raises DockerfileError."""
    found = read_lines(expression)
    if len(found.lines) != 1:
        raise DockerfileError("ONBUILD trigger should be a single expression", 1)
    line = found.lines[0]
    if line.name in ("ONBUILD", "FROM", "MAINTAINER"):
        raise DockerfileError(f"{line.name} isn't allowed as an ONBUILD trigger", 1)
    return parse_line(line)


def _no_flags(line: Line) -> None:
    parse_flags(line.flags)


def _one(line: Line) -> str:
    if not line.rest:
        raise InstructionError(f"{line.name} requires exactly one argument")
    _no_flags(line)
    return line.rest


def _blank_words(text: str) -> list[str]:
    return BLANKS.split(text) if text else []


def _from(line: Line) -> From:
    words = _blank_words(line.rest)
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise InstructionError(f'invalid name for build stage: "{words[2]}", name can\'t start with a number or contain symbols')
    elif len(words) != 1:
        raise InstructionError("FROM requires either one or three arguments")
    return From(line, words[0], name, parse_flags(line.flags, texts=("platform",)).text("platform"))


def _arg(line: Line) -> Arg:
    words = split_words(line.rest, escape=line.escape)
    if not words:
        raise InstructionError("ARG requires at least one argument")
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise InstructionError("ARG names can not be blank")
        pairs.append(Pair(name, value if equals else None))
    return Arg(line, tuple(pairs))


def _pairs(line: Line) -> tuple[Pair, ...]:
    """`name=value …`, or of old `name value`."""
    words = split_words(line.rest, escape=line.escape)
    if words and "=" not in words[0]:
        name, *value = BLANKS.split(line.rest, maxsplit=1)
        if not value:
            raise InstructionError(f"{line.name} must have two arguments")
        pairs = [Pair(name, value[0], is_legacy=True)]
    else:
        pairs = []
        for word in words:
            name, equals, text = word.partition("=")
            if not equals:
                raise InstructionError(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
            pairs.append(Pair(name, text))
    _no_flags(line)
    if not pairs:
        raise InstructionError(f"{line.name} requires at least one argument")
    if not all(pair.name for pair in pairs):
        raise InstructionError(f"{line.name} names can not be blank")
    return tuple(pairs)


def _transfer_words(line: Line) -> tuple[tuple[str, ...], tuple[Heredoc, ...], str]:
    words = exec_form(line.rest)
    if words is None:
        words = _blank_words(line.rest)
    if len(words) < 2:
        raise InstructionError(
            f"{line.name} requires at least two arguments, but only one was provided. Destination could not be determined"
        )
    *sources, target = words
    if parse_heredoc(target) is not None:
        raise InstructionError(f"{line.name} cannot accept a heredoc as a destination")
    by_name = {heredoc.name: heredoc for heredoc in line.heredocs}
    paths, contents = [], []
    for source in sources:
        named = parse_heredoc(source)
        if named is not None and named.name in by_name:
            contents.append(by_name[named.name])
        else:
            paths.append(source)
    return tuple(paths), tuple(contents), target


class _Arrival(TypedDict):
    chown: str
    chmod: str
    link: bool
    exclude: tuple[str, ...]


def _arrival(flags: Flags) -> _Arrival:
    """How files arrive, which ADD and COPY say alike."""
    return {
        "chown": flags.text("chown"),
        "chmod": flags.text("chmod"),
        "link": bool(flags.truth("link")),
        "exclude": flags.all("exclude"),
    }


def _add(line: Line) -> Add:
    sources, contents, target = _transfer_words(line)
    flags = parse_flags(line.flags, texts=("chown", "chmod", "checksum"), lists=("exclude",), truths=("link", "keep-git-dir", "unpack"))
    return Add(
        line,
        sources,
        contents,
        target,
        **_arrival(flags),
        checksum=flags.text("checksum"),
        unpack=flags.truth("unpack"),
        keep_git_dir=flags.truth("keep-git-dir"),
    )


def _copy(line: Line) -> Copy:
    sources, contents, target = _transfer_words(line)
    flags = parse_flags(line.flags, texts=("chown", "chmod", "from"), lists=("exclude",), truths=("link", "parents"))
    return Copy(
        line,
        sources,
        contents,
        target,
        **_arrival(flags),
        origin=flags.text("from"),
        parents=bool(flags.truth("parents")),
    )


def _command(line: Line) -> CommandLine:
    words = exec_form(line.rest)
    if words is None:
        return CommandLine((line.rest,) if line.rest else (), shell=True, heredocs=line.heredocs)
    return CommandLine(tuple(words), shell=False, heredocs=line.heredocs)


def _run(line: Line) -> Run:
    flags = parse_flags(line.flags, texts=("network", "security"), lists=("mount",))
    network, security = flags.text("network") or "default", flags.text("security") or "sandbox"
    command = _command(line)
    for mount in flags.all("mount"):
        check_early(mount)
    if network not in _NETWORKS:
        raise InstructionError(f'invalid network mode "{network}"')
    if security not in _SECURITY:
        raise InstructionError(f'security "{security}" is not valid')
    return Run(line, command, flags.all("mount"), network, security)


def _cmd(line: Line) -> Cmd:
    _no_flags(line)
    return Cmd(line, _command(line))


def _entrypoint(line: Line) -> Entrypoint:
    _no_flags(line)
    return Entrypoint(line, _command(line))


def _health_check(line: Line) -> HealthCheck:
    return HealthCheck(line, parse_health_check(line.flags, line.rest))


def _expose(line: Line) -> Expose:
    ports = _blank_words(line.rest)
    if not ports:
        raise InstructionError("EXPOSE requires at least one argument")
    _no_flags(line)
    return Expose(line, tuple(sorted(ports)))


def _volume(line: Line) -> Volume:
    words = exec_form(line.rest)
    paths = _blank_words(line.rest) if words is None else words
    if not paths:
        raise InstructionError("VOLUME requires at least one argument")
    _no_flags(line)
    if not all(path.strip() for path in paths):
        raise InstructionError("VOLUME specified can not be an empty string")
    return Volume(line, tuple(path.strip() for path in paths))


def _shell(line: Line) -> Shell:
    _no_flags(line)
    words = exec_form(line.rest)
    if words is None and line.rest:
        raise InstructionError(f"SHELL requires the arguments to be in JSON form: {line.text}")
    if not words:
        raise InstructionError("SHELL requires at least one argument")
    return Shell(line, tuple(words))


def _on_build(line: Line) -> OnBuild:
    if not line.rest:
        raise InstructionError("ONBUILD requires at least one argument")
    _no_flags(line)
    trigger = line.trigger
    if trigger.name == "ONBUILD":
        raise InstructionError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger.name in ("MAINTAINER", "FROM"):
        raise InstructionError(f"{trigger.name} isn't allowed as an ONBUILD trigger")
    parts: Sequence[str] = [f"\n{heredoc.content}{heredoc.name}" for heredoc in line.heredocs]
    return OnBuild(line, _ONBUILD.sub("", line.text, count=1) + "".join(parts))


_INSTRUCTIONS: dict[str, Callable[[Line], Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": lambda line: Env(line, _pairs(line)),
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _health_check,
    "LABEL": lambda line: Label(line, _pairs(line)),
    "MAINTAINER": lambda line: Maintainer(line, _one(line)),
    "ONBUILD": _on_build,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda line: StopSignal(line, _one(line)),
    "USER": lambda line: User(line, _one(line)),
    "VOLUME": _volume,
    "WORKDIR": lambda line: WorkDir(line, _one(line)),
}
