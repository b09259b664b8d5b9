"""The shell's patterns in `${name#pattern}`, `${name%pattern}` and `${name/pattern/text}`: `*`, `?` and escapes. Pure.

A Dockerfile is a stranger's. So a pattern is followed as the set of all its places at once, one step for each character: the time is that
of the text's length times the pattern's, whatever they are, which Python's `re` does not promise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from teul.dockerfile.errors import InstructionError

_STAR, _ANY = 0, 1


@dataclass(frozen=True, slots=True)
class Pattern:
    """`tokens` are single characters, `_ANY`, or `_STAR`; no star stands beside another."""

    tokens: tuple[str | int, ...]

    def without_prefix(self, text: str, *, longest: bool) -> str:
        """`text` without the shortest or longest beginning that matches."""
        ends = list(self._ends(text)) if longest else [*_first(self._ends(text))]
        return text[ends[-1] :] if ends else text

    def without_suffix(self, text: str, *, longest: bool) -> str:
        """`text` without the shortest or longest end that matches."""
        return Pattern(self.tokens[::-1]).without_prefix(text[::-1], longest=longest)[::-1]

    def replaced(self, text: str, replacement: str, *, everywhere: bool) -> str:
        """`text` with the first match, or each, replaced; a match is as long as it can be."""
        result, position = "", 0
        for begin in self._begins(text):
            if begin < position:
                continue
            # A star takes all that a later match could end at: so there is no other one, and the text is gone through once.
            ends = list(self._ends(text[begin:] if _STAR in self.tokens else text[begin : begin + len(self.tokens)]))
            if not ends or not ends[-1]:
                continue
            result += text[position:begin] + replacement
            position = begin + ends[-1]
            if not everywhere:
                break
        return result + text[position:]

    def _begins(self, text: str) -> list[int]:
        """Where matches begin, found from behind: where the pattern read backwards ends, after anything."""
        backwards = self.tokens[::-1]
        if backwards[:1] != (_STAR,):
            backwards = (_STAR, *backwards)
        return sorted(len(text) - end for end in Pattern(backwards)._ends(text[::-1]))  # noqa: SLF001 - another of our own

    def _ends(self, text: str) -> Iterator[int]:
        """All lengths of beginnings of `text` that match, shortest first."""
        stars = sum(1 << at for at, token in enumerate(self.tokens) if token == _STAR)
        anything = sum(1 << at for at, token in enumerate(self.tokens) if token == _ANY)
        literals: dict[str, int] = {}
        for at, token in enumerate(self.tokens):
            if isinstance(token, str):
                literals[token] = literals.get(token, 0) | 1 << at
        done = 1 << len(self.tokens)
        places = 1 | (stars & 1) << 1
        if places & done:
            yield 0
        for length, character in enumerate(text, 1):
            places = (places & stars) | (places & (anything | literals.get(character, 0))) << 1
            places |= (places & stars) << 1
            if not places:
                return
            if places & done:
                yield length


def parse_pattern(text: str) -> Pattern:
    """Raises InstructionError for an escape that there is not."""
    tokens: list[str | int] = []
    characters = iter(text)
    for character in characters:
        if character == "*":
            if tokens[-1:] != [_STAR]:
                tokens.append(_STAR)
        elif character == "?":
            tokens.append(_ANY)
        elif character == "\\":
            tokens.append(_escaped(next(characters, ""), text))
        else:
            tokens.append(character)
    return Pattern(tuple(tokens))


def _escaped(character: str, text: str) -> str:
    # docker: `}` and `/` are escaped for the sake of `${…}`, the others for the pattern's.
    if not character or character not in "}/*?\\":
        raise InstructionError(f"invalid pattern ({text}) in substitution: invalid escape '\\{character}'")
    return character


def _first(ends: Iterator[int]) -> Sequence[int]:
    for end in ends:
        return [end]
    return []
