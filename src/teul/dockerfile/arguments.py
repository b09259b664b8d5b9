"""Arguments of instructions in the forms that they have in common: JSON lists, flags, `name=value`. Pure.

Source: the Dockerfile reference; buildkit frontend/dockerfile/parser/line_parsers.go and instructions/bflag.go for the texts of errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from teul.dockerfile.errors import InstructionError, did_you_mean


def exec_form(text: str) -> list[str] | None:
    """The arguments of an instruction in exec form; None if `text` is no JSON list, and hence the shell form. Raises InstructionError."""
    if not text.lstrip().startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    if not all(isinstance(word, str) for word in words):
        raise InstructionError("when using JSON array syntax, arrays must be comprised of strings only")
    return list(words)


def is_exec_form(text: str) -> bool:
    """Whether `text` is a JSON list of strings. Raises InstructionError for one of other things."""
    return exec_form(text) is not None


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of one instruction, checked against those that it takes."""

    values: Mapping[str, Sequence[str]]

    def text(self, name: str) -> str:
        """The value of a flag that is given once, or an empty text."""
        return self.values[name][0] if name in self.values else ""

    def all(self, name: str) -> tuple[str, ...]:
        """The values of a flag that may be given several times."""
        return tuple(self.values.get(name, ()))

    def truth(self, name: str) -> bool | None:
        """Of a flag that says yes or no; None if it is not given."""
        return self.values[name][0] == "true" if name in self.values else None


def parse_flags(flags: Sequence[str], *, texts: Sequence[str] = (), lists: Sequence[str] = (), truths: Sequence[str] = ()) -> Flags:
    """Check `--name=value` words against the names that are known. Raises InstructionError."""
    values: dict[str, list[str]] = {}
    for flag in flags:
        written, equals, value = flag.partition("=")
        name = written[2:]
        if name not in (*texts, *lists, *truths):
            raise InstructionError(f"unknown flag: {written}{did_you_mean(name, (*texts, *lists, *truths))}")
        if name in values and name not in lists:
            raise InstructionError(f"duplicate flag specified: {written}")
        if name in truths:
            if equals and not value:
                raise InstructionError(f"missing a value on flag: {written}")
            if value.lower() not in ("", "true", "false"):
                raise InstructionError(f"expecting boolean value for flag {written}, not: {value}")
            value = value.lower() or "true"
        elif not equals:
            raise InstructionError(f"missing a value on flag: {written}")
        values.setdefault(name, []).append(value)
    return Flags(values)
