"""What the dispatcher knows of a command: its name, its options, how many arguments it takes, and the function that does it."""

from __future__ import annotations

from teul.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from teul.cli.context import Context
    from teul.cli.options.parser import Option, Options

UNLIMITED = -1


class Command:
    """`usage` is what follows the program's name: `rm [OPTIONS] CONTAINER [CONTAINER...]`. `function` returns the exit code.
    `description` is what the help says instead of `summary`, where there is more to say.

    `minimum` and `maximum` bound the number of arguments. `interspersed` tells whether options may follow arguments: not where the
    arguments are another program's command line. A `raw` command reads its options itself.
    """

    __slots__ = ("aliases", "description", "function", "interspersed", "maximum", "minimum", "options", "raw", "summary", "usage")

    def __init__(
        self,
        usage: str,
        summary: str,
        function: Callable[[Context, Options, list[str]], int],
        *,
        options: Sequence[Option] = (),
        minimum: int = 0,
        maximum: int = UNLIMITED,
        interspersed: bool = True,
        aliases: str = "",
        description: str = "",
        raw: bool = False,
    ) -> None:
        self.usage = usage
        self.summary = summary
        self.function = function
        self.options = options
        self.minimum = minimum
        self.maximum = maximum
        self.interspersed = interspersed
        self.aliases = aliases
        self.description = description or summary
        self.raw = raw

    def check_arguments(self, path: str, usage: str, arguments: list[str]) -> None:
        """Raise the refusal of a wrong number of arguments. `path` is the command as the user called it."""
        count = len(arguments)
        if count >= self.minimum and (self.maximum == UNLIMITED or count <= self.maximum):
            return
        if self.maximum == 0:
            problem, hint = "accepts no arguments", "Run"
        elif self.minimum == self.maximum:
            problem, hint = f"requires {self.minimum} {_arguments(self.minimum)}", "Run"
        elif self.maximum == UNLIMITED:
            problem, hint = f"requires at least {self.minimum} {_arguments(self.minimum)}", "See"
        elif self.minimum == 0:
            problem, hint = f"requires at most {self.maximum} {_arguments(self.maximum)}", "Run"
        else:
            problem, hint = f"requires at least {self.minimum} and at most {self.maximum} {_arguments(self.maximum)}", "Run"
        program = path.partition(" ")[0]
        raise CliError(f"{program}: '{path}' {problem}\n\nUsage:  {usage}\n\n{hint} '{path} --help' for more information")


def _arguments(count: int) -> str:
    return "argument" if count == 1 else "arguments"
