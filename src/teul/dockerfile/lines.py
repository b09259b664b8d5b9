"""A Dockerfile's text as instructions that are not looked into yet: continued lines joined, comments set aside, heredocs attached. Pure.

Source: the Dockerfile reference; buildkit frontend/dockerfile/parser for what it leaves open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from teul.dockerfile.arguments import is_exec_form
from teul.dockerfile.errors import DockerfileError, InstructionError
from teul.dockerfile.words import InvalidWord, expand, split_raw

# Blanks between words; a line's end is none.
BLANKS = re.compile(r"[\t\v\f\r ]+")
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*", re.DOTALL)
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"(\d*)<<(-?)\s*([^<]*)", re.DOTALL)
_WITH_HEREDOCS = ("ADD", "COPY", "RUN")


@dataclass(frozen=True, slots=True)
class Heredoc:
    """Text that stands below the line that names it. `expands`: variables in it are replaced; `chomps`: tabs before its lines go."""

    name: str
    fd: int
    expands: bool
    chomps: bool
    content: str = ""

    @property
    def text(self) -> str:
        """What a file made of it has in it."""
        return re.sub(r"(?m)^\t+", "", self.content) if self.chomps else self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One instruction: its keyword as it is written, its `--flags`, and the rest. `text` is all of it, joined; lines count from 1.

    `comments` are those right above it, without their `#`; `escape` is the character that escapes and continues lines.
    """

    keyword: str
    flags: tuple[str, ...]
    rest: str
    text: str
    first_line: int
    last_line: int
    escape: str
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The keyword in capitals."""
        return self.keyword.upper()

    @property
    def trigger(self) -> Line:
        """The instruction inside an ONBUILD. Raises InstructionError."""
        keyword, flags, rest = split_instruction(self.rest, self.escape)
        return Line(
            keyword=keyword,
            flags=flags,
            rest=rest,
            text=self.rest,
            first_line=self.first_line,
            last_line=self.last_line,
            escape=self.escape,
            heredocs=self.heredocs,
        )


@dataclass(slots=True)
class Lines:
    """All instructions of a Dockerfile. `directives` are the values of `# syntax=`, `# escape=` and `# check=` at its top.

    `empty_continuations` are the numbers of lines at which an instruction goes on after empty ones, which is deprecated.
    """

    lines: list[Line] = field(default_factory=list)
    directives: dict[str, str] = field(default_factory=dict)
    escape: str = "\\"
    empty_continuations: list[int] = field(default_factory=list)


def read_lines(text: str) -> Lines:
    """Cut `text` into instructions. Raises DockerfileError."""
    reader = _Reader(text)
    reader.run()
    return reader.found


def split_instruction(text: str, escape: str) -> tuple[str, tuple[str, ...], str]:
    """The keyword, the flags and the rest of an instruction on one line."""
    keyword, *more = BLANKS.split(text.strip(), maxsplit=1)
    flags, rest = _take_flags(more[0], escape) if more else ((), "")
    return keyword, flags, rest.strip()


class _Reader:
    def __init__(self, text: str) -> None:
        self.found = Lines()
        self._raw = enumerate(re.findall(r"[^\n]*\n|[^\n]+", text.removeprefix("\ufeff")), 1)
        self._number = 0
        self._comments: list[str] = []
        self._at_top = True
        self._continued = _continuation("\\")

    def run(self) -> None:
        for number, raw in self._raw:
            self._number = number
            stripped = raw.rstrip("\r\n").lstrip()
            if stripped.startswith("#"):
                self._note_comment(stripped)
                continue
            self._at_top = False
            text, goes_on = self._without_continuation(stripped)
            if not goes_on and not text:
                continue
            self._read_instruction(number, text, goes_on=goes_on)
        if not self.found.lines:
            raise DockerfileError("file with no instructions", self._number)

    def _note_comment(self, stripped: str) -> None:
        if self._at_top and self._is_directive(stripped):
            return
        self._at_top = False
        comment = stripped[1:].strip()
        self._comments = [*self._comments, comment] if comment else []

    def _is_directive(self, stripped: str) -> bool:
        match = _DIRECTIVE.fullmatch(stripped)
        name = match[1].lower() if match is not None else ""
        if match is None or name not in _DIRECTIVES:
            return False
        if name in self.found.directives:
            raise DockerfileError(f"only one {name} parser directive can be used", self._number)
        self.found.directives[name] = value = match[2]
        if name == "escape":
            if value not in ("\\", "`"):
                raise DockerfileError(f"invalid escape token '{value}' does not match ` or \\", self._number)
            self.found.escape = value
            self._continued = _continuation(value)
        return True

    def _read_instruction(self, first_line: int, text: str, *, goes_on: bool) -> None:
        had_empty = False
        while goes_on and (following := next(self._raw, None)) is not None:
            self._number, raw = following
            body = raw.rstrip("\r\n")
            if body.lstrip().startswith("#"):
                continue
            if not body.strip():
                had_empty = True
                continue
            piece, goes_on = self._without_continuation(body)
            text += piece
        if had_empty:
            self.found.empty_continuations.append(self._number)
        try:
            keyword, flags, rest = split_instruction(text, self.found.escape)
            line = Line(
                keyword=keyword,
                flags=flags,
                rest=rest,
                text=text,
                first_line=first_line,
                last_line=self._number,
                escape=self.found.escape,
                comments=tuple(self._comments),
            )
            heredocs = tuple([self._read_heredoc(first_line, each) for each in _heredocs_of(line)])
        except InstructionError as error:
            raise DockerfileError(error.message, first_line, self._number) from error
        self._comments = []
        self.found.lines.append(replace(line, heredocs=heredocs, last_line=self._number))

    def _read_heredoc(self, first_line: int, named: Heredoc) -> Heredoc:
        content = ""
        for self._number, raw in self._raw:  # noqa: B020 - the number stays where the reading stopped
            body = raw.rstrip("\r\n")
            if (body.lstrip("\t") if named.chomps else body) == named.name:
                return Heredoc(named.name, named.fd, named.expands, named.chomps, content)
            content += raw
        raise DockerfileError("unterminated heredoc", first_line, self._number)

    def _without_continuation(self, text: str) -> tuple[str, bool]:
        """The text without the escape character that continues it, and whether there is one."""
        match = self._continued.search(text)
        return (text, False) if match is None else (text[: match.start()] + (match[1] or ""), True)


def _continuation(escape: str) -> re.Pattern[str]:
    token = re.escape(escape)
    # An escape character before it escapes the one at the end. It may stand alone on its line.
    return re.compile(rf"(?:([^{token}])|^){token}[ \t]*\Z")


def _take_flags(text: str, escape: str) -> tuple[tuple[str, ...], str]:
    """The words at the beginning of `text` that begin with `--`, without quotes and escapes, and what comes behind them."""
    flags: list[str] = []
    position = 0
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        if not text.startswith("--", position):
            return tuple(flags), text[position:]
        word, quote, is_quoted = "", "", False
        while position < len(text):
            character = text[position]
            position += 1
            if not quote and character.isspace():
                break
            if character == quote:
                quote = ""
            elif not quote and character in "'\"":
                quote, is_quoted = character, True
            elif character == escape:
                word += text[position : position + 1]
                position += 1
            else:
                word += character
        if word == "--":
            return tuple(flags), text[position:]
        if word or is_quoted:
            flags.append(word)


def parse_heredoc(word: str) -> Heredoc | None:
    """What `<<NAME` announces, without its content yet; None if the word announces nothing."""
    match = _HEREDOC.fullmatch(word)
    if match is None or not match[3]:
        return None
    try:
        if len(split_raw(match[3])) != 1:
            return None
        name = expand(match[3], {}, keep_unset=True)
    except InvalidWord as error:
        raise InstructionError(error.message) from error
    is_quoted = sum(map(match[3].count, "'\"")) != sum(map(name.count, "'\""))
    return Heredoc(name, int(match[1] or 0), expands=not is_quoted, chomps=match[2] == "-")


def _heredocs_of(line: Line) -> Iterator[Heredoc]:
    if "<<" not in line.text:
        return
    inner = line.trigger if line.name == "ONBUILD" and line.rest else line
    if inner.name not in _WITH_HEREDOCS or is_exec_form(inner.rest):
        return
    try:
        words = split_raw(line.text)
    except InvalidWord:
        return  # a quote that is not closed is the shell's affair
    for word in words:
        found = parse_heredoc(word)
        if found is not None:
            yield found
