"""What is wrong with a text that is no JSON, in the words that Go has for it. Pure; asked only once something is known to be wrong.

docker: encoding/json, scanner.go and stream.go: its errors are what dockerd's clients see, of the first value in a body.
"""

from __future__ import annotations

import re

_LOOKED_AT_BYTES = 256 * 1024
_MAX_DEPTH = 10_000

_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING_BODY = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+')
_HEX = re.compile(rb"[0-9a-fA-F]{0,4}+")
_DIGITS = re.compile(rb"[0-9]*+")
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}


class _Fault(Exception):
    """The scan ends here, with these words."""


def first_value(data: bytes) -> tuple[str, int]:
    """(what is wrong with the first value in `data`, where it ends); nothing is wrong if the words are empty.

    Of a text that is long, only the beginning is looked at: the words are empty, and the end 0, if all is well there.
    """
    beginning = data[:_LOOKED_AT_BYTES]
    try:
        return "", _Scan(beginning).value()
    except _Fault as fault:
        is_cut = len(beginning) < len(data) and "EOF" in str(fault)
        return ("" if is_cut else str(fault)), 0


class _Scan:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def value(self) -> int:
        """Pass over one value; where it ends. What it is inside of stands on a stack: a client chooses how deep that is."""
        self._skip_space()
        if self._at == len(self._data):
            raise _Fault("EOF")
        closers = self._begin_value([])
        while closers:
            closer = closers[-1]
            character = self._next_of("after array element" if closer == "]" else "after object key:value pair", f",{closer}")
            if character == closer:
                closers.pop()
            else:
                if closer == "}":
                    self._key()
                closers = self._begin_value(closers)
        return self._at

    def _begin_value(self, closers: list[str]) -> list[str]:
        """Pass over a value that is no container, or into the innermost first value of one; `closers` of what is open then."""
        while True:
            self._skip_space()
            character = self._peek()
            if character not in b"[{":
                self._scalar(character)
                return closers
            closers.append("]" if character == b"[" else "}")
            if len(closers) > _MAX_DEPTH:
                self._refuse("exceeded max depth")
            self._at += 1
            self._skip_space()
            if self._peek() == closers[-1].encode():
                return closers  # whoever asked finds it there, and closes it
            if character == b"{":
                self._key()

    def _key(self) -> None:
        self._skip_space()
        if self._peek() != b'"':
            self._refuse("looking for beginning of object key string")
        self._string()
        self._next_of("after object key", ":")

    def _scalar(self, character: bytes) -> None:
        if character == b'"':
            self._string()
        elif character in b"-0123456789":
            self._number(character)
        elif (literal := _LITERALS.get(character[0])) is not None:
            for expected in literal:
                if self._peek()[0] != expected:
                    self._refuse(f"in literal {literal.decode()} (expecting {_quote(expected)})")
                self._at += 1
        else:
            self._refuse("looking for beginning of value")

    def _string(self) -> None:
        self._pass(_STRING_BODY, 1)
        character = self._peek()
        if character == b"\\":
            self._at += 1
            if self._peek() != b"u":
                self._refuse("in string escape code")
            self._pass(_HEX, 1)
            self._peek()
            self._refuse(r"in \u hexadecimal character escape")
        if character != b'"':
            self._refuse("in string literal")
        self._at += 1

    def _number(self, character: bytes) -> None:
        if character == b"-":
            self._at += 1
            character = self._peek()
            if character not in b"0123456789":
                self._refuse("in numeric literal")
        if character == b"0":
            self._at += 1
        else:
            self._pass(_DIGITS)
        if self._data[self._at : self._at + 1] == b".":
            self._at += 1
            self._some_digits("after decimal point in numeric literal")
        if self._data[self._at : self._at + 1] in (b"e", b"E"):
            self._at += 1
            if self._peek() in b"+-":
                self._at += 1
            self._some_digits("in exponent of numeric literal")

    def _some_digits(self, where: str) -> None:
        if self._peek() not in b"0123456789":
            self._refuse(where)
        self._pass(_DIGITS)

    def _next_of(self, where: str, characters: str) -> str:
        self._skip_space()
        character = self._peek()
        if character not in characters.encode():
            self._refuse(where)
        self._at += 1
        return character.decode()

    def _skip_space(self) -> None:
        self._pass(_SPACE)

    def _pass(self, pattern: re.Pattern[bytes], ahead: int = 0) -> None:
        match = pattern.match(self._data, self._at + ahead)
        assert match is not None, "the patterns match nothing at all as well"
        self._at = match.end()

    def _peek(self) -> bytes:
        character = self._data[self._at : self._at + 1]
        if not character:
            raise _Fault("unexpected EOF")
        return character

    def _refuse(self, where: str) -> None:
        raise _Fault(f"invalid character {_quote(self._data[self._at])} {where}")


def _quote(byte: int) -> str:
    """Go's strconv.Quote of a byte that is taken for a code point, between single quotes."""
    character = chr(byte)
    if character in "'\\":
        return f"'\\{character}'"
    if character in _ESCAPES:
        return f"'{_ESCAPES[character]}'"
    if byte < 0x20 or byte == 0x7F:
        return f"'\\x{byte:02x}'"
    return f"'{character}'" if character.isprintable() else f"'\\u{byte:04x}'"


_ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
