"""Words of Dockerfile instructions: quotes, escapes and variables. Pure.

Source: the Dockerfile reference, "Environment replacement"; buildkit frontend/dockerfile/shell (lex.go) for what it leaves open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from teul.dockerfile.errors import InstructionError
from teul.dockerfile.patterns import parse_pattern
from teul.errors import InvalidParameter

_SPECIAL = "@*#?-$!0"


class InvalidWord(InvalidParameter):
    """A word has quotes or braces that are not closed, or a modifier that does not exist."""


def split_words(text: str, *, escape: str = "\\") -> list[str]:
    """Cut `text` into words at blanks outside of quotes; quotes and escapes stay in the words, for `expand`."""
    words: list[str] = []
    word = ""
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        if character == escape and quote != "'" and position + 1 < len(text):
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


def split_raw(text: str) -> list[str]:
    """As `split_words`, with `<<` and the name behind it in one word, for heredocs. Raises InvalidWord for a quote that is not closed."""
    words: list[str] = []
    word = ""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character in "'\"":
            end = _closing(text, position, character)
            word += text[position - 1 : end]
            position = end
        elif character == "\\":
            word += text[position - 1 : position + 1]
            position += 1
        elif text.startswith("<<", position - 1):
            begin, position = position - 1, position + 1
            while position < len(text) and text[position] in "\t\r ":
                position += 1
            word += text[begin:position]
        elif character.isspace():
            words.append(word)
            word = ""
        else:
            word += character
    return [found for found in (*words, word) if found]


def _closing(text: str, position: int, quote: str) -> int:
    """Where the text behind the end of a quotation begins."""
    while position < len(text):
        if text[position] == quote:
            return position + 1
        position += 2 if quote == '"' and text[position] == "\\" else 1
    raise InvalidWord(_not_closed(quote))


def _not_closed(quote: str) -> str:
    kind = "single" if quote == "'" else "double"
    return f"unexpected end of statement while looking for matching {kind}-quote"


def expand(
    text: str, environment: Mapping[str, str], *, escape: str = "\\", keep_unset: bool = False, missing: set[str] | None = None
) -> str:
    """Take quotes and escapes out of a word and replace `$name`, and `${name}` with the modifiers `:-` `-` `:+` `+` `:?` `?` `#` `%` `/`.

    With `keep_unset`, what has no value stays as it is written. `missing` is given the names that have none. Raises `InvalidWord`.
    """
    try:
        return _Expansion(text, environment, escape, keep_unset=keep_unset, missing=missing).run()
    except InvalidWord as error:
        raise InvalidWord(f"failed to process {json.dumps(text, ensure_ascii=False)}: {error.message}") from None


class _Expansion:
    def __init__(self, text: str, environment: Mapping[str, str], escape: str, *, keep_unset: bool, missing: set[str] | None) -> None:
        self._text = text
        self._environment = environment
        self._escape = escape
        self._keep_unset = keep_unset
        self._missing = missing
        self._position = 0

    def run(self) -> str:
        return self._until("")

    def _until(self, end: str, *, raw: bool = False) -> str:
        """The text before the next unquoted character `end`, expanded; `end` itself is passed over. `raw`: escapes stay in it."""
        result = ""
        while self._position < len(self._text):
            character = self._next()
            if character == end:
                return result
            if character == "'":
                result += self._single_quoted()
            elif character == '"':
                result += self._double_quoted(raw=raw)
            elif character == "$":
                result += self._variable()
            elif character == self._escape:
                result += (self._escape if raw else "") + self._next()
            else:
                result += character
        if end:
            raise InvalidWord(f"syntax error: missing '{end}'" + (" in ${}" if end == "/" else ""))
        return result

    def _next(self) -> str:
        """The next character, nothing at the end."""
        self._position += 1
        return self._text[self._position - 1 : self._position]

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._position)
        if end < 0:
            raise InvalidWord(_not_closed("'"))
        start, self._position = self._position, end + 1
        return self._text[start:end]

    def _double_quoted(self, *, raw: bool) -> str:
        result = ""
        while self._position < len(self._text):
            character = self._next()
            if character == '"':
                return result
            if character == "$":
                result += self._variable()
            elif character == self._escape and self._position < len(self._text):
                escaped = self._next()
                # Between double quotes it escapes only these characters; before any other it is itself.
                result += ("" if escaped in ('"', "$", self._escape) and not raw else self._escape) + escaped
            else:
                result += character
        raise InvalidWord(_not_closed('"'))

    def _variable(self) -> str:
        if self._text.startswith("{", self._position):
            begin = self._position - 1
            self._position += 1
            return self._braced(begin)
        name = self._name()
        if not name:
            return "$"
        value = self._value(name)
        return f"${name}" if value is None and self._keep_unset else value or ""

    def _value(self, name: str) -> str | None:
        value = self._environment.get(name)
        if value is None and self._missing is not None:
            self._missing.add(name)
        return value

    def _name(self) -> str:
        begin = self._position
        first = self._text[begin : begin + 1]
        if first.isdigit():
            while self._text[self._position : self._position + 1].isdigit():
                self._position += 1
        elif first and first in _SPECIAL:
            self._position += 1
        else:
            while (character := self._text[self._position : self._position + 1]) and (character.isalnum() or character == "_"):
                self._position += 1
        return self._text[begin : self._position]

    def _braced(self, begin: int) -> str:
        if self._position >= len(self._text):
            raise InvalidWord("syntax error: missing '}'")
        if self._text[self._position] in "{}:":
            raise InvalidWord("syntax error: bad substitution")
        name = self._name()
        value = self._value(name)
        if self._position >= len(self._text):
            raise InvalidWord("syntax error: missing '}'")
        result = self._modified(name, value, self._next())
        return self._text[begin : self._position] if value is None and self._keep_unset else result

    def _modified(self, name: str, value: str | None, modifier: str) -> str:
        """What `${name…}` stands for, from the character behind the name on."""
        if modifier == "}":
            return value or ""
        if modifier in ("#", "%", "/"):
            try:
                return self._matched(value or "", modifier)
            except InstructionError as error:
                raise InvalidWord(error.message) from error
        is_set, colon = value is not None, ""
        if modifier == ":":
            is_set, colon = bool(value), ":"
            modifier = self._next()
        if modifier not in ("-", "+", "?") or not modifier:
            raise InvalidWord(f"unsupported modifier ({colon}{modifier}) in substitution")
        word = self._until("}")
        if modifier == "+":
            return word if is_set else ""
        if is_set:
            return value or ""
        if modifier == "?":
            if self._keep_unset:
                return ""
            raise InvalidWord(f"{name}: {word or 'is not allowed to be ' + ('unset' if value is None else 'empty')}")
        return word

    def _matched(self, value: str, modifier: str) -> str:
        """`value` without what a pattern matches at its beginning or end, or with something else in its place."""
        twice = self._text.startswith(modifier, self._position)
        if twice:
            self._position += 1
        if modifier == "/":
            pattern = parse_pattern(self._until("/", raw=True))
            return pattern.replaced(value, self._until("}", raw=True), everywhere=twice)
        pattern = parse_pattern(self._until("}", raw=True))
        cut = pattern.without_prefix if modifier == "#" else pattern.without_suffix
        return cut(value, longest=twice)
