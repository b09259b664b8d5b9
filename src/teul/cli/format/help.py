"""The text of `--help`, laid out as docker's (cobra and pflag): loaded only when somebody asks."""

from __future__ import annotations

from teul.cli.options.parser import BOOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from teul.cli.command import Command
    from teul.cli.options.parser import Option

DEFAULT_WIDTH = 80
# pflag: a line may be this much shorter than it could be, so that words stay whole.
_SLOP = 5
_NARROWEST = 24


def command_help(program: str, path: str, command: Command, width: int = DEFAULT_WIDTH) -> str:
    """The help of `path` (`teul container ls`): usage, summary, aliases, options."""
    text = f"Usage:  {usage_line(path, command)}\n\n{command.description}\n"
    if command.aliases:
        names = ", ".join(f"{program} {name.strip()}" for name in command.aliases.split(","))
        text += f"\nAliases:\n  {names}\n"
    options = option_lines(command.options, width)
    return f"{text}\nOptions:\n{options}\n" if options else text


def usage_line(path: str, command: Command) -> str:
    """`teul container ls [OPTIONS]` for whichever name the command was called by."""
    _, _, arguments = command.usage.partition(" ")
    return f"{path} {arguments}" if arguments else path


def group_help(path: str, summary: str, commands: Mapping[str, str]) -> str:
    """The help of a management group: its commands and what each does."""
    return f"Usage:  {path} COMMAND\n\n{summary}\n\nCommands:\n{command_lines(commands)}\n\n{more_help(path)}\n"


def command_lines(commands: Mapping[str, str]) -> str:
    return "\n".join(f"  {name:<11} {summary}" for name, summary in commands.items())


def more_help(path: str) -> str:
    return f"Run '{path} COMMAND --help' for more information on a command."


def option_lines(options: Sequence[Option], width: int = DEFAULT_WIDTH) -> str:
    """The options in alphabetical order, descriptions aligned and wrapped."""
    shown = sorted((option for option in options if not option.hidden), key=lambda option: option.name)
    rows = [(_left(option), option.help + _default(option)) for option in shown]
    column = max((len(left) for left, _ in rows), default=0) + 3
    return "\n".join(f"{left:<{column}}{wrap(text, column, width - 1)}".rstrip() for left, text in rows)


def _left(option: Option) -> str:
    short = f"-{option.short}, " if option.short else "    "
    kind = "" if option.kind == BOOL else f" {option.kind.partition(' ')[0]}"
    return f"  {short}--{option.name}{kind}"


def _default(option: Option) -> str:
    if option.shown:
        return f" (default {option.shown})"
    if option.kind == "string" and option.default:
        return f' (default "{option.default}")'
    if option.default not in (None, False, ""):
        return f" (default {'true' if option.default is True else option.default})"
    return ""


def wrap(text: str, indent: int, width: int) -> str:
    """`text` in lines of at most `width` columns of which the first `indent` are taken; its own line breaks stay."""
    prefix = "\n" + " " * indent
    if width - indent < _NARROWEST:
        return text.replace("\n", prefix)
    room = width - indent - _SLOP
    lines: list[str] = []
    while text:
        line, text = _take_line(text, room)
        lines += line.split("\n")
    return prefix.join(lines)


def _take_line(text: str, room: int) -> tuple[str, str]:
    """The first line of `text` and the rest. What is only a little longer than `room` stays on one line."""
    if len(text) < room + _SLOP:
        return text, ""
    head = text[:room]
    space = max(head.rfind(character) for character in " \t\n")
    if space <= 0:
        return text, ""
    line_break = head.rfind("\n")
    end = line_break if 0 < line_break < space else space
    return text[:end], text[end + 1 :]
