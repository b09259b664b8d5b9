"""Words of Dockerfile instructions: quotes, escapes and variables. Pure.

Source: buildkit frontend/dockerfile/shell (lex.go) and parser/line_parsers.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from teul.errors import InvalidParameter

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]")


class InvalidWord(InvalidParameter):
    """A word has quotes or braces that are not closed, or a modifier that does not exist."""


def split_words(text: str) -> list[str]:
    """Cut `text` into words at blanks outside of quotes; quotes and escapes stay in the words, for `expand`."""
    words: list[str] = []
    word = ""
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\\" and quote != "'" and position + 1 < len(text):
            word += text[position : position + 2]
            position += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character.isspace():
            words.append(word)
            word = ""
            position += 1
            continue
        word += character
        position += 1
    return [found for found in (*words, word) if found]


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Take quotes and escapes out of a word and replace `$name`, `${name}`, `${name:-word}`, `${name:+word}`. Raises `InvalidWord`."""
    return _Expansion(text, environment).run()


class _Expansion:
    def __init__(self, text: str, environment: Mapping[str, str]) -> None:
        self._text = text
        self._environment = environment
        self._position = 0

    def run(self) -> str:
        return self._until("")

    def _until(self, end: str) -> str:
        """The text before the next unquoted character `end`, expanded; `end` itself is passed over."""
        result = ""
        while self._position < len(self._text):
            character = self._next()
            if character == end:
                return result
            if character == "'":
                result += self._single_quoted()
            elif character == '"':
                result += self._double_quoted()
            elif character == "$":
                result += self._variable()
            elif character == "\\":
                result += self._next() if self._position < len(self._text) else ""
            else:
                result += character
        if end:
            raise InvalidWord(f"syntax error: missing '{end}'")
        return result

    def _next(self) -> str:
        self._position += 1
        return self._text[self._position - 1]

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._position)
        if end < 0:
            raise InvalidWord("unexpected end of statement while looking for matching single-quote")
        start, self._position = self._position, end + 1
        return self._text[start:end]

    def _double_quoted(self) -> str:
        result = ""
        while self._position < len(self._text):
            character = self._next()
            if character == '"':
                return result
            if character == "$":
                result += self._variable()
            elif character == "\\" and self._position < len(self._text):
                escaped = self._next()
                # Between double quotes a backslash escapes only these characters; before any other it is itself.
                result += escaped if escaped in '"$\\' else "\\" + escaped
            else:
                result += character
        raise InvalidWord("unexpected end of statement while looking for matching double-quote")

    def _variable(self) -> str:
        if self._text.startswith("{", self._position):
            self._position += 1
            return self._braced()
        name = self._name()
        return self._environment.get(name, "") if name else "$"

    def _name(self) -> str:
        match = _NAME.match(self._text, self._position)
        if match is None:
            return ""
        self._position = match.end()
        return match[0]

    def _braced(self) -> str:
        name = self._name()
        if not name or self._position >= len(self._text):
            raise InvalidWord("syntax error: bad substitution")
        value = self._environment.get(name)
        character = self._next()
        if character == "}":
            return value or ""
        is_set = value is not None
        if character == ":":
            is_set = bool(value)
            character = self._next() if self._position < len(self._text) else ""
        word = self._until("}")
        if character == "-":
            return (value or "") if is_set else word
        if character == "+":
            return word if is_set else ""
        if character == "?":
            if not is_set:
                raise InvalidWord(f"{name}: {word or 'not allowed to be unset'}")
            return value or ""
        raise InvalidWord(f"unsupported modifier ({character}) in substitution")
