"""Options of a command as a table, and the parser for it: getopt as Go's pflag, and so Docker's command line, does it.

A table and sixty lines instead of `argparse`, whose import alone costs more than all of `teul ps`; and pflag's texts, exit codes and
rules (`-it`, `-eA=b`, `--rm=false`, nothing abbreviated, no options after the image) are what users and scripts know.
The kind of an option is the word that the help shows for its value; it also says how the value is read.
"""

from __future__ import annotations

from teul.cli.errors import UsageError
from teul.cli.options.values import parse_bool, parse_cpus, parse_duration_ns, parse_integer
from teul.model.size import parse_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BOOL = "bool"


def _parse_memory_or_unlimited(text: str) -> int:
    return -1 if text == "-1" else parse_memory(text)


def _parse_filter(text: str) -> str:
    if text and "=" not in text:
        raise ValueError("bad format of filter (expected name=value)")
    return text


_SINGLE: dict[str, Callable[[str], object]] = {
    BOOL: parse_bool,
    "string": str,
    "int": parse_integer,
    "uint16": lambda text: parse_integer(text, minimum=0, maximum=65535, function="ParseUint"),
    "bytes": parse_memory,
    "bytes or -1": _parse_memory_or_unlimited,
    "decimal": parse_cpus,
    "duration": parse_duration_ns,
}
_LISTS = ("list", "strings", "map", "mount", "network", "ulimit", "path")
_REPEATED: dict[str, Callable[[str], str]] = dict.fromkeys(_LISTS, str)
_REPEATED["filter"] = _parse_filter


class Option:
    """One row of a table.

    `default` is the value without the option; `shown` is what the help says about it. An option with `target` is another spelling of
    the option of that name, and like a `hidden` one it is not in the help.
    """

    __slots__ = ("default", "help", "hidden", "kind", "name", "short", "shown", "target")

    def __init__(
        self,
        name: str,
        kind: str,
        help_: str,
        *,
        short: str = "",
        default: object = None,
        shown: str = "",
        hidden: bool = False,
        target: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help_
        self.short = short
        self.default = default
        self.shown = shown
        self.hidden = hidden or bool(target)
        self.target = target or name

    @property
    def repeated(self) -> bool:
        return self.kind in _REPEATED

    @property
    def spelling(self) -> str:
        """The option as messages name it: `-m, --memory`."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"

    def parse(self, text: str) -> object:
        """The value of `text`. Raises `ValueError` with a reason."""
        return (_REPEATED if self.repeated else _SINGLE)[self.kind](text)


class Options:
    """What the user gave. The reader's name says the type; an option that was not given reads as its default, or as nothing."""

    def __init__(self, table: Sequence[Option], values: dict[str, object]) -> None:
        self._defaults = {option.name: option.default for option in table}
        self._values = values

    def given(self, name: str) -> bool:
        assert name in self._defaults, name
        return name in self._values

    def _value(self, name: str) -> object:
        return self._values.get(name, self._defaults[name])

    def flag(self, name: str) -> bool:
        return bool(self._value(name))

    def text(self, name: str) -> str:
        value = self._value(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> int:
        value = self._value(name)
        return value if isinstance(value, int) else 0

    def texts(self, name: str) -> list[str]:
        value = self._value(name)
        return list(value) if isinstance(value, list) else []


def parse_options(table: Sequence[Option], arguments: Sequence[str], *, interspersed: bool = True) -> tuple[Options, list[str]]:
    """The options in `arguments`, and the arguments that are no options.

    `--help` reads as the flag "help" of every table that does not define it. Without `interspersed`, options end at the first argument
    that is no option. Raises `UsageError` with pflag's texts.
    """
    parser = _Parser(table, list(arguments))
    rest = parser.run(interspersed=interspersed)
    return Options(parser.table, parser.values), rest


HELP = Option("help", BOOL, "Print usage", hidden=True)


class _Parser:
    def __init__(self, table: Sequence[Option], arguments: list[str]) -> None:
        self.table = [*table] if any(option.name == "help" for option in table) else [*table, HELP]
        self.values: dict[str, object] = {}
        self._long = {option.name: option for option in self.table}
        self._short = {option.short: option for option in self.table if option.short}
        self._short.setdefault("h", self._long["help"])
        self._arguments = arguments

    def run(self, *, interspersed: bool) -> list[str]:
        rest: list[str] = []
        while self._arguments:
            argument = self._arguments.pop(0)
            if argument == "--":
                return rest + self._arguments
            if argument.startswith("--"):
                self._take_long(argument)
            elif argument.startswith("-") and argument != "-":
                self._take_short(argument)
            elif interspersed:
                rest.append(argument)
            else:
                return [argument, *self._arguments]
        return rest

    def _take_long(self, argument: str) -> None:
        name, equals, text = argument[2:].partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f"bad flag syntax: {argument}")
        option = self._long.get(name)
        if option is None:
            raise UsageError(f"unknown flag: --{name}")
        if equals:
            self._set(option, text)
        elif option.kind == BOOL:
            self._set(option, "true")
        elif self._arguments:
            self._set(option, self._arguments.pop(0))
        else:
            raise UsageError(f"flag needs an argument: {argument}")

    def _take_short(self, argument: str) -> None:
        letters = argument[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            option = self._short.get(letter)
            if option is None:
                raise UsageError(f"unknown shorthand flag: {letter!r} in {argument}")
            if letters.startswith("="):
                self._set(option, letters[1:])
                return
            if option.kind == BOOL:
                self._set(option, "true")
            elif letters:
                self._set(option, letters)
                return
            elif self._arguments:
                self._set(option, self._arguments.pop(0))
            else:
                raise UsageError(f"flag needs an argument: {letter!r} in {argument}")

    def _set(self, option: Option, text: str) -> None:
        try:
            value = option.parse(text)
        except ValueError as error:
            raise UsageError(f'invalid argument "{text}" for "{option.spelling}" flag: {error}') from None
        if option.repeated:
            values = self.values.setdefault(option.target, [])
            assert isinstance(values, list)
            values.append(value)
        else:
            self.values[option.target] = value
