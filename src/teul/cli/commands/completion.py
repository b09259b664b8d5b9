"""`teul completion` and `teul system man`: what the shell and the reader of man pages get of the tables that `--help` is made of."""

from __future__ import annotations

import os

from teul.cli.command import Command
from teul.cli.errors import CliError
from teul.cli.format.completion import bash_script, fish_script, zsh_script
from teul.cli.table import COMMANDS, COMMON, GROUPS, HIDDEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from teul.cli.context import Context
    from teul.cli.options.parser import Options

SHELLS = ("bash", "zsh", "fish")


def commands() -> Iterator[tuple[str, Command]]:
    """Every command that a help lists, by its path: `run`, `container ls`."""
    rows = {**COMMON, **COMMANDS}
    rows |= {f"{group} {verb}": row for group, (_, verbs) in GROUPS.items() for verb, row in verbs.items() if (group, verb) not in HIDDEN}
    for path, row in rows.items():
        yield path, getattr(__import__(f"teul.cli.commands.{row[0]}", fromlist=(row[1],)), row[1])


def complete(context: Context, _options: Options, arguments: list[str]) -> int:
    (shell,) = arguments
    if shell not in SHELLS:
        raise CliError(f"unknown shell {shell!r}: {', '.join(SHELLS)} are known")
    words: dict[str, list[str]] = {"": [*COMMON, *COMMANDS, *GROUPS]}
    words |= {group: [verb for verb in verbs if (group, verb) not in HIDDEN] for group, (_, verbs) in GROUPS.items()}
    found = dict(commands())
    for path, command in found.items():
        words[path] = ["--help", *(f"--{option.name}" for option in command.options if not option.hidden)]
    if shell == "fish":
        summaries = {path: command.summary for path, command in found.items()} | {group: text for group, (text, _) in GROUPS.items()}
        context.streams.write(fish_script(words, summaries))
        return 0
    script = bash_script if shell == "bash" else zsh_script
    context.streams.write(script(words, {path: command.usage for path, command in found.items()}))
    return 0


def man(context: Context, _options: Options, arguments: list[str]) -> int:
    from teul.cli.format.help import command_help

    directory = os.path.join(arguments[0], "man1")
    try:
        os.makedirs(directory, exist_ok=True)
        for path, command in commands():
            name = f"{context.program}-{path.replace(' ', '-')}"
            with open(os.path.join(directory, f"{name}.1"), "w", encoding="utf-8") as file:
                file.write(_page(name, command.summary, command_help(context.program, f"{context.program} {path}", command)))
    except OSError as error:
        raise CliError(f"cannot write {error.filename}: {error.strerror}") from None
    return 0


def _page(name: str, summary: str, text: str) -> str:
    """A page of man(7), with the help as it stands: its columns are aligned already."""
    lines = [line.replace("\\", "\\e").replace("-", "\\-") for line in text.splitlines()]
    body = "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)
    return f'.TH {name.upper()} 1 "" Teul\n.SH NAME\n{name} \\- {summary}\n.SH DESCRIPTION\n.nf\n{body}\n.fi\n'


COMPLETION = Command("completion SHELL", "Print a completion script for bash, zsh or fish", complete, minimum=1, maximum=1)
MAN = Command("man DIRECTORY", "Write a man page of every command below a directory", man, minimum=1, maximum=1)
