"""How a registry says what it wants to be shown: the `WWW-Authenticate` header. spec: RFC 9110 section 11.6.1 (RFC 7235 before)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

# A hostile header is read in linear time, and not further than this.
_MAX_CHARACTERS = 16 * 1024

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,|$))")
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+|(?=\s|,|$)))', re.DOTALL)
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_SEPARATOR = re.compile(r"[ \t,]*")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in. `scheme` and the parameters' names are in small letters."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """The challenges of all `WWW-Authenticate` headers of an answer, in their order.

    What cannot be read ends its header: what was read before it counts. Never raises.
    """
    return [challenge for header in headers for challenge in _parse(header[:_MAX_CHARACTERS])]


def _parse(text: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    parameters: dict[str, str] | None = None
    position = _skip(text, 0)
    while position < len(text):
        parameter = _PARAMETER.match(text, position)
        if parameter is not None and parameters is not None:
            name, quoted, plain = parameter.groups()
            # The first of two parameters of one name counts: a second one may be somebody else's addition.
            parameters.setdefault(name.lower(), plain if quoted is None else _ESCAPED.sub(r"\1", quoted))
            position = _skip(text, parameter.end())
            continue
        scheme = _SCHEME.match(text, position)
        if scheme is None:
            break
        parameters = {}
        challenges.append(Challenge(scheme[1].lower(), parameters))
        position = scheme.end()
        token = _TOKEN68.match(text, position)
        if token is not None and _SCHEME.match(text, position) is None:
            position = token.end()
        position = _skip(text, position)
    return challenges


def _skip(text: str, position: int) -> int:
    match = _SEPARATOR.match(text, position)
    return match.end() if match is not None else position
