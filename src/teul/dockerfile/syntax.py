"""What a Dockerfile says, typed: stages and their instructions, with words as they are written; variables are not replaced yet. Pure.

Source: the Dockerfile reference. Every instruction has the `line` that it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from teul.dockerfile.lines import Heredoc, Line
from teul.oci.image_config import Healthcheck


@dataclass(frozen=True, slots=True)
class Instruction:
    """One of a stage."""

    line: Line


@dataclass(frozen=True, slots=True)
class Pair:
    """`name=value`, or `name value` with `is_legacy`. Of an ARG without a default, `value` is None."""

    name: str
    value: str | None
    is_legacy: bool = False


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What is run: words, or text for the shell if `shell`; with heredocs that stand below it."""

    words: tuple[str, ...]
    shell: bool
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class From(Instruction):
    """The beginning of a stage. `name` is in small letters, empty for a stage without one."""

    base: str
    name: str
    platform: str


@dataclass(frozen=True, slots=True)
class Arg(Instruction):
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Env(Instruction):
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Label(Instruction):
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Maintainer(Instruction):
    name: str


@dataclass(frozen=True, slots=True)
class Transfer(Instruction):
    """What ADD and COPY have in common: paths and heredocs as sources, a place, and how files arrive there."""

    sources: tuple[str, ...]
    contents: tuple[Heredoc, ...]
    target: str
    chown: str
    chmod: str
    link: bool
    exclude: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Add(Transfer):
    """`unpack` and `keep_git_dir` are None where they are not said."""

    checksum: str
    unpack: bool | None
    keep_git_dir: bool | None


@dataclass(frozen=True, slots=True)
class Copy(Transfer):
    """`origin` is the stage, image or context that the sources are in, empty for the build context."""

    origin: str
    parents: bool


@dataclass(frozen=True, slots=True)
class Run(Instruction):
    """`mounts` are the values of `--mount`, read by `parse_mount` once their variables are known."""

    command: CommandLine
    mounts: tuple[str, ...]
    network: str
    security: str


@dataclass(frozen=True, slots=True)
class Cmd(Instruction):
    command: CommandLine


@dataclass(frozen=True, slots=True)
class Entrypoint(Instruction):
    command: CommandLine


@dataclass(frozen=True, slots=True)
class HealthCheck(Instruction):
    check: Healthcheck


@dataclass(frozen=True, slots=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, slots=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkDir(Instruction):
    path: str


@dataclass(frozen=True, slots=True)
class StopSignal(Instruction):
    signal: str


@dataclass(frozen=True, slots=True)
class Shell(Instruction):
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OnBuild(Instruction):
    """`expression` is the instruction as an image keeps it, with its heredocs."""

    expression: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage's beginning and what follows."""

    start: From
    instructions: Sequence[Instruction]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """`arguments` stand before the first stage. `empty_continuations` are lines, deprecated, at which an instruction goes on."""

    stages: Sequence[Stage]
    arguments: Sequence[Arg]
    directives: Mapping[str, str]
    escape: str
    empty_continuations: Sequence[int] = ()

    def find(self, name: str) -> int | None:
        """The index of the stage that is called so, or has this number; of several the last."""
        for index in range(len(self.stages) - 1, -1, -1):
            if self.stages[index].start.name == name.lower():
                return index
        return int(name) if name.isascii() and name.isdecimal() and int(name) < len(self.stages) else None
